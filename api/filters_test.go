package api_test

import (
	"context"
	"crypto/md5" //nolint:gosec // Postgres has it, too
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// declare puts an event type with modifiers into the catalog.
func (w *world) declare(name, modifiers string) {
	w.t.Helper()
	r := w.call("PUT", "/v1/event-types/"+name, platformKey, `{"modifiers":`+modifiers+`}`)
	if r.status != 200 && r.status != 201 {
		w.t.Fatalf("%d %s", r.status, r.body)
	}
}

func TestAFilterIsReadBackAsItWasGiven(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	const given = `{ "data" : {"amount":{"$gte" : 5.00e2}, "name": "Zo\u00eb"} }`
	created := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["*"],"filter":`+given+`}`).want(201)
	if !strings.Contains(string(created.body), `"filter":`+given+`,`) {
		t.Errorf("created %s", created.body)
	}
	path += "/" + created.str("id")
	if got := w.call("GET", path, platformKey, nil).want(200); !strings.Contains(string(got.body), `"filter":`+given+`,`) {
		t.Errorf("read %s", got.body)
	}
	if got := w.call("PATCH", path, platformKey, `{"name":"n"}`).want(200); !strings.Contains(string(got.body), `"filter":`+given+`,`) {
		t.Errorf("after another change %s", got.body)
	}
	if got := w.call("PATCH", path, platformKey, `{"filter":{"type":"a"}}`).want(200); !strings.Contains(string(got.body), `"filter":{"type":"a"},`) {
		t.Errorf("changed %s", got.body)
	}
	if got := w.call("PATCH", path, platformKey, `{"filter":null}`).want(200); !strings.Contains(string(got.body), `"filter":null,`) {
		t.Errorf("reset %s", got.body)
	}
}

func TestAFilterThatBecomesLongerIsStillRead(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/webhooks"
	given := `{"data":{"a":"` + strings.Repeat(`\n`, 2000) + `"}}`
	r := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["*"],"filter":`+given+`}`).want(201)
	if r.get("enabled") != true {
		t.Errorf("%.400s", r.get("disabled"))
	}
}

func TestWhatFiltersOfAnAccountCostIsBounded(t *testing.T) {
	w := newWorld(t)
	account, other := w.account(""), w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	plain := w.webhook(account, platformKey)
	body := func(member string) string { return `{"url":"https://example.com","event_types":["*"],` + member + `}` }
	const costly = `"filter":{"data":{"b":{"$ne":1}}}`
	first := w.call("POST", path, platformKey, body(costly)).want(201).str("id")
	w.exec(`INSERT INTO webhooks SELECT (jsonb_populate_record(w, jsonb_build_object('id', gen_random_uuid()))).*
FROM webhooks w, generate_series(1, 499) WHERE id = $1`, first)
	if err := w.registry.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := func(r *reply, want string) {
		t.Helper()
		if got := r.want(422).problems(); !slices.Equal(got, []string{want + " too_many_conditions"}) {
			t.Errorf("%q", got)
		}
	}
	refused(w.call("POST", path, platformKey, body(costly)), "/filter")
	refused(w.call("PATCH", path+"/"+plain, platformKey, `{`+costly+`}`), "/filter")
	if got := w.call("GET", path+"/"+plain, platformKey, nil).want(200); got.get("filter") != nil {
		t.Errorf("what was refused is stored: %s", got.body)
	}
	w.call("POST", path, platformKey, body(`"filter":{"data":{"b":1}}`)).want(201)
	w.call("POST", "/v1/accounts/"+other+"/webhooks", platformKey, body(costly)).want(201)
	w.call("PATCH", path+"/"+plain, platformKey, `{"name":"n"}`).want(200)
	w.call("PATCH", path+"/"+first, platformKey, `{"filter":{"data":{"b":{"$gt":1}}}}`).want(200)

	// Nobody has told the registry of what makes room: it is asked for before anything is refused.
	w.call("PATCH", path+"/"+first, platformKey, `{"filter":null}`).want(200)
	w.call("POST", path, platformKey, body(costly)).want(201)

	w.declare("a", `{"m":{"path":"/m"}}`)
	var many []string
	for i := range 65 {
		many = append(many, fmt.Sprint(i))
	}
	if err := w.registry.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(w.call("POST", path, platformKey, body(costly)), "/filter")
	refused(w.call("POST", path, platformKey, body(`"modifiers":{"m":[`+strings.Join(many, ",")+`]}`)), "/modifiers")
}

