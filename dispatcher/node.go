package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

const (
	// leaseTerm is how long a node is believed alive after its last renewal, by the database's clock.
	leaseTerm = 5 * time.Second
	// renewEvery leaves three tries within a term.
	renewEvery = 1500 * time.Millisecond
	// maxClockStep is how far the database's clock may seem to move between two renewals.
	maxClockStep = time.Second
	// maxStray is how much further from this machine's clock the database's may move and still be followed.
	maxStray = time.Minute
)

// node is this process's standing in the cluster: its incarnation, how long it may start requests, and
// what it has seen of the log.
type node struct {
	incarnation atomic.Pointer[uuid.UUID]
	// leaseEnd is when the lease ends at the earliest: a term after the moment before its renewal was
	// sent, by this process's monotonic clock, in nanoseconds since started.
	leaseEnd atomic.Int64
	started  time.Time
	offset   atomic.Int64  // of now from steady, in nanoseconds
	unsure   atomic.Int64  // by how much offset may be wrong, in nanoseconds
	seen     atomic.Int64  // the database's clock minus steady at the last renewal, in nanoseconds
	highest  atomic.Int64  // position
	beyond   atomic.Int64  // the position at which the newest partition ends
	live     atomic.Int64  // nodes, this one included
	renew    chan struct{} // holds one token when the lease is suspected to be lost
	orphans  chan struct{} // holds one token when a node has died, or a group was left open
	// settledIn is set once a lease was held for a full term: from then on this node may look for
	// what dead nodes left. Only the lease loop sets it.
	settledIn atomic.Bool
}

func newNode() *node {
	n := &node{started: time.Now(), renew: make(chan struct{}, 1), orphans: make(chan struct{}, 1)}
	n.incarnation.Store(&uuid.UUID{})
	return n
}

func (n *node) id() uuid.UUID { return *n.incarnation.Load() }

// now is the database's clock. Between renewals it goes by this process's monotonic clock, so that
// setting this machine's clock does not move it. A database's clock that is set away from this machine's
// is not followed: what is due would go out too early, or be given up, or wait for as long again.
func (n *node) now() time.Time { return n.steady().Add(time.Duration(n.offset.Load())) }

func (n *node) steady() time.Time { return n.started.Add(time.Since(n.started)).Round(0) }

// mayStart reports whether a request may start: not when another node could already have taken over.
func (n *node) mayStart() bool {
	return time.Since(n.started) < time.Duration(n.leaseEnd.Load()) || weaken.Off(weaken.Lease)
}

func (n *node) floor() fanfare.Position   { return fanfare.Position(n.highest.Load()) }
func (n *node) ceiling() fanfare.Position { return fanfare.Position(n.beyond.Load()) }

// saw remembers the highest position, below which this node never lets the log fall: a standby with a
// slower clock may be promoted. Only the commit loop calls it.
func (n *node) saw(p fanfare.Position) {
	if int64(p) > n.highest.Load() {
		n.highest.Store(int64(p))
	}
}

// suspect asks for a renewal now.
func (n *node) suspect() {
	select {
	case n.renew <- struct{}{}:
	default:
	}
}

// lookForOrphans asks for a recovery now.
func (n *node) lookForOrphans() {
	select {
	case n.orphans <- struct{}{}:
	default:
	}
}

// held says that a lease of a term was granted by a statement sent at sent, and answered now.
func (n *node) held(sent time.Time, l store.Lease) {
	n.leaseEnd.Store(int64(sent.Add(leaseTerm).Sub(n.started)))
	first := n.live.Swap(int64(l.Live)) == 0
	now := n.steady()
	unsure := time.Since(sent) / 2 // the answer was made at some time in between
	n.seen.Store(int64(l.Now.Sub(now.Add(-unsure))))
	was := time.Duration(n.unsure.Load())
	better := unsure < was || time.Duration(n.seen.Load()-n.offset.Load()).Abs() > unsure+was
	believed := time.Until(n.now())
	if first || better && n.skew().Abs() <= believed.Abs()+maxStray {
		n.offset.Store(n.seen.Load())
		n.unsure.Store(int64(unsure))
	}
}

