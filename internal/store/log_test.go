package store_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// patience ends a wait for something that should happen at once.
const patience = 20 * time.Second

// logFixture is a store with partitions, a live node and an account.
type logFixture struct {
	*store.Store
	url     string
	node    uuid.UUID
	account uuid.UUID
	ceiling fanfare.Position
	version int64
}

func openLog(t testing.TB) *logFixture {
	t.Helper()
	return openLogAt(t, pgtest.URL(t))
}

func openLogAt(t testing.TB, url string) *logFixture {
	t.Helper()
	ctx := t.Context()
	f := &logFixture{url: url, version: 1 << 40}
	f.Store = f.another(t)
	var err error
	if f.ceiling, err = f.EnsurePartitions(ctx, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	f.node = f.join(t, time.Hour)
	a := &fanfare.Account{ID: uuid.Must(uuid.NewV7()), Name: "acme"}
	if err := f.CreateAccount(ctx, a, nil); err != nil {
		t.Fatal(err)
	}
	f.account = a.ID
	return f
}

// another opens the same database once more, as another process would.
func (f *logFixture) another(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: f.url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// connect opens a connection of nobody's pool, which does not wait for ever for a lock.
func (f *logFixture) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) }) //nolint:errcheck // it is the test's end
	if _, err := conn.Exec(t.Context(), `SET lock_timeout = '10s'`); err != nil {
		t.Fatal(err)
	}
	return conn
}

// join makes a node that holds its lease for term.
func (f *logFixture) join(t testing.TB, term time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.New()
	if err := f.Join(t.Context(), id, "test", term); err != nil {
		t.Fatal(err)
	}
	return id
}

// kill marks a node dead.
func (f *logFixture) kill(t testing.TB, node uuid.UUID) {
	t.Helper()
	f.exec(t, `UPDATE nodes SET dead = true WHERE id = $1`, node)
}

// webhooks makes n webhooks of the account.
func (f *logFixture) webhooks(t testing.TB, n int) []uuid.UUID {
	t.Helper()
	hooks := make([]uuid.UUID, n)
	for i := range hooks {
		hooks[i] = uuid.New()
	}
	f.exec(t, `INSERT INTO webhooks (id, account_id, url, event_types, timeout_ms, retry_schedule_ms, max_in_flight)
		SELECT id, $2, 'https://example.com/', '{*}', 1000, '{1000}', 1 FROM unnest($1::uuid[]) id`, hooks, f.account)
	return hooks
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

func (f *logFixture) ingest(t testing.TB, g *store.Group) *store.Committed {
	t.Helper()
	c, err := f.Ingest(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// publish commits n events to hooks and returns their group and ids.
func (f *logFixture) publish(t testing.TB, n int, hooks ...uuid.UUID) (group uuid.UUID, events []uuid.UUID) {
	t.Helper()
	g := f.group(n, hooks...)
	c := f.ingest(t, g)
	if c.Inserted == nil {
		t.Fatalf("nothing was committed: %+v", c)
	}
	for i := range g.Events {
		events = append(events, c.ID(g, i))
	}
	return g.ID, events
}

// attempt is a request of the fixture's node that left its delivery in state.
func (f *logFixture) attempt(event, hook uuid.UUID, number int, state fanfare.State) *fanfare.Attempt {
	a := &fanfare.Attempt{
		ID: uuid.Must(uuid.NewV7()), EventID: event, WebhookID: hook, AccountID: f.account, WebhookVersion: 1, Number: number,
		Trigger: fanfare.TriggerFirst, StartedAt: time.Now(), Duration: time.Millisecond, URL: "https://example.com/", Method: "POST",
		Status: 200, Verdict: fanfare.VerdictDelivered, State: state, ResponseBody: []byte("ok"), Node: f.node,
	}
	if state != fanfare.Delivered {
		a.Status, a.Verdict, a.Error = 500, fanfare.VerdictRetry, fanfare.ErrStatus
	}
	return a
}

// owed is a delivery that waits until due, after number requests.
func (f *logFixture) owed(event, hook uuid.UUID, number int, due time.Time) *store.Retry {
	return &store.Retry{
		WebhookID: hook, EventID: event, AccountID: f.account, Trigger: fanfare.TriggerRetry, Number: number, Tries: number,
		FirstAt: time.Now(), DueAt: due,
	}
}

// retry puts a row of retries there, free or owned.
func (f *logFixture) retry(t testing.TB, event, hook, owner uuid.UUID, due time.Time) {
	t.Helper()
	f.exec(t, `INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, owner)
		VALUES ($1, $2, $3, 'retry', 1, 1, now(), $4, nullif($5, '00000000-0000-0000-0000-000000000000'::uuid))`,
		hook, event, f.account, due, owner)
}

func (f *logFixture) record(t testing.TB, lot *store.Lot) {
	t.Helper()
	if err := f.Record(t.Context(), lot); err != nil {
		t.Fatal(err)
	}
}

func (f *logFixture) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := f.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// get reads one value.
func get[T any](t testing.TB, f *logFixture, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := f.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// wantRows compares the number of rows of each table with what is wanted: "attempts", 2, "retries", 0.
func (f *logFixture) wantRows(t testing.TB, pairs ...any) {
	t.Helper()
	for p := range slices.Chunk(pairs, 2) {
		if n := get[int](t, f, `SELECT count(*) FROM `+p[0].(string)); n != p[1] {
			t.Errorf("%s has %d rows, want %v", p[0], n, p[1])
		}
	}
}

// eventually waits until done.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("this did not happen: " + what)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
