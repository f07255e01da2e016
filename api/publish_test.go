package api_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare/dispatcher"
)

func TestPublishAnswersWithTheReceipt(t *testing.T) {
	w := newWorld(t)
	w.eventType("call.ended")
	a := w.account("")
	key := w.key(a)

	r := w.call("POST", "/v1/accounts/me/events", key,
		`{"type":"call.ended","data":{"n":1},"idempotency_key":"k","occurred_at":"2026-01-02T03:04:05.678+01:00"}`).want(202)

	if r.str("type") != "call.ended" || r.get("matched").(interface{ String() string }).String() != "1" {
		t.Errorf("the receipt is %s", r.body)
	}
	p := w.publisher.last()
	if p.AccountID.String() != a || p.Type != "call.ended" || p.IdempotencyKey != "k" ||
		p.OccurredAt.Format("15:04:05.000") != "02:04:05.678" {
		t.Errorf("published %+v", p)
	}
}

func TestTheBytesOfDataAreKept(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	deep := strings.Repeat(`{"a":`, 63) + `{}` + strings.Repeat(`}`, 63)
	for _, data := range []string{
		`{}`, "{ \"a\" :\n\t[ 1 , 2 ] }", `{"a":1,"a":2}`, `{"n":1e400,"m":-0.0,"x":123456789012345678901234567890}`,
		`{"s":"\u0000\ud800 \uDfff \/ \u00e9 é"}`, `{"":{"":[]}}`, deep, `{"<":"&\u2028"}`,
	} {
		w.call("POST", "/v1/accounts/me/events", key, `{"type":"t", "data" : `+data+` }`).want(202)
		if got := string(w.publisher.last().Data); got != data {
			t.Errorf("published %s as %s", data, got)
		}
	}
}

func TestPublishNamesEveryFaultAtOnce(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	long := strings.Repeat("x", 256)
	tooDeep := strings.Repeat(`{"a":`, 64) + `{}` + strings.Repeat(`}`, 64)
	for _, tc := range []struct {
		body, header string
		status       int
		want         []string
	}{
		{`{}`, "", 422, []string{"/type required", "/data required"}},
		{`{"type":"nope","data":[],"x":1,"a/b~":2,"occurred_at":"yesterday","idempotency_key":""}`, "", 422, []string{
			"/type unknown_event_type", "/data wrong_type", "/x unknown_field", "/a~1b~0 unknown_field",
			"/occurred_at invalid_format", "/idempotency_key invalid_format",
		}},
		{`{"type":"t","type":"t","data":{},"data":{}}`, "", 422, []string{"/type duplicate_field", "/data duplicate_field"}},
		{`{"type":"t","\u0064ata":{},"data":{}}`, "", 422, []string{"/data duplicate_field"}},
		{`{"type":1,"data":null,"idempotency_key":1,"occurred_at":1}`, "", 422, []string{
			"/type wrong_type", "/data wrong_type", "/idempotency_key wrong_type", "/occurred_at wrong_type",
		}},
		{`{"type":"T","data":{}}`, "", 422, []string{"/type invalid_format"}},
		{`{"type":"t","data":{},"account_id":"x"}`, "", 422, []string{"/account_id unknown_field"}},
		{`{"type":"t","data":{},"idempotency_key":"` + long + `"}`, "", 422, []string{"/idempotency_key invalid_format"}},
		{`{"type":"t","data":{},"idempotency_key":"a\u0000"}`, "", 422, []string{"/idempotency_key invalid_format"}},
		{`{"type":"t","data":{},"idempotency_key":"a"}`, "b", 422, []string{"/idempotency_key invalid_value"}},
		{`{"type":"t","data":{},"occurred_at":"2026-13-01T00:00:00Z"}`, "", 422, []string{"/occurred_at invalid_format"}},
		{`{"type":"t","data":{},"occurred_at":"0000-01-01T00:00:00+10:00"}`, "", 422, []string{"/occurred_at invalid_format"}},
		{`{"type":"t","data":{}}`, long, 422, []string{"Idempotency-Key invalid_format"}},
		{`{"type":"t","data":` + tooDeep + `}`, "", 422, []string{"/data too_deep"}},
		{`[]`, "", 422, []string{" wrong_type"}},
		{``, "", 422, []string{" wrong_type"}},
		{`{"type":"t","data":{}`, "", 400, []string{"malformed_json"}},
		{`{"type":"t","data":{}} x`, "", 400, []string{"malformed_json"}},
		{`{"type":"t","data":{"a":01}}`, "", 400, []string{"malformed_json"}},
		{`{"type":"t","data":{"a":"` + "\xff" + `"}}`, "", 400, []string{"malformed_json"}},
		{"{\"type\":\"t\",\"data\":{\"a\":\"\x00\"}}", "", 400, []string{"malformed_json"}},
		{"\ufeff" + `{"type":"t","data":{}}`, "", 400, []string{"malformed_json"}},
		{`nul`, "", 400, []string{"malformed_json"}},
	} {
		r := w.call("POST", "/v1/accounts/me/events", key, tc.body, "Idempotency-Key", tc.header)
		got, want := r.problems(), tc.want
		slices.Sort(got)
		slices.Sort(want)
		if r.status != tc.status || !slices.Equal(got, want) {
			t.Errorf("%.90s: %d %q, want %d %q", tc.body, r.status, got, tc.status, want)
		}
	}
	if n := len(w.publisher.published); n != 0 {
		t.Errorf("%d were published", n)
	}
}

