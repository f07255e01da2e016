package dispatcher

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const (
	// claimHooks is the most webhooks that one statement claims for.
	claimHooks = 100
	// claimRows is the most retries that one statement claims.
	claimRows = 1000
	// noRoomWait is how long a webhook whose queue is full is left alone.
	noRoomWait = 200 * time.Millisecond
	// engineDeadline bounds what the engine asks of Postgres. It is longer than the statements' own
	// timeouts, so that it ends only what does not answer at all.
	engineDeadline = 35 * time.Second
	// rescanEvery bounds how late a retry is noticed that another node wrote.
	rescanEvery = 30 * time.Second
)

// dueHeap knows when each webhook has its earliest retry, so that a claim names webhooks and never
// searches. What this node writes it notes at once; what others write a scan finds.
type dueHeap struct {
	mu    sync.Mutex // guards all below
	items dueItems
	at    map[uuid.UUID]*dueItem
	wake  chan struct{} // holds one token when the earliest time moved
}

type dueItem struct {
	webhook uuid.UUID
	due     time.Time // the database's clock
	index   int
}

func newDueHeap() *dueHeap {
	return &dueHeap{at: make(map[uuid.UUID]*dueItem), wake: make(chan struct{}, 1)}
}

// note says that a webhook has a retry at due.
func (h *dueHeap) note(webhook uuid.UUID, due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch it := h.at[webhook]; {
	case it == nil:
		it = &dueItem{webhook: webhook, due: due}
		h.at[webhook] = it
		heap.Push(&h.items, it)
	case due.Before(it.due):
		it.due = due
		heap.Fix(&h.items, it.index)
	default:
		return
	}
	if h.items[0].webhook == webhook {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// pop removes up to n webhooks that have something due at now, and answers when the next one is.
func (h *dueHeap) pop(now time.Time, n int) (due []uuid.UUID, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.items) > 0 && len(due) < n && !h.items[0].due.After(now) {
		it := heap.Pop(&h.items).(*dueItem)
		delete(h.at, it.webhook)
		due = append(due, it.webhook)
	}
	if len(h.items) > 0 {
		next = h.items[0].due
	}
	return due, next
}

type dueItems []*dueItem

func (s dueItems) Len() int           { return len(s) }
func (s dueItems) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s dueItems) Swap(i, j int)      { s[i], s[j] = s[j], s[i]; s[i].index, s[j].index = i, j }

func (s *dueItems) Push(x any) {
	it := x.(*dueItem)
	it.index = len(*s)
	*s = append(*s, it)
}

func (s *dueItems) Pop() any {
	old := *s
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	return it
}

// claimLoop brings retries back into the queue when they are due.
func (d *Dispatcher) claimLoop(ctx context.Context) {
	rescan := time.NewTimer(0)
	defer rescan.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-rescan.C:
			d.rescan(ctx)
			rescan.Reset(rescanEvery)
		case <-d.due.wake:
		case <-next.C:
		}
		next.Reset(d.claimDue(ctx))
		d.progressed.tick("claim")
	}
}

func (d *Dispatcher) rescan(ctx context.Context) {
	d.startSenders(d.queue.refresh(d.registry.Snapshot()))
	short, cancel := context.WithTimeout(ctx, engineDeadline)
	defer cancel()
	due, err := d.store.DueWebhooks(short)
	if err != nil {
		d.logTrouble(ctx, "retries could not be listed", err)
		return
	}
	for webhook, at := range due {
		d.due.note(webhook, at)
	}
}

