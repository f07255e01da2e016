package api_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func TestAnEventMayHaveOneOffDestinations(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	key := w.key(account)

	w.call("POST", "/v1/accounts/me/events", key,
		`{"type":"t","data":{},"destinations":[{"url":"https://example.com/a"},{"url":"https://example.org/b?c=d"}]}`).want(202)

	got := w.publisher.last().Destinations
	if len(got) != 2 || got[0].URL != "https://example.com/a" || got[1].URL != "https://example.org/b?c=d" {
		t.Errorf("published %+v", got)
	}
	if !w.registry.Snapshot().Signs(uuid.MustParse(account)) {
		t.Error("nothing signs for the account")
	}
}

func TestAOneOffDestinationHasTheOptionsOfAWebhook(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))

	w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{},"destinations":[{"url":"https://example.com/a","method":"PUT",
		"format":"form","payload":"raw","custom_data":{"k":"v"},"headers":{"X-A":"1","X-B":{"secret":"2"}},
		"signature":{"scheme":"hmac-sha256","header":"X-Sign"}},{"url":"https://example.com/b","method":null,"json":"ecmascript"}]}`).want(202)

	got := w.publisher.last().Destinations
	one, two := got[0].Options, got[1].Options
	headers := []fanfare.Header{{Name: "X-A", Value: "1"}, {Name: "X-B", Value: "2"}}
	if one.Method != "PUT" || !one.Form || !one.Raw || string(one.CustomData) != `{"k":"v"}` || !reflect.DeepEqual(one.Headers, headers) ||
		!strings.Contains(string(one.Signature), "X-Sign") {
		t.Errorf("the first one is %+v", one)
	}
	if two.Method != "" || !two.ECMAScript || two.Headers != nil || two.Signature != nil {
		t.Errorf("the second one is %+v", two)
	}
}

func TestAnEventWithoutDestinationsHasNone(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	key := w.key(account)
	for _, given := range []string{"null", "[]"} {
		w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{},"destinations":`+given+`}`).want(202)
		if got := w.publisher.last().Destinations; len(got) != 0 {
			t.Errorf("%s: published %+v", given, got)
		}
	}
	if w.registry.Snapshot().Signs(uuid.MustParse(account)) {
		t.Error("a secret was made that nobody needs")
	}
}

func TestFaultsOfOneOffDestinations(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	key := w.key(account)
	many := strings.Repeat(`{"url":"https://example.com"},`, 11)
	for body, want := range map[string][]string{
		`{}`:                {"/destinations wrong_type"},
		`["x"]`:             {"/destinations/0 wrong_type"},
		`[{}]`:              {"/destinations/0/url required"},
		`[{"url":""}]`:      {"/destinations/0/url url_not_allowed", "/destinations/0/url invalid_url"},
		`[{"url":1,"x":2}]`: {"/destinations/0/x unknown_field", "/destinations/0/url wrong_type"},
		`[{"url":"https://example.com","url":"https://example.com"}]`: {"/destinations/0/url duplicate_field"},
		`[{"url":"https://example.com"},{"url":"http://example.com/#x"},{"url":"https://127.0.0.1"}]`: {
			"/destinations/1/url invalid_url", "/destinations/1/url url_not_allowed", "/destinations/2/url url_not_allowed",
		},
		`[{"url":"https://example.com","method":"PATCH","payload":1,"headers":{"Host":"x","X-A":{"secret":null}},"signature":{}}]`: {
			"/destinations/0/method invalid_value", "/destinations/0/payload wrong_type", "/destinations/0/headers/Host invalid_value",
			"/destinations/0/signature/scheme required", "/destinations/0/headers/X-A/secret invalid_value",
		},
		`[{"url":"https://example.com","headers":{"X-Sign":"x"},"signature":{"scheme":"hex","header":"x-sign"}}]`: {
			"/destinations/0/headers/X-Sign duplicate_field",
		},
		`[` + strings.TrimSuffix(many, ",") + `]`: {"/destinations too_many"},
	} {
		r := w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{},"destinations":`+body+`}`).want(422)
		if got := r.problems(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	if len(w.publisher.published) != 0 {
		t.Errorf("%d events were published", len(w.publisher.published))
	}
}

func TestABatchNamesTheFaultsOfItsDestinations(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	event := func(destinations string) string {
		return `{"account_id":"` + account + `","type":"t","data":{},"destinations":` + destinations + `}`
	}

	r := w.call("POST", "/v1/events/batch", platformKey, `{"events":[`+event(`[{"url":"https://example.com"}]`)+`,`+event(`[{},{"url":"ftp://example.com"}]`)+`]}`).want(422)

	if got := fmt.Sprint(r.problems()); got != "[/events/1/destinations/0/url required /events/1/destinations/1/url url_not_allowed]" {
		t.Error(got)
	}
	w.call("POST", "/v1/events/batch", platformKey, `{"events":[`+event(`[{"url":"https://example.com"}]`)+`,`+event(`null`)+`]}`).want(202)
	if p := w.publisher.published; len(p) != 2 || len(p[0].Destinations) != 1 || p[1].Destinations != nil {
		t.Errorf("published %+v", p)
	}
}

func TestDestinationsArePartOfWhatAnIdempotencyKeyStandsFor(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	publish := func(destinations string) *reply {
		return w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{},"idempotency_key":"k"`+destinations+`}`)
	}
	publish(`,"destinations":[{"url":"https://example.com/a"}]`).want(202)

	if again := publish(`,"destinations":[{"url":"https://example.com/a"}]`).want(202); again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("a repeat is no repeat")
	}
	publish(`,"destinations":[{"url":"https://example.com/b"}]`).want(409)
	publish(``).want(409)
}
