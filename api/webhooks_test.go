package api_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

func TestAWebhookHasDefaults(t *testing.T) {
	w := newWorld(t)
	w.eventType("call.ended")
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"

	r := w.call("POST", path, platformKey, `{"url":"https://example.com/a?b=c","event_types":["call.*","call.ended"]}`).want(201)

	id := r.str("id")
	if r.header.Get("Location") != path+"/"+id || r.header.Get("Etag") != `"1"` || !strings.HasPrefix(r.str("secret"), "whsec_") {
		t.Errorf("%v %s", r.header, r.body)
	}
	got := w.call("GET", path+"/"+id, platformKey, nil).want(200)
	want := fmt.Sprintf(`{"id":%q,"version":1,"account_id":%q,"name":"","url":"https://example.com/a?b=c","event_types":["call.*","call.ended"],`+
		`"modifiers":{},"filter":null,"include_subaccounts":false,"method":"POST","format":"json","payload":"envelope","json":"verbatim",`+
		`"custom_data":{},"headers":{},"signature":{"scheme":"standard"},"timeout":"30s","retry_schedule":["1m","5m","15m","1h","6h"],"max_in_flight":32,"rate_limit":null,"notification_emails":[],"health_policy":null,"metadata":{},`+
		`"enabled":true,"disabled":null,"health":{"state":"healthy","failure_ratio_1h":null,"failure_ratio_24h":null,"p50_ms_1h":null,"p95_ms_1h":null},"created_at":%q,"updated_at":%q}`,
		id, account, got.str("created_at"), got.str("updated_at"))
	if string(got.body) != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	if list := w.call("GET", path, platformKey, nil).want(200); list.str("data.0.id") != id || strings.Contains(string(list.body), "whsec_") {
		t.Errorf("listed %s", list.body)
	}
}

