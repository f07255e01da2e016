package api_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func id(t *testing.T, text string) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// ids reads one member of every row of all pages of a list.
func (w *world) ids(path, key, member string, limit int) (all []string) {
	w.t.Helper()
	join := "?"
	if strings.Contains(path, "?") {
		join = "&"
	}
	next := ""
	for range 100 {
		p := fmt.Sprintf("%s%slimit=%d", path, join, limit)
		if next != "" {
			p += "&after=" + next
		}
		r := w.call("GET", p, key, nil).want(200)
		rows := r.get("data").([]any)
		if len(rows) > limit {
			w.t.Fatalf("%d rows with limit %d", len(rows), limit)
		}
		for _, row := range rows {
			all = append(all, row.(map[string]any)[member].(string))
		}
		var more bool
		if next, more = r.get("next").(string); !more {
			return all
		}
	}
	w.t.Fatal("the list has no end")
	return nil
}

// attempt puts an attempt on record.
func (w *world) attempt(account string, hook, event uuid.UUID, state fanfare.State, number int) uuid.UUID {
	w.t.Helper()
	attempt := uuid.Must(uuid.NewV7())
	status, verdict, code := 200, "delivered", ""
	if state != fanfare.Delivered {
		status, verdict, code = 500, "retry", "status"
	}
	reason := map[fanfare.State]string{fanfare.Exhausted: "schedule", fanfare.Discarded: "gone"}[state]
	w.exec(`INSERT INTO attempts (webhook_id, event_id, id, account_id, webhook_version, number, trigger, started_at, duration_us, method,
		url, status, verdict, state, reason, error, error_detail, response_headers, response_body, node)
	VALUES ($1, $2, $3, $4, 1, $5, 'first', now(), 1500, 'POST', 'https://example.com/', $6, $7, $8, nullif($9, ''), nullif($10, ''), 'x', $11, $12, $13)`,
		hook, event, attempt, account, number, status, verdict, string(state), reason, code, []byte("A: b\r\n"), []byte("body"), uuid.New())
	return attempt
}

func TestListsArePagesNewestFirst(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	base := "/v1/accounts/" + account
	key := w.key(account)
	var hooks, events, attempts []string
	for range 5 {
		hooks = append(hooks, w.webhook(account, key))
	}
	hook := id(t, hooks[0])
	for range 7 {
		e := w.event(account, "a.type", hook)
		events = append(events, e.String())
		attempts = append(attempts, w.attempt(account, hook, e, fanfare.Exhausted, 1).String())
	}
	for _, tc := range []struct {
		path, member string
		want         []string
	}{
		{base + "/webhooks", "id", hooks},
		{base + "/events", "id", events},
		{base + "/deliveries", "event_id", events},
		{base + "/webhooks/" + hooks[0] + "/deliveries", "event_id", events},
		{base + "/webhooks/" + hooks[0] + "/attempts", "id", attempts},
		{base + "/errors", "id", attempts},
	} {
		want := slices.Clone(tc.want)
		slices.Reverse(want)
		for _, limit := range []int{1, 2, 200} {
			if got := w.ids(tc.path, key, tc.member, limit); !slices.Equal(got, want) {
				t.Errorf("%s in pages of %d: %q, want %q", tc.path, limit, got, want)
			}
		}
	}
	var keys, accounts, types []string
	for i := range 4 {
		keys = append(keys, w.call("POST", base+"/keys", key, nil).want(201).str("id"))
		accounts = append(accounts, w.account(account))
		name := fmt.Sprintf("t_%d", i)
		w.eventType(name)
		types = append(types, name)
	}
	slices.Reverse(keys)
	if got := w.ids(base+"/keys", key, "id", 2); !slices.Equal(got[:4], keys) || len(got) != 5 {
		t.Errorf("keys %q, want %q", got, keys)
	}
	slices.Reverse(accounts)
	if got := w.ids("/v1/accounts", key, "id", 2); !slices.Equal(got, append(accounts, account)) {
		t.Errorf("accounts %q", got)
	}
	if got := w.ids("/v1/event-types", "", "name", 3); !slices.Equal(got, types) {
		t.Errorf("types %q", got)
	}
}

