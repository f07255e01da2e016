package api_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/internal/schema"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func (w *world) operationalTypes() {
	w.t.Helper()
	if _, err := w.store.ApplyCatalog(w.t.Context(), fanfare.OriginPlatform, api.OperationalTypes()); err != nil {
		w.t.Fatal(err)
	}
}

func TestOperationalEventsArePublishedByNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.operationalTypes()
	account := w.account("")
	for _, typ := range api.OperationalTypes() {
		event := map[string]any{"type": typ.Name, "data": raw(t, typ.Samples)[0]}
		r := w.call("POST", "/v1/accounts/"+account+"/events", platformKey, event).want(422)
		if diff := cmp.Diff([]string{"/type platform_event_type"}, r.problems()); diff != "" {
			t.Error(diff)
		}
		wrong := map[string]any{"type": typ.Name, "data": map[string]any{}}
		r = w.call("POST", "/v1/accounts/"+account+"/events", platformKey, wrong).want(422)
		if diff := cmp.Diff([]string{"/type platform_event_type"}, r.problems()); diff != "" {
			t.Error(diff)
		}
		event["account_id"] = account
		r = w.call("POST", "/v1/events/batch", platformKey, map[string]any{"events": []any{event}}).want(422)
		if diff := cmp.Diff([]string{"/events/0/type platform_event_type"}, r.problems()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestATestSendTakesNoSampleThatTheWebhookWouldNotGet(t *testing.T) {
	w := newWorld(t)
	w.operationalTypes()
	account := w.account("")
	sent := func(types ...string) string {
		t.Helper()
		w.call("POST", "/v1/accounts/"+account+"/webhooks/"+w.webhook(account, platformKey, types...)+"/test", platformKey, nil).want(200)
		return w.publisher.tests[len(w.publisher.tests)-1].Type
	}
	if got := sent("*"); got != "fanfare.test" {
		t.Errorf("with nothing else in the catalog it is sent %s", got)
	}
	w.eventType("invoice.paid")
	w.eventType("webhook.received")
	if got := sent("*"); got != "invoice.paid" {
		t.Errorf("* is sent %s", got)
	}
	if got := sent("webhook.*"); got != fanfare.EventWebhookCreated {
		t.Errorf("webhook.* is sent %s", got)
	}
}

// told takes the operational events that wait.
func (w *world) told() (rows []store.OutboxRow) {
	w.t.Helper()
	rows, err := w.store.ClaimOutbox(w.t.Context(), store.OutboxEvent, 100, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// healthMember is of the moment, and is not told.
var healthMember = regexp.MustCompile(`"health":\{[^}]*\},`)

func TestWhatIsToldOfAWebhookIsWhatTheAPIShows(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	secret := "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	path := "/v1/accounts/" + account + "/webhooks"
	made := w.call("POST", path, platformKey, map[string]any{
		"url": "https://example.com/hooks?a=b", "event_types": []string{"*"}, "metadata": json.RawMessage(`{"z":1,"a":[2]}`),
		"filter": json.RawMessage(`{"data":{"amount":{"$gte":5e2}}}`), "secret": secret, "signature": map[string]any{"scheme": "github"}, "rate_limit": map[string]any{"count": 1, "per": "1s"},
	}).want(201)
	path += "/" + made.str("id")
	shown := []*reply{w.call("GET", path, platformKey, nil).want(200)}
	shown = append(shown, w.call("PATCH", path, platformKey, map[string]any{"name": "\u2028 <b>"}).want(200))
	shown = append(shown, w.call("POST", path+"/disable", platformKey, map[string]any{"reason": "too loud"}).want(200))
	shown = append(shown, w.call("POST", path+"/enable", platformKey, nil).want(200))
	w.call("DELETE", path, platformKey, nil).want(204)

	told := w.told()

	var types []string
	for i, r := range told {
		types = append(types, r.Name)
		if bytes.Contains(r.Body, []byte("MDEyMzQ1")) {
			t.Errorf("the secret is told: %s", r.Body)
		}
		var body struct{ Webhook json.RawMessage }
		if err := json.Unmarshal(r.Body, &body); err != nil {
			t.Fatal(err)
		}
		if i >= len(shown) {
			continue
		}
		if shown := string(healthMember.ReplaceAll(shown[i].body, nil)); string(body.Webhook) != shown {
			t.Errorf("%s: %s, but the API shows %s", r.Name, body.Webhook, shown)
		}
	}
	want := []string{"webhook.created", "webhook.updated", "webhook.disabled", "webhook.enabled", "webhook.deleted"}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Error(diff)
	}
}

func TestTheSamplesOfOperationalEventsAreObjectsThatEventsMayHold(t *testing.T) {
	for _, typ := range api.OperationalTypes() {
		var samples []struct{ Webhook struct{ ID string } }
		if err := json.Unmarshal(typ.Samples, &samples); err != nil || len(samples) != 1 || samples[0].Webhook.ID == "" {
			t.Errorf("%s: %v: %s", typ.Name, err, typ.Samples)
		}
		rules, faults := schema.Parse(typ.Schema)
		if faults != nil {
			t.Fatalf("%s: %v", typ.Name, faults)
		}
		for _, sample := range raw(t, typ.Samples) {
			if faults := rules.Check(sample, schema.NewBudget()); faults != nil {
				t.Errorf("%s: its sample does not satisfy its schema: %v", typ.Name, faults)
			}
		}
		if faults := rules.Check([]byte(`{"webhook":{"id":"x"}}`), schema.NewBudget()); faults == nil {
			t.Errorf("%s: its schema lets everything pass", typ.Name)
		}
		if typ.Description == "" || !fanfare.Operational(typ.Name) {
			t.Errorf("%s is described as %q", typ.Name, typ.Description)
		}
	}
	if len(api.OperationalTypes()) != len(fanfare.OperationalTypes()) {
		t.Error("the catalog lacks one")
	}
}

// raw is the elements of an array as they are written.
func raw(t *testing.T, array []byte) (elements []json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(array, &elements); err != nil {
		t.Fatal(err)
	}
	return elements
}