func TestEveryMemberOfAWebhookCanBeChangedAndReset(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	created := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["t"],"name":"n","include_subaccounts":true,
		"timeout":"1500ms","retry_schedule":["1s","1d"],"max_in_flight":1000,"rate_limit":{"per":"60s","count":100000},"metadata":{"a" : 1}}`).want(201)
	path += "/" + created.str("id")
	for _, want := range []string{
		`"name":"n"`, `"include_subaccounts":true`, `"timeout":"1500ms"`, `"retry_schedule":["1s","1d"]`, `"max_in_flight":1000`,
		`"rate_limit":{"count":100000,"per":"1m"}`, `"metadata":{"a" : 1}`,
	} {
		if !strings.Contains(string(created.body), want) {
			t.Errorf("no %s in %s", want, created.body)
		}
	}
	back := w.call("PATCH", path, platformKey, string(w.call("GET", path, platformKey, nil).body)).want(200)
	if back.header.Get("Etag") != `"2"` || back.str("timeout") != "1500ms" || back.str("rate_limit.per") != "1m" {
		t.Errorf("written back %s", back.body)
	}
	if other := w.call("PATCH", path, platformKey, `{"rate_limit":{"count":1,"per":"24h"}}`).want(200); !strings.Contains(string(other.body),
		`"rate_limit":{"count":1,"per":"1d"}`) {
		t.Errorf("limited to %s", other.body)
	}
	reset := w.call("PATCH", path, platformKey, `{"name":null,"include_subaccounts":null,"timeout":null,"retry_schedule":null,"max_in_flight":null,
		"rate_limit":null,"metadata":null}`).want(200)
	for _, want := range []string{
		`"name":""`, `"include_subaccounts":false`, `"timeout":"30s"`, `"retry_schedule":["1m","5m","15m","1h","6h"]`, `"max_in_flight":32`,
		`"rate_limit":null`, `"metadata":{}`,
	} {
		if !strings.Contains(string(reset.body), want) {
			t.Errorf("no %s in %s", want, reset.body)
		}
	}
	changed := w.call("PATCH", path, platformKey, `{"url":"https://example.org","event_types":["*"],"retry_schedule":[]}`).want(200)
	if changed.str("url") != "https://example.org" || changed.str("event_types.0") != "*" || !strings.Contains(string(changed.body), `"retry_schedule":[]`) {
		t.Errorf("changed %s", changed.body)
	}
	w.call("DELETE", path, platformKey, nil).want(204)
	w.call("GET", path, platformKey, nil).want(404)
	w.call("DELETE", path, platformKey, nil).want(404)
}

func TestFaultsOfAWebhook(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	steps := strings.Repeat(`"1m",`, 20) + `"1m"`
	many := strings.Repeat(`"t",`, 200) + `"t"`
	for _, tc := range []struct {
		body string
		want []string
	}{
		{`{}`, []string{"/event_types required", "/url required"}},
		{`{"url":null,"event_types":null}`, []string{"/event_types wrong_type", "/url wrong_type"}},
		{`{"url":"http://example.com","event_types":[]}`, []string{"/event_types too_few", "/url url_not_allowed"}},
		{`{"url":"https://127.0.0.1/","event_types":["t","nope.it","*","nope.*","T","a..b",1,"` + strings.Repeat("x", 131) + `"]}`, []string{
			"/event_types/1 unknown_event_type", "/event_types/4 invalid_format", "/event_types/5 invalid_format",
			"/event_types/6 wrong_type", "/event_types/7 too_long", "/url url_not_allowed",
		}},
		{`{"url":"not a url","event_types":["t"]}`, []string{"/url invalid_url"}},
		{`{"url":"https://user:pw@example.com/#x","event_types":["t"]}`, []string{"/url invalid_url", "/url invalid_url"}},
		{`{"url":"https://example.com/` + strings.Repeat("x", 3000) + `","event_types":["t"]}`, []string{"/url too_long"}},
		{`{"url":"https://example.com","event_types":[` + many + `]}`, []string{"/event_types too_many"}},
		{`{"url":"https://example.com","event_types":["t"],"timeout":"999ms","max_in_flight":0,"name":1,"include_subaccounts":"yes","metadata":1}`, []string{
			"/include_subaccounts wrong_type", "/max_in_flight out_of_range", "/metadata wrong_type", "/name wrong_type", "/timeout out_of_range",
		}},
		{`{"url":"https://example.com","event_types":["t"],"timeout":"61s","max_in_flight":1e2}`, []string{"/max_in_flight out_of_range", "/timeout out_of_range"}},
		{`{"url":"https://example.com","event_types":["t"],"timeout":30,"max_in_flight":99999999999999999999999}`, []string{"/max_in_flight out_of_range", "/timeout wrong_type"}},
		{`{"url":"https://example.com","event_types":["t"],"timeout":"soon","max_in_flight":"1"}`, []string{"/max_in_flight wrong_type", "/timeout invalid_format"}},
		{`{"url":"https://example.com","event_types":["t"],"rate_limit":{}}`, []string{"/rate_limit/count required", "/rate_limit/per required"}},
		{`{"url":"https://example.com","event_types":["t"],"rate_limit":100}`, []string{"/rate_limit wrong_type"}},
		{`{"url":"https://example.com","event_types":["t"],"rate_limit":{"count":0,"per":"999ms","burst":1}}`, []string{
			"/rate_limit/burst unknown_field", "/rate_limit/count out_of_range", "/rate_limit/per out_of_range",
		}},
		{`{"url":"https://example.com","event_types":["t"],"rate_limit":{"count":100001,"per":"24h1ms"}}`, []string{
			"/rate_limit/count out_of_range", "/rate_limit/per out_of_range",
		}},
		{`{"url":"https://example.com","event_types":["t"],"rate_limit":{"count":null,"per":1}}`, []string{
			"/rate_limit/count wrong_type", "/rate_limit/per wrong_type",
		}},
		{`{"url":"https://example.com","event_types":["t"],"rate_limit":{"count":"1","per":"1/s","per":"1s"}}`, []string{
			"/rate_limit/count wrong_type", "/rate_limit/per duplicate_field", "/rate_limit/per invalid_format",
		}},
		{`{"url":"https://example.com","event_types":["t"],"retry_schedule":["1m","x","10ms","25h"]}`, []string{
			"/retry_schedule/1 invalid_value", "/retry_schedule/2 invalid_value", "/retry_schedule/3 invalid_value",
		}},
		{`{"url":"https://example.com","event_types":["t"],"retry_schedule":[` + steps + `]}`, []string{"/retry_schedule invalid_value"}},
		{`{"url":"https://example.com","event_types":["t"],"retry_schedule":[1]}`, []string{"/retry_schedule/0 wrong_type"}},
		{`{"url":"https://example.com","event_types":["t"],"secret":"hunter2"}`, []string{"/secret invalid_secret"}},
		{`{"url":"https://example.com","event_types":["t"],"modifier":{},"filters":{},"header":{},"notification_emails":["@"]}`, []string{
			"/filters unknown_field", "/header unknown_field", "/modifier unknown_field", "/notification_emails/0 invalid_format",
		}},
	} {
		r := w.call("POST", path, platformKey, tc.body).want(422)
		got := r.problems()
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%.90s: %q, want %q", tc.body, got, tc.want)
		}
		if strings.Contains(string(r.body), "hunter2") || strings.Contains(string(r.body), "pw@") {
			t.Errorf("the answer repeats a secret: %s", r.body)
		}
	}
	if list := w.call("GET", path, platformKey, nil).want(200); list.get("data.0") != nil {
		t.Errorf("created %s", list.body)
	}
	hook := path + "/" + w.webhook(account, platformKey)
	if got := w.call("PATCH", hook, platformKey, `{"secret":"whsec_x","url":null,"event_types":["nope"]}`).want(422).problems(); !slices.Equal(got, []string{
		"/secret immutable", "/url wrong_type", "/event_types/0 unknown_event_type",
	}) {
		t.Errorf("%q", got)
	}
}

func TestAnArchivedTypeTakesNoNewWebhooks(t *testing.T) {
	w := newWorld(t)
	w.eventType("old")
	w.eventType("new")
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	hook := path + "/" + w.webhook(account, platformKey, "old")
	other := path + "/" + w.webhook(account, platformKey, "new")
	w.call("PUT", "/v1/event-types/old", platformKey, `{"archived":true}`).want(200)
	refused := func(when string) {
		t.Helper()
		for _, r := range []*reply{
			w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["new","old"]}`).want(422),
			w.call("PATCH", other, platformKey, `{"event_types":["new","old"]}`).want(422),
		} {
			if got := r.problems(); !slices.Equal(got, []string{"/event_types/1 archived_event_type"}) {
				t.Errorf("%s: %q", when, got)
			}
		}
	}
	refused("by a node that has not heard of it")
	if err := w.registry.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused("by a node that has")
	r := w.call("POST", path, platformKey, `{"url":"no url","event_types":["old","nothing"]}`).want(422)
	if got := r.problems(); !slices.Equal(got, []string{"/url invalid_url", "/event_types/1 unknown_event_type", "/event_types/0 archived_event_type"}) {
		t.Errorf("with other faults: %q", got)
	}
	// One that has it keeps it, and a pattern is no new webhook of the type.
	w.call("PATCH", hook, platformKey, `{"event_types":["old","new"]}`).want(200)
	w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["*"]}`).want(201)

	w.call("PUT", "/v1/event-types/old", platformKey, `{"archived":false}`).want(200)
	w.call("PATCH", other, platformKey, `{"event_types":["new","old"]}`).want(200) // by a node that has not heard of it
}

func TestAnAccountHoldsAtMostItsWebhooks(t *testing.T) {
	w := newWorldWith(t, worldOptions{maxWebhooks: 2})
	account := w.account("")
	w.webhook(account, platformKey)
	w.webhook(account, platformKey)
	r := w.call("POST", "/v1/accounts/"+account+"/webhooks", platformKey, `{"url":"https://example.com","event_types":["*"]}`).want(422)
	if r.str("code") != "too_many_webhooks" {
		t.Errorf("%s", r.body)
	}
}

func TestAWebhooksSecretsRotate(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	given := "whsec_" + base64.StdEncoding.EncodeToString([]byte("twenty-four bytes or more"))
	path := "/v1/accounts/" + account + "/webhooks"
	r := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["*"],"secret":"`+given+`"}`).want(201)
	if r.str("secret") != given {
		t.Errorf("created with %s", r.str("secret"))
	}
	path += "/" + r.str("id")

	next := w.call("POST", path+"/secrets/rotate", platformKey, nil).want(200)
	list := w.call("GET", path+"/secrets", platformKey, nil).want(200)
	if list.str("data.0.secret") != next.str("secret") || list.str("data.0.id") != next.str("id") || list.get("data.0.expires_at") != nil ||
		list.str("data.1.secret") != given || list.get("data.1.expires_at") == nil || list.get("data.2") != nil {
		t.Errorf("%s", list.body)
	}
	last := w.call("POST", path+"/secrets/rotate", platformKey, `{"overlap":"0s"}`).want(200)
	if list := w.call("GET", path+"/secrets", platformKey, nil).want(200); list.str("data.0.secret") != last.str("secret") || list.get("data.1") != nil {
		t.Errorf("without overlap %s", list.body)
	}
	for body, want := range map[string]string{
		`{"overlap":"8d"}`: "/overlap out_of_range", `{"overlap":1}`: "/overlap wrong_type", `{"overlap":"-1s"}`: "/overlap invalid_format",
		`{"secret":"whsec_"}`: "/secret unknown_field",
	} {
		if got := w.call("POST", path+"/secrets/rotate", platformKey, body).want(422).problems(); got[0] != want {
			t.Errorf("%s: %q", body, got)
		}
	}
	var full *reply
	for range 20 {
		if full = w.call("POST", path+"/secrets/rotate", platformKey, `{"overlap":"7d"}`); full.status != 200 {
			break
		}
	}
	if got := full.want(422).problems(); got[0] != "/overlap too_many" {
		t.Errorf("%q", got)
	}
}

