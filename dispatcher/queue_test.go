package dispatcher

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func id(n byte) uuid.UUID { return uuid.UUID{n} }

// waiting makes n deliveries of one webhook.
func waiting(account, hook byte, n int) []*delivery {
	ds := make([]*delivery, n)
	for i := range ds {
		ds[i] = &delivery{account: id(account), webhook: id(hook), limit: 32, event: &event{data: make([]byte, 10)}}
	}
	return ds
}

func taken(q *queue, n int) (hooks []byte, ds []*delivery) {
	for range n {
		d := q.take()
		if d == nil {
			break
		}
		hooks, ds = append(hooks, d.webhook[0]), append(ds, d)
	}
	return hooks, ds
}

func TestAccountsAndThenWebhooksTakeTurns(t *testing.T) {
	q := newQueue(100, 1000, 1000, 1<<20)
	q.push(waiting(1, 11, 3))
	q.push(waiting(1, 12, 3))
	q.push(waiting(2, 21, 3))
	got, _ := taken(q, 6)
	if want := []byte{11, 21, 12, 21, 11, 21}; !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestAnAccountHoldsNoMoreSlotsThanAreFree(t *testing.T) {
	q := newQueue(12, 1000, 1000, 1<<20)
	q.push(waiting(1, 11, 100))
	if got, _ := taken(q, 100); len(got) != 6 {
		t.Errorf("alone it got %d of 12 slots", len(got))
	}
	q.push(waiting(2, 21, 100))
	if got, _ := taken(q, 100); len(got) != 3 {
		t.Errorf("the second got %d of the 6 that were free", len(got))
	}
	q.push(waiting(3, 31, 100))
	if got, _ := taken(q, 100); len(got) == 0 {
		t.Error("there was no room for a third")
	}
}

func TestAWebhookHoldsNoMoreThanItsLimit(t *testing.T) {
	q := newQueue(100, 1000, 1000, 1<<20)
	ds := waiting(1, 11, 10)
	for _, d := range ds {
		d.limit = 2
	}
	q.push(ds)
	_, flying := taken(q, 10)
	if len(flying) != 2 {
		t.Fatalf("%d in flight", len(flying))
	}
	q.done(flying[0])
	if got, _ := taken(q, 10); len(got) != 1 {
		t.Errorf("a freed slot was taken %d times", len(got))
	}
}

func TestWhatFindsNoRoomComesBack(t *testing.T) {
	q := newQueue(100, 16, 5, 1<<20)
	start, over := q.push(waiting(1, 11, 7))
	if start != 5 || len(over) != 2 {
		t.Errorf("one webhook: %d senders, %d over", start, len(over))
	}
	if start, over = q.push(waiting(1, 12, 5)); start != 3 || len(over) != 2 {
		t.Errorf("one account: %d senders, %d over", start, len(over))
	}
	if start, over = q.push(waiting(2, 21, 5)); start != 4 || len(over) != 1 {
		t.Errorf("another account: %d senders, %d over", start, len(over))
	}
}

func TestPayloadsBeyondTheBudgetAreDropped(t *testing.T) {
	q := newQueue(100, 100, 100, 25)
	ds := waiting(1, 11, 3)
	q.push(ds)
	if ds[0].event.data == nil || ds[1].event.data == nil || ds[2].event.data != nil {
		t.Error("not just the third payload was dropped")
	}
	for q.take() != nil {
	}
	if _, _, bytes := q.sizes(); bytes != 0 {
		t.Errorf("%d bytes are counted in an empty queue", bytes)
	}
}

// Whatever happens, nothing is lost, nobody holds more than they may, and an empty queue keeps nothing.
func TestTheQueueKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(rapid.IntRange(1, 12).Draw(t, "slots"), 60, 20, 200)
		var flying []*delivery
		in, out := 0, 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				a := byte(rapid.IntRange(1, 3).Draw(t, "account"))
				ds := waiting(a, 10*a+byte(rapid.IntRange(0, 2).Draw(t, "hook")), rapid.IntRange(1, 8).Draw(t, "n"))
				limit := rapid.IntRange(1, 4).Draw(t, "limit")
				for _, d := range ds {
					d.limit = limit
				}
				_, over := q.push(ds)
				in += len(ds) - len(over)
			case 1, 2:
				if d := q.take(); d != nil {
					flying = append(flying, d)
					out++
				}
			case 3:
				if len(flying) > 0 {
					q.done(flying[0])
					flying = flying[1:]
				}
			}
			if q.waiting != in-out || q.flying != len(flying) || q.flying > q.slots {
				t.Fatalf("waiting %d of %d, flying %d of %d", q.waiting, in-out, q.flying, len(flying))
			}
		}
		left := q.clear()
		if len(left) != in-out {
			t.Fatalf("%d were left of %d", len(left), in-out)
		}
		for _, d := range flying {
			q.done(d)
		}
		if len(q.hooks)+len(q.accounts)+q.turns.len() != 0 || q.bytes != 0 {
			t.Fatalf("an empty queue keeps %d webhooks, %d accounts, %d turns, %d bytes", len(q.hooks), len(q.accounts), q.turns.len(), q.bytes)
		}
	})
}

func TestTheDueHeapAnswersEachWebhookAtItsEarliest(t *testing.T) {
	h := newDueHeap()
	now := time.Now()
	h.note(id(1), now.Add(3*time.Second))
	h.note(id(2), now.Add(time.Second))
	h.note(id(1), now.Add(-time.Second)) // earlier counts
	h.note(id(1), now.Add(time.Hour))    // later does not
	due, next := h.pop(now, 10)
	if !slices.Equal(due, []uuid.UUID{id(1)}) || !next.Equal(now.Add(time.Second)) {
		t.Errorf("due %v, next in %s", due, next.Sub(now))
	}
}
