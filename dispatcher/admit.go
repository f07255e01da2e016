package dispatcher

import (
	"context"
	"errors"
	runtimemetrics "runtime/metrics"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

// Refusals for want of room, which pass.
var (
	// ErrOverloaded: too many events wait for their commit, or too much of what became of them for its
	// record.
	ErrOverloaded = errors.New("too many events wait for their commit")
	// ErrAccountOverloaded: the account publishes so much that others would wait.
	ErrAccountOverloaded = errors.New("the account publishes more than its share")
)

const (
	// maxParking is how many deliveries may wait for the recorder to park them.
	maxParking = 2 * maxCallFanOut
	// maxDelay is how long a goroutine may wait for a CPU, nine times in ten, before the node is short of
	// them. A delivery waits some five times between its publish and its arrival.
	maxDelay = 20 * time.Millisecond
	// maxWait is how long a delivery may wait for a slot before its account is late.
	maxWait = 100 * time.Millisecond
	// lateFor is how long an account that is late is refused.
	lateFor = 200 * time.Millisecond
	// delayEvery is how often that is looked at. A look counts for a quarter of what is held against
	// maxDelay: a hiccup refuses nobody.
	delayEvery = 100 * time.Millisecond
	// maxRunning and leastRunning bound how many publish calls may be under way at once, between which the
	// bound follows what CPUs can do.
	maxRunning   = 1024
	leastRunning = 64
	// refusalPause is how long an account waits for its refusal, and up to as much again, so that those who
	// were refused together do not come again together. It costs the node a timer.
	refusalPause = time.Second
	// shareOver is the time in which an account's share of the work is counted.
	shareOver = time.Second
	// loudBy is how many times the average's work is too much when CPUs are short.
	loudBy = 1.5
	// leastWork is how many events and deliveries in that time are worth to be refused: a node that does less
	// is not what keeps the CPUs busy.
	leastWork = 1000
)

// admission decides who may publish. An account may hold as much as is free of the calls under way, and
// of what events and deliveries wait in, so that there is always room for another. An account whose deliveries wait for
// slots is refused. When CPUs are short fewer calls may be under way, and whoever publishes much more than the
// average is refused, so that what was accepted is not late. A receiver that is slow refuses nobody: what waits
// for it waits in Postgres.
type admission struct {
	incoming *committer
	queue    *queue

	mu        sync.Mutex        // guards all below
	running   map[uuid.UUID]int // calls of Publish under way, by account
	runs      int               // sum of running
	bound     int               // of runs
	bounded   bool              // since the last look it refused somebody
	lone      uuid.UUID         // the account that asked last
	loneSince time.Time         // since when no other did
	delay     time.Duration     // how long goroutines waited for a CPU of late
	since     time.Time         // the beginning of the count
	work      map[uuid.UUID]int // events and their deliveries, by account
	total     int               // sum of work
	parking   map[uuid.UUID]int // deliveries that wait for the recorder to park them
	parked    int               // sum of parking
}

func newAdmission(c *committer, q *queue) *admission {
	return &admission{
		incoming: c, queue: q,
		bound: maxRunning, running: make(map[uuid.UUID]int), work: make(map[uuid.UUID]int), parking: make(map[uuid.UUID]int),
	}
}

// check answers an error if the account may not publish now. The nil account is only held against what
// concerns everybody.
func (a *admission) check(account uuid.UUID) error {
	if weaken.Off(weaken.Shed) {
		return nil
	}
	if err := a.incoming.room(account); err != nil {
		return err
	}
	if account != uuid.Nil && a.queue.late(account) {
		return ErrAccountOverloaded
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asks(account)
	switch {
	case a.parked >= maxParking:
		return ErrOverloaded
	case account == uuid.Nil:
		return nil
	case a.running[account] >= a.most(account)-a.runs:
		a.bounded = true
		return ErrAccountOverloaded
	case a.parking[account] > maxParking-a.parked, a.loud(account):
		return ErrAccountOverloaded
	}
	return nil
}

// asks notes who wants to publish, also when it is refused.
func (a *admission) asks(account uuid.UUID) {
	if account != uuid.Nil && account != a.lone {
		a.lone, a.loneSince = account, time.Now()
	}
}

// most is how many calls may be under way if one more is the account's. An account that was alone in asking
// for longer than a refused one stays away has nobody to leave CPUs to.
func (a *admission) most(account uuid.UUID) int {
	if account == a.lone && time.Since(a.loneSince) > 2*refusalPause+shareOver {
		return maxRunning
	}
	return a.bound
}

// loud reports whether an account's work is what keeps the CPUs busy that others wait for.
func (a *admission) loud(account uuid.UUID) bool {
	return a.delay > maxDelay && time.Since(a.since) <= 2*shareOver && a.total >= leastWork &&
		float64(a.work[account]*len(a.work)) >= loudBy*float64(a.total)
}

// begins counts a call of Publish; ends takes it off.
func (a *admission) begins(account uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running[account]++
	a.runs++
}

func (a *admission) ends(account uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs--
	if a.running[account]--; a.running[account] == 0 {
		delete(a.running, account)
	}
}

// published counts an account's events and deliveries.
func (a *admission) published(account uuid.UUID, work int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.Sub(a.since) > shareOver {
		clear(a.work)
		a.since, a.total = now, 0
	}
	a.work[account] += work
	a.total += work
}

// parks counts deliveries of an account that begin (n > 0) or end (n < 0) to wait for being parked.
func (a *admission) parks(account uuid.UUID, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parked += n
	if a.parking[account] += n; a.parking[account] == 0 {
		delete(a.parking, account)
	}
}

// look takes in how long goroutines waited for a CPU since the last look, [delayEvery] ago. The bound of
// calls under way falls by a quarter when that was too long, and rises again slowly while it is what refuses.
func (a *admission) look(delay time.Duration) (smooth time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delay += (delay - a.delay) / 4
	switch {
	case delay > maxDelay:
		a.bound = max(min(a.bound, a.runs+a.runs/4)*3/4, leastRunning)
	case a.bounded:
		a.bound = min(a.bound+a.bound/16, maxRunning)
	}
	a.bounded = false
	return a.delay
}

// delayLoop watches how long goroutines wait for a CPU.
func (d *Dispatcher) delayLoop(ctx context.Context) {
	t := time.NewTicker(delayEvery)
	defer t.Stop()
	var seen delays
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		d.metrics.schedDelay.Set(d.admission.look(seen.sinceLast()).Seconds())
	}
}

// delays reads the runtime's histogram of how long goroutines wait between being able to run and
// running.
type delays struct {
	sample [1]runtimemetrics.Sample
	before []uint64
}

// sinceLast is the 90th percentile of the waits that ended since the last call; of only a few it is 0.
func (h *delays) sinceLast() time.Duration {
	h.sample[0].Name = "/sched/latencies:seconds"
	runtimemetrics.Read(h.sample[:])
	if h.sample[0].Value.Kind() != runtimemetrics.KindFloat64Histogram {
		return 0
	}
	now := h.sample[0].Value.Float64Histogram()
	if h.before == nil {
		h.before = make([]uint64, len(now.Counts))
	}
	delay := worstTenth(h.before, now.Counts, now.Buckets)
	copy(h.before, now.Counts)
	return time.Duration(delay * float64(time.Second))
}

// worstTenth is the lower edge of the bucket where the largest tenth of what was counted between before
// and now begins; 0 if that is less than a hundred.
func worstTenth(before, now []uint64, edges []float64) float64 {
	var total uint64
	for i := range now {
		total += now[i] - before[i]
	}
	if total < 100 {
		return 0
	}
	var over uint64
	i := len(now)
	for over*10 < total {
		i--
		over += now[i] - before[i]
	}
	return max(edges[i], 0) // the first is minus infinity
}