func TestACursorIsForItsListOnly(t *testing.T) {
	w := newWorld(t)
	account, other := w.account(""), w.account("")
	base := "/v1/accounts/" + account
	for range 3 {
		w.webhook(account, platformKey)
		w.webhook(other, platformKey)
		w.event(account, "a.type")
	}
	next := w.call("GET", base+"/webhooks?limit=1", platformKey, nil).want(200).str("next")
	if strings.Trim(next, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		t.Errorf("the cursor is %q", next)
	}
	w.call("GET", base+"/webhooks?after="+next, platformKey, nil).want(200)
	w.call("GET", base+"/webhooks?limit=2&after="+next, platformKey, nil).want(200)
	filtered := w.call("GET", base+"/events?limit=1&event_type=a.*", platformKey, nil).want(200).str("next")
	w.call("GET", base+"/events?after="+filtered+"&event_type=a.*", platformKey, nil).want(200)

	raw, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	for _, path := range []string{
		"/v1/accounts/" + other + "/webhooks?after=" + next,
		base + "/keys?after=" + next,
		base + "/events?after=" + next,
		"/v1/accounts?after=" + next,
		"/v1/event-types?after=" + next,
		base + "/events?after=" + filtered,
		base + "/events?after=" + filtered + "&event_type=a.type",
		base + "/webhooks?after=" + base64.RawURLEncoding.EncodeToString(raw),
		base + "/webhooks?after=" + next[1:],
		base + "/webhooks?after=" + next + "A",
		base + "/webhooks?after=" + next + "%3D",
		base + "/webhooks?after=",
		base + "/webhooks?after=x",
		base + "/webhooks?after=%00",
		base + "/webhooks?after=" + uuid.NewString(),
		base + "/webhooks?after=" + strings.Repeat("A", 5000),
	} {
		if got := w.call("GET", path, platformKey, nil).want(422).problems(); got[0] != "after invalid_cursor" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestQueryParametersAreChecked(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	base := "/v1/accounts/" + account
	types := strings.Repeat("a,", 100) + "a"
	for query, want := range map[string][]string{
		"/webhooks?limit=0":                         {"limit out_of_range"},
		"/webhooks?limit=201":                       {"limit out_of_range"},
		"/webhooks?limit=x":                         {"limit out_of_range"},
		"/webhooks?limit=99999999999999999999":      {"limit out_of_range"},
		"/webhooks?limit=1&limit=2":                 {"limit duplicate_parameter"},
		"/webhooks?limit=":                          {"limit out_of_range"},
		"/webhooks?Limit=1":                         {"Limit unknown_parameter"},
		"/webhooks?%zz":                             {" invalid_format"},
		"/webhooks?a;b":                             {" invalid_format"},
		"/events?data=yes":                          {"data invalid_value"},
		"/events?since=yesterday&until=1":           {"since invalid_format", "until invalid_format"},
		"/events?event_type=":                       {"event_type invalid_value"},
		"/events?event_type=A":                      {"event_type invalid_value"},
		"/events?event_type=" + types:               {"event_type too_many"},
		"/events?event_type=%00":                    {"event_type invalid_value"},
		"/deliveries?state=delivered":               {"state invalid_value"},
		"/deliveries?state=pending,lost":            {"state invalid_value"},
		"/deliveries?x=1&limit=0&since=1&state=foo": {"limit out_of_range", "since invalid_format", "state invalid_value", "x unknown_parameter"},
	} {
		got := w.call("GET", base+query, platformKey, nil).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	long := strings.Repeat("x", 10_000)
	if r := w.call("GET", base+"/events?"+long+"=1", platformKey, nil).want(422); len(r.body) > 2000 {
		t.Errorf("the answer has %d bytes", len(r.body))
	}
	w.call("GET", base+"/webhooks?limit=200", platformKey, nil).want(200)
}

func TestEventsAreFoundWithTheirBytes(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	account := w.account(parent)
	hook := id(t, w.webhook(parent, platformKey))
	e := w.event(account, "call.ended", hook)
	w.event(account, "call.started")
	w.event(account, "invoice.paid")
	base := "/v1/accounts/" + account

	r := w.call("GET", base+"/events/"+e.String(), platformKey, nil).want(200)
	want := fmt.Sprintf(`{"id":%q,"account_id":%q,"type":"call.ended","data":{"n": 1},"idempotency_key":null,"occurred_at":null,"created_at":%q,"expunged_at":null}`,
		e, account, fanfare.EventTime(e).Format("2006-01-02T15:04:05.000Z"))
	if string(r.body) != want {
		t.Errorf("got  %s\nwant %s", r.body, want)
	}
	// Under the account of a webhook that it matched, too; its list is its own account's.
	w.call("GET", "/v1/accounts/"+parent+"/events/"+e.String(), platformKey, nil).want(200)
	if got := w.ids("/v1/accounts/"+parent+"/events", platformKey, "id", 10); len(got) != 0 {
		t.Errorf("the parent lists %q", got)
	}

	if r := w.call("GET", base+"/events", platformKey, nil).want(200); strings.Contains(string(r.body), `"data":{`) {
		t.Errorf("listed with data: %s", r.body)
	}
	if r := w.call("GET", base+"/events?data=true", platformKey, nil).want(200); !strings.Contains(string(r.body), `"data":{"n": 1}`) {
		t.Errorf("listed without data: %s", r.body)
	}
	at := url.QueryEscape(fanfare.EventTime(e).Add(time.Hour).Format(time.RFC3339))
	for query, want := range map[string]int{
		"?event_type=call.*": 2, "?event_type=call.ended,invoice.paid": 2, "?event_type=call.ended&event_type=invoice.*": 2,
		"?event_type=*": 3, "?event_type=nope": 0, "?since=" + at: 0, "?until=" + at: 3, "?until=2020-01-01T00:00:00Z": 0,
		"?since=0000-01-01T00:00:00Z": 3, "?since=9999-12-31T23:59:59Z": 0, "?until=9999-12-31T23:59:59Z": 3,
	} {
		if got := w.ids(base+"/events"+query, platformKey, "id", 200); len(got) != want {
			t.Errorf("%s: %d events, want %d", query, len(got), want)
		}
	}
}

func TestErrorsAreNarrowedByWhatWentWrong(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	base := "/v1/accounts/" + account + "/errors"
	hook, other := id(t, w.webhook(account, platformKey)), id(t, w.webhook(account, platformKey))
	call, paid := w.event(account, "call.ended", hook), w.event(account, "paid", hook, other)
	refused := w.attempt(account, hook, call, fanfare.Pending, 1)
	w.exec(`UPDATE attempts SET status = 0, error = 'connect'`)
	missing := w.attempt(account, hook, call, fanfare.Exhausted, 2)
	w.exec(`UPDATE attempts SET status = 404 WHERE id = $1`, missing)
	broken := w.attempt(account, other, paid, fanfare.Pending, 1)
	w.attempt(account, hook, paid, fanfare.Delivered, 1)
	for query, want := range map[string][]uuid.UUID{
		"":                                   {broken, missing, refused},
		"?webhook_id=" + other.String():      {broken},
		"?webhook_id=" + uuid.NewString():    {},
		"?code=status":                       {broken, missing},
		"?code=connect,dns":                  {refused},
		"?status=5xx":                        {broken},
		"?status=404,5xx":                    {broken, missing},
		"?status=4xx&code=connect":           {},
		"?event_type=call.*":                 {missing, refused},
		"?event_type=call.*,paid&status=500": {broken},
	} {
		var ids []string
		for _, id := range want {
			ids = append(ids, id.String())
		}
		for _, limit := range []int{1, 50} {
			if got := w.ids(base+query, platformKey, "id", limit); !slices.Equal(got, ids) {
				t.Errorf("%s: %q, want %q", query, got, ids)
			}
		}
	}
	for query, want := range map[string]string{
		"?webhook_id=x": "webhook_id invalid_format", "?code=http": "code invalid_value", "?code=": "code invalid_value",
		"?status=5x": "status invalid_value", "?status=xx5": "status invalid_value", "?status=0xx": "status invalid_value",
		"?status=50": "status invalid_value", "?status=": "status invalid_value", "?status=-1x": "status invalid_value",
		"?event_type=A": "event_type invalid_value",
	} {
		if got := w.call("GET", base+query, platformKey, nil).want(422).problems(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestDeliveriesSayWhereTheyStand(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	account := w.account(parent)
	hook, upper := id(t, w.webhook(account, platformKey)), id(t, w.webhook(parent, platformKey))
	base := "/v1/accounts/" + account
	byState := make(map[fanfare.State]uuid.UUID)
	for _, state := range []fanfare.State{fanfare.Delivered, fanfare.Exhausted, fanfare.Discarded} {
		e := w.event(account, "call."+string(state), hook, upper)
		w.attempt(account, hook, e, state, 1)
		w.attempt(parent, upper, e, fanfare.Delivered, 1)
		byState[state] = e
	}
	pending := w.event(account, "call.pending", hook)
	w.attempt(account, hook, pending, fanfare.Pending, 1)
	w.exec(`INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
		VALUES ($1, $2, $3, 'retry', 1, 1, now(), '2030-01-01')`, hook, pending, account)

	for path, want := range map[string]int{
		"/deliveries":                                                                  3, // what went well is not trouble
		"/deliveries?state=exhausted":                                                  1,
		"/deliveries?state=exhausted,discarded":                                        2,
		"/deliveries?event_type=call.exhausted":                                        1,
		"/webhooks/" + hook.String() + "/deliveries":                                   4,
		"/webhooks/" + hook.String() + "/deliveries?state=delivered":                   1,
		"/events/" + byState[fanfare.Delivered].String() + "/deliveries":               1, // the other is the parent's
		"/events/" + byState[fanfare.Delivered].String() + "/deliveries?state=pending": 0,
	} {
		if got := w.ids(base+path, platformKey, "event_id", 200); len(got) != want {
			t.Errorf("%s: %d deliveries, want %d", path, len(got), want)
		}
	}
	r := w.call("GET", base+"/deliveries?state=pending", platformKey, nil).want(200)
	if r.str("data.0.state") != "pending" || r.str("data.0.next_attempt_at") != "2030-01-01T00:00:00.000Z" || r.get("data.0.reason") != nil ||
		r.str("data.0.last_attempt.error.code") != "status" || r.str("data.0.account_id") != account {
		t.Errorf("%s", r.body)
	}
	// A webhook that is gone leaves its list behind.
	w.call("DELETE", base+"/webhooks/"+hook.String(), platformKey, nil).want(204)
	if got := w.ids(base+"/webhooks/"+hook.String()+"/deliveries", platformKey, "event_id", 200); len(got) != 4 {
		t.Errorf("after its deletion: %q", got)
	}
	if got := w.ids(base+"/webhooks/"+hook.String()+"/attempts", platformKey, "event_id", 200); len(got) != 4 {
		t.Errorf("after its deletion: %q", got)
	}
	if got := w.ids(base+"/events/"+pending.String()+"/attempts", platformKey, "webhook_id", 200); len(got) != 1 {
		t.Errorf("the event's attempts: %q", got)
	}
}
