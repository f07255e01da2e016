package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// walk follows the log from a position to its end and lists what it saw.
func (a *archive) walk(q LogQuery) (all []uuid.UUID, pages int) {
	a.Helper()
	for {
		p, err := a.Follow(a.Context(), q)
		must(a, err)
		pages++
		if len(p.Events) > q.Limit {
			a.Fatalf("%d events with limit %d", len(p.Events), q.Limit)
		}
		bytes := int64(0)
		for i := range p.Events {
			e := &p.Events[i]
			if bytes += int64(len(e.Data)); i > 0 && bytes > q.MaxBytes {
				a.Fatalf("%d events have %d bytes, of %d", i+1, bytes, q.MaxBytes)
			}
			if pos := fanfare.PositionOf(e.ID); pos <= q.After || pos > p.Read || len(e.Data) == 0 || e.Test {
				a.Fatalf("after %d and up to %d came %+v", q.After, p.Read, e)
			}
		}
		all = append(all, eventIDs(p.Events)...)
		if p.CaughtUp {
			return all, pages
		}
		if p.Read <= q.After {
			a.Fatalf("no progress at %d", q.After)
		}
		q.After = p.Read
	}
}

func TestFollowingTheLogMissesNothingAndRepeatsNothing(t *testing.T) {
	a := newArchive(t)
	root := newAccount(t, a.Store, uuid.Nil)
	tree := []uuid.UUID{root}
	for i := range 4 {
		tree = append(tree, newAccount(t, a.Store, tree[i/2]))
	}
	stranger := newAccount(t, a.Store, uuid.Nil)
	within := func(id uuid.UUID) bool { return slices.Contains(tree, id) }
	treeNow := func(context.Context) (func(uuid.UUID) bool, error) { return within, nil }
	type row struct {
		id, account uuid.UUID
		typ         string
		test        bool
	}
	var rows []row
	for i := range 300 {
		r := row{account: append(tree, stranger, stranger)[rand.IntN(len(tree)+2)], typ: []string{"call.ended", "call.started", "paid"}[rand.IntN(3)]}
		r.id = a.event(r.account, time.Duration(i)*3*time.Minute, r.typ)
		if r.test = rand.IntN(10) == 0; r.test {
			a.exec(`UPDATE events SET test = true WHERE id = $1`, r.id)
		}
		rows = append(rows, r)
	}
	wanted := func(q LogQuery) (ids []uuid.UUID) {
		for _, r := range rows {
			typed := q.Types == nil || slices.Contains(q.Types, r.typ) || slices.Contains(q.Types, "call.*") && r.typ != "paid"
			if !r.test && typed && fanfare.PositionOf(r.id) > q.After && (r.account == q.AccountID || q.Descendants && within(r.account)) {
				ids = append(ids, r.id)
			}
		}
		return ids
	}
	for range 60 {
		q := LogQuery{
			AccountID: root, Descendants: rand.IntN(2) == 0, Tree: treeNow, After: FromOldest, Limit: 1 + rand.IntN(40), MaxBytes: 1 << 20,
			Types: [][]string{nil, {"call.*"}, {"paid"}, {"paid", "call.ended"}, {"none"}}[rand.IntN(5)],
		}
		if rand.IntN(2) == 0 {
			q.After = fanfare.PositionOf(rows[rand.IntN(len(rows))].id)
		}
		if rand.IntN(3) == 0 {
			q.MaxBytes = 30 // of which an event has some ten
		}
		if got, _ := a.walk(q); !slices.Equal(got, wanted(q)) {
			t.Fatalf("%+v: %d events, want %d", q, len(got), len(wanted(q)))
		}
	}

	// With more accounts than are merged the whole log is read.
	a.children(root, maxMerged)
	for _, q := range []LogQuery{
		{Limit: 7, MaxBytes: 1 << 20},
		{Limit: 200, MaxBytes: 30},
		{Limit: 3, MaxBytes: 1 << 20, Types: []string{"call.*"}},
	} {
		q.AccountID, q.Descendants, q.Tree, q.After = root, true, treeNow, FromOldest
		if got, _ := a.walk(q); !slices.Equal(got, wanted(q)) {
			t.Fatalf("%+v: %d events, want %d", q, len(got), len(wanted(q)))
		}
	}
}