// claimDue claims what is due and answers how long to wait for the next.
func (d *Dispatcher) claimDue(ctx context.Context) time.Duration {
	now := d.node.now()
	if !d.node.mayStart() {
		return time.Second
	}
	hooks, next := d.due.pop(now, claimHooks)
	if len(hooks) == 0 {
		if next.IsZero() {
			return rescanEvery
		}
		return max(next.Sub(now), 0)
	}
	wants := make([]store.Want, 0, len(hooks))
	left := min(claimRows, d.queue.space())
	snap, promised := d.registry.Snapshot(), make(promises)
	for _, id := range hooks {
		room, again := d.queue.room(id, snap.Webhook(id), left, promised)
		switch {
		case room > 0:
		case !again.IsZero():
			d.due.note(id, now.Add(time.Until(again)))
			continue
		default: // the queue says when
			continue
		}
		left -= room
		wants = append(wants, store.Want{WebhookID: id, Room: room, DueBy: now})
	}
	d.startSenders(d.queue.wake())
	if len(wants) == 0 {
		return 0
	}
	if err := d.claim(ctx, wants, now); err != nil {
		d.logTrouble(ctx, "retries could not be claimed", err)
		for _, w := range wants {
			d.due.note(w.WebhookID, now.Add(time.Second))
		}
	}
	for _, w := range wants {
		d.queue.claimed(w.WebhookID)
	}
	return 0
}

// claim takes due retries in hand and queues them. A stop does not break it off in the middle.
func (d *Dispatcher) claim(ctx context.Context, wants []store.Want, now time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineDeadline)
	defer cancel()
	me := d.node.id()
	d.claiming.Lock()
	start := time.Now()
	claimed, next, err := d.store.Claim(ctx, me, wants)
	d.metrics.claimSeconds.Observe(time.Since(start).Seconds())
	d.recorder.claim(me, claimed)
	d.claiming.Unlock()
	if err != nil {
		return err
	}
	got := make(map[uuid.UUID]int, len(wants))
	ids := make([]uuid.UUID, len(claimed))
	for i := range claimed {
		got[claimed[i].WebhookID]++
		ids[i] = claimed[i].EventID
	}
	for _, w := range wants {
		at, more := next[w.WebhookID]
		if !more {
			continue
		}
		// What is due and was not given is somebody else's at the moment.
		if soon := now.Add(noRoomWait); got[w.WebhookID] < w.Room && at.Before(soon) {
			at = soon
		}
		d.due.note(w.WebhookID, at)
	}
	if len(claimed) == 0 {
		return nil
	}
	events, err := d.store.EventsByID(ctx, ids, d.opts.QueueBytes/4)
	if err != nil {
		for i := range claimed {
			due := claimed[i].DueAt
			claimed[i].DueAt = now.Add(time.Second)
			d.recorder.add(store.Outcome{Owner: me, Retry: &claimed[i], Due: due})
		}
		return err
	}
	d.enqueue(d.retried(me, claimed, events))
	return nil
}

// retried makes deliveries of claimed retries.
func (d *Dispatcher) retried(me uuid.UUID, claimed []store.Retry, events map[uuid.UUID]*fanfare.Event) []*delivery {
	shared := make(map[uuid.UUID]*event, len(events))
	for id, e := range events {
		shared[id] = newEvent(e)
	}
	now := time.Now()
	ds := make([]*delivery, len(claimed))
	for i, r := range claimed {
		e := shared[r.EventID]
		if e == nil { // expunged or below the horizon: the sender says so
			e = &event{id: r.EventID}
			shared[r.EventID] = e
		}
		ds[i] = &delivery{
			event: e, webhook: r.WebhookID, account: r.AccountID, owner: me, due: r.DueAt, trigger: r.Trigger, number: r.Number,
			tries: r.Tries, takeovers: r.Takeovers, firstAt: r.FirstAt, queuedAt: now,
			hook: d.registry.Snapshot().Webhook(r.WebhookID), destination: r.Destination,
		}
	}
	return ds
}

func newEvent(e *fanfare.Event) *event {
	return &event{
		id: e.ID, account: e.AccountID, typ: e.Type, data: e.Data, occurredAt: e.OccurredAt, test: e.Test, destinations: e.Destinations,
	}
}

// logTrouble logs a failure of Postgres, unless it only comes from stopping.
func (d *Dispatcher) logTrouble(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		d.log.Error(what, "error", err)
	}
}
