package dispatcher

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// The most that one commit holds. Past some hundred rows a commit gets no cheaper a row, and everybody
// in the cluster waits for it.
const (
	groupEvents     = 1000
	groupBytes      = 4 << 20
	groupDeliveries = 20_000 // but for a call that has more by itself
)

// errBeyond: the log's position would pass the newest partition.
var errBeyond = errors.New("the log's position is beyond the newest partition; is the database's clock right?")

// ingestDeadline bounds one commit. It is longer than the statement's own timeouts, so that it ends
// only what does not answer at all.
const ingestDeadline = 12 * time.Second

// call is one caller's publications on their way through a commit: all of one call are in one group.
type call struct {
	pubs     []Publication
	accounts map[uuid.UUID]int     // how many of pubs are theirs
	only     uuid.UUID             // a test: the one webhook that gets it
	events   []store.NewEvent      // matched; parallel to pubs
	hooks    [][]*registry.Webhook // whom each event goes to; parallel to pubs
	lineage  []uuid.UUID           // every account the match depends on
	version  int64                 // of the snapshot it was matched against
	bytes    int64
	owed     int // deliveries, if every event is new

	done     chan struct{} // closed by the committer, which wrote the rest
	ids      []uuid.UUID
	inserted []bool                // false: the idempotency key was known
	attempt  chan *fanfare.Attempt // of a test; holds one; nil: there was none
	err      error
}

// committer gathers calls while a commit is in flight; the next group is what came meanwhile. It needs
// no timer, and an idle node commits a lone event at once.
type committer struct {
	maxEvents int
	maxBytes  int64
	failing   bool // the last commit failed; the commit loop's own

	mu     sync.Mutex // guards all below
	calls  []*call
	events int
	held   map[uuid.UUID]int // of events, by account
	bytes  int64
	since  time.Time // when calls stopped being empty
	closed bool
	wake   chan struct{} // holds one token while there is work
}

func newCommitter(maxEvents int, maxBytes int64) *committer {
	return &committer{maxEvents: maxEvents, maxBytes: maxBytes, held: make(map[uuid.UUID]int), wake: make(chan struct{}, 1)}
}

// room answers an error if there is none for an account's events: it may hold as many as are free.
func (c *committer) room(account uuid.UUID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.events >= c.maxEvents || c.bytes >= c.maxBytes:
		return ErrOverloaded
	case c.held[account] >= c.maxEvents-c.events:
		return ErrAccountOverloaded
	}
	return nil
}

// backlog is how many events wait, and since when there has been one.
func (c *committer) backlog() (events int, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events, c.since
}

// add queues a call for the next commit. One that returns from a stale snapshot is never refused for
// want of room: it had its place.
func (c *committer) add(cl *call, again bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrUnavailable
	}
	if !again && (c.events >= c.maxEvents || c.bytes >= c.maxBytes) {
		return ErrOverloaded
	}
	if len(c.calls) == 0 {
		c.since = time.Now()
	}
	c.calls = append(c.calls, cl)
	c.count(cl, 1)
	c.signal()
	return nil
}

// count adds a call's events to what waits (sign 1), or takes them off (-1).
func (c *committer) count(cl *call, sign int) {
	c.events += sign * len(cl.pubs)
	c.bytes += int64(sign) * cl.bytes
	for account, n := range cl.accounts {
		if c.held[account] += sign * n; c.held[account] == 0 {
			delete(c.held, account)
		}
	}
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take removes the next group's calls. Two calls with one idempotency key never share a group: the
// second waits for the next, where the log knows its key.
func (c *committer) take() []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	var (
		group, left []*call
		events      int
		owed        int
		bytes       int64
		keys        map[store.KeyRef]bool
	)
	for i, cl := range c.calls {
		if events > 0 && (events+len(cl.pubs) > groupEvents || bytes+cl.bytes > groupBytes || owed+cl.owed > groupDeliveries) {
			left = append(left, c.calls[i:]...)
			break
		}
		if clash := claimKeys(&keys, cl); clash {
			left = append(left, cl)
			continue
		}
		group = append(group, cl)
		events += len(cl.pubs)
		owed += cl.owed
		bytes += cl.bytes
		c.count(cl, -1)
	}
	c.calls = left
	if len(left) > 0 {
		c.signal()
	}
	return group
}

