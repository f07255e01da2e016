package store_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// plan is a node of what EXPLAIN (FORMAT JSON) answers.
type plan struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Cond     string `json:"Index Cond"`
	Plans    []plan `json:"Plans"`
}

func (p *plan) walk(visit func(*plan)) {
	visit(p)
	for i := range p.Plans {
		p.Plans[i].walk(visit)
	}
}

// loadedLog is a log as large as makes a planner care: two days, a dead endpoint with most retries, and
// some in the hands of a node.
func loadedLog(t *testing.T) *logFixture {
	t.Helper()
	f := openLog(t)
	hooks := f.webhooks(t, 300)
	start := time.Now().UTC().Truncate(day).Add(-12 * time.Hour)
	f.exec(t, `CREATE TABLE health_now PARTITION OF webhook_health FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')`)
	for _, sql := range []string{
		`INSERT INTO accounts (id, name) SELECT gen_random_uuid(), 'a' || i FROM generate_series(1, 20000) i`,
		`INSERT INTO webhooks (id, account_id, url, event_types, timeout_ms, retry_schedule_ms, max_in_flight)
			SELECT gen_random_uuid(), $1, 'https://example.com/', '{*}', 1000, '{1000}', 1 FROM generate_series(1, 5000)`,
		`INSERT INTO events (id, account_id, type, data, webhook_ids, matched)
			SELECT event_id(($2::bigint + i * 4000) << 16, i), $1, 't', '{}', ARRAY[($3::uuid[])[i % 300 + 1], ($3::uuid[])[(i + 1) % 300 + 1]], 2
			FROM generate_series(1, 20000) i`,
		`INSERT INTO attempts (webhook_id, event_id, id, account_id, webhook_version, number, trigger, started_at, duration_us, method, url,
				status, state, node)
			SELECT w, id, gen_random_uuid(), account_id, 1, 1, 'first', now(), 1, 'POST', 'https://example.com/', 200, 'delivered', $4
			FROM events, unnest(webhook_ids) w`,
		`INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, owner)
			SELECT ($3::uuid[])[CASE WHEN i % 10 = 0 THEN i % 300 + 1 ELSE 1 END], event_id(($2::bigint + i * 4000) << 16, i), $1, 'retry', 1, 1,
				now(), now() + (i % 2000 - 100) * interval '1 second', CASE WHEN i % 200 = 0 THEN $4::uuid END
			FROM generate_series(1, 20000) i`,
		`INSERT INTO idempotency_keys (account_id, key, event_id, request_hash) SELECT account_id, id::text, id, '' FROM events`,
		`INSERT INTO open_groups (id, owner, first, last) SELECT gen_random_uuid(), $4, id, id FROM events LIMIT 100`,
		`INSERT INTO outbox (id, kind, account_id, body, due_at)
			SELECT gen_random_uuid(), CASE WHEN i % 2 = 0 THEN 'event' ELSE 'mail' END, $1, '', now() + i * interval '1 s' FROM generate_series(1, 20000) i`,
		`INSERT INTO webhook_health SELECT id, now(), $4, account_id, 1, 0, '{1}' FROM events`,
	} {
		args := []any{f.account, start.UnixMilli(), hooks, f.node}
		for n := range args { // Postgres wants every parameter used
			if !strings.Contains(sql, fmt.Sprintf("$%d", n+1)) {
				sql = strings.Replace(sql, "SELECT", fmt.Sprintf("WITH unused%d AS (SELECT $%d::%s) SELECT", n, n+1,
					[]string{"uuid", "bigint", "uuid[]", "uuid"}[n]), 1)
			}
		}
		f.exec(t, sql, args...)
	}
	f.exec(t, `ANALYZE`)
	return f
}

