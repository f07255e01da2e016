package dispatcher

import (
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/registry"
)

// hook finds or makes a webhook's queue; drop forgets it when nothing is left to remember.
func (q *queue) hook(webhook, account uuid.UUID, w *registry.Webhook) *hookQueue {
	id := queueOf(webhook)
	h := q.hooks[id]
	switch {
	case h == nil:
		h = &hookQueue{id: id}
		q.hooks[id] = h
		q.house(h, account)
	case h.account.id == uuid.Nil && account != uuid.Nil:
		// It was asked about before anything of it was in memory, when nothing told whose it is.
		q.leave(h)
		q.house(h, account)
	}
	if w == nil || h.hook == nil || w.Version >= h.hook.Version { // one that was matched before may come after
		q.aim(h, w)
	}
	return h
}

// house and leave say whose a queue is.
func (q *queue) house(h *hookQueue, account uuid.UUID) {
	a := q.accounts[account]
	if a == nil {
		a = &accountQueue{id: account}
		q.accounts[account] = a
	}
	h.account = a
	a.hooks++
}

func (q *queue) leave(h *hookQueue) {
	if h.account.hooks--; h.account.hooks == 0 {
		delete(q.accounts, h.account.id)
	}
}

// aim tells an endpoint what w says. A webhook that is disabled or unknown has none that could bear too
// much: its deliveries end without a request. Of one-off destinations there is nothing to be said.
func (q *queue) aim(h *hookQueue, w *registry.Webhook) {
	h.hook = w
	switch {
	case isOneOff(h.id):
		q.point(h, oneOffURL, q.ours(defaultLimit), pace{})
	case w == nil || !w.Enabled():
		q.point(h, "", defaultLimit, pace{})
	default:
		q.point(h, w.URL, q.ours(w.MaxInFlight), newPace(q.ours(w.RateLimit.Count), w.RateLimit.Per))
	}
}

// oneOffURL stands for the URL of an endpoint that has many.
const oneOffURL = "one-off"

func (q *queue) point(h *hookQueue, url string, limit int, p pace) {
	was := h.endpoint.down()
	h.endpoint.aim(url, limit, p)
	if was && !h.endpoint.down() {
		q.down--
		q.due.note(h.id, time.Time{}) // its retries need not wait for the next probe
	}
}

// ours is this node's share of a limit, at least one; of none it is none.
func (q *queue) ours(limit int) int { return min(limit, max(limit/q.share, 1)) }

// refresh tells every endpoint what the registry says of it, which otherwise comes with its deliveries. It
// answers how many senders to start.
func (q *queue) refresh(snap *registry.Snapshot) (start int) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, h := range q.hooks {
		q.aim(h, snap.Webhook(id))
		q.ready(h, now)
		q.drop(h, now)
	}
	return q.start(now)
}

// divide says by how many nodes each webhook's limits are shared.
func (q *queue) divide(nodes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if nodes = max(nodes, 1); nodes == q.share {
		return
	}
	q.share = nodes
	now := time.Now()
	for _, h := range q.hooks {
		q.aim(h, h.hook)
		q.ready(h, now)
	}
}

// forget drops what is known of an endpoint that is sent nothing any more.
func (q *queue) forget(webhook uuid.UUID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if h := q.hooks[queueOf(webhook)]; h != nil {
		h.hook = nil
		q.point(h, "", defaultLimit, pace{})
		q.feed(h, now)
		q.ready(h, now)
		q.drop(h, now)
	}
}

func (q *queue) drop(h *hookQueue, now time.Time) {
	remembered, lasting := narrowFor, h.endpoint.failures > 0
	if isOneOff(h.id) {
		remembered, lasting = hostFor, false
	}
	if h.waiting.len() > 0 || h.flying > 0 || h.hungry != 0 || lasting {
		return
	}
	if at := h.endpoint.spentAt(remembered); now.Before(at) {
		q.paced.note(h.id, at)
		return
	}
	if h.endpoint.down() {
		q.down--
	}
	delete(q.hooks, h.id)
	q.leave(h)
}