// skew is the database's clock minus this machine's.
func (n *node) skew() time.Duration { return time.Until(n.steady().Add(time.Duration(n.seen.Load()))) }

// leaseAge is how long ago the lease was renewed; more than [leaseTerm] means that it is lost.
func (n *node) leaseAge() time.Duration {
	return time.Since(n.started) - time.Duration(n.leaseEnd.Load()) + leaseTerm
}

// join begins a new incarnation.
func (d *Dispatcher) join(ctx context.Context) error {
	id := uuid.New()
	short, cancel := context.WithTimeout(ctx, leaseTerm)
	defer cancel()
	if err := d.store.Join(short, id, hostname(), leaseTerm); err != nil {
		return err
	}
	d.node.incarnation.Store(&id)
	d.log.Info("joined", "node", id)
	return d.renew(ctx)
}

// renew asks for another term. A node that may start no request by then first learns what has changed since it
// could: a webhook may be gone.
func (d *Dispatcher) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	sent := time.Now()
	l, err := d.store.Renew(ctx, d.node.id(), leaseTerm)
	if err != nil {
		return err
	}
	d.queue.divide(l.Live)
	if !d.node.mayStart() {
		if err := d.registry.CatchUp(ctx); err != nil {
			return err
		}
	}
	d.node.held(sent, l)
	return nil
}

// leaseLoop renews the lease, ends the incarnation when another node has marked it dead, and marks
// others. Only a node that held its lease for a full term marks anybody, so that an outage of Postgres
// makes nobody a ghost.
func (d *Dispatcher) leaseLoop(ctx context.Context) {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	since := time.Now() // when the lease was last not held
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.node.renew:
		}
		lapsed, seen := !d.node.mayStart(), d.node.seen.Load()
		err := d.renew(ctx)
		d.progressed.tick("lease")
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrDead):
			d.log.Warn("this node was taken for dead; starting anew", "node", d.node.id())
			since = time.Now()
			if err := d.rejoin(ctx); err != nil {
				d.logTrouble(ctx, "could not join again", err)
			}
		case err != nil:
			if !d.node.mayStart() && !lapsed {
				d.log.Error("the lease is lost; no request starts until Postgres answers", "error", err)
			}
		default:
			if lapsed {
				d.log.Info("the lease is held again")
				since = time.Now()
			}
			// The lease may have run out and been renewed between two looks at it.
			d.startSenders(d.queue.wake())
			if moved := time.Duration(d.node.seen.Load() - seen).Abs(); moved > maxClockStep {
				d.log.Warn("the database's clock was set", "by", moved.String())
				since = time.Now() // by the new clock everybody's lease looks lost
			}
			if time.Since(since) >= leaseTerm {
				d.markDead(ctx)
			}
		}
	}
}

// rejoin drops everything that the dead incarnation had in hand, which others own now. Requests in
// flight end and are recorded as facts that change no state.
func (d *Dispatcher) rejoin(ctx context.Context) error {
	d.recorder.forgetAll()
	dropped := d.queue.clear()
	d.log.Info("queued deliveries dropped; the node that took over has them", "deliveries", len(dropped))
	if err := d.join(ctx); err != nil {
		return err
	}
	d.startSenders(d.queue.wake())
	return nil
}

func (d *Dispatcher) markDead(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	dead, err := d.store.MarkDead(short, d.node.id(), leaseTerm)
	if err != nil {
		d.logTrouble(ctx, "dead nodes could not be marked", err)
		return
	}
	for _, id := range dead {
		d.log.Warn("node marked dead: its lease ran out", "node", id)
	}
	if d.node.settledIn.CompareAndSwap(false, true) || len(dead) > 0 {
		d.node.lookForOrphans()
	}
}