func TestFaultsOfAFilterAreNamedBelowIt(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	hook := path + "/" + w.webhook(account, platformKey)
	for filter, want := range map[string][]string{
		`5`: {"/filter wrong_type"},
		`{"dta":1,"data":{"a":{"$gte":true,"$foo":1},"b":[]}}`: {
			"/filter/dta unknown_field", "/filter/data/a/$gte wrong_type", "/filter/data/a/$foo unknown_field", "/filter/data/b wrong_type",
		},
		`{"data":{"a":1,"a":2}}`:                                        {"/filter/data/a duplicate_field"},
		`{"data":{"a":"` + strings.Repeat("x", 4096) + `"}}`:            {"/filter too_long"},
		strings.Repeat(`{"$not":`, 17) + "{}" + strings.Repeat("}", 17): {"/filter too_deep"},
	} {
		for _, r := range []*reply{
			w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["*"],"filter":`+filter+`}`),
			w.call("PATCH", hook, platformKey, `{"filter":`+filter+`}`),
			w.call("POST", "/v1/filters/test", platformKey, `{"filter":`+filter+`,"event":{"data":{}}}`),
		} {
			if got := r.want(422).problems(); !slices.Equal(got, want) {
				t.Errorf("%.80s: %q", filter, got)
			}
		}
	}
	// All faults of the body come together.
	r := w.call("POST", path, platformKey, `{"url":"nope","event_types":["*"],"filter":{"x":1},"modifiers":[]}`).want(422)
	if got := r.problems(); !slices.Equal(got, []string{"/url url_not_allowed", "/url invalid_url", "/filter/x unknown_field", "/modifiers wrong_type"}) {
		t.Errorf("%q", got)
	}
}

func TestAFilterIsTestedWithoutAWebhook(t *testing.T) {
	w := newWorld(t)
	const filter = `{"type":{"$starts_with":"invoice."},"data":{"amount":{"$gte":500},"currency":"EUR"}}`
	for _, tc := range []struct{ event, want string }{
		{`{"type":"invoice.paid","data":{"amount":5e2,"currency":"EUR"}}`, `{"match":true,"failed":null}`},
		{`{"type":"invoice.paid","data":{"amount":80,"currency":"EUR"}}`, `{"match":false,"failed":{"pointer":"/data/amount/$gte","detail":"does not hold"}}`},
		{`{"type":"call.ended","data":{}}`, `{"match":false,"failed":{"pointer":"/type/$starts_with","detail":"does not hold"}}`},
		{`{"data":{"amount":500,"currency":"EUR"}}`, `{"match":false,"failed":{"pointer":"/type/$starts_with","detail":"the event has no such value"}}`},
		{
			`{"id":"x","account_id":null,"type":"invoice.paid","data":{"amount":"500","currency":"EUR"},"idempotency_key":null,"occurred_at":null,"created_at":""}`,
			`{"match":false,"failed":{"pointer":"/data/amount/$gte","detail":"the event's value is of a type that this does not compare"}}`,
		},
	} {
		if r := w.call("POST", "/v1/filters/test", platformKey, `{"filter":`+filter+`,"event":`+tc.event+`}`).want(200); string(r.body) != tc.want {
			t.Errorf("%s: %s", tc.event, r.body)
		}
	}
	account := w.account("")
	body := `{"filter":{"account_id":"` + account + `"},"event":{"account_id":"` + strings.ToUpper(account) + `","data":{}}}`
	if r := w.call("POST", "/v1/filters/test", w.key(account, "read"), body).want(200); r.get("match") != true {
		t.Errorf("%s", r.body)
	}
	for body, want := range map[string][]string{
		``: {"/filter required", "/event required"},
		`{"filter":null,"event":{"type":"A","account_id":1,"data":[],"x":1}}`: {
			"/filter wrong_type", "/event/type invalid_format", "/event/account_id wrong_type", "/event/data wrong_type", "/event/x unknown_field",
		},
		`{"filter":{},"event":{"data":{"a":"` + strings.Repeat("x", 256<<10) + `"}}}`: {"/event/data too_long"},
	} {
		if got := w.call("POST", "/v1/filters/test", platformKey, jsonOr(body)).want(422).problems(); !slices.Equal(got, want) {
			t.Errorf("%.80s: %q", body, got)
		}
	}
}

func TestAWebhooksModifiersAreHeldAgainstWhatItChooses(t *testing.T) {
	w := newWorld(t)
	w.declare("call.ended", `{"direction":{"path":"/direction","values":{"in":"In","out":"Out"}},"site":{"path":"/site","required":true}}`)
	w.declare("call.began", `{"direction":{"path":"/direction","values":{"all":"All"}}}`)
	w.eventType("invoice.paid")
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	for _, tc := range []struct {
		members string
		want    []string // nil: created
	}{
		{`"event_types":["*"]`, nil},
		{`"event_types":["call.*"],"modifiers":{"direction":["in","all"]}`, nil},
		{`"event_types":["call.ended"],"modifiers":{"site":1}`, nil},
		{`"event_types":["call.ended","*"],"modifiers":{"site":[1,true,"x"],"direction":"out"}`, nil},
		{`"event_types":["call.ended"]`, []string{"/modifiers/site required"}},
		{`"event_types":["call.ended"],"modifiers":null`, []string{"/modifiers/site required"}},
		{`"event_types":["call.began"],"modifiers":{"direction":"in"}`, []string{"/modifiers/direction invalid_value"}},
		{`"event_types":["invoice.*"],"modifiers":{"direction":"in"}`, []string{"/modifiers/direction unknown_field"}},
		{`"event_types":["call.ended"],"modifiers":{"site":1,"direction":["in","up","down"],"colour":"red"}`, []string{
			"/modifiers/colour unknown_field", "/modifiers/direction/1 invalid_value", "/modifiers/direction/2 invalid_value",
		}},
	} {
		r := w.call("POST", path, platformKey, `{"url":"https://example.com",`+tc.members+`}`)
		if tc.want == nil {
			r.want(201)
		} else if got := r.want(422).problems(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q", tc.members, got)
		}
	}
	r := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["call.ended"],"modifiers":{"site":1,"direction":"up"}}`).want(422)
	if got := r.str("errors.0.detail"); got != `must be one of "in", "out"` {
		t.Error(got)
	}

	const given = `{ "site" : [1.0], "direction":"in"}`
	created := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["call.ended"],"modifiers":`+given+`}`).want(201)
	hook := path + "/" + created.str("id")
	if got := w.call("GET", hook, platformKey, nil).want(200); !strings.Contains(string(got.body), `"modifiers":`+given+`,`) {
		t.Errorf("read %s", got.body)
	}
	for _, tc := range []struct {
		body string
		want []string
	}{
		{`{"name":"n"}`, nil},
		{`{"event_types":["call.ended","invoice.paid"]}`, nil},
		{`{"event_types":["invoice.paid"]}`, []string{"/modifiers/direction unknown_field", "/modifiers/site unknown_field"}},
		{`{"modifiers":null}`, []string{"/modifiers/site required"}},
		{`{"modifiers":{"site":2}}`, nil},
		{`{"modifiers":null,"event_types":["call.began"]}`, nil},
	} {
		r := w.call("PATCH", hook, platformKey, tc.body)
		if tc.want == nil {
			r.want(200)
		} else if got := r.want(422).problems(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q", tc.body, got)
		}
	}
}

// A node that is about to say 422 asks Postgres for the catalog first.
func TestAModifierThatWasJustDeclaredIsKnown(t *testing.T) {
	w := newWorld(t)
	w.declare("call.ended", `{"site":{"path":"/site","required":true}}`)
	account := w.account("")
	if err := w.registry.CatchUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	path := "/v1/accounts/" + account + "/webhooks"
	w.declare("call.ended", `{"room":{"path":"/room"}}`)
	hook := w.call("POST", path, platformKey, `{"url":"https://example.com","event_types":["call.ended"],"modifiers":{"room":1}}`).want(201).str("id")
	w.declare("call.ended", `{"floor":{"path":"/floor"}}`)
	w.call("PATCH", path+"/"+hook, platformKey, `{"modifiers":{"floor":1}}`).want(200)
}

func TestAnEventTypesModifiersArePublicAndChecked(t *testing.T) {
	w := newWorld(t)
	const given = `{"object_type": {"path": "/object/type", "description": "What it is about", "values": {"user": "A user"}, "required": false}}`
	r := w.call("PUT", "/v1/event-types/a", platformKey, `{"modifiers":`+given+`}`).want(201)
	for _, r := range []*reply{r, w.call("GET", "/v1/event-types/a", "", nil), w.call("GET", "/v1/event-types", "", nil)} {
		if !strings.Contains(string(r.body), `"modifiers":`+given+`,`) {
			t.Errorf("%s", r.body)
		}
	}
	r = w.call("PUT", "/v1/event-types/a", platformKey, `{"modifiers":{"A":{"path":"/x"},"b":{"path":"x","values":[]},"c":{}}}`).want(422)
	if got := r.problems(); !slices.Equal(got, []string{
		"/modifiers/A invalid_format", "/modifiers/b/path invalid_format", "/modifiers/b/values wrong_type", "/modifiers/c/path required",
	}) {
		t.Errorf("%q", got)
	}
	if r := w.call("PUT", "/v1/event-types/a", platformKey, `{"modifiers":null}`).want(200); !strings.Contains(string(r.body), `"modifiers":{},`) {
		t.Errorf("%s", r.body)
	}
}

func TestAWebhookWhoseFilterCannotBeReadSaysSo(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	id := w.webhook(account, platformKey)
	path := "/v1/accounts/" + account + "/webhooks/" + id
	w.exec(`UPDATE webhooks SET filter = '{"data":{"a":{"$regex":"x"}}}', filter_canonical = '{"data":{"a":{"$regex":"x"}}}' WHERE id = $1`, id)
	r := w.call("GET", path, platformKey, nil).want(200)
	if r.get("enabled") != false || r.str("disabled.by") != "filter" || !strings.Contains(r.str("disabled.reason"), "$regex") {
		t.Errorf("%s", r.body)
	}
	if r := w.call("PATCH", path, platformKey, `{"filter":{"data":{"a":"x"}}}`).want(200); r.get("enabled") != true || r.get("disabled") != nil {
		t.Errorf("mended %s", r.body)
	}
	w.exec(`UPDATE webhooks SET modifiers = '{"a":null}' WHERE id = $1`, id)
	if got := w.call("PATCH", path, platformKey, `{"event_types":["*"]}`).want(422).problems(); !slices.Equal(got, []string{"/modifiers invalid_value"}) {
		t.Errorf("%q", got)
	}
	w.call("PATCH", path, platformKey, fmt.Sprintf(`{"modifiers":%s}`, "{}")).want(200)
}

// Of filters that came at the same time, on several nodes, more may be stored than an account has room for.
func TestAWebhookForWhoseFilterThereIsNoRoomSaysSo(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	w.exec(`INSERT INTO webhooks (id, account_id, url, event_types, timeout_ms, retry_schedule_ms, max_in_flight, filter, filter_canonical)
		SELECT md5(h::text)::uuid, $1, 'https://example.com/', '{*}', 1000, '{}', 1, f::json, f
		FROM generate_series(1, 630) h, LATERAL (
			SELECT '{"data":{' || string_agg(format('"n%s":1', h * 100 + i), ',') || '}}' FROM generate_series(1, 64) i
		) AS f (f)`, account)
	if err := w.registry.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var off uuid.UUID
	for h := range 630 {
		id := uuid.UUID(md5.Sum([]byte(strconv.Itoa(h + 1)))) //nolint:gosec // the statement above names them so
		if !w.registry.Snapshot().Webhook(id).Enabled() {
			off = id
		}
	}
	path += "/" + off.String()
	r := w.call("GET", path, platformKey, nil).want(200)
	if r.get("enabled") != false || r.str("disabled.by") != "filter" || !strings.Contains(r.str("disabled.reason"), "too many places") {
		t.Errorf("%s", r.body)
	}
	if r := w.call("PATCH", path, platformKey, `{"filter":null}`).want(200); r.get("enabled") != true {
		t.Errorf("mended: %s", r.body)
	}
}
