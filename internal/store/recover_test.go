package store_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func (f *logFixture) expire(t *testing.T, node uuid.UUID) {
	t.Helper()
	f.exec(t, `UPDATE nodes SET lease_until = clock_timestamp() - interval '1 second' WHERE id = $1`, node)
}

func TestOnlyOthersWhoseLeaseRanOutAreMarkedDead(t *testing.T) {
	f := openLog(t)
	expired, alive := f.join(t, time.Hour), f.join(t, time.Hour)
	f.expire(t, expired)

	dead, err := f.MarkDead(t.Context(), f.node, time.Hour)

	if err != nil || !slices.Equal(dead, []uuid.UUID{expired}) {
		t.Fatalf("marked %v, %v", dead, err)
	}
	if dead, err = f.MarkDead(t.Context(), f.node, time.Hour); err != nil || len(dead) != 0 {
		t.Errorf("marked again: %v, %v", dead, err)
	}
	for _, id := range []uuid.UUID{alive, f.node} {
		if _, err := f.Renew(t.Context(), id, time.Hour); err != nil {
			t.Errorf("%s cannot renew: %v", id, err)
		}
	}
}

func TestALeaseThatSeemsToLastForLongerThanItCanIsNone(t *testing.T) {
	f := openLog(t)
	ahead, alive := f.join(t, 40*day), f.join(t, time.Hour)

	dead, err := f.MarkDead(t.Context(), f.node, time.Hour)

	if err != nil || !slices.Equal(dead, []uuid.UUID{ahead}) {
		t.Errorf("marked %v, %v", dead, err)
	}
	if _, err := f.Renew(t.Context(), alive, time.Hour); err != nil {
		t.Errorf("one with a good lease cannot renew: %v", err)
	}
}

// By a clock that was set since, everybody's lease has run out, or lasts for too long.
func TestNobodyMarksByAnotherClockThanItsOwnLeases(t *testing.T) {
	for name, off := range map[string]string{"ahead": "-2 hours", "behind": "2 hours"} {
		t.Run(name, func(t *testing.T) {
			f := openLog(t)
			f.join(t, time.Hour)
			f.exec(t, `UPDATE nodes SET lease_until = lease_until + $1::interval`, off)

			if dead, err := f.MarkDead(t.Context(), f.node, time.Hour); err != nil || len(dead) != 0 {
				t.Errorf("marked %v, %v", dead, err)
			}
		})
	}
}

func TestALeaseIsRenewedUnlessItsNodeWasMarkedDead(t *testing.T) {
	f := openLog(t)
	dead, expired := f.join(t, time.Hour), f.join(t, time.Hour)
	f.kill(t, dead)
	f.expire(t, expired)

	l, err := f.Renew(t.Context(), f.node, time.Minute)
	if err != nil || l.Live != 1 {
		t.Errorf("renewed to %+v, %v", l, err)
	}
	if now := get[time.Time](t, f, `SELECT clock_timestamp()`); now.Before(l.Now) || now.Sub(l.Now) > patience {
		t.Errorf("the lease tells the time %s at %s", l.Now, now)
	}
	if left := get[float64](t, f, `SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM nodes WHERE id = $1`, f.node); left > 60 || left < 30 {
		t.Errorf("the lease ends in %f s", left)
	}
	if l, err := f.Renew(t.Context(), expired, time.Minute); err != nil || l.Live != 2 {
		t.Errorf("one that came late: %+v, %v", l, err)
	}
	if _, err := f.Renew(t.Context(), dead, time.Minute); !errors.Is(err, store.ErrDead) {
		t.Errorf("one that was marked dead: %v", err)
	}
	if _, err := f.Renew(t.Context(), uuid.New(), time.Minute); !errors.Is(err, store.ErrDead) {
		t.Errorf("one that never joined: %v", err)
	}
}

func TestANodeThatWasMarkedDeadCommitsNothing(t *testing.T) {
	f := openLog(t)
	f.kill(t, f.node)
	if c := f.ingest(t, f.group(1, uuid.New())); c.Alive || c.Inserted != nil {
		t.Errorf("committed: %+v", c)
	}
	f.wantRows(t, "events", 0, "open_groups", 0)
}

func TestANodeWhoseLeaseRanOutCommitsNothing(t *testing.T) {
	f := openLog(t)
	f.expire(t, f.node)
	if c := f.ingest(t, f.group(1, uuid.New())); c.Alive || c.Inserted != nil {
		t.Errorf("committed: %+v", c)
	}
	f.wantRows(t, "events", 0, "open_groups", 0)
}

