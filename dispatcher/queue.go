package dispatcher

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/weaken"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// queue holds deliveries until a sender takes them: accounts in turn, an account's webhooks in turn, a
// webhook's deliveries by age. A sender is a goroutine that takes until nothing is ready; there are
// never more of them than slots. While something is ready one of them is on its way to take it, or all
// slots are in use: whoever makes something ready is told to start a sender, and so is whoever takes and
// leaves something ready.
//
// An account may hold as many slots as are free: alone it gets half of the node, two get a third each,
// and there is always room for another. The same holds for a webhook within what its account may hold,
// and for an account's deliveries in memory. What a webhook's endpoint can bear bounds it further.
type queue struct {
	slots     int
	depth     int
	hookDepth int
	maxBytes  int64
	due       *dueHeap // is told of webhooks that have room for retries again
	paced     *dueHeap // webhooks that only time keeps from going on; by this process's clock

	mu       sync.Mutex // guards all below
	closed   bool
	share    int // of a webhook's max_in_flight and rate: by how many nodes it is divided
	accounts map[uuid.UUID]*accountQueue
	hooks    map[uuid.UUID]*hookQueue
	turns    fifo[*accountQueue] // accounts with a webhook whose turn could come
	waiting  int                 // deliveries
	flying   int                 // deliveries taken and not done
	senders  int
	shortAt  time.Time // when all slots were in use and something was ready
	down     int       // endpoints
	bytes    int64     // payloads of waiting deliveries, each event's once
}

type accountQueue struct {
	id      uuid.UUID
	hooks   int              // its webhooks in queue.hooks
	turns   fifo[*hookQueue] // webhooks with deliveries that may go
	waiting int
	flying  int
	inTurns bool
	shortAt time.Time // when something was ready and its share of the slots was in use
	lateAt  time.Time // when a delivery left that had waited too long for a slot
}

// hookQueue is a webhook with deliveries in memory, or with an endpoint that there is something to be
// remembered of. All one-off destinations of an account at one host and port are one, under what queueOf gives.
type hookQueue struct {
	id       uuid.UUID
	account  *accountQueue
	hook     *registry.Webhook // as it was told last; nil: not known here
	endpoint endpoint
	waiting  fifo[*delivery]
	flying   int
	inTurns  bool
	heldAt   time.Time // when its endpoint last kept something waiting
	hungry   sharer    // which of those that share it have retries in Postgres, and found no room for them
}

func newQueue(slots, depth, hookDepth int, maxBytes int64, due *dueHeap) *queue {
	return &queue{
		slots: slots, depth: depth, hookDepth: hookDepth, maxBytes: maxBytes, due: due, paced: newDueHeap(), share: 1,
		accounts: make(map[uuid.UUID]*accountQueue), hooks: make(map[uuid.UUID]*hookQueue),
	}
}

// push queues deliveries. It answers how many new senders the caller must start, and the deliveries
// that found no room or whose endpoint is down. Beyond the budget for payloads an event's is dropped; the
// sender reads it again.
func (q *queue) push(ds []*delivery) (start int, over []*delivery) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range ds {
		h := q.hook(d.webhook, d.account, d.hook)
		if !q.fits(h, now) {
			over = append(over, d)
			q.ready(h, now) // its limit may be another
			q.drop(h, now)
			continue
		}
		// What is beyond the bytes that may wait is read again later. Nobody sends anything of the event yet.
		if e := d.event; e.queued == 0 && e.data != nil && q.bytes+e.size() > q.maxBytes {
			e.data, e.destinations = nil, nil
		}
		q.enter(h, d)
		q.ready(h, now)
	}
	return q.start(now), over
}

// enter puts a delivery at the end of a queue.
func (q *queue) enter(h *hookQueue, d *delivery) {
	if d.event.queued == 0 {
		q.bytes += d.event.size()
	}
	d.event.queued++
	h.waiting.push(d)
	h.account.waiting++
	q.waiting++
}

// putBack queues a delivery again that left by what was known of its webhook before w: its endpoint, or how
// much that can bear, may be another. It does not when the node stops.
func (q *queue) putBack(d *delivery, w *registry.Webhook) (done bool) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.hook(d.webhook, d.account, w)
	if q.closed {
		return false
	}
	h.flying--
	h.account.flying--
	q.flying--
	q.enter(h, d)
	q.ready(h, now)
	return true
}

// start is how many senders the caller must start now: one, if something is ready that no other may be
// about to take. It starts the next one itself.
func (q *queue) start(now time.Time) int {
	switch {
	case q.closed || q.turns.len() == 0:
		return 0
	case q.senders >= q.slots:
		q.shortAt = now
		return 0
	}
	q.senders++
	return 1
}

// wake answers how many senders to start for what waits: after a pause.
func (q *queue) wake() (start int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.start(time.Now())
}

// resume lets webhooks go on whose time has come.
func (q *queue) resume(hooks []uuid.UUID) (start int) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range hooks {
		if h := q.hooks[id]; h != nil {
			q.ready(h, now)
			q.drop(h, now)
		}
	}
	return q.start(now)
}

// take hands out the next delivery, and answers how many senders to start for those behind it. When
// nothing is ready the sender that asked has ended.
func (q *queue) take() (d *delivery, start int) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for range q.turns.len() {
		a := q.turns.pop()
		h := q.nextHook(a, now)
		if a.inTurns = a.turns.len() > 0; a.inTurns {
			q.turns.push(a)
		}
		if h != nil {
			return q.depart(h, now), q.start(now)
		}
	}
	q.senders--
	return nil, 0
}

