package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// followed is an answer of the synchronisation.
type followed struct {
	*reply
	ids    []string
	cursor string
}

// follow asks for what comes after a cursor, "" for all.
func (w *world) follow(path, key, cursor string) followed {
	w.t.Helper()
	if cursor != "" {
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		path += join + "since=" + cursor
	}
	f := followed{reply: w.call("GET", path, key, nil).want(200)}
	for _, e := range f.get("data").([]any) {
		f.ids = append(f.ids, e.(map[string]any)["id"].(string))
	}
	f.cursor = f.str("cursor")
	if strings.Trim(f.cursor, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		w.t.Errorf("the cursor is %q", f.cursor)
	}
	return f
}

func (f followed) wants(caughtUp bool, ids ...uuid.UUID) followed {
	f.t.Helper()
	var want []string
	for _, id := range ids {
		want = append(want, id.String())
	}
	if !slices.Equal(f.ids, want) || f.get("caught_up") != caughtUp {
		f.t.Errorf("want %q, got %s", want, f.body)
	}
	return f
}

func TestWhoeverFollowsSeesWhatComesAfterTheirCursor(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	account := w.account(parent)
	other := w.account("")
	key := w.key(parent)
	path := "/v1/accounts/" + account + "/events/sync"
	empty := w.follow(path, key, "").wants(true)

	a, b := w.event(account, "call.ended"), w.event(account, "call.started")
	hidden := w.event(account, "a.test")
	w.exec(`UPDATE events SET test = true WHERE id = $1`, hidden)
	c, d := w.event(parent, "call.ended"), w.event(account, "paid")
	w.event(other, "call.ended")

	all := w.follow(path, key, "").wants(true, a, b, d)
	want := fmt.Sprintf(`{"data":[{"id":%q,"account_id":%q,"type":"call.ended","data":{"n": 1},"idempotency_key":null,"occurred_at":null,"created_at":%q,"expunged_at":null},`,
		a, account, fanfare.EventTime(a).Format("2006-01-02T15:04:05.000Z"))
	if !strings.HasPrefix(string(all.body), want) {
		t.Errorf("got  %s\nwant %s…", all.body, want)
	}
	w.follow(path, key, empty.cursor).wants(true, a, b, d)
	w.follow(path, key, all.cursor).wants(true)
	first := w.follow(path+"?limit=1", key, "").wants(false, a)
	w.follow(path+"?limit=200", key, first.cursor).wants(true, b, d)
	w.follow(path, key, a.String()).wants(true, b, d)
	w.follow(path, key, strings.ToUpper(hidden.String())).wants(true, d)
	// A cursor is a place in the log, whatever is asked for there.
	w.follow(path+"?types=call.*", key, "").wants(true, a, b)
	w.follow(path+"?types=paid,call.started", key, first.cursor).wants(true, b, d)
	w.follow(path+"?types=nothing.*", key, first.cursor).wants(true)
	mine := w.follow("/v1/accounts/me/events/sync", key, "").wants(true, c)
	w.follow("/v1/accounts/me/events/sync?descendants=true", key, "").wants(true, a, b, c, d)
	w.follow("/v1/accounts/"+parent+"/events/sync?descendants=true", platformKey, mine.cursor).wants(true)

	latest := w.follow(path, key, "latest").wants(true)
	e := w.event(account, "paid")
	w.follow(path, key, latest.cursor).wants(true, e)
	if got := w.call("GET", path+"?since="+mine.cursor, key, nil).want(422).problems(); got[0] != "since invalid_cursor" {
		t.Errorf("another account's cursor: %q", got)
	}
}

func TestACursorThatTheLogDoesNotReachIsRefused(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/events/sync"
	old := w.event(account, "t")
	last := w.event(account, "t")

	// Of another log, or of commits that a failover has lost.
	newer := fanfare.EventID(fanfare.PositionOf(last)+100, 1)
	for _, since := range []string{newer.String(), "ffffffff-ffff-7fff-bfff-ffffffffffff", "7fffffff-ffff-7fff-bfff-ffffffffffff"} {
		r := w.call("GET", path+"?since="+since, platformKey, nil).want(409)
		if r.str("code") != "cursor_ahead" {
			t.Errorf("%s", r.body)
		}
		w.follow(path, platformKey, r.str("latest")).wants(true)
	}

	w.exec(`UPDATE log_horizon SET event_id = $1`, fanfare.EventID(fanfare.PositionOf(old)+1, 0))
	r := w.call("GET", path+"?wait=30s&since="+fanfare.EventID(fanfare.PositionOf(old)-10, 0).String(), platformKey, nil).want(410)
	if r.str("code") != "cursor_expired" {
		t.Errorf("%s", r.body)
	}
	w.follow(path, platformKey, r.str("oldest")).wants(true, last)
	w.follow(path, platformKey, "").wants(true, last)
	w.follow(path, platformKey, old.String()).wants(true, last) // what went was known
}