// all is what comes after a position, up to the log's end.
func (a *archive) all(q LogQuery) []uuid.UUID {
	a.Helper()
	ids, _ := a.walk(q)
	return ids
}

// children gives an account many more below it.
func (a *archive) children(parent uuid.UUID, n int) {
	a.Helper()
	var parents []uuid.NullUUID
	for range n {
		parents = append(parents, uuid.NullUUID{UUID: parent, Valid: true})
	}
	a.exec(`INSERT INTO accounts (id, parent_id, name) SELECT gen_random_uuid(), p, 'one of many' FROM unnest($1::uuid[]) p`, parents)
}

func TestNoEventOfAnAccountThatJoinsTheTreeMeanwhileIsPassed(t *testing.T) {
	a := newArchive(t)
	after := time.Duration(0)
	for _, more := range []int{0, maxMerged} {
		root, apart := newAccount(t, a.Store, uuid.Nil), newAccount(t, a.Store, uuid.Nil)
		a.children(root, more)
		publish := func(account uuid.UUID) uuid.UUID {
			after += time.Minute
			return a.event(account, after, "t")
		}
		known := publish(root)
		tree := []uuid.UUID{root}
		q := LogQuery{AccountID: root, Descendants: true, After: fanfare.PositionOf(known) - 1, Limit: 50, MaxBytes: 1 << 20}
		q.Tree = func(context.Context) (func(uuid.UUID) bool, error) {
			then := slices.Clone(tree)
			return func(id uuid.UUID) bool { return slices.Contains(then, id) }, nil
		}
		f := follower{s: a.Store, q: q, page: &LogPage{Read: q.After}}
		must(t, f.prepare(t.Context()))

		child := newAccount(t, a.Store, root)
		_, err := a.UpdateAccount(t.Context(), apart, 0, func(a *fanfare.Account) error {
			a.ParentID = uuid.NullUUID{UUID: root, Valid: true}
			return nil
		})
		must(t, err)
		tree = append(tree, child, apart)
		late := []uuid.UUID{publish(child), publish(apart), publish(root)}

		must(t, f.run(t.Context()))
		if got := eventIDs(f.page.Events); !slices.Equal(got, []uuid.UUID{known}) || !f.page.CaughtUp {
			t.Errorf("%d accounts: %v, caught up: %v", more, got, f.page.CaughtUp)
		}
		if q.After = f.page.Read; !slices.Equal(a.all(q), late) {
			t.Errorf("%d accounts: after it come %v, want %v", more, a.all(q), late)
		}
	}
}

func TestOneCallLooksAtABoundedPieceOfTheLog(t *testing.T) {
	a := newArchive(t)
	account := newAccount(t, a.Store, uuid.Nil)
	const more = 500
	a.exec(`INSERT INTO events (id, account_id, type, data, webhook_ids, matched)
		SELECT event_id($2::bigint + i, 1), $1, 'noise', '{}', '{}', 0 FROM generate_series(1, $3::int) i`,
		account, int64(fanfare.PositionAt(a.noon)), maxExamined+more)
	wanted := a.event(account, time.Hour, "signal")
	for _, descendants := range []bool{false, true} {
		q := LogQuery{
			AccountID: account, Types: []string{"signal"}, Limit: 50, MaxBytes: 1 << 20, After: FromOldest,
			Descendants: descendants,
		}
		got, pages := a.walk(q)
		if !slices.Equal(got, []uuid.UUID{wanted}) || pages != 2 {
			t.Errorf("%v on %d pages", got, pages)
		}
	}
}

func TestAPageHoldsOneEventHoweverLarge(t *testing.T) {
	a := newArchive(t)
	account := newAccount(t, a.Store, uuid.Nil)
	for range 3 {
		a.event(account, 0, "t")
	}
	a.exec(`UPDATE events SET data = convert_to('{"s":"' || repeat('x', 5000) || '"}', 'UTF8')`)
	if got, pages := a.walk(LogQuery{AccountID: account, After: FromOldest, Limit: 50, MaxBytes: 1000}); len(got) != 3 || pages != 3 {
		t.Errorf("%d events on %d pages", len(got), pages)
	}
}

