package dispatcher

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

const (
	// lotSize is the most outcomes of one transaction.
	lotSize = 1000
	// lotPause lets a lot fill after its first outcome: outcomes are in nobody's way, and a transaction
	// a millisecond would cost Postgres a third more.
	lotPause = 25 * time.Millisecond
	// maxUnrecorded outcomes may wait; beyond it senders wait for the recorder.
	maxUnrecorded = 20_000
	// firstRetry is how soon a transaction that failed is repeated; then ever later, up to 2 s.
	firstRetry = 100 * time.Millisecond
	// recordDeadline bounds one transaction that gets no answer.
	recordDeadline = 35 * time.Second
	// flushDeadline bounds how long a stopping node tries to write its last outcomes.
	flushDeadline = 30 * time.Second
)

// group is one commit of this node, until each of its deliveries has an outcome on record.
type group struct {
	id    uuid.UUID
	owner uuid.UUID
	owed  int // deliveries without an outcome on record; guarded by recorder.mu
	// session is the one in which the first of its outcomes was recorded; 0: none is. Guarded by recorder.mu.
	session store.Session
}

// holding is a row of retries that this node has in hand.
type holding struct {
	by uuid.UUID // the incarnation
	// How often. A row may be claimed again before it is known here that it was given back: the lot that did so
	// is on record, and its answer is on its way.
	times int
}

// recorder remembers what this node owes and writes what became of it. Its memory of groups and claims
// is what tells a forgotten row from one in hand: a group is in it before its statement is sent, and
// leaves when the transaction that settles it is known to have succeeded.
type recorder struct {
	mu      sync.Mutex // guards all below
	groups  map[uuid.UUID]*group
	claims  map[store.RetryRef]holding
	pending []store.Outcome
	settled []*group
	writing int        // outcomes taken by the loop and not yet written
	since   time.Time  // when pending stopped being empty
	given   bool       // up: nothing can be recorded any more
	room    *sync.Cond // signalled when pending shrinks

	wake chan struct{} // holds one token while there is something to write
}

func newRecorder() *recorder {
	r := &recorder{
		groups: make(map[uuid.UUID]*group), claims: make(map[store.RetryRef]holding),
		wake: make(chan struct{}, 1),
	}
	r.room = sync.NewCond(&r.mu)
	return r
}

// open remembers a group that is about to be committed or was taken over. Of one that was taken over some
// outcomes may be on record: session is the one that would have written before they were looked up.
func (r *recorder) open(id, owner uuid.UUID, session store.Session) *group {
	g := &group{id: id, owner: owner, session: session}
	r.mu.Lock()
	r.groups[id] = g
	r.mu.Unlock()
	return g
}

// expect says how many outcomes a group waits for. It must come before the first of them.
func (r *recorder) expect(g *group, owed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if weaken.Off(weaken.Remember) {
		r.groups[g.id] = g
	}
	if g.owed = owed; owed == 0 {
		r.settled = append(r.settled, g)
		r.signal()
	}
}

// forget drops a group whose commit failed, or that belongs to an incarnation that is dead.
func (r *recorder) forget(g *group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(g)
}

// drop forgets a group, unless an heir of this node's has it in hand by now. It must be called with r.mu held.
func (r *recorder) drop(g *group) {
	if r.groups[g.id] == g {
		delete(r.groups, g.id)
	}
}

// forgetAll drops every group and claim: the incarnation that had them is dead.
func (r *recorder) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.groups)
	clear(r.claims)
}

// claim remembers retries that this node has in hand.
func (r *recorder) claim(owner uuid.UUID, claimed []store.Retry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range claimed {
		ref := store.RetryRef{WebhookID: claimed[i].WebhookID, EventID: claimed[i].EventID}
		h := r.claims[ref]
		if h.by != owner {
			h = holding{by: owner}
		}
		h.times++
		r.claims[ref] = h
	}
}

// forgotten tells what of the things that the database says it owns this node does not remember.
func (r *recorder) forgotten(me uuid.UUID, m store.Mine) (lost store.Mine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range m.Groups {
		if r.groups[id] == nil {
			lost.Groups = append(lost.Groups, id)
		}
	}
	for _, ref := range m.Retries {
		if r.claims[ref].by != me {
			lost.Retries = append(lost.Retries, ref)
		}
	}
	return lost
}

// add queues an outcome. It waits while too many are unwritten: then Postgres is away, and the senders
// are about to stop anyway. After [recorder.abandon] it drops the outcome.
func (r *recorder) add(o store.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pending) >= maxUnrecorded && !r.given {
		r.room.Wait()
	}
	if r.given {
		return
	}
	if len(r.pending) == 0 {
		r.since = time.Now()
	}
	r.pending = append(r.pending, o)
	r.signal()
}

