package dispatcher

import (
	"sync"

	"github.com/google/uuid"
)

// queue holds deliveries until a sender takes them: accounts in turn, an account's webhooks in turn, a
// webhook's deliveries by age. A sender is a goroutine that takes until nothing is ready; there are
// never more of them than slots.
//
// An account may hold as many slots as are free: alone it gets half of the node, two get a third each,
// and there is always room for another. The same holds for its deliveries in memory. A webhook holds at
// most its max_in_flight.
type queue struct {
	slots     int
	depth     int
	hookDepth int
	maxBytes  int64

	mu       sync.Mutex // guards all below
	closed   bool
	accounts map[uuid.UUID]*accountQueue
	hooks    map[uuid.UUID]*hookQueue
	turns    fifo[*accountQueue] // accounts with a webhook whose turn could come
	waiting  int                 // deliveries
	flying   int                 // deliveries taken and not done
	senders  int
	bytes    int64 // payloads of waiting deliveries, each event's once
}

type accountQueue struct {
	id      uuid.UUID
	hooks   int              // its webhooks in queue.hooks
	turns   fifo[*hookQueue] // webhooks with deliveries and room
	waiting int
	flying  int
	inTurns bool
}

type hookQueue struct {
	id      uuid.UUID
	account *accountQueue
	waiting fifo[*delivery]
	limit   int
	flying  int
	inTurns bool
}

func newQueue(slots, depth, hookDepth int, maxBytes int64) *queue {
	return &queue{
		slots: slots, depth: depth, hookDepth: hookDepth, maxBytes: maxBytes,
		accounts: make(map[uuid.UUID]*accountQueue), hooks: make(map[uuid.UUID]*hookQueue),
	}
}

// push queues deliveries. It answers how many new senders the caller must start, and the deliveries
// that found no room. Beyond the budget for payloads an event's is dropped; the sender reads it again.
func (q *queue) push(ds []*delivery) (start int, over []*delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pushed := 0
	for _, d := range ds {
		h := q.hook(d.webhook, d.account)
		if q.closed || h.account.waiting >= q.depth-q.waiting || h.waiting.len() >= q.hookDepth {
			over = append(over, d)
			q.drop(h)
			continue
		}
		h.limit = d.limit
		if d.event.queued == 0 && d.event.data != nil {
			if q.bytes += int64(len(d.event.data)); q.bytes > q.maxBytes {
				q.bytes -= int64(len(d.event.data))
				d.event.data = nil
			}
		}
		d.event.queued++
		h.waiting.push(d)
		h.account.waiting++
		q.waiting++
		pushed++
		q.ready(h)
	}
	start = min(pushed, q.slots-q.senders)
	q.senders += start
	return start, over
}

// wake answers how many senders to start for what waits: after a pause.
func (q *queue) wake() (start int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	start = min(q.waiting, q.slots-q.senders)
	q.senders += start
	return start
}

// take hands out the next delivery. When nothing is ready the sender that asked has ended.
func (q *queue) take() *delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		for range q.turns.len() {
			a := q.turns.pop()
			if a.flying >= q.slots-q.flying { // not its turn while it holds more than is free
				q.turns.push(a)
				continue
			}
			h := a.turns.pop()
			h.inTurns = false
			d := h.waiting.pop()
			h.flying++
			a.flying++
			q.flying++
			a.waiting--
			q.waiting--
			q.left(d)
			q.ready(h)
			if a.inTurns = a.turns.len() > 0; a.inTurns {
				q.turns.push(a)
			}
			return d
		}
	}
	q.senders--
	return nil
}

// end ends a sender that will take nothing.
func (q *queue) end() {
	q.mu.Lock()
	q.senders--
	q.mu.Unlock()
}

// done gives a delivery's slot back.
func (q *queue) done(d *delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.hooks[d.webhook]
	h.flying--
	h.account.flying--
	q.flying--
	q.ready(h)
	q.drop(h)
}

// room is how many more of a webhook's retries are worth claiming: enough to keep its requests going.
func (q *queue) room(webhook, account uuid.UUID, limit int) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	want := min(2*limit, q.hookDepth)
	if h := q.hooks[webhook]; h != nil {
		want -= h.waiting.len() + h.flying
	}
	free := q.depth - q.waiting
	if a := q.accounts[account]; a != nil {
		free -= a.waiting
	}
	return max(min(want, free), 0)
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

func (q *queue) sizes() (waiting, flying int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.flying, q.bytes
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
	for _, h := range q.hooks {
		for h.waiting.len() > 0 {
			d := h.waiting.pop()
			q.left(d)
			h.account.waiting--
			all = append(all, d)
		}
		q.drop(h)
	}
	q.waiting = 0
	return all
}

// hook finds or makes a webhook's queue; drop forgets it when nothing is left.
func (q *queue) hook(webhook, account uuid.UUID) *hookQueue {
	h := q.hooks[webhook]
	if h == nil {
		a := q.accounts[account]
		if a == nil {
			a = &accountQueue{id: account}
			q.accounts[account] = a
		}
		h = &hookQueue{id: webhook, account: a}
		a.hooks++
		q.hooks[webhook] = h
	}
	return h
}

func (q *queue) drop(h *hookQueue) {
	if h.waiting.len() > 0 || h.flying > 0 {
		return
	}
	delete(q.hooks, h.id)
	if h.account.hooks--; h.account.hooks == 0 {
		delete(q.accounts, h.account.id)
	}
}

// ready puts a webhook, and its account, in their turns if they have something to do and room for it.
func (q *queue) ready(h *hookQueue) {
	if h.inTurns || h.waiting.len() == 0 || h.flying >= h.limit {
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
		q.bytes -= int64(len(d.event.data))
	}
}

// fifo is a queue in a slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(v T) {
	if f.head > 32 && f.head*2 > len(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

// pop must not be called on an empty queue.
func (f *fifo[T]) pop() T {
	v := f.items[f.head]
	var zero T
	f.items[f.head] = zero
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return v
}
