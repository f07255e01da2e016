package disabler_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare/internal/disabler"
)

// load makes webhooks, of which every twentieth has failed once a minute for three hours; the first of them, as
// many as dead says, for a whole day.
func (f *fixture) load(webhooks, dead int) {
	f.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(ctx)
	w := f.webhook()
	f.attempted(w, 26*time.Hour, -time.Minute, time.Hour, 1, 0) // makes the partitions
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`CREATE TEMP TABLE w AS SELECT gen_random_uuid() AS id, n FROM generate_series(0, $1::integer - 1) AS n`, []any{webhooks}},
		{`INSERT INTO webhooks (id, account_id, url, event_types, timeout_ms, retry_schedule_ms, max_in_flight)
			SELECT id, $1, 'https://example.com/', '{*}', 1000, '{1000}', 1 FROM w`, []any{f.account}},
		{`INSERT INTO webhook_health (webhook_id, minute, node, account_id, attempts, failures, durations)
			SELECT id, date_trunc('minute', now()) - m * interval '1 minute', $1, $1, 1, 0, '{1}' FROM w, generate_series(0, 60, 12) AS m WHERE n % 20 > 0`, []any{f.account}},
		{`INSERT INTO webhook_health (webhook_id, minute, node, account_id, attempts, failures, durations)
			SELECT id, date_trunc('minute', now()) - m * interval '1 minute', $1, $1, 1, 1, '{1}' FROM w, generate_series(0, 1470) AS m
			WHERE n % 20 = 0 AND (m < 180 OR n / 20 < $2)`, []any{f.account, dead}},
		{`INSERT INTO webhook_failing (webhook_id, account_id, failed_at, since, look_at)
			SELECT id, $1, now(), now() - CASE WHEN n / 20 < $2 THEN interval '1470 minutes' ELSE interval '3 hours' END, now() - interval '1 minute' FROM w WHERE n % 20 = 0`, []any{f.account, dead}},
		{`ANALYZE`, nil},
	} {
		if _, err := conn.Exec(ctx, q.sql, q.args...); err != nil {
			f.t.Fatalf("%s: %v", q.sql, err)
		}
	}
}

// counted runs a round, and tells how many statements and how much time it took.
func (f *fixture) counted(d *disabler.Disabler) (statements int64, took time.Duration) {
	f.t.Helper()
	before, start := f.Statements(), time.Now()
	f.round(d)
	return f.Statements() - before, time.Since(start)
}

// However many fail, a round is a few statements: what is looked at, and what is thought of it; if there is something
// to say, the attempts that are evidence; and a transaction that disables has the locks of accounts, its events, and the
// registry's change as well.
func TestARoundIsAFewStatements(t *testing.T) {
	f := open(t)
	f.load(400, 5)
	d := f.new()
	if n, _ := f.counted(d); n > 8 { // BEGIN and COMMIT among them
		t.Errorf("a round that disabled took %d statements", n)
	}
	if len(f.outbox()) == 0 {
		t.Error("nothing was disabled")
	}
	f.lookNow()
	if n, _ := f.counted(d); n != 2 {
		t.Errorf("a round that found nothing new took %d statements", n)
	}
}

// BenchmarkRound is a round over the failing twentieth of a platform's webhooks, all of which have been warned.
func BenchmarkRound(b *testing.B) {
	f := open(b)
	f.load(10_000, 0)
	d := f.new()
	f.round(d)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		f.lookNow()
		b.StartTimer()
		f.round(d)
	}
}
