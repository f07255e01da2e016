package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/schema"
)

func TestAPlatformsEventTypeIsNotTheAPIs(t *testing.T) {
	w := newWorld(t)
	for origin, name := range map[fanfare.Origin]string{fanfare.OriginPlatform: "its.own", fanfare.OriginFile: "from.file"} {
		if _, err := w.store.ApplyCatalog(t.Context(), origin, []fanfare.EventType{{Name: name}}); err != nil {
			t.Fatal(err)
		}
		if got := w.call("GET", "/v1/event-types/"+name, "", nil).want(200).str("origin"); got != string(origin) {
			t.Errorf("%s: the origin is %q", name, got)
		}
	}
	for _, method := range []string{"PUT", "DELETE"} {
		if got := w.call(method, "/v1/event-types/its.own", platformKey, nil).want(409).str("code"); got != "platform_event_type" {
			t.Errorf("%s: %s", method, got)
		}
	}
	if got := w.call("PUT", "/v1/event-types/from.file", platformKey, nil).want(200).str("origin"); got != "api" {
		t.Errorf("after a PUT the origin is %q", got)
	}
	w.call("DELETE", "/v1/event-types/from.file", platformKey, nil).want(204)
}

// callSchema is a schema of some depth, with alternatives.
const callSchema = `{"type":"object","required":["call"],"properties":{"call":{"type":"object","required":["id","seconds"],"properties":{
	"id":{"type":"string","minLength":1},"seconds":{"type":"integer","minimum":0},"direction":{"enum":["in","out"]}}}}}`

func TestASchemaIsCheckedWhenItIsPut(t *testing.T) {
	w := newWorld(t)
	put := func(body string) *reply { return w.call("PUT", "/v1/event-types/call.ended", platformKey, body) }
	for _, c := range []struct {
		body string
		want []string
	}{
		{`{"schema":[]}`, []string{"/schema wrong_type"}},
		{`{"schema":{"type":"objct","required":["a","a"]},"group":1}`, []string{"/group wrong_type", "/schema/required invalid_value", "/schema/type invalid_value"}},
		{`{"schema":{"$ref":"https://example.com/schema.json"}}`, []string{"/schema/$ref invalid_reference"}},
		{`{"schema":{"properties":{"a":{"pattern":"(?=b)"}}}}`, []string{"/schema/properties/a/pattern invalid_value"}},
		{`{"schema":{"$ref":"#"}}`, []string{"/schema invalid_reference"}},
		{`{"schema":{"anyOf":[{"properties":{"a":{"$ref":"#"}}},{"properties":{"a":{"$ref":"#"}}}]}}`, []string{"/schema too_costly"}},
		{`{"schema":{"a":1,"a":2}}`, []string{"/schema/a duplicate_field"}},
		{`{"schema":` + callSchema + `,"samples":[{"call":{"id":"1","seconds":3}},{"call":{"id":"","seconds":-1}},{}]}`, []string{
			"/samples/1/call/id schema_violation", "/samples/1/call/seconds schema_violation", "/samples/2/call schema_violation",
		}},
	} {
		got := put(c.body).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.body, got)
		}
	}
	w.call("GET", "/v1/event-types/call.ended", "", nil).want(404)

	r := put(`{"schema":` + callSchema + `}`).want(201)
	if got := r.get("schema.required.0"); got != "call" || !strings.Contains(string(r.body), callSchema) {
		t.Errorf("%s", r.body)
	}
	if got := put(`{"schema":null}`).want(200); got.get("schema") != nil {
		t.Errorf("%s", got.body)
	}
}

