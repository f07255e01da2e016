package tail

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// filled is a ring that holds n events of an account, at the positions first to first+n-1.
func filled(account uuid.UUID, first fanfare.Position, n int, most int64) *ring {
	r := &ring{}
	r.begin(first - 1)
	for i := range n {
		id := fanfare.EventID(first+fanfare.Position(i), 1)
		r.add([]fanfare.Event{{ID: id, AccountID: account, Type: "t", Data: make([]byte, 100)}}, most, time.Now())
	}
	return r
}

// paged is what comes after q.After in a ring, nil if it does not hold that.
func paged(r *ring, q *store.LogQuery) *store.LogPage {
	if !r.holds(q.After, r.to) {
		return nil
	}
	p := pick{q: q, page: &store.LogPage{Read: q.After}}
	for r.pick(&p, r.to) {
	}
	p.page.CaughtUp = p.page.Read == r.to
	return p.page
}

func TestARingAnswersOnlyWhatItKnows(t *testing.T) {
	account := uuid.New()
	const first = fanfare.Position(1) << 40
	r := filled(account, first, 10, 1<<20)
	for after, want := range map[fanfare.Position]int{
		first - 2: -1, first - 1: 10, first: 9, first + 8: 1, first + 9: 0,
		first + 10: -1, // another node was ahead
	} {
		page := paged(r, &store.LogQuery{AccountID: account, After: after, Limit: 50, MaxBytes: 1 << 20})
		switch {
		case want < 0 && page != nil:
			t.Errorf("after %d: %+v", after-first, page)
		case want >= 0 && (page == nil || len(page.Events) != want || page.Read != first+9 || !page.CaughtUp):
			t.Errorf("after %d: %+v", after-first, page)
		}
	}
	for _, q := range []store.LogQuery{{Limit: 3, MaxBytes: 1 << 20}, {Limit: 50, MaxBytes: 350}} {
		q.AccountID, q.After = account, first-1
		if page := paged(r, &q); len(page.Events) != 3 || page.Read != first+2 || page.CaughtUp {
			t.Errorf("%+v: %+v", q, page)
		}
	}
	if paged(&ring{}, &store.LogQuery{}) != nil {
		t.Error("a ring that was not begun knows something")
	}
}

func TestARingHoldsNoMoreThanItsBytes(t *testing.T) {
	const each = overhead + 100
	r := filled(uuid.New(), 1000, 50, 5*each+each/2)
	if len(r.events) != 5 || r.bytes != 5*each || r.from != 1044 || r.to != 1049 {
		t.Errorf("%d events with %d bytes from %d to %d", len(r.events), r.bytes, r.from, r.to)
	}
}

// Between the look at the ring and the wait something may be read.
func TestWhoeverBeginsToWaitLearnsWhatCameInTheMeantime(t *testing.T) {
	account := uuid.New()
	tail := New(&memory{}, Accounts{}, Options{})
	tail.ring, tail.reading = *filled(account, 1000, 2, 1<<20), true
	for after, woken := range map[fanfare.Position]bool{998: true, 999: true, 1000: true, 1001: false, 1002: false} {
		w := &waiter{query: &store.LogQuery{AccountID: account, After: after}, wake: make(chan struct{}, 1)}
		if err := tail.enter(w); err != nil {
			t.Fatal(err)
		}
		if got := len(w.wake) == 1; got != woken {
			t.Errorf("after %d: woken %v", after, got)
		}
		tail.leave(w)
	}
}

func TestAPageOfTheRingIsMadeInTurnsAndAsksOnceAboutAnAccount(t *testing.T) {
	root, child := uuid.New(), uuid.New()
	tree := &heard{known: family{child: root}}
	accounts := []uuid.UUID{root, child, uuid.New(), uuid.New(), uuid.New()}
	var log memory
	var want int
	for i := range 3*examined + 10 {
		log.commit(accounts[i%len(accounts)], "t")
		if i%len(accounts) < 2 {
			want++
		}
	}
	var r ring
	r.begin(0)
	r.add(log.events, 1<<30, time.Now())
	p := pick{
		q:      &store.LogQuery{AccountID: root, Descendants: true, Limit: 1 << 20, MaxBytes: 1 << 30},
		within: below(tree, root), page: &store.LogPage{},
	}
	turns := 1
	for r.pick(&p, r.to) {
		turns++
	}
	if turns != 4 || tree.within != len(accounts)-1 || len(p.page.Events) != want || p.page.Read != r.to {
		t.Errorf("%d turns, %d questions, %d events of %d", turns, tree.within, len(p.page.Events), want)
	}
}

func TestWhatARingHolds(t *testing.T) {
	var log memory
	var r ring
	if r.holds(0, 0) {
		t.Error("a ring that has not begun holds nothing")
	}
	at := log.commit(uuid.New(), "t", "t", "t")
	r.begin(at[0])
	r.add(log.events[1:], 1<<20, time.Now())
	for _, c := range []struct {
		after, end fanfare.Position
		held       bool
	}{
		{at[0], at[2], true},
		{at[1], at[1], true},
		{at[2], at[2], true},
		{at[0] - 1, at[2], false},
		{at[2], at[1], false},
		{at[1], at[2] + 1, false}, // it was forgotten, and began anew further back
		{store.FromOldest, at[2], false},
	} {
		if r.holds(c.after, c.end) != c.held {
			t.Errorf("%+v", c)
		}
	}
}
