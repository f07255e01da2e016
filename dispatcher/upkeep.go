package dispatcher

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const (
	partitionsAhead = 3 * 24 * time.Hour
	keysKept        = 24 * time.Hour
	// changesKept is how far back a node may read on; one that was away longer loads everything.
	changesKept = 24 * time.Hour
	upkeepEvery = 10 * time.Minute
	countEvery  = 10 * time.Second
	// maxSkew is how far the two clocks may differ before no partition is made or removed.
	maxSkew = time.Hour
	// upkeepDeadline is less than what Healthy takes for a hang.
	upkeepDeadline = 90 * time.Second
)

// upkeepLoop makes partitions ahead and removes old ones, forgets what is kept for a day, and counts what
// an operator watches.
func (d *Dispatcher) upkeepLoop(ctx context.Context) {
	count := time.NewTicker(countEvery)
	defer count.Stop()
	upkeep := time.NewTimer(upkeepEvery / 10)
	defer upkeep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-count.C:
			d.countBacklog(ctx)
		case <-upkeep.C:
			wait := upkeepEvery
			if err := d.upkeep(ctx); err != nil {
				d.logTrouble(ctx, "upkeep is put off", err)
				wait = upkeepEvery / 20
			}
			upkeep.Reset(wait)
		}
		d.progressed.tick("upkeep")
	}
}

func (d *Dispatcher) countBacklog(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	b, err := d.store.Backlog(short)
	if err != nil {
		d.logTrouble(ctx, "the backlog could not be counted", err)
		return
	}
	d.metrics.setBacklog(b)
}

func (d *Dispatcher) upkeep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upkeepDeadline)
	defer cancel()
	if err := d.checkClocks(); err != nil {
		return err
	}
	if err := d.ensurePartitions(ctx); err != nil {
		return err
	}
	ended, err := d.store.RaiseHorizon(ctx, d.node.now().Add(-d.opts.Retention))
	if err != nil {
		return err
	}
	if ended.Groups+ended.Retries > 0 {
		d.log.Warn("deliveries older than the retention were still owed", "groups", ended.Groups, "retries", ended.Retries)
	}
	dropped, err := d.store.DropPartitions(ctx)
	if err != nil {
		return err
	}
	if dropped > 0 {
		d.log.Info("partitions older than the retention dropped", "partitions", dropped)
	}
	return d.purge(ctx)
}

// purge forgets what is kept for a day only.
func (d *Dispatcher) purge(ctx context.Context) error {
	if _, err := d.store.PurgeKeys(ctx, d.node.now().Add(-keysKept)); err != nil {
		return err
	}
	if _, err := d.store.PurgeReplies(ctx, keysKept); err != nil {
		return err
	}
	if _, err := d.store.PurgeRegistryChanges(ctx, changesKept); err != nil {
		return err
	}
	if _, err := d.store.PurgeHealth(ctx, d.node.now().Add(-store.HealthKept)); err != nil {
		return err
	}
	return d.store.PurgeNodes(ctx)
}

// checkClocks answers an error if one of the two clocks must be wrong: it must neither remove the log nor make a
// day far ahead its present.
func (d *Dispatcher) checkClocks() error {
	if skew := d.node.skew(); skew.Abs() > maxSkew {
		return fmt.Errorf("the database's clock and this machine's differ by %s: set the wrong one right", skew.Round(time.Second))
	}
	return nil
}

func (d *Dispatcher) ensurePartitions(ctx context.Context) error {
	end, err := d.store.EnsurePartitions(ctx, partitionsAhead)
	if err != nil {
		return err
	}
	d.node.beyond.Store(int64(end))
	return nil
}

// progress knows when each loop last got somewhere, for a health check that sees a loop that hangs.
type progress struct {
	mu   sync.Mutex
	last map[string]time.Time // by loop
}

func newProgress() *progress { return &progress{last: make(map[string]time.Time)} }

func (p *progress) tick(loop string) {
	p.mu.Lock()
	p.last[loop] = time.Now()
	p.mu.Unlock()
}

// stuckAfter is longer than any loop may take for one turn, deadlines of Postgres included.
const stuckAfter = 2 * time.Minute

// Healthy answers an error that names a loop that makes no progress although it has work or a timer.
func (d *Dispatcher) Healthy() error {
	d.progressed.mu.Lock()
	last := maps.Clone(d.progressed.last)
	d.progressed.mu.Unlock()
	for _, loop := range []string{"lease", "claim", "recover", "upkeep", "health", "pace"} { // these turn in an idle node too
		if at, ran := last[loop]; ran && time.Since(at) > stuckAfter {
			return fmt.Errorf("the %s loop has made no progress for %s", loop, time.Since(at).Round(time.Second))
		}
	}
	for loop, backlog := range map[string]func() (int, time.Time){"commit": d.incoming.backlog, "record": d.recorder.backlog} {
		n, since := backlog()
		if last[loop].After(since) {
			since = last[loop]
		}
		if n > 0 && time.Since(since) > stuckAfter {
			return fmt.Errorf("%d wait and the %s loop makes no progress", n, loop)
		}
	}
	return nil
}

// Ready answers an error unless the node holds its lease.
func (d *Dispatcher) Ready() error {
	if !d.node.mayStart() {
		return fmt.Errorf("the lease is lost since %s", (d.node.leaseAge() - leaseTerm).Round(time.Second))
	}
	return nil
}