func TestAWebhookIsDisabledAndEnabled(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks/" + w.webhook(account, platformKey)
	off := w.call("POST", path+"/disable", platformKey, `{"reason":"moving"}`).want(200)
	if off.get("enabled") != false || off.str("disabled.by") != "user" || off.str("disabled.reason") != "moving" || off.header.Get("Etag") != `"2"` {
		t.Errorf("%v %s", off.header, off.body)
	}
	if again := w.call("POST", path+"/disable", platformKey, `{"reason":"other"}`).want(200); string(again.body) != string(off.body) {
		t.Errorf("disabled twice %s", again.body)
	}
	on := w.call("POST", path+"/enable", platformKey, nil).want(200)
	if on.get("enabled") != true || on.get("disabled") != nil || on.header.Get("Etag") != `"3"` {
		t.Errorf("%v %s", on.header, on.body)
	}
	if again := w.call("POST", path+"/enable", platformKey, `{}`).want(200); string(again.body) != string(on.body) {
		t.Errorf("enabled twice %s", again.body)
	}
	for body, want := range map[string]string{`{"reason":1}`: "/reason wrong_type", `{"reason":"` + strings.Repeat("x", 501) + `"}`: "/reason too_long"} {
		if got := w.call("POST", path+"/disable", platformKey, body).want(422).problems(); got[0] != want {
			t.Errorf("%q", got)
		}
	}
}

