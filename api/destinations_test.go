package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
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
		`[{"url":1,"x":2}]`: {"/destinations/0/url wrong_type", "/destinations/0/x unknown_field"},
		`[{"url":"https://example.com","url":"https://example.com"}]`: {"/destinations/0/url duplicate_field"},
		`[{"url":"https://example.com"},{"url":"http://example.com/#x"},{"url":"https://127.0.0.1"}]`: {
			"/destinations/1/url invalid_url", "/destinations/1/url url_not_allowed", "/destinations/2/url url_not_allowed",
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