func TestWhatCannotBeFollowedIsRefused(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/events/sync"
	for query, want := range map[string][]string{
		"?wait=31s":                         {"wait out_of_range"},
		"?wait=-1s":                         {"wait invalid_format"},
		"?wait=30":                          {"wait invalid_format"},
		"?wait=":                            {"wait invalid_format"},
		"?limit=0&descendants=yes":          {"descendants invalid_value", "limit out_of_range"},
		"?limit=201":                        {"limit out_of_range"},
		"?types=A":                          {"types invalid_value"},
		"?since=":                           {"since invalid_cursor"},
		"?since=x":                          {"since invalid_cursor"},
		"?since=" + uuid.New().String():     {"since invalid_cursor"}, // no event has such an id
		"?since=2026-01-01T00:00:00Z":       {"since invalid_cursor"},
		"?since=latest&since=latest":        {"since duplicate_parameter"},
		"?since=" + strings.Repeat("A", 99): {"since invalid_cursor"},
		"?after=x":                          {"after unknown_parameter"},
	} {
		got := w.call("GET", path+query, platformKey, nil).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// waits makes a call that waits, and gives its answer when it has one.
func (w *world) waits(ctx context.Context, path, key string) <-chan *reply {
	w.t.Helper()
	r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+key)
	got := make(chan *reply, 1)
	before := w.waiting()
	go func() {
		defer close(got)
		defer func() {
			if fault := recover(); fault != nil && fault != http.ErrAbortHandler {
				panic(fault)
			}
		}()
		got <- w.send(r)
	}()
	w.eventually("it waits", func() bool { return w.waiting() == before+1 || len(got) > 0 })
	return got
}

// waiting is how many calls wait for an event.
func (w *world) waiting() float64 { return w.gauge("fanfare_sync_waiting") }

// gauge reads a metric.
func (w *world) gauge(name string) (n float64) {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			n = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return n
}

func (w *world) eventually(what string, done func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("this did not happen: " + what)
		}
	}
}

func TestACallThatWaitsIsAnsweredByTheNextEvent(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/events/sync?wait=30s&since="
	since := w.follow("/v1/accounts/"+account+"/events/sync", platformKey, "latest").cursor
	got := w.waits(t.Context(), path+since, platformKey)
	w.event(w.account(""), "t")
	e := w.event(account, "t")
	if r := (<-got).want(200); r.str("data.0.id") != e.String() || r.get("data.1") != nil {
		t.Errorf("%s", r.body)
	}
	w.call("GET", "/v1/accounts/"+account+"/events/sync?wait=10ms&since="+e.String(), platformKey, nil).want(200)
}

func TestACallThatWaitsLearnsThatItsAccountOrKeyIsGone(t *testing.T) {
	w := newWorld(t)
	account, other := w.account(""), w.account("")
	key := w.call("POST", "/v1/accounts/"+other+"/keys", platformKey, nil).want(201)
	first := w.waits(t.Context(), "/v1/accounts/"+account+"/events/sync?wait=2s", platformKey)
	second := w.waits(t.Context(), "/v1/accounts/me/events/sync?wait=2s", key.str("key"))
	w.call("DELETE", "/v1/accounts/"+account, platformKey, nil).want(204)
	w.call("DELETE", "/v1/accounts/"+other+"/keys/"+key.str("id"), platformKey, nil).want(204)
	if err := w.registry.CatchUp(t.Context()); err != nil { // which every node does twice a second
		t.Fatal(err)
	}
	w.event(other, "t")
	(<-second).want(401)
	(<-first).want(404)
	if n := w.gauge("fanfare_sync_answer_bytes"); n != 0 {
		t.Errorf("answers that nobody got take %v bytes", n)
	}
}

func TestOneAccountDoesNotTakeAllThatCanWait(t *testing.T) {
	w := newWorldWith(t, worldOptions{maxWaiting: 2})
	ctx, cancel := context.WithCancel(t.Context())
	path := "/v1/accounts/" + w.account("") + "/events/sync?wait=30s"
	got := w.waits(ctx, path, platformKey)
	r := w.call("GET", path, platformKey, nil).want(429)
	if r.str("code") != "too_fast" || r.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", r.header, r.body)
	}
	cancel() // the client goes away
	if r := <-got; r != nil {
		t.Errorf("nobody is told %s", r.body)
	}
	w.eventually("nobody waits", func() bool { return w.waiting() == 0 })
}

// slow looks around while an answer is written.
type slow struct {
	*httptest.ResponseRecorder
	look func()
}

func (s slow) Write(b []byte) (int, error) {
	s.look()
	return s.ResponseRecorder.Write(b)
}

func TestAnAnswerTakesRoomUntilItIsWritten(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/events/sync"
	w.event(account, "t")
	taken := func() float64 { return w.gauge("fanfare_sync_answer_bytes") }
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+platformKey)
	during := 0.0
	w.server.ServeHTTP(slow{httptest.NewRecorder(), func() { during = taken() }}, r)
	if during != float64(len(`{"n": 1}`)) || taken() != 0 {
		t.Errorf("%v bytes while it was written, and %v later", during, taken())
	}
}