func TestATestSendsASampleAndAnswersWithTheAttempt(t *testing.T) {
	w := newWorld(t)
	w.call("PUT", "/v1/event-types/call.ended", platformKey, `{"samples":[{"call" : 1.0},{}]}`).want(201)
	w.eventType("call")
	w.eventType("other")
	w.call("PUT", "/v1/event-types/schema.only", platformKey, `{"schema":{"required":["id"],"properties":{"id":{"type":"integer","minimum":7}}}}`).want(201)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks/"
	exact := path + w.webhook(account, platformKey, "zzz.*", "call.ended") + "/test"
	prefix := path + w.webhook(account, platformKey, "call.*") + "/test"
	nothing := path + w.webhook(account, platformKey, "zzz.*") + "/test"
	for _, tc := range []struct{ path, body, eventType, data string }{
		{exact, "", "call.ended", `{"call" : 1.0}`},
		{exact, `{"event_type":"other"}`, "other", `{"n":1}`},
		{exact, `{"event_type":null}`, "call.ended", `{"call" : 1.0}`},
		{prefix, `{}`, "call.ended", `{"call" : 1.0}`},
		{nothing, `{}`, "fanfare.test", `{}`},
		{exact, `{"event_type":"schema.only"}`, "schema.only", `{"id":7}`},
	} {
		w.call("POST", tc.path, platformKey, jsonOr(tc.body)).want(200)
		sent := w.publisher.tests[len(w.publisher.tests)-1]
		if sent.Type != tc.eventType || string(sent.Data) != tc.data || sent.AccountID.String() != account {
			t.Errorf("%s %s sent %s %s", tc.path, tc.body, sent.Type, sent.Data)
		}
	}
	if r := w.call("GET", "/v1/event-types/schema.only/samples", "", nil).want(200); string(r.body) != `{"data":[{"id":7}]}` {
		t.Errorf("%s", r.body)
	}
	for body, want := range map[string]string{
		`{"event_type":"nope"}`: "/event_type unknown_event_type", `{"event_type":"N"}`: "/event_type invalid_format", `{"event_type":1}`: "/event_type wrong_type",
	} {
		if got := w.call("POST", exact, platformKey, body).want(422).problems(); got[0] != want {
			t.Errorf("%s: %q", body, got)
		}
	}

	// Whatever came back is an answer, its bytes kept exactly.
	w.publisher.set(func(p *fakePublisher) {
		a := &p.attempt
		a.Status, a.Verdict, a.State, a.Reason = 500, fanfare.VerdictRetry, fanfare.Exhausted, fanfare.ReasonSchedule
		a.Error, a.ErrorDetail = fanfare.ErrStatus, "the receiver answered 500"
		a.ResponseHeaders = []byte("X-A: 1\r\nX-A:2\r\nX-B: \xff\r\n")
		a.ResponseBody = []byte("\x00\xff")
	})
	r := w.call("POST", exact, platformKey, nil).want(200)
	if r.str("response_body") != "AP8=" || r.str("response_body_encoding") != "base64" || r.str("response_headers.1.value") != "2" ||
		r.str("response_headers.2.value") != "\ufffd" || r.str("error.code") != "status" || r.str("reason") != "schedule" {
		t.Errorf("%s", r.body)
	}
	w.publisher.set(func(p *fakePublisher) {
		a := &p.attempt
		a.Status, a.ResponseHeaders, a.ResponseBody, a.Error = 0, nil, nil, fanfare.ErrConnect
	})
	if r := w.call("POST", exact, platformKey, nil).want(200); r.get("status") != nil || r.str("response_body") != "" || r.str("error.code") != "connect" {
		t.Errorf("%s", r.body)
	}
}

