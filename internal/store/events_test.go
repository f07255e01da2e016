package store

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// archive is a store with a log to list from, whose rows a test puts there itself. Its times are of
// today and yesterday, for which there are partitions.
type archive struct {
	testing.TB
	*Store
	noon    time.Time // of yesterday
	counter fanfare.Position
}

func newArchive(t testing.TB) *archive {
	t.Helper()
	a := &archive{TB: t, Store: adminStore(t)}
	_, err := a.EnsurePartitions(t.Context(), 24*time.Hour)
	must(t, err)
	a.noon = time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour)
	return a
}

func (a *archive) exec(sql string, args ...any) {
	a.Helper()
	_, err := a.pool.Exec(a.Context(), sql, args...)
	must(a, err)
}

// event puts an event that was committed so long after yesterday's noon.
func (a *archive) event(account uuid.UUID, after time.Duration, eventType string, hooks ...uuid.UUID) uuid.UUID {
	a.Helper()
	a.counter++
	id := fanfare.EventID(fanfare.PositionAt(a.noon.Add(after))+a.counter, 7)
	if hooks == nil {
		hooks = []uuid.UUID{}
	}
	a.exec(`INSERT INTO events (id, account_id, type, data, webhook_ids, matched) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, account, eventType, fmt.Appendf(nil, `{"n": %d}`, a.counter), hooks, len(hooks))
	return id
}

func eventIDs(list []fanfare.Event) []uuid.UUID {
	ids := make([]uuid.UUID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}

func TestAnEventIsFoundWhereItHappenedAndWhereItWasMatched(t *testing.T) {
	a := newArchive(t)
	parent := newAccount(t, a.Store, uuid.Nil)
	account := newAccount(t, a.Store, parent)
	other := newAccount(t, a.Store, uuid.Nil)
	hook := newWebhook(t, a.Store, parent, "*")
	newWebhook(t, a.Store, other, "*")
	id := a.event(account, 0, "call.ended", hook.ID)
	a.exec(`UPDATE events SET occurred_at = $1, idempotency_key = 'k', test = true, matched = 0`, a.noon)
	must(t, a.DeleteWebhook(t.Context(), parent, hook.ID, 0)) // its deliveries stay listed

	want := &fanfare.Event{
		ID: id, AccountID: account, Type: "call.ended", Data: []byte(`{"n": 1}`), OccurredAt: a.noon, IdempotencyKey: "k",
		WebhookIDs: []uuid.UUID{hook.ID}, Test: true,
	}
	for _, who := range []uuid.UUID{account, parent} {
		got, err := a.Event(t.Context(), who, id)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, c := range []struct{ account, id uuid.UUID }{{other, id}, {account, uuid.New()}, {account, uuid.Nil}, {uuid.Nil, id}} {
		_, err := a.Event(t.Context(), c.account, c.id)
		wantErr(t, err, ErrNotFound)
	}
}

func TestEventsAreListedNewestFirstByTypeAndTime(t *testing.T) {
	a := newArchive(t)
	account, other := newAccount(t, a.Store, uuid.Nil), newAccount(t, a.Store, uuid.Nil)
	const hour = time.Hour
	first := a.event(account, 0, "call.began")
	second := a.event(account, hour, "call.ended")
	a.event(other, hour, "call.ended")
	third := a.event(account, 13*hour, "call.ended.badly") // the next day, and partition
	test := a.event(account, 13*hour, "call.ended")
	a.exec(`UPDATE events SET test = true WHERE id = $1`, test)
	fourth := a.event(account, 14*hour, "invoice.paid")

	for _, c := range []struct {
		name string
		q    EventQuery
		want []uuid.UUID
	}{
		{"all", EventQuery{}, []uuid.UUID{fourth, third, second, first}},
		{"by name", EventQuery{Types: []string{"call.ended"}}, []uuid.UUID{second}},
		{"by prefix", EventQuery{Types: []string{"call.ended.*"}}, []uuid.UUID{third}},
		{"by prefix and name", EventQuery{Types: []string{"call.*", "invoice.paid"}}, []uuid.UUID{fourth, third, second, first}},
		{"any", EventQuery{Types: []string{"*"}}, []uuid.UUID{fourth, third, second, first}},
		{"since", EventQuery{Since: a.noon.Add(hour)}, []uuid.UUID{fourth, third, second}},
		{"until", EventQuery{Until: a.noon.Add(hour)}, []uuid.UUID{first}},
		{"between", EventQuery{Since: a.noon.Add(hour), Until: a.noon.Add(14 * hour)}, []uuid.UUID{third, second}},
		{"nothing", EventQuery{Types: []string{"call"}}, nil},
		{"before there was time", EventQuery{Until: time.Time{}.Add(hour)}, nil},
		{"in a far future", EventQuery{Since: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, nil},
	} {
		for limit := 1; limit <= 5; limit++ {
			var got []uuid.UUID
			q := c.q
			for q.Limit = limit; ; {
				page, next, err := a.Events(t.Context(), account, q)
				must(t, err)
				got = append(got, eventIDs(page)...)
				if next == uuid.Nil {
					break
				}
				if len(page) != limit {
					t.Errorf("%s: a page of %d before the last has %d", c.name, limit, len(page))
				}
				q.After = next
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, by %d: %s", c.name, limit, diff)
			}
		}
	}

	for _, with := range []bool{false, true} {
		list, _, err := a.Events(t.Context(), account, EventQuery{Page: Page{Limit: 10}, WithData: with})
		must(t, err)
		want := map[bool]string{true: `{"n": 1}`}[with]
		if got := string(list[3].Data); got != want {
			t.Errorf("with data %v: it is %q", with, got)
		}
	}
}

func TestAListLooksAtNoMoreThanSoManyRows(t *testing.T) {
	a := newArchive(t)
	account := newAccount(t, a.Store, uuid.Nil)
	rare := a.event(account, 0, "rare")
	a.many(account, 12_000, 0)

	page, next, err := a.Events(t.Context(), account, EventQuery{Types: []string{"rare"}, Page: Page{Limit: 10}})
	must(t, err)
	if len(page) != 0 || next == uuid.Nil {
		t.Fatalf("the first page has %d events, next %s", len(page), next)
	}
	var newer int
	must(t, a.pool.QueryRow(t.Context(), `SELECT count(*) FROM events WHERE id >= $1`, next).Scan(&newer))
	if newer != maxExamined {
		t.Errorf("%d rows were looked at", newer)
	}
	page, next, err = a.Events(t.Context(), account, EventQuery{Types: []string{"rare"}, Page: Page{Limit: 10, After: next}})
	must(t, err)
	if !slices.Equal(eventIDs(page), []uuid.UUID{rare}) || next != uuid.Nil {
		t.Errorf("the second page has %v, next %s", eventIDs(page), next)
	}
}

// many puts n events of an account, a millisecond apart and after those before, each matched by fan
// webhooks, and answers the webhooks.
func (a *archive) many(account uuid.UUID, n, fan int) (hooks []uuid.UUID) {
	a.Helper()
	for range fan {
		hooks = append(hooks, newWebhook(a, a.Store, account, "*").ID)
	}
	slices.SortFunc(hooks, func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) })
	a.exec(`
INSERT INTO events (id, account_id, type, data, webhook_ids, matched)
SELECT event_id($2 + (i::bigint << 16), i), $1, 'call.ended', '{}', $3, cardinality($3::uuid[]) FROM generate_series(1, $4::int) i`,
		account, int64(fanfare.PositionAt(a.noon)), append([]uuid.UUID{}, hooks...), n)
	return hooks
}
