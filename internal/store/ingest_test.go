package store_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

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
	events, err := f.EventsByID(t.Context(), ids, 1<<40)
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

func TestIngestStoresToEachEventItsOwnWebhooks(t *testing.T) {
	f := openLog(t)
	a, b, c := uuid.New(), uuid.New(), uuid.New()
	want := [][]uuid.UUID{{a}, {}, {b, c, a}, {}, {c, b}}
	g := f.group(len(want))
	for i := range want {
		g.Events[i].WebhookIDs, g.Events[i].Matched = want[i], i
	}
	committed := f.ingest(t, g)
	for i := range want {
		var got []uuid.UUID
		var matched int
		err := f.QueryRow(t.Context(), `SELECT webhook_ids, matched FROM events WHERE id = $1`, committed.ID(g, i)).Scan(&got, &matched)
		if err != nil || !slices.Equal(got, want[i]) || matched != i {
			t.Errorf("event %d has %v and matched %d, %v", i, got, matched, err)
		}
	}
	if !get[bool](t, f, `SELECT first = $1 AND last = $2 AND owner = $3 FROM open_groups WHERE id = $4`,
		committed.ID(g, 0), committed.ID(g, len(want)-1), f.node, g.ID) {
		t.Error("the open group is not the commit's")
	}
}

func TestAGroupThatOwesNothingIsNotOpened(t *testing.T) {
	f := openLog(t)
	f.publish(t, 3)
	f.wantRows(t, "events", 3, "open_groups", 0)
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
	events, err := f.EventsByID(context.Background(), []uuid.UUID{second.ID(again, 1)}, 1<<40)
	if err != nil || len(events) != 0 {
		t.Errorf("the repeat was stored: %v %v", events, err)
	}
}