func TestEventTypesAreReadByEverybody(t *testing.T) {
	w := newWorld(t)
	body := `{"description":"d","group":"g","samples":[{"a" : 1e2}]}`
	r := w.call("PUT", "/v1/event-types/b.c", platformKey, body).want(201)
	if r.header.Get("Location") != "/v1/event-types/b.c" || r.get("archived") != false || !strings.Contains(string(r.body), `"samples":[{"a" : 1e2}]`) {
		t.Errorf("%v %s", r.header, r.body)
	}
	w.call("PUT", "/v1/event-types/a", platformKey, nil).want(201)
	list := w.call("GET", "/v1/event-types", "", nil).want(200)
	if list.str("data.0.name") != "a" || list.str("data.1.name") != "b.c" {
		t.Errorf("%s", list.body)
	}
	if got := w.call("GET", "/v1/event-types/b.c/samples", "", nil).want(200); string(got.body) != `{"data":[{"a" : 1e2}]}` {
		t.Errorf("%s", got.body)
	}
	back := w.call("PUT", "/v1/event-types/b.c", platformKey, string(w.call("GET", "/v1/event-types/b.c", "", nil).want(200).body)).want(200)
	if back.str("description") != "d" || back.str("group") != "g" {
		t.Errorf("%s", back.body)
	}
	if reset := w.call("PUT", "/v1/event-types/b.c", platformKey, `{"samples":null}`).want(200); reset.str("description") != "" || !strings.Contains(string(reset.body), `"samples":[]`) {
		t.Errorf("%s", reset.body)
	}
	for _, tc := range []struct{ path, body, want string }{
		{"/v1/event-types/A", `{}`, "name invalid_format"},
		{"/v1/event-types/" + strings.Repeat("a", 129), `{}`, "name invalid_format"},
		{"/v1/event-types/a", `{"samples":[1]}`, "/samples/0 wrong_type"},
		{"/v1/event-types/a", `{"samples":[{"a":1,"a":2}]}`, "/samples/0/a duplicate_field"},
		{"/v1/event-types/a", `{"scheme":{},"modifiers":{}}`, "/scheme unknown_field"},
		{"/v1/event-types/a", `{"description":"\u0000"}`, "/description invalid_text"},
		{"/v1/event-types/a", `{"archived":1}`, "/archived wrong_type"},
	} {
		if got := w.call("PUT", tc.path, platformKey, tc.body).want(422).problems(); got[0] != tc.want {
			t.Errorf("%s %s: %q", tc.path, tc.body, got)
		}
	}
	for _, path := range []string{"/v1/event-types/nope", "/v1/event-types/NO", "/v1/event-types/nope/samples"} {
		w.call("GET", path, "", nil).want(404)
	}
	w.webhook(w.account(""), platformKey, "b.c")
	if got := w.call("DELETE", "/v1/event-types/b.c", platformKey, nil).want(409).str("code"); got != "in_use" {
		t.Error(got)
	}
	w.call("DELETE", "/v1/event-types/a", platformKey, nil).want(204)
	w.call("DELETE", "/v1/event-types/a", platformKey, nil).want(404)
	w.call("DELETE", "/v1/event-types/A", platformKey, nil).want(404)
}
