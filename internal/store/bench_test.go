package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// durableLog is a log on a Postgres with production's durability.
func durableLog(b *testing.B) *logFixture {
	b.Helper()
	return openLogAt(b, pgtest.Server(b, false).URL(pgtest.Database))
}

// perRow reports how long one of n rows of an operation took.
func perRow(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1e3/float64(b.N)/float64(n), "µs/row")
}

func BenchmarkIngest(b *testing.B) {
	f := durableLog(b)
	for _, c := range []struct {
		name   string
		events int
	}{{"1", 1}, {"100", 100}, {"1000", 1000}} {
		b.Run(c.name, func(b *testing.B) {
			g := f.group(c.events, uuid.New())
			for i := range g.Events {
				g.Events[i].Data = make([]byte, 512)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.ID = uuid.New()
				if c, err := f.Ingest(b.Context(), g); err != nil || c.Inserted == nil {
					b.Fatal(c, err)
				}
			}
			perRow(b, c.events)
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	const rows = 500
	f := durableLog(b)
	hook := uuid.New()
	b.ReportAllocs()
	lot := &store.Lot{Owner: f.node, Outcomes: make([]store.Outcome, rows)}
	for b.Loop() {
		b.StopTimer()
		group, events := f.publish(b, rows, hook)
		for i, event := range events {
			lot.Outcomes[i] = store.Outcome{Attempt: f.attempt(event, hook, 1, fanfare.Delivered), Group: group, Owner: f.node}
		}
		lot.Settled = []uuid.UUID{group}
		b.StartTimer()
		f.record(b, lot)
	}
	perRow(b, rows)
}

// A dead endpoint has many retries that are due, others have some that are not.
func BenchmarkClaim(b *testing.B) {
	f := durableLog(b)
	dead, waiting := uuid.New(), uuid.New()
	_, events := f.publish(b, 1000, dead)
	for _, c := range []struct {
		hook uuid.UUID
		due  time.Duration
	}{{dead, -time.Hour}, {waiting, time.Hour}} {
		f.exec(b, `INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
			SELECT $1, event_id($2::bigint + i, 0), $3, 'retry', 1, 1, now(), $4 FROM generate_series(1, 150000) i`,
			c.hook, int64(fanfare.PositionOf(events[0])), f.account, time.Now().Add(c.due))
	}
	f.exec(b, `ANALYZE retries`)
	wants := []store.Want{{WebhookID: dead, Room: 1}, {WebhookID: waiting, Room: 32}}
	for range 18 {
		wants = append(wants, store.Want{WebhookID: uuid.New(), Room: 32})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := f.Claim(b.Context(), f.node, wants); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteHealth writes the rows of ten thousand webhooks, as a node does every ten seconds while
// all of them are busy: six times in each minute.
func BenchmarkWriteHealth(b *testing.B) {
	const rows, lot = 10_000, 1000
	f := durableLog(b)
	all := make([]store.HealthRow, rows)
	for i := range all {
		all[i] = f.health(uuid.Must(uuid.NewV7()), thisMinute, 0, 0, time.Second)
	}
	b.ReportAllocs()
	for turn := 0; b.Loop(); turn++ {
		for i := range all {
			if turn%6 == 0 {
				all[i].Minute = all[i].Minute.Add(time.Minute)
			}
			all[i].Attempts++
			all[i].Durations[15]++
		}
		for some := range slices.Chunk(all, lot) {
			if err := f.WriteHealth(b.Context(), some); err != nil {
				b.Fatal(err)
			}
		}
	}
	perRow(b, rows)
}