// claimKeys adds the call's idempotency keys to keys, unless one of them is there.
func claimKeys(keys *map[store.KeyRef]bool, cl *call) (clash bool) {
	for i := range cl.pubs {
		if k := cl.pubs[i].keyRef(); k.Key != "" && (*keys)[k] {
			return true
		}
	}
	for i := range cl.pubs {
		if k := cl.pubs[i].keyRef(); k.Key != "" {
			if *keys == nil {
				*keys = make(map[store.KeyRef]bool)
			}
			(*keys)[k] = true
		}
	}
	return false
}

// close refuses new calls; what is queued is still committed.
func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.signal()
}

func (d *Dispatcher) commitLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			d.commitRest()
			return
		case <-d.incoming.wake:
		}
		if calls := d.incoming.take(); len(calls) > 0 {
			d.commit(calls)
		}
		d.progressed.tick("commit")
	}
}

// commitRest commits what was queued before the stop, and gives up with Postgres.
func (d *Dispatcher) commitRest() {
	for calls := d.incoming.take(); len(calls) > 0; calls = d.incoming.take() {
		if d.incoming.failing {
			finish(calls, ErrUnavailable)
		} else {
			d.commit(calls)
		}
	}
}

// commit appends one group to the log, tells the callers, and queues the deliveries.
func (d *Dispatcher) commit(calls []*call) {
	g := d.newGroup(calls)
	grp := d.recorder.open(g.ID, g.Node, 0)
	if weaken.Off(weaken.Remember) {
		d.recorder.forget(grp)
	}
	ctx, cancel := context.WithTimeout(context.Background(), ingestDeadline)
	start := time.Now()
	c, err := d.store.Ingest(ctx, g)
	cancel()
	d.metrics.commitSeconds.Observe(time.Since(start).Seconds())
	if err != nil || c.Inserted == nil {
		// If the group was committed all the same it is now one that nobody remembers.
		d.recorder.forget(grp)
	}
	switch {
	case err != nil:
		d.commitsFail(err)
		finish(calls, ErrUnavailable)
	case !c.Alive:
		d.metrics.commitErrors.Inc()
		d.node.suspect()
		finish(calls, ErrUnavailable)
	case len(c.Stale) > 0:
		d.commitAgain(calls, c.Stale)
	case c.Beyond:
		d.commitsFail(errBeyond)
		finish(calls, ErrUnavailable)
	default:
		d.commitsFail(nil)
		d.metrics.groupEvents.Observe(float64(len(g.Events)))
		d.node.saw(c.Base + fanfare.Position(len(g.Events)))
		if d.opts.Committed != nil {
			d.opts.Committed()
		}
		d.committed(calls, g, c, grp)
	}
}

// commitsFail logs when commits begin to fail and when they succeed again, however many there are.
func (d *Dispatcher) commitsFail(err error) {
	if err != nil {
		d.metrics.commitErrors.Inc()
	}
	switch failing := d.incoming.failing; {
	case err != nil && !failing:
		d.log.Error("commits fail; publishes are answered 503", "error", err)
	case err == nil && failing:
		d.log.Info("commits succeed again")
	}
	d.incoming.failing = err != nil
}

func (d *Dispatcher) newGroup(calls []*call) *store.Group {
	g := &store.Group{
		ID: uuid.New(), Node: d.node.id(),
		RegistryVersion: calls[0].version, Floor: d.node.floor(), Ceiling: d.node.ceiling(),
	}
	seen := make(map[uuid.UUID]bool)
	for _, cl := range calls {
		g.Events = append(g.Events, cl.events...)
		g.RegistryVersion = min(g.RegistryVersion, cl.version)
		for _, a := range cl.lineage {
			if !seen[a] {
				seen[a] = true
				g.Accounts = append(g.Accounts, a)
			}
		}
	}
	if weaken.Off(weaken.Version) {
		g.RegistryVersion = math.MaxInt64
	}
	for i := range g.Events {
		if e := &g.Events[i]; e.Destinations == nil { // which are sealed for theirs
			e.Tail = randomTail()
		}
	}
	return g
}