func TestANodeThatLeavesLeavesNoTrace(t *testing.T) {
	f := openLog(t)
	if err := f.Leave(t.Context(), f.node); err != nil {
		t.Fatal(err)
	}
	f.wantRows(t, "nodes", 0)
}

func TestOnlyNodesThatAreDeadForADayAreForgotten(t *testing.T) {
	f := openLog(t)
	old, late, young := f.join(t, time.Hour), f.join(t, time.Hour), f.join(t, time.Hour)
	f.exec(t, `UPDATE nodes SET dead = id <> $2, lease_until = now() - interval '25 hours' WHERE id = ANY ($1)`, []uuid.UUID{old, late}, late)
	f.kill(t, young)
	if err := f.PurgeNodes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !get[bool](t, f, `SELECT array_agg(id ORDER BY id) = (SELECT array_agg(u ORDER BY u) FROM unnest($1::uuid[]) u) FROM nodes`,
		[]uuid.UUID{f.node, late, young}) {
		t.Error("others than the one that is dead for a day were forgotten")
	}
}

func TestGroupsAreTakenOnlyFromTheDeadOldestFirst(t *testing.T) {
	f := openLog(t)
	me, dead, gone := f.node, f.join(t, time.Hour), f.join(t, time.Hour)
	var groups []uuid.UUID
	for _, owner := range []uuid.UUID{dead, me, gone, dead} {
		f.node = owner
		id, _ := f.publish(t, 2, uuid.New())
		groups = append(groups, id)
	}
	f.kill(t, dead)
	if err := f.Leave(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	f.expire(t, me) // late, but nobody said that it is dead
	heir := f.join(t, time.Hour)

	first := must(f.TakeGroups(t.Context(), heir, 2))(t)
	rest := must(f.TakeGroups(t.Context(), heir, 2))(t)
	none := must(f.TakeGroups(t.Context(), heir, 2))(t)

	if got := groupIDs(first); !slices.Equal(got, sorted(groups[0], groups[2])) {
		t.Errorf("first %v, of %v", got, groups)
	}
	if got := groupIDs(rest); !slices.Equal(got, groups[3:]) || len(none) != 0 {
		t.Errorf("then %v and %v", got, none)
	}
	if first[0].Takeovers != 1 {
		t.Errorf("taken over %d times", first[0].Takeovers)
	}
}

func groupIDs(groups []store.OpenGroup) []uuid.UUID {
	var ids []uuid.UUID
	for _, g := range groups {
		ids = append(ids, g.ID)
	}
	return sorted(ids...)
}

func sorted(ids ...uuid.UUID) []uuid.UUID {
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// gate makes a function that holds up a statement that names it: the window between its snapshot and its
// locks then stays open until open is called.
func (f *logFixture) gate(t *testing.T) (open func()) {
	t.Helper()
	f.exec(t, `CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(1, 1); RETURN true; END $$`)
	conn := f.connect(t)
	must(conn.Exec(t.Context(), `SELECT pg_advisory_lock(1, 1)`))(t)
	return func() { must(conn.Exec(t.Context(), `SELECT pg_advisory_unlock(1, 1)`))(t) }
}

// The second node reads its orphans before the first has committed and locks them after it: then the
// rows are judged anew, and their new owner lives.
func TestWhatAnotherNodeJustTookOverIsLeftToIt(t *testing.T) {
	for name, c := range map[string]struct {
		late string // as its node runs it, held up between its snapshot and its locks
		args []any
		take func(f *logFixture, me uuid.UUID) error
		want string // what the row looks like afterwards: its owner and takeovers
	}{
		"groups": {
			store.Gated(store.TakeGroupsSQL),
			[]any{uuid.UUID{1}, 10},
			func(f *logFixture, me uuid.UUID) error {
				_, err := f.TakeGroups(t.Context(), me, 10)
				return err
			},
			`SELECT owner = $1 AND takeovers = 1 FROM open_groups`,
		},
		"retries": {
			store.Gated(store.FreeOrphansSQL),
			[]any{10},
			func(f *logFixture, me uuid.UUID) error {
				if _, _, err := f.FreeOrphans(t.Context(), 10); err != nil {
					return err
				}
				_, err := f.Exec(t.Context(), `UPDATE retries SET owner = $1`, me)
				return err
			},
			`SELECT owner = $1 AND takeovers = 1 FROM retries`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := openLog(t)
			hook, dead, me := uuid.New(), f.node, f.join(t, time.Hour)
			_, events := f.publish(t, 1, hook)
			f.retry(t, events[0], hook, dead, time.Now())
			f.kill(t, dead)
			open := f.gate(t)
			late := make(chan error, 1)
			conn := f.connect(t)
			go func() {
				_, err := conn.Exec(t.Context(), c.late, c.args...)
				late <- err
			}()
			eventually(t, "the late statement has begun", func() bool {
				return get[bool](t, f, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`)
			})

			if err := c.take(f, me); err != nil {
				t.Fatal(err)
			}
			open()
			if err := <-late; err != nil {
				t.Fatal(err)
			}

			if !get[bool](t, f, c.want, me) {
				t.Error("it was taken from a node that lives")
			}
		})
	}
}

func TestTwoNodesTakeOverDisjointWork(t *testing.T) {
	const groups = 60
	f := openLog(t)
	hook := uuid.New()
	for range groups {
		f.publish(t, 1, hook)
	}
	f.exec(t, `INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, owner)
		SELECT $1, id, account_id, 'retry', 1, 1, now(), now(), $2 FROM events`, hook, f.node)
	f.kill(t, f.node)
	var (
		mu    sync.Mutex
		taken = make(map[uuid.UUID]int)
		wg    sync.WaitGroup
	)
	for range 3 {
		s, me := f.another(t), f.join(t, time.Hour)
		wg.Go(func() {
			for range groups { // more than enough, so that nobody stops while another still holds locks
				got, err := s.TakeGroups(t.Context(), me, 4)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, g := range got {
					taken[g.ID]++
				}
				mu.Unlock()
				if _, _, err := s.FreeOrphans(t.Context(), 4); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()

	if len(taken) != groups {
		t.Errorf("%d of %d groups were taken", len(taken), groups)
	}
	for id, n := range taken {
		if n != 1 {
			t.Errorf("group %s was taken %d times", id, n)
		}
	}
	if n := get[int](t, f, `SELECT count(*) FROM retries WHERE owner IS NULL AND takeovers = 1`); n != groups {
		t.Errorf("%d of %d retries were freed once", n, groups)
	}
}

func TestAGroupOwesWhatHasNeitherEndedNorWaits(t *testing.T) {
	f := openLog(t)
	hooks := f.webhooks(t, 5)
	delivered, exhausted, waits, untried, tried := hooks[0], hooks[1], hooks[2], hooks[3], hooks[4]
	g := f.group(2, hooks...)
	g.Events[1].WebhookIDs, g.Events[1].Data = []uuid.UUID{untried, uuid.New() /* expunged */}, []byte(`{"b":2}`)
	c := f.ingest(t, g)
	first, second := c.ID(g, 0), c.ID(g, 1)
	f.publish(t, 1, hooks...) // another group's
	var outcomes []store.Outcome
	for _, a := range []*fanfare.Attempt{
		f.attempt(first, delivered, 1, fanfare.Pending), f.attempt(first, delivered, 2, fanfare.Delivered),
		f.attempt(first, exhausted, 1, fanfare.Exhausted),
		f.attempt(first, waits, 1, fanfare.Pending),
		f.attempt(first, tried, 1, fanfare.Pending), f.attempt(first, tried, 2, fanfare.Pending),
	} {
		outcomes = append(outcomes, store.Outcome{Attempt: a, Group: g.ID, Owner: f.node})
	}
	f.record(t, &store.Lot{Owner: f.node, Outcomes: outcomes})
	f.retry(t, first, waits, uuid.Nil, time.Now())

	owed := must(f.Owed(t.Context(), store.OpenGroup{ID: g.ID, First: first, Last: second}))(t)

	type pair struct {
		Event, Webhook uuid.UUID
		Number         int
		Data           string
	}
	var got []pair
	for _, o := range owed {
		if o.AccountID != f.account || o.Event.AccountID != f.account || o.Event.Type != "call.ended" {
			t.Errorf("%+v of %+v", o, o.Event)
		}
		got = append(got, pair{o.Event.ID, o.WebhookID, o.Number, string(o.Event.Data)})
	}
	want := []pair{{first, untried, 0, `{"a":1}`}, {first, tried, 2, `{"a":1}`}, {second, untried, 0, `{"b":2}`}}
	slices.SortStableFunc(got, func(a, b pair) int { return slices.Compare(a.Event[:], b.Event[:]) })
	if len(got) == 3 && got[0].Webhook == tried {
		got[0], got[1] = got[1], got[0]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(owed) == 3 && owed[0].Event != owed[1].Event {
		t.Error("an event's data is held once for each of its deliveries")
	}
}

func TestAGroupIsRetakenOnlyByItsOwner(t *testing.T) {
	f := openLog(t)
	other := f.join(t, time.Hour)
	mine, events := f.publish(t, 3, uuid.New())
	settled := uuid.New()
	f.node, other = other, f.node
	theirs, _ := f.publish(t, 1, uuid.New())

	got := must(f.RetakeGroups(t.Context(), other, []uuid.UUID{mine, theirs, settled}))(t)

	want := []store.OpenGroup{{ID: mine, First: events[0], Last: events[2], Takeovers: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := get[int](t, f, `SELECT sum(takeovers) FROM open_groups`); n != 1 {
		t.Errorf("%d takeovers were counted", n)
	}
}

func TestRetriesOfTheDeadAreFreedInLots(t *testing.T) {
	f := openLog(t)
	dead, gone, alive := f.join(t, time.Hour), uuid.New(), f.node
	a, b := uuid.New(), uuid.New()
	_, e := f.publish(t, 3, a, b)
	early := ago(time.Hour)
	f.retry(t, e[0], a, dead, time.Now())
	f.retry(t, e[1], a, dead, early)
	f.retry(t, e[2], a, gone, time.Now())
	f.retry(t, e[0], b, alive, time.Now())
	f.retry(t, e[1], b, uuid.Nil, time.Now())
	f.kill(t, dead)

	first, done, err := f.FreeOrphans(t.Context(), 2)
	if err != nil || done || len(first) != 1 {
		t.Fatalf("first %v, done %v, %v", first, done, err)
	}
	second, done, err := f.FreeOrphans(t.Context(), 2)
	if err != nil || !done || len(second) != 1 {
		t.Fatalf("then %v, done %v, %v", second, done, err)
	}
	if !first[a].Equal(early) && !second[a].Equal(early) {
		t.Errorf("the earliest is due at %s, not %s or %s", early, first[a], second[a])
	}
	if n := get[int](t, f, `SELECT count(*) FROM retries WHERE webhook_id = $1 AND owner IS NULL AND takeovers = 1`, a); n != 3 {
		t.Errorf("%d rows were freed with a takeover counted", n)
	}
	if n := get[int](t, f, `SELECT count(*) FROM retries WHERE webhook_id = $1 AND takeovers = 0`, b); n != 2 {
		t.Errorf("rows of the living were touched")
	}
}

func TestForgottenRetriesAreFreedUnlessAnotherHasThem(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	_, e := f.publish(t, 3, hook)
	f.retry(t, e[0], hook, f.node, time.Now())
	f.retry(t, e[1], hook, uuid.New(), time.Now())
	f.retry(t, e[2], hook, f.node, time.Now()) // in hand

	err := f.FreeRetries(t.Context(), f.node, []store.RetryRef{{WebhookID: hook, EventID: e[0]}, {WebhookID: hook, EventID: e[1]}, {}})
	if err != nil {
		t.Fatal(err)
	}
	if r := f.row(t, e[0], hook); r.Owner != nil || r.Takeovers != 0 {
		t.Errorf("forgotten: %+v", r)
	}
	for _, event := range e[1:] {
		if r := f.row(t, event, hook); r.Owner == nil || r.Takeovers != 0 {
			t.Errorf("another's or in hand: %+v", r)
		}
	}
}

func TestANodeIsToldWhatItOwns(t *testing.T) {
	f := openLog(t)
	hook, other := uuid.New(), f.join(t, time.Hour)
	group, e := f.publish(t, 3, hook)
	f.retry(t, e[0], hook, f.node, time.Now())
	f.retry(t, e[1], hook, other, time.Now())
	f.retry(t, e[2], hook, uuid.Nil, time.Now())

	mine, err := f.Mine(t.Context(), f.node)

	want := store.Mine{Groups: []uuid.UUID{group}, Retries: []store.RetryRef{{WebhookID: hook, EventID: e[0]}}}
	if diff := cmp.Diff(want, mine); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if mine, err = f.Mine(t.Context(), uuid.New()); err != nil || len(mine.Groups)+len(mine.Retries) != 0 {
		t.Errorf("a new node owns %+v, %v", mine, err)
	}
}