func (r *recorder) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take removes the next lot, and answers the groups whose last outcomes are in it.
func (r *recorder) take(owner uuid.UUID) (*store.Lot, []*group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.pending), lotSize)
	lot := &store.Lot{Owner: owner, Outcomes: r.pending[:n:n]}
	if r.pending = r.pending[n:]; len(r.pending) == 0 {
		r.pending = nil
	} else {
		r.signal()
	}
	r.writing = n
	settled := r.settled
	r.settled = nil
	for i := range lot.Outcomes {
		// A group may have been taken over by this node from an incarnation of its own that is dead: what that
		// one still says of it is not what is owed now.
		g := r.groups[lot.Outcomes[i].Group]
		if g == nil || g.owner != lot.Outcomes[i].Owner {
			continue
		}
		if g.owed--; g.owed == 0 || g.owed == 1 && weaken.Off(weaken.Settle) {
			settled = append(settled, g)
		}
	}
	r.room.Broadcast()
	return lot, settled
}

// sure lists the groups that a lot of a session may settle: all of their outcomes are in it, or were recorded in
// the same session. What an earlier session recorded a crash of Postgres may have undone.
func (r *recorder) sure(settled []*group, session store.Session) (ids []uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range settled {
		if g.session == 0 || g.session == session || weaken.Off(weaken.Session) {
			ids = append(ids, g.id)
		}
	}
	return ids
}

// written forgets what a lot has put on record. A group that it could not settle is forgotten too, and taken
// up again: what it still owes is looked up then.
func (r *recorder) written(lot *store.Lot, settled []*group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range settled {
		r.drop(g)
	}
	for i := range lot.Outcomes {
		if g := r.groups[lot.Outcomes[i].Group]; g != nil && g.session == 0 {
			g.session = lot.Session
		}
		if o := &lot.Outcomes[i]; o.Group == uuid.Nil {
			r.release(o.Ref(), o.Owner)
		}
	}
	r.writing = 0
	r.room.Broadcast()
}

// release forgets one claim of a row. By now another incarnation of this node may have claimed it.
func (r *recorder) release(ref store.RetryRef, owner uuid.UUID) {
	h := r.claims[ref]
	if h.by != owner {
		return
	}
	if h.times--; h.times > 0 {
		r.claims[ref] = h
	} else {
		delete(r.claims, ref)
	}
}

// drained waits until everything that was added is on record. It is false after [recorder.abandon].
func (r *recorder) drained() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pending)+len(r.settled)+r.writing > 0 && !r.given {
		r.room.Wait()
	}
	return !r.given
}

// abandon ends every wait for the recorder. What is not on record by then is repeated by others.
func (r *recorder) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given = true
	r.room.Broadcast()
}

// backlog is how many outcomes wait, and since when there has been one.
func (r *recorder) backlog() (outcomes int, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) + r.writing, r.since
}

func (d *Dispatcher) recordLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.recorder.wake:
		}
		pause(ctx, lotPause)
		d.writeLot(ctx)
		d.progressed.tick("record")
	}
}

// writeLot writes the next lot, again and again until Postgres takes it. The end of ctx means that the
// recorder was drained or given up.
func (d *Dispatcher) writeLot(ctx context.Context) {
	lot, settled := d.recorder.take(d.node.id())
	start := time.Now()
	for wait := firstRetry; ; wait = min(2*wait, 2*time.Second) {
		try, cancel := context.WithTimeout(ctx, recordDeadline)
		err := d.record(try, lot, settled)
		cancel()
		if err == nil {
			break
		}
		if d.progressed.tick("record"); wait == firstRetry && !errors.Is(err, store.ErrSession) {
			d.log.Error("outcomes cannot be recorded; trying until they are", "outcomes", len(lot.Outcomes), "error", err)
		}
		if pause(ctx, wait); ctx.Err() != nil {
			return
		}
	}
	d.recorder.written(lot, settled)
	if n := len(settled) - len(lot.Settled); n > 0 {
		d.log.Info("groups are looked at again: Postgres was away while their outcomes were recorded", "groups", n)
		d.node.lookForOrphans()
	}
	d.metrics.lotOutcomes.Observe(float64(len(lot.Outcomes)))
	d.metrics.lotSeconds.Observe(time.Since(start).Seconds())
	for i := range lot.Outcomes {
		if r := lot.Outcomes[i].Retry; r != nil {
			d.due.note(r.WebhookID, r.DueAt)
		}
	}
}

// record writes a lot, with the groups that it may settle.
func (d *Dispatcher) record(ctx context.Context, lot *store.Lot, settled []*group) (err error) {
	if lot.Session, err = d.store.RecorderSession(ctx); err != nil {
		return err
	}
	lot.Settled = d.recorder.sure(settled, lot.Session)
	return d.store.RecordOrHalve(ctx, lot, d.rejected)
}

func (d *Dispatcher) rejected(o *store.Outcome, err error) {
	d.metrics.rejected.Inc()
	ref := o.Ref()
	d.log.Error("an outcome was refused by Postgres; what it can take of it is kept", "event", ref.EventID, "webhook", ref.WebhookID, "error", err)
}

// flushRecords waits until every outcome is on record, for as long as Postgres may be expected back.
func (d *Dispatcher) flushRecords() error {
	giveUp := time.AfterFunc(d.flushFor, d.recorder.abandon)
	defer giveUp.Stop()
	if !d.recorder.drained() {
		n, _ := d.recorder.backlog()
		d.log.Error("stopping with outcomes unrecorded: their deliveries will be repeated", "outcomes", n)
		return errStopping
	}
	return nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