func TestWhereTheLogBeginsAndEnds(t *testing.T) {
	a := newArchive(t)
	account := newAccount(t, a.Store, uuid.Nil)
	q := LogQuery{AccountID: account, Limit: 10, MaxBytes: 1 << 20}
	follow := func(after fanfare.Position) (*LogPage, error) {
		t.Helper()
		q.After = after
		return a.Follow(t.Context(), q)
	}
	var expired *ExpiredError
	var ahead *AheadError
	at := fanfare.PositionAt(a.noon)

	// Nothing was ever published, and days go by.
	for _, after := range []fanfare.Position{FromOldest, FromLatest, 0} {
		if p, err := follow(after); err != nil || p.Read != 0 || !p.CaughtUp {
			t.Errorf("empty, after %d: %+v, %v", after, p, err)
		}
	}
	if _, err := follow(at); !errors.As(err, &ahead) || ahead.Latest != 0 {
		t.Errorf("ahead of an empty log: %v", err)
	}
	horizon := fanfare.PositionAt(a.noon.Add(-12 * time.Hour)) // in the first partition
	_, err := a.RaiseHorizon(t.Context(), horizon.Time())
	must(t, err)
	for _, after := range []fanfare.Position{FromOldest, FromLatest, 0, horizon - 5, horizon - 1} {
		if p, err := follow(after); err != nil || p.Read != horizon-1 || !p.CaughtUp {
			t.Errorf("still empty, after %d: %+v, %v", after, p, err)
		}
	}

	other := newAccount(t, a.Store, uuid.Nil)
	first := fanfare.PositionOf(a.event(account, 0, "t"))
	last := fanfare.PositionOf(a.event(other, time.Hour, "t"))
	for _, after := range []fanfare.Position{FromOldest, horizon - 1, horizon, first - 1} {
		if p, err := follow(after); err != nil || len(p.Events) != 1 || p.Read != last || !p.CaughtUp {
			t.Errorf("after %d: %+v, %v", after, p, err)
		}
	}
	for _, after := range []fanfare.Position{FromLatest, first, last - 1, last} {
		if p, err := follow(after); err != nil || len(p.Events) != 0 || p.Read != last || !p.CaughtUp {
			t.Errorf("after %d: %+v, %v", after, p, err)
		}
	}
	for _, after := range []fanfare.Position{last + 1, math.MaxInt64 - 1, math.MaxInt64} {
		if _, err := follow(after); !errors.As(err, &ahead) || ahead.Latest != last {
			t.Errorf("after %d: %v", after, err)
		}
	}
	for _, after := range []fanfare.Position{0, horizon - 2} {
		if _, err := follow(after); !errors.As(err, &expired) || expired.Oldest != horizon-1 {
			t.Errorf("after %d: %v", after, err)
		}
	}
	if p, err := follow(expired.Oldest); err != nil || len(p.Events) != 1 {
		t.Errorf("from the oldest: %+v, %v", p, err)
	}
}

func TestTheTailIsTheWholeLog(t *testing.T) {
	a := newArchive(t)
	var all []uuid.UUID
	for i := range 30 {
		all = append(all, a.event(newAccount(t, a.Store, uuid.Nil), time.Duration(i)*time.Hour/2, fmt.Sprintf("t%d", i)))
	}
	a.exec(`UPDATE events SET test = true WHERE id = $1`, all[3])
	for _, c := range []struct {
		limit    int
		maxBytes int64
	}{{100, 1 << 20}, {7, 1 << 20}, {100, 25}, {30, 1 << 20}} {
		var got []fanfare.Event
		for after, end := fanfare.Position(0), false; !end; {
			var piece []fanfare.Event
			var err error
			piece, end, err = a.Tail(t.Context(), after, c.limit, c.maxBytes)
			must(t, err)
			if len(piece) > c.limit || len(piece) == 0 && !end {
				t.Fatalf("%d events, end %v", len(piece), end)
			}
			if got = append(got, piece...); len(piece) > 0 {
				after = fanfare.PositionOf(piece[len(piece)-1].ID)
			}
		}
		if !slices.Equal(eventIDs(got), all) || !got[3].Test || got[4].Test || string(got[9].Data) != `{"n": 10}` || got[9].Type != "t9" {
			t.Errorf("%+v: %d events", c, len(got))
		}
	}
}
