package tail

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// waiter is one who waits. Tail.mu guards it until it has left.
type waiter struct {
	query *store.LogQuery
	told  bool
	wake  chan struct{} // holds one token when there is something, or it is not known any more
}

// wait returns when there may be something to read after q.After, which it moves over what q does not want.
// over says that it will not wait again.
func (t *Tail) wait(ctx context.Context, q *store.LogQuery, end <-chan time.Time) (over bool, err error) {
	w := &waiter{query: q, wake: make(chan struct{}, 1)}
	if err := t.enter(w); err != nil {
		return false, err
	}
	defer t.leave(w)
	select {
	case <-w.wake:
		return false, nil
	case <-t.stopped:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-end:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away != nil {
		return false, errors.Join(ErrAway, t.away)
	}
	if !w.told {
		q.After = max(q.After, t.ring.to)
	}
	return true, nil
}

// enter makes w one who waits, and begins to read the log unless that is under way. An account may have as
// many as would still find room.
func (t *Tail) enter(w *waiter) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.waiters[w.query.AccountID]
	if len(mine) >= t.options.MaxWaiting-t.waiting {
		return ErrTooMany
	}
	if mine == nil {
		mine = make(map[*waiter]struct{})
		t.waiters[w.query.AccountID] = mine
	}
	mine[w] = struct{}{}
	t.waiting++
	if w.query.Descendants {
		t.deep++
	}
	switch {
	case !t.reading:
		t.reading = true
		t.ring.begin(w.query.After)
		notify(t.begun)
	case w.query.After < t.ring.to: // what came in the meantime may be for it
		w.told = true
		notify(w.wake)
	}
	return nil
}

func (t *Tail) leave(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.waiters[w.query.AccountID]
	if delete(mine, w); len(mine) == 0 {
		delete(t.waiters, w.query.AccountID)
	}
	t.waiting--
	if w.query.Descendants {
		t.deep--
	}
	t.left = time.Now()
}

// wake tells those who wait for one of the events. The tree is no older than the events if anybody waits for
// descendants'.
func (t *Tail) wake(events []fanfare.Event) {
	lines := make(map[uuid.UUID][]uuid.UUID) // by account
	tree := t.accounts.Tree()
	for i := range events {
		e := &events[i]
		if e.Test {
			continue
		}
		t.tell(e.AccountID, e, false)
		if t.deep == 0 {
			continue
		}
		line, ok := lines[e.AccountID]
		if !ok {
			line = tree.Lineage(e.AccountID)
			lines[e.AccountID] = line
		}
		for _, account := range line {
			t.tell(account, e, true)
		}
	}
}

// tell wakes those of an account who want an event, once: it is the first one after their positions that they want.
// They need not be looked at again for those that follow.
func (t *Tail) tell(account uuid.UUID, e *fanfare.Event, descendants bool) {
	waiters := t.waiters[account]
	for w := range waiters {
		p := fanfare.PositionOf(e.ID)
		if descendants && !w.query.Descendants || p <= w.query.After || !chosen(w.query.Types, e.Type) {
			continue
		}
		if !w.told {
			w.told, w.query.After = true, p-1
			notify(w.wake)
		}
		delete(waiters, w)
	}
}
