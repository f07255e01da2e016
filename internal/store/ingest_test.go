package store_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// log is a store with partitions, a live node and an account.
type logFixture struct {
	*store.Store
	node    uuid.UUID
	account uuid.UUID
	ceiling fanfare.Position
	version int64
}

func openLog(t *testing.T) *logFixture {
	t.Helper()
	ctx := t.Context()
	s, err := store.Open(ctx, store.Options{URL: pgtest.URL(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	f := &logFixture{Store: s, node: uuid.New(), version: 1 << 40}
	if f.ceiling, err = s.EnsurePartitions(ctx, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Join(ctx, f.node, "test", time.Minute); err != nil {
		t.Fatal(err)
	}
	a := &fanfare.Account{ID: uuid.Must(uuid.NewV7()), Name: "acme"}
	if err := s.CreateAccount(ctx, a, nil); err != nil {
		t.Fatal(err)
	}
	f.account = a.ID
	return f
}

// group makes a group of n events to hooks.
func (f *logFixture) group(n int, hooks ...uuid.UUID) *store.Group {
	g := &store.Group{
		ID: uuid.New(), Node: f.node, Accounts: []uuid.UUID{f.account, fanfare.PlatformAccount},
		RegistryVersion: f.version, Ceiling: f.ceiling,
	}
	for range n {
		g.Events = append(g.Events, store.NewEvent{
			AccountID: f.account, Type: "call.ended", Data: []byte(`{"a":1}`), WebhookIDs: hooks, Matched: len(hooks), Tail: rand.Uint64(),
		})
	}
	return g
}

func (f *logFixture) ingest(t *testing.T, g *store.Group) *store.Committed {
	t.Helper()
	c, err := f.Ingest(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIngestStoresEventsUnderTheIDsThatGoComputes(t *testing.T) {
	f := openLog(t)
	hooks := []uuid.UUID{uuid.New(), uuid.New()}
	g := f.group(3, hooks...)
	g.Events[1].WebhookIDs = nil
	g.Events[2].OccurredAt = time.Now().Truncate(time.Millisecond)
	c := f.ingest(t, g)
	var ids []uuid.UUID
	for i := range g.Events {
		ids = append(ids, c.ID(g, i))
	}
	events, err := f.EventsByID(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		e := events[id]
		if e == nil {
			t.Fatalf("event %d is not stored under the id that Go computed", i)
		}
		if string(e.Data) != `{"a":1}` || !e.OccurredAt.Equal(g.Events[i].OccurredAt) {
			t.Errorf("event %d came back as %+v", i, e)
		}
		if d := time.Since(fanfare.EventTime(id)); d < -time.Minute || d > time.Minute {
			t.Errorf("event %d has the time %s", i, fanfare.EventTime(id))
		}
		if i > 0 && ids[i-1].String() >= id.String() {
			t.Errorf("ids do not rise: %s, %s", ids[i-1], id)
		}
	}
}

func TestEventIDsAreTheSameInSQLAndGo(t *testing.T) {
	f := openLog(t)
	for range 200 {
		p, tail := fanfare.Position(rand.Int64N(1<<62)), rand.Uint64()
		var sql uuid.UUID
		if err := f.QueryRow(t.Context(), `SELECT event_id($1, $2)`, int64(p), int64(tail&(1<<fanfare.TailBits-1))).Scan(&sql); err != nil {
			t.Fatal(err)
		}
		if id := fanfare.EventID(p, tail); id != sql {
			t.Fatalf("position %d tail %d: Go %s, SQL %s", p, tail, id, sql)
		} else if fanfare.PositionOf(id) != p {
			t.Fatalf("position %d came back as %d", p, fanfare.PositionOf(id))
		}
	}
}

func TestIngestRefusesWhatWasMatchedAgainstAnOlderRegistry(t *testing.T) {
	f := openLog(t)
	before := f.ingest(t, f.group(1))
	g := f.group(1)
	g.RegistryVersion = 0 // the account was created after it
	c := f.ingest(t, g)
	if len(c.Stale) != 1 || c.Stale[0] != f.account || c.Inserted != nil {
		t.Fatalf("a stale group was committed: %+v", c)
	}
	after := f.ingest(t, f.group(1))
	if g1, g2 := before.Base, after.Base; g2 < g1 {
		t.Errorf("the position went back from %d to %d", g1, g2)
	}
}

func TestIngestRefusesANodeWithoutALease(t *testing.T) {
	f := openLog(t)
	f.node = uuid.New()
	if c := f.ingest(t, f.group(1)); c.Alive || c.Inserted != nil {
		t.Fatalf("a node without a lease committed: %+v", c)
	}
}

func TestIngestRefusesAPositionBeyondThePartitionsAndMovesNothing(t *testing.T) {
	f := openLog(t)
	g := f.group(1)
	g.Ceiling = fanfare.PositionAt(time.Now().Add(-time.Hour))
	if c := f.ingest(t, g); !c.Beyond || c.Inserted != nil {
		t.Fatalf("committed beyond the newest partition: %+v", c)
	}
	if c := f.ingest(t, f.group(1)); time.Since(c.Base.Time()) > time.Minute {
		t.Errorf("the refused position moved the log to %s", c.Base.Time())
	}
}

func TestIngestNeverGoesBelowTheNodesHighest(t *testing.T) {
	f := openLog(t)
	g := f.group(1)
	g.Floor = fanfare.PositionAt(time.Now().Add(10 * time.Minute)) // a faster clock's position, before a failover
	if c := f.ingest(t, g); c.Base < g.Floor {
		t.Fatalf("position %d is below the floor %d", c.Base, g.Floor)
	}
}

func TestIdempotencyKeyGoesInOnce(t *testing.T) {
	f := openLog(t)
	g := f.group(2, uuid.New())
	g.Events[0].Key, g.Events[0].Hash = "k", []byte("hash")
	first := f.ingest(t, g)
	again := f.group(2, uuid.New())
	again.Events[1].Key, again.Events[1].Hash = "k", []byte("other")
	second := f.ingest(t, again)
	if !first.Inserted[0] || !second.Inserted[0] || second.Inserted[1] {
		t.Fatalf("inserted: first %v, second %v", first.Inserted, second.Inserted)
	}
	ref := store.KeyRef{AccountID: f.account, Key: "k"}
	answers, err := f.FirstAnswers(t.Context(), []store.KeyRef{ref, {AccountID: f.account, Key: "unknown"}})
	if err != nil {
		t.Fatal(err)
	}
	a := answers[ref]
	if len(answers) != 1 || a.EventID != first.ID(g, 0) || string(a.Hash) != "hash" || a.Matched != 1 {
		t.Errorf("first answer: %+v of %d", a, len(answers))
	}
	events, err := f.EventsByID(context.Background(), []uuid.UUID{second.ID(again, 1)})
	if err != nil || len(events) != 0 {
		t.Errorf("the repeat was stored: %v %v", events, err)
	}
}