// randomTail ends an event's id: ids are unique by their position, the tail keeps them from being guessed by
// counting.
func randomTail() uint64 { return rand.Uint64() & (1<<fanfare.TailBits - 1) } //nolint:gosec // guessing one helps nobody much

// commitAgain sends calls about stale accounts back through matching, and commits the others at once,
// so that a tenant that edits in a loop delays only itself.
func (d *Dispatcher) commitAgain(calls []*call, stale []uuid.UUID) {
	isStale := make(map[uuid.UUID]bool, len(stale))
	for _, id := range stale {
		isStale[id] = true
	}
	var fresh, again []*call
	for _, cl := range calls {
		if touches(cl.lineage, isStale) {
			again = append(again, cl)
		} else {
			fresh = append(fresh, cl)
		}
	}
	d.metrics.stale.Add(float64(len(again)))
	d.senders.Go(func() {
		ctx, cancel := context.WithTimeout(d.sendCtx, ingestDeadline)
		defer cancel()
		err := d.registry.CatchUp(ctx)
		for _, cl := range again {
			if err != nil {
				finish([]*call{cl}, ErrUnavailable)
			} else if err := d.match(cl); err != nil {
				finish([]*call{cl}, err)
			} else if err := d.incoming.add(cl, true); err != nil {
				finish([]*call{cl}, err)
			}
		}
	})
	if len(fresh) > 0 {
		d.commit(fresh)
	}
}

func touches(lineage []uuid.UUID, stale map[uuid.UUID]bool) bool {
	for _, a := range lineage {
		if stale[a] {
			return true
		}
	}
	return false
}

func finish(calls []*call, err error) {
	for _, cl := range calls {
		cl.err = err
		close(cl.done)
	}
}

// committed queues what a committed group owes and wakes its callers.
func (d *Dispatcher) committed(calls []*call, g *store.Group, c *store.Committed, grp *group) {
	var (
		now    = time.Now()
		queued []*delivery
		tests  []func()
		owed   int
		n      int
	)
	for _, cl := range calls {
		cl.ids, cl.inserted = make([]uuid.UUID, len(cl.pubs)), c.Inserted[n:n+len(cl.pubs)]
		for i := range cl.pubs {
			cl.ids[i] = c.ID(g, n)
			n++
			if !cl.inserted[i] {
				continue
			}
			d.metrics.published.Inc()
			ds := d.deliveriesOf(cl, i, grp, now)
			owed += len(ds)
			if cl.only == uuid.Nil {
				queued = append(queued, ds...)
				continue
			}
			tests = append(tests, func() {
				w, gone := d.lookup(ds[0])
				o, _ := d.send(ds[0], w, gone)
				d.recorder.add(o)
				cl.attempt <- o.Attempt
			})
		}
	}
	d.recorder.expect(grp, owed)
	d.enqueue(queued)
	for _, send := range tests {
		d.senders.Go(send)
	}
	finish(calls, nil)
}

func (d *Dispatcher) deliveriesOf(cl *call, i int, grp *group, now time.Time) []*delivery {
	p := &cl.pubs[i]
	e := &event{
		id: cl.ids[i], account: p.AccountID, typ: p.Type, data: p.Data, occurredAt: p.OccurredAt,
		test: cl.only != uuid.Nil, destinations: cl.events[i].Destinations,
	}
	trigger := fanfare.TriggerFirst
	if e.test {
		trigger = fanfare.TriggerTest
	}
	at := fanfare.EventTime(e.id)
	ds := make([]*delivery, len(cl.hooks[i]), len(cl.hooks[i])+len(p.Destinations))
	for j, h := range cl.hooks[i] {
		ds[j] = &delivery{
			event: e, webhook: h.ID, account: h.AccountID, hook: h, owner: grp.owner, group: grp,
			trigger: trigger, firstAt: at, queuedAt: now,
		}
	}
	for j, id := range cl.events[i].DestinationIDs {
		ds = append(ds, &delivery{
			event: e, webhook: id, account: p.AccountID, owner: grp.owner, group: grp,
			trigger: trigger, firstAt: at, queuedAt: now, destination: j + 1,
		})
	}
	return ds
}