func TestTheIdempotencyKeyIsTheEventsOwn(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	first := w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{"n":1}}`, "Idempotency-Key", "k").want(202)

	// In the body or in the header, with whatever space between: the same request.
	again := w.call("POST", "/v1/accounts/me/events", key, `{ "data":{"n":1}, "idempotency_key":"k", "type":"t" }`).want(202)
	both := w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{"n":1},"idempotency_key":"k"}`, "Idempotency-Key", "k").want(202)
	for _, r := range []*reply{again, both} {
		if r.header.Get("Idempotency-Replayed") != "true" || r.str("id") != first.str("id") {
			t.Errorf("the repeat was answered %v %s", r.header, r.body)
		}
	}
	if first.header.Get("Idempotency-Replayed") != "" {
		t.Error("the first answer says that it is a repeat")
	}
	for _, other := range []string{
		`{"type":"t","data":{"n":2}}`, `{"type":"t","data":{"n": 1}}`, `{"type":"t","data":{"n":1},"occurred_at":"2026-01-01T00:00:00Z"}`,
	} {
		r := w.call("POST", "/v1/accounts/me/events", key, other, "Idempotency-Key", "k").want(409)
		if r.str("code") != "idempotency_key_reused" {
			t.Errorf("answered %s", r.body)
		}
	}
}

func TestWhatIsTooLargeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	event := func(n int) string { // data of exactly n bytes
		return `{"type":"t","data":{"a":"` + strings.Repeat("x", n-8) + `"}}`
	}
	w.call("POST", "/v1/accounts/me/events", key, event(256<<10)).want(202)
	w.call("POST", "/v1/accounts/me/events", key, event(256<<10+1)).want(413)
	w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{}}`+strings.Repeat(" ", 512<<10)).want(413)

	// A refusal says how much there may be, or where the body stops being JSON.
	for body, want := range map[string]string{
		event(256<<10 + 1): "The data of an event is at most 256 KiB.",
		`{"type":"t","data":{}}` + strings.Repeat(" ", 512<<10): "The body is too large: at most 512 KiB.",
		`{"type":"t","data":{"a":}}`:                            "The body is not JSON: byte 25: invalid character '}' looking for beginning of value.",
		"{\"type\":\"t\",\"data\":{\"a\":\"\xff\"}}":            "The body is not JSON: byte 25 is not UTF-8.",
	} {
		if got := w.call("POST", "/v1/accounts/me/events", key, body).str("detail"); got != want {
			t.Errorf("%.40s: %s", body, got)
		}
	}
	if got := w.call("POST", "/v1/events/batch", key, strings.Repeat(" ", 4<<20+1)).str("detail"); got != "The body is too large: at most 4096 KiB." {
		t.Error(got)
	}

	// What is announced as too large is not read at all.
	r := httptest.NewRequest("POST", "/v1/accounts/me/events", errReader{t})
	r.ContentLength = 512<<10 + 1
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	out := httptest.NewRecorder()
	if w.server.ServeHTTP(out, r); out.Code != 413 {
		t.Errorf("announced as too large: %d", out.Code)
	}

	// Without an announced length it is found while reading.
	r = httptest.NewRequest("POST", "/v1/accounts/me/events", bytes.NewReader(bytes.Repeat([]byte(" "), 512<<10+1)))
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	w.send(r).want(413)

	for _, kind := range []string{"", "text/plain", "application/json; charset=latin1", "application/x-www-form-urlencoded", "application/jsonx", ";"} {
		w.call("POST", "/v1/accounts/me/events", key, event(10), "Content-Type", kind).want(415)
	}
	w.call("POST", "/v1/accounts/me/events", key, event(10), "Content-Encoding", "gzip").want(415)
	w.call("POST", "/v1/accounts/me/events", key, event(10), "Content-Type", "Application/JSON; charset=UTF-8").want(202)
}

func TestAFullPublisherIsAskedBeforeTheBodyIsRead(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	for _, path := range []string{"/v1/accounts/me/events", "/v1/events/batch"} {
		for _, tc := range []struct {
			err    error
			status int
			code   string
		}{
			{dispatcher.ErrOverloaded, 503, "overloaded"},
			{dispatcher.ErrAccountOverloaded, 429, "too_fast"},
		} {
			w.publisher.set(func(p *fakePublisher) { p.full = tc.err })
			r := httptest.NewRequest("POST", path, errReader{t})
			r.ContentLength = 10
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+key)
			out := httptest.NewRecorder()
			w.server.ServeHTTP(out, r)
			if out.Code != tc.status || out.Header().Get("Retry-After") == "" || !strings.Contains(out.Body.String(), `"`+tc.code+`"`) {
				t.Errorf("%s: %d %v %s", path, out.Code, out.Header(), out.Body)
			}
		}
	}
}

type errReader struct{ t *testing.T }

func (r errReader) Read([]byte) (int, error) {
	r.t.Error("the body was read")
	return 0, fmt.Errorf("no")
}

func TestWhatThePublisherRefusesIsAProblem(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	key := w.key(account)
	for _, tc := range []struct {
		err          error
		status       int
		one, inBatch string
	}{
		{dispatcher.ErrOverloaded, 503, "overloaded", "overloaded"},
		{dispatcher.ErrAccountOverloaded, 429, "too_fast", "too_fast"},
		{fmt.Errorf("commit: %w", dispatcher.ErrUnavailable), 503, "unavailable", "unavailable"},
		{&dispatcher.RefusedError{Reason: dispatcher.UnknownEventType}, 422, "/type unknown_event_type", "/events/0/type unknown_event_type"},
		{&dispatcher.RefusedError{Reason: dispatcher.TooManyWebhooks}, 422, " too_many_webhooks", "/events/0 too_many_webhooks"},
		{&dispatcher.RefusedError{Reason: dispatcher.KeyReused}, 409, "/idempotency_key idempotency_key_reused", "/events/0/idempotency_key idempotency_key_reused"},
		{&dispatcher.RefusedError{Reason: dispatcher.UnknownAccount}, 404, "not_found", ""},
		{&dispatcher.RefusedError{Reason: dispatcher.UnknownAccount}, 422, "", "/events/0/account_id unknown_account"},
	} {
		w.publisher.set(func(p *fakePublisher) { p.fail = tc.err })
		if tc.one != "" {
			r := w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{}}`).want(tc.status)
			if got := r.problems(); got[0] != tc.one {
				t.Errorf("%v: %q", tc.err, got)
			}
		}
		if tc.inBatch != "" {
			r := w.call("POST", "/v1/events/batch", key, `{"events":[{"account_id":"me","type":"t","data":{}}]}`).want(tc.status)
			if got := r.problems(); got[0] != tc.inBatch {
				t.Errorf("%v in a batch: %q", tc.err, got)
			}
		}
		if tc.status == 503 && w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{}}`).header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	}
}

func TestAnEventTypeOfAnotherNodeIsKnownAtOnce(t *testing.T) {
	w := newWorld(t)
	key := w.key(w.account(""))
	w.call("POST", "/v1/accounts/me/events", key, `{"type":"made.elsewhere","data":{}}`).want(422)
	w.eventType("made.elsewhere")
	w.call("POST", "/v1/accounts/me/events", key, `{"type":"made.elsewhere","data":{}}`).want(202)
	w.call("PUT", "/v1/event-types/made.elsewhere", platformKey, `{"archived":true}`).want(200)
	w.call("POST", "/v1/accounts/me/events", key, `{"type":"made.elsewhere","data":{}}`).want(202)
}

func TestABatchIsPublishedInOneCall(t *testing.T) {
	w := newWorld(t)
	w.eventType("a")
	w.eventType("b")
	parent := w.account("")
	child := w.account(parent)
	key := w.key(parent)

	r := w.call("POST", "/v1/events/batch", key,
		`{"events":[{"account_id":"`+child+`","type":"a","data":{"n":1}},{"type":"b","data":{"n":2},"account_id":"me"}]}`).want(202)

	if r.str("data.0.type") != "a" || r.str("data.1.type") != "b" || r.get("data.2") != nil {
		t.Errorf("answered %s", r.body)
	}
	p := w.publisher.published
	if len(p) != 2 || p[0].AccountID.String() != child || p[1].AccountID.String() != parent || string(p[1].Data) != `{"n":2}` {
		t.Errorf("published %+v", p)
	}
}

func TestABatchNamesTheFaultsOfAllItsEvents(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	a, other := w.account(""), w.account("")
	key := w.key(a)
	tooDeep := strings.Repeat(`{"a":`, 64) + `{}` + strings.Repeat(`}`, 64)
	for _, tc := range []struct {
		body   string
		status int
		want   []string
	}{
		{`{}`, 422, []string{"/events required"}},
		{``, 422, []string{"/events required"}},
		{`[]`, 422, []string{" wrong_type"}},
		{`{"events":{}}`, 422, []string{"/events wrong_type"}},
		{`{"events":[]}`, 422, []string{"/events too_few"}},
		{`{"events":[1,{"account_id":"` + other + `","type":"t","data":{}},{"account_id":"` + a + `","type":"nope","data":1,"z":2}],"y":1}`, 422, []string{
			"/events/0 wrong_type", "/events/1/account_id unknown_account", "/events/2/type unknown_event_type",
			"/events/2/data wrong_type", "/events/2/z unknown_field", "/y unknown_field",
		}},
		{`{"events":[{"account_id":"","type":"t","data":{}},{"account_id":"` + strings.ToUpper(a) + `x","type":"t","data":{}},{"type":"t","data":{}}]}`, 422, []string{
			"/events/0/account_id unknown_account", "/events/1/account_id unknown_account", "/events/2/account_id required",
		}},
		{`{"events":[{"account_id":"me","type":"t","data":` + tooDeep + `}]}`, 422, []string{" too_deep"}},
		{`{"events":[{"account_id":"me","type":"t","data":{}},]}`, 400, []string{"malformed_json"}},
		{`{"events":[` + strings.Repeat(`{},`, 1000) + `{}]}`, 413, []string{"too_large"}},
		{`{"events":[{"account_id":"me","type":"t","data":{"a":"` + strings.Repeat("x", 256<<10) + `"}}]}`, 413, []string{"too_large"}},
		{strings.Repeat(" ", 4<<20+1), 413, []string{"too_large"}},
	} {
		r := w.call("POST", "/v1/events/batch", key, tc.body)
		got, want := r.problems(), tc.want
		slices.Sort(got)
		slices.Sort(want)
		if r.status != tc.status || !slices.Equal(got, want) {
			t.Errorf("%.90s: %d %q, want %d %q", tc.body, r.status, got, tc.status, want)
		}
	}
	if n := len(w.publisher.published); n != 0 {
		t.Errorf("%d were published", n)
	}
}

func TestABatchCanBeRepeated(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	body := `{"events":[{"account_id":"me","type":"t","data":{"n":1}},{"account_id":"me","type":"t","data":{"n":2},"idempotency_key":"own"}]}`
	first := w.call("POST", "/v1/events/batch", key, body, "Idempotency-Key", "k").want(202)

	again := w.call("POST", "/v1/events/batch", key, body, "Idempotency-Key", "k").want(202)
	if !bytes.Equal(again.body, first.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeat: %v %s", again.header, again.body)
	}
	w.call("POST", "/v1/events/batch", key, `{"events":[{"account_id":"me","type":"t","data":{"n":3}}]}`, "Idempotency-Key", "k").want(409)

	// A crash between the commit and the keeping of its answer: the events' own keys find the first ones.
	w.exec(`DELETE FROM api_replies`)
	again = w.call("POST", "/v1/events/batch", key, body, "Idempotency-Key", "k").want(202)
	if !bytes.Equal(again.body, first.body) || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeat after a crash: %v %s", again.header, again.body)
	}
	if n := len(w.publisher.published); n != 2 {
		t.Errorf("%d were published, want 2", n)
	}
}