// explain plans a statement on a connection of the pool that runs it, for its arguments or, unless that
// pool never does so, for any.
func (f *logFixture) explain(t *testing.T, hot store.Hot, generic bool, args []any) (p plan, planned bool) {
	t.Helper()
	conn := must(hot.Pool(f.Store).Acquire(t.Context()))(t)
	defer conn.Release()
	var mode string
	if err := conn.QueryRow(t.Context(), `SHOW plan_cache_mode`).Scan(&mode); err != nil {
		t.Fatal(err)
	}
	if generic {
		if mode == "force_custom_plan" {
			return p, false
		}
		must(conn.Exec(t.Context(), `SET plan_cache_mode = force_generic_plan`))(t)
		defer func() { must(conn.Exec(t.Context(), `RESET plan_cache_mode`))(t) }()
	}
	var out []byte
	if err := conn.QueryRow(t.Context(), `EXPLAIN (FORMAT JSON) `+hot.SQL, args...).Scan(&out); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal(out, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan, true
}

func TestHotStatementsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	f := loadedLog(t)
	var (
		hooks    = get[[]uuid.UUID](t, f, `SELECT array_agg(DISTINCT webhook_id) FROM retries`)
		events   = get[[]uuid.UUID](t, f, `SELECT array_agg(id) FROM (SELECT id FROM events ORDER BY random() LIMIT 50) e`)
		accounts = get[[]uuid.UUID](t, f, `SELECT array_agg(id) FROM (SELECT id FROM accounts LIMIT 64) a`)
		group    = get[[]uuid.UUID](t, f, `SELECT array_agg(id) FROM (SELECT id FROM events ORDER BY id OFFSET 3000 LIMIT 500) e`)
		rooms    = make([]int32, len(hooks))
		dues     = slices.Repeat([]time.Time{time.Now()}, len(hooks))
		many     = len(events)
		last     = len(group) - 1
		times    = slices.Repeat([]time.Time{time.Now()}, many)
		ints     = slices.Repeat([]int32{1}, many)
		texts    = slices.Repeat([]string{"retry"}, many)
		of       = slices.Repeat(hooks[:1], many)
	)
	for i := range rooms {
		rooms[i] = 32
	}
	cases := map[string]struct {
		args []any
		uses []string // indexes, or parts of one's condition
	}{
		"accounts of an ingest": {[]any{get[[]uuid.UUID](t, f, `SELECT array_agg(id) FROM (SELECT id FROM accounts LIMIT 20) a`), int64(1)}, []string{"accounts_pkey"}},
		"claim":                 {[]any{hooks, rooms, f.node, dues}, []string{"retries_due", "due_at <="}},
		"next due":              {[]any{hooks}, []string{"retries_due"}},
		"due webhooks":          {nil, []string{"retries_due", "webhook_id > w"}},
		"backlog":               {nil, []string{"retries_due", "due_at <="}},
		"events by id":          {[]any{events, int64(1 << 20)}, []string{"_id_idx"}},
		"owed":                  {[]any{group[0], group[last]}, []string{"_id_idx", "attempts_p", "retries_pkey"}},
		"first answers":         {[]any{of, texts}, []string{"idempotency_keys_pkey"}},
		"purge keys":            {[]any{get[uuid.UUID](t, f, `SELECT id FROM events ORDER BY id OFFSET 50 LIMIT 1`), 2000}, []string{"idempotency_keys_event"}},
		"take groups":           {[]any{f.node, 20}, nil},
		"free orphans":          {[]any{1000}, []string{"retries_owner"}},
		"free retries":          {[]any{of, events, f.node}, []string{"retries_"}},
		"my groups":             {[]any{f.node}, nil},
		"my retries":            {[]any{f.node}, []string{"retries_owner"}},
		"lock groups":           {[]any{events, f.node}, nil},
		"settle":                {[]any{events, f.node}, nil},
		"new retries":           {[]any{of, events, of, texts, ints, ints, times, times, of, f.node, events[0], events[len(events)-1], of, nil}, nil},
		"retries that go back":  {[]any{of, events, texts, ints, ints, times, times, ints, f.node, times}, []string{"retries_pkey"}},
		"retries that end":      {[]any{of, events, f.node, times}, []string{"retries_pkey"}},
		"follow accounts":       {[]any{group[0], group[0], uuid.Max, accounts, 50, int64(1 << 20), nil, nil}, []string{"_pkey ((ROW(account_id, id) >= ROW(u.account", "_id_idx"}},
		"follow all":            {[]any{group[0], group[0], uuid.Max, 50, []string{"t"}, []string{}}, []string{"_id_idx ((id >="}},
		"read followed":         {[]any{events, int64(1 << 20)}, []string{"_id_idx"}},
		"tail":                  {[]any{group[0], 500, int64(1 << 20)}, []string{"_id_idx (id >="}},
		"ends of the log":       {nil, []string{"_id_idx"}},
		"write health":          {[]any{events, times, of, of, ints, ints, ints, slices.Repeat([]string{"{1}"}, many)}, nil},
		"claim of the outbox":   {[]any{store.OutboxEvent, 100, time.Minute}, []string{"outbox_kind_due", "due_at <="}},
		"finish the outbox":     {[]any{events}, []string{"outbox_pkey"}},
		"postpone the outbox":   {[]any{events, slices.Repeat([]time.Duration{time.Minute}, many)}, []string{"outbox_pkey"}},
		"count exhaustions":     {[]any{of, events, of, times, group[0], group[last], of[:1], of[:1], [][]byte{{'x'}}}, []string{"attempts_p"}},
		"take failing":          {[]any{f.node, time.Minute, 100, 50}, []string{"webhooks_account", "health_now_pkey"}},
		"health of webhooks":    {[]any{f.account, events, times}, []string{"health_now_pkey"}},
		"note failing":          {[]any{events, of, times}, nil},
	}
	large := get[[]string](t, f, `SELECT array_agg(relname::text) FROM pg_class WHERE relkind = 'r' AND relpages > 20`)
	for _, table := range []string{"accounts", "retries", "idempotency_keys", "health_now", "outbox"} {
		if !slices.Contains(large, table) {
			t.Fatalf("%s is not large enough to show anything", table)
		}
	}
	for name, hot := range store.HotStatements() {
		c, known := cases[name]
		if !known {
			t.Errorf("%s is planned by no case", name)
			continue
		}
		delete(cases, name)
		for _, generic := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, generic %v", name, generic), func(t *testing.T) {
				p, planned := f.explain(t, hot, generic, c.args)
				if !planned {
					return // its pool makes a plan for each run
				}
				var found []string
				p.walk(func(n *plan) {
					found = append(found, n.Index+" "+n.Cond)
					if n.Type == "Seq Scan" && slices.Contains(large, n.Relation) {
						t.Errorf("scans all of %s", n.Relation)
					}
				})
				for _, want := range c.uses {
					if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, want) }) {
						t.Errorf("does not use %s, but %q", want, found)
					}
				}
			})
		}
	}
	for name := range maps.Keys(cases) {
		t.Errorf("no statement is called %q", name)
	}
}

