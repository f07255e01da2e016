package dispatcher

import (
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/weaken"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// fits reports whether one more of a webhook's deliveries may wait in memory.
func (q *queue) fits(h *hookQueue, now time.Time) bool {
	open := !q.closed && !h.endpoint.shut(now, h.flying+h.waiting.len())
	return open && (weaken.Off(weaken.Park) || q.spare(h) > 0)
}

// spare is how many more of a webhook's deliveries fit in memory. It leaves the others of its account
// room, as its account leaves the other accounts.
func (q *queue) spare(h *hookQueue) int {
	// The account may come to hold half of what the others leave. So much of it is free:
	left := (q.depth - q.waiting - h.account.waiting + 1) / 2
	return min(q.most(h), left) - h.waiting.len()
}

// most is how many of a webhook's deliveries memory may hold: no more than a rate limit lets go soon.
func (q *queue) most(h *hookQueue) int {
	if step := h.endpoint.pace.step; step > 0 {
		return min(q.hookDepth, 1+int(maxHeld/step))
	}
	return q.hookDepth
}

// promises are retries that are about to be claimed, by the account and by the queue that they will wait in.
type promises map[uuid.UUID]int

// room is how many more of a webhook's retries are worth claiming, enough to keep its requests going beside
// what is promised already, and at most most; it promises them. If it is 0, again tells when to ask anew; the
// zero time: the webhook becomes hungry.
func (q *queue) room(webhook uuid.UUID, w *registry.Webhook, most int, promised promises) (n int, again time.Time) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	_, known := q.hooks[queueOf(webhook)]
	var account uuid.UUID
	if w != nil {
		account = w.AccountID
	}
	h := q.hook(webhook, account, w)
	defer q.drop(h, now)
	if !known {
		h.endpoint.cautious(now)
	}
	q.ready(h, now) // what is new about it may let it go
	if want := q.wanted(h, now) - h.waiting.len() - h.flying - promised[h.id]; want > 0 {
		// Each that is pushed makes the webhook's share smaller by one, too.
		if n = min(want, most, (q.spare(h)-promised[h.account.id]+1)/2); n <= 0 {
			return 0, now.Add(noRoomWait)
		}
		promised[h.account.id] += n
		promised[h.id] += n
		h.hungry &^= sharerOf(webhook)
		return n, time.Time{}
	}
	if ok, at := h.endpoint.next(now, h.flying); !ok && !at.IsZero() {
		return 0, at
	}
	h.hungry |= sharerOf(webhook)
	return 0, time.Time{}
}

// wanted is how many deliveries of a webhook should be in memory.
func (q *queue) wanted(h *hookQueue, now time.Time) int {
	e := &h.endpoint
	switch {
	case weaken.Off(weaken.Claims):
		return q.hookDepth
	case e.down() || now.Before(e.restUntil):
		if ok, _ := e.next(now, h.flying); ok {
			return 1
		}
		return 0
	case e.window >= e.limit && e.failures == 0:
		return q.most(h)
	}
	return min(4*e.window, q.most(h))
}