// nextHook takes the account's next webhook out of its turn, nil if none may go.
func (q *queue) nextHook(a *accountQueue, now time.Time) *hookQueue {
	free := q.slots - q.flying
	if a.flying >= free && !weaken.Off(weaken.Slots) {
		a.shortAt = now
		return nil
	}
	// The account may come to hold half of what the others leave. So much of it is free:
	left := (free+a.flying)/2 - a.flying
	for range a.turns.len() {
		h := a.turns.pop()
		switch ok, _ := h.endpoint.next(now, h.flying); {
		case !ok || h.waiting.len() == 0: // since it was given its turn
			h.inTurns = false
			q.ready(h, now)
		case h.flying > 0 && h.flying >= left && !weaken.Off(weaken.Slots):
			a.turns.push(h)
			a.shortAt = now
		default:
			h.inTurns = false
			return h
		}
	}
	return nil
}

// depart sends a webhook's oldest delivery on its way.
func (q *queue) depart(h *hookQueue, now time.Time) *delivery {
	d := h.waiting.pop()
	d.hook, d.endpoint = h.hook, h.endpoint.state()
	// Only an endpoint that answers soon tells whether it is slots that are missing.
	since := later(d.queuedAt, h.heldAt)
	if a := h.account; h.endpoint.brisk && now.Sub(since) > maxWait && later(q.shortAt, a.shortAt).After(since) &&
		(a.flying+1)*(len(q.accounts)+1) >= q.slots { // the others are not those who have them
		h.account.lateAt = now
	}
	h.endpoint.pace.started(now)
	h.flying++
	h.account.flying++
	q.flying++
	h.account.waiting--
	q.waiting--
	q.left(d)
	q.ready(h, now)
	q.feed(h, now)
	return d
}

// feed has more of a webhook's retries claimed when few are left in memory.
func (q *queue) feed(h *hookQueue, now time.Time) {
	if h.hungry != 0 && h.waiting.len()+h.flying <= q.wanted(h, now)/2 {
		for _, id := range h.hungry.ids(h.id) {
			q.due.note(id, time.Time{})
		}
		h.hungry = 0
	}
}

// claimed is told that a webhook's retries were asked for, whatever came of it: those that share its queue may
// have been put off for some that were not to be had.
func (q *queue) claimed(webhook uuid.UUID) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if h := q.hooks[queueOf(webhook)]; h != nil {
		q.feed(h, now)
		q.drop(h, now)
	}
}

// end ends a sender that will take nothing.
func (q *queue) end() {
	q.mu.Lock()
	q.senders--
	q.mu.Unlock()
}

// done gives a delivery's slot back, with what its attempt taught. If that closes its endpoint it answers
// the deliveries that are better parked.
func (q *queue) done(d *delivery, l lesson) (park []*delivery) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.hooks[queueOf(d.webhook)]
	h.flying--
	h.account.flying--
	q.flying--
	if l.url != "" && l.url != h.endpoint.url {
		l = lesson{} // it is about another endpoint
	}
	if h.endpoint.down() {
		q.down--
	}
	h.endpoint.ended(now, l)
	if h.endpoint.down() {
		q.down++
	}
	if h.endpoint.shut(now, h.flying) {
		park = q.empty(h)
	}
	q.feed(h, now)
	q.ready(h, now)
	q.drop(h, now)
	return park
}

// late reports whether an account's deliveries had to wait too long for slots just now.
func (q *queue) late(account uuid.UUID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.accounts[account]
	return a != nil && time.Since(a.lateAt) < lateFor
}

// space is how many more deliveries fit.
func (q *queue) space() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.depth-q.waiting, 0)
}

func (q *queue) inFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flying
}

func (q *queue) sizes() (waiting, flying, down int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.flying, q.down, q.bytes
}

// close empties the queue for good and answers what was in it.
func (q *queue) close() []*delivery {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.clear()
}

// clear empties the queue and answers what was in it. Deliveries in flight go on.
func (q *queue) clear() []*delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.turns.len() > 0 {
		a := q.turns.pop()
		a.inTurns = false
		for a.turns.len() > 0 {
			a.turns.pop().inTurns = false
		}
	}
	var all []*delivery
	now := time.Now()
	for _, h := range q.hooks {
		all = append(all, q.empty(h)...)
		q.feed(h, now)
		q.drop(h, now)
	}
	return all
}

// empty takes all that waits out of a webhook's queue.
func (q *queue) empty(h *hookQueue) []*delivery {
	ds := make([]*delivery, 0, h.waiting.len())
	for h.waiting.len() > 0 {
		d := h.waiting.pop()
		q.left(d)
		ds = append(ds, d)
	}
	h.account.waiting -= len(ds)
	q.waiting -= len(ds)
	return ds
}

// ready puts a webhook, and its account, in their turns if they have something to do and room for it. If
// only time is in the way, it comes back.
func (q *queue) ready(h *hookQueue, now time.Time) {
	if h.inTurns || h.waiting.len() == 0 {
		return
	}
	if ok, at := h.endpoint.next(now, h.flying); !ok {
		h.heldAt = now
		if !at.IsZero() {
			q.paced.note(h.id, at)
		}
		return
	}
	h.inTurns = true
	h.account.turns.push(h)
	if !h.account.inTurns {
		h.account.inTurns = true
		q.turns.push(h.account)
	}
}

func (q *queue) left(d *delivery) {
	if d.event.queued--; d.event.queued == 0 {
		q.bytes -= d.event.size()
	}
}