func TestPublishedDataSatisfiesTheSchemaOfItsType(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	w.call("PUT", "/v1/event-types/call.ended", platformKey, `{"schema":`+callSchema+`}`).want(201)
	w.eventType("anything")
	publish := func(data string) *reply {
		return w.call("POST", "/v1/accounts/"+account+"/events", platformKey, `{"type":"call.ended","data":`+data+`}`)
	}
	publish(`{"call":{"id":"7341","seconds":42,"direction":"in"},"more":[1,{"a":null}]}`).want(202)
	if w.publisher.last().CheckedBy != w.registry.Snapshot().EventType("call.ended") {
		t.Error("the publisher is not told by which entry of the catalog the data was checked")
	}
	for _, c := range []struct {
		data string
		want []string
	}{
		{`{}`, []string{"/data/call schema_violation"}},
		{`{"call":{"seconds":-1.5,"direction":"up"}}`, []string{
			"/data/call/direction schema_violation", "/data/call/id schema_violation", "/data/call/seconds schema_violation",
		}},
		{`{"call":{"id":"1","seconds":1e999999999}}`, []string{"/data/call/seconds too_long"}},
	} {
		r := publish(c.data).want(422)
		if got := r.problems(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.data, got)
		}
	}
	event := func(eventType, data string) string {
		return `{"account_id":"` + account + `","type":"` + eventType + `","data":` + data + `}`
	}
	r := w.call("POST", "/v1/events/batch", platformKey, `{"events":[`+event("call.ended", `{"call":{"id":"1","seconds":2}}`)+`,`+
		event("call.ended", `{"call":1}`)+`,`+event("anything", `{"call":1}`)+`,`+event("nothing", `{}`)+`,`+event("call.ended", `{}`)+`]}`).want(422)
	if got := r.problems(); !slices.Equal(got, []string{"/events/1/data/call schema_violation", "/events/3/type unknown_event_type", "/events/4/data/call schema_violation"}) {
		t.Errorf("%q", got)
	}
	if n := len(w.publisher.published); n != 1 {
		t.Errorf("%d events were published", n)
	}
}

// The snapshot of the registry that a call begins with may be old in both ways.
func TestASchemaCountsOnEveryNodeFromTheAnswerOn(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/events"
	w.call("PUT", "/v1/event-types/a", platformKey, `{"schema":{"required":["b"]}}`).want(201)
	w.call("POST", path, platformKey, `{"type":"a","data":{}}`).want(422)

	w.call("PUT", "/v1/event-types/a", platformKey, `{"schema":{"required":["c"]}}`).want(200)
	w.call("POST", path, platformKey, `{"type":"a","data":{"c":1}}`).want(202) // refused by what the node knows
}

func TestWhatTheDispatcherFindsWrongWithDataHasItsPointer(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	w.eventType("a")
	w.publisher.set(func(p *fakePublisher) {
		p.fail = &dispatcher.RefusedError{Index: 0, Reason: dispatcher.InvalidData, Faults: []schema.Fault{{Pointer: "/b", Code: schema.Violation, Detail: "is required"}}}
	})
	r := w.call("POST", "/v1/accounts/"+account+"/events", platformKey, `{"type":"a","data":{}}`).want(422)
	if got := r.problems(); !slices.Equal(got, []string{"/data/b schema_violation"}) {
		t.Errorf("%q", got)
	}
}

func TestTheCatalogIsListedByGroup(t *testing.T) {
	w := newWorld(t)
	for name, group := range map[string]string{"a": "Calls & more", "b": "", "c": "Calls & more", "d": "Other"} {
		w.call("PUT", "/v1/event-types/"+name, platformKey, map[string]any{"group": group}).want(201)
	}
	names := func(r *reply) (list []string) {
		t.Helper()
		all, _ := r.want(200).get("data").([]any)
		for _, e := range all {
			list = append(list, e.(map[string]any)["name"].(string))
		}
		return list
	}
	for query, want := range map[string][]string{
		"": {"a", "b", "c", "d"}, "?group=Calls+%26+more": {"a", "c"}, "?group=": {"b"}, "?group=None": nil,
	} {
		if got := names(w.call("GET", "/v1/event-types"+query, "", nil)); !slices.Equal(got, want) {
			t.Errorf("%q: %q", query, got)
		}
	}
	first := w.call("GET", "/v1/event-types?group=Calls+%26+more&limit=1", "", nil).want(200)
	if got := names(w.call("GET", "/v1/event-types?group=Calls+%26+more&after="+first.str("next"), "", nil)); !slices.Equal(got, []string{"c"}) {
		t.Errorf("the second page: %q", got)
	}
	for _, bad := range []string{"%00", "%ff", strings.Repeat("a", 201)} {
		if got := w.call("GET", "/v1/event-types?group="+bad, "", nil).want(422).problems(); got[0] != "group invalid_text" {
			t.Errorf("%.10s: %q", bad, got)
		}
	}
}