// A plan that is made for any arguments is kept, and the tables grow.
func TestTheRecorderFindsRowsByTheirKeysAlsoInTablesThatWereEmpty(t *testing.T) {
	f := openLog(t)
	f.exec(t, `VACUUM ANALYZE retries`)
	ids, ints, now := []uuid.UUID{uuid.New()}, []int32{1}, []time.Time{time.Now()}
	for name, args := range map[string][]any{
		"retries that go back": {ids, ids, []string{"retry"}, ints, ints, now, now, ints, f.node, now},
		"retries that end":     {ids, ids, f.node, now},
		"settle":               {ids, f.node},
	} {
		p, _ := f.explain(t, store.HotStatements()[name], true, args)
		p.walk(func(n *plan) {
			if n.Type == "Seq Scan" {
				t.Errorf("%s scans all of %s", name, n.Relation)
			}
		})
	}
}

// A day that is not asked for is not even opened: a log of years answers as fast as one of a day.
func TestLookupsByIDOpenOneDay(t *testing.T) {
	t.Parallel()
	f := loadedLog(t)
	event := get[uuid.UUID](t, f, `SELECT max(id::text)::uuid FROM events WHERE id < $1`,
		fanfare.EventID(fanfare.PositionAt(time.Now().UTC().Truncate(day)), 0))
	for name, args := range map[string][]any{
		"events by id": {[]uuid.UUID{event}, int64(1 << 20)},
		"owed":         {event, event},
	} {
		opened := make(map[string]bool)
		p, _ := f.explain(t, store.HotStatements()[name], false, args)
		p.walk(func(n *plan) {
			if table, _, ok := strings.Cut(n.Relation, "_p2"); ok {
				opened[table+" "+n.Relation] = true
			}
		})
		perTable := make(map[string]int)
		for key := range opened {
			table, _, _ := strings.Cut(key, " ")
			if perTable[table]++; perTable[table] > 1 {
				t.Errorf("%s opens several days of %s: %v", name, table, opened)
			}
		}
		if len(opened) == 0 {
			t.Errorf("%s opens no day", name)
		}
	}
}
