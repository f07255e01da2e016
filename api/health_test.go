package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// attempted says that so many attempts of a webhook ended so long ago, each of which took 20 ms.
func (w *world) attempted(account, hook string, ago time.Duration, attempts, failures int32) {
	w.t.Helper()
	r := store.HealthRow{
		WebhookID: uuid.MustParse(hook), AccountID: uuid.MustParse(account), Node: uuid.New(),
		Minute: time.Now().Add(-ago).UTC().Truncate(time.Minute), Attempts: attempts, Failures: failures,
	}
	r.Durations[store.HealthRange(20*time.Millisecond)] = attempts
	if err := w.store.WriteHealth(w.t.Context(), []store.HealthRow{r}); err != nil {
		w.t.Fatal(err)
	}
}

// health is a webhook's member of that name, without its percentiles.
func (r *reply) health(at string) string {
	r.t.Helper()
	if at != "" {
		at += "."
	}
	h := r.get(at + "health").(map[string]any)
	return fmt.Sprint(h["state"], " ", h["failure_ratio_1h"], " ", h["failure_ratio_24h"])
}

func TestAWebhookTellsHowItsEndpointDoes(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	for _, tc := range []struct {
		name     string
		attempts [][3]int // minutes ago, attempts, failures
		want     string
	}{
		{"nothing was sent", nil, "healthy <nil> <nil>"},
		{"some failed", [][3]int{{5, 100, 3}, {120, 100, 20}}, "healthy 0.03 0.115"},
		{"half of the hour failed", [][3]int{{5, 4, 3}, {6, 6, 2}}, "failing 0.5 0.5"},
		{"too few to say", [][3]int{{5, 9, 9}}, "healthy 1 1"},
		{"a slow drip", [][3]int{{5, 1, 1}, {100, 5, 5}, {200, 4, 4}}, "failing 1 1"},
		{"a slow drip that went well", [][3]int{{5, 1, 0}, {100, 5, 5}, {200, 5, 5}}, "healthy 0 0.9091"},
		{"of yesterday", [][3]int{{25 * 60, 10, 10}}, "healthy <nil> <nil>"},
	} {
		hook := w.webhook(account, platformKey)
		for _, a := range tc.attempts {
			w.attempted(account, hook, time.Duration(a[0])*time.Minute, int32(a[1]), int32(a[2]))
		}
		got := w.call("GET", path+"/"+hook, platformKey, nil).want(200)
		if got.health("") != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got.health(""), tc.want)
		}
		if listed := w.call("GET", path+"?limit=1", platformKey, nil).want(200); listed.health("data.0") != tc.want {
			t.Errorf("%s: listed as %s", tc.name, listed.health("data.0"))
		}
		if changed := w.call("PATCH", path+"/"+hook, platformKey, `{"name":"n"}`).want(200); changed.health("") != tc.want {
			t.Errorf("%s: changed as %s", tc.name, changed.health(""))
		}
	}
}

func TestPercentilesAreThoseOfTheHour(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	hook := w.webhook(account, platformKey)
	w.attempted(account, hook, time.Minute, 7, 0)
	got := w.call("GET", "/v1/accounts/"+account+"/webhooks/"+hook, platformKey, nil).want(200)
	for _, name := range []string{"p50_ms_1h", "p95_ms_1h"} {
		if ms, err := got.get("health." + name).(json.Number).Float64(); err != nil || ms < 16 || ms > 25 {
			t.Errorf("%s is %v", name, got.get("health."+name))
		}
	}
}

func TestCountersBeginAnewWhenAWebhookIsEnabledOrGetsAnotherURL(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	for name, change := range map[string]func(path string){
		"enabled":     func(path string) { w.call("POST", path+"/enable", platformKey, nil).want(200) },
		"another URL": func(path string) { w.call("PATCH", path, platformKey, `{"url":"https://example.com/new"}`).want(200) },
	} {
		hook := w.webhook(account, platformKey)
		path := "/v1/accounts/" + account + "/webhooks/" + hook
		w.attempted(account, hook, 5*time.Minute, 10, 10)
		w.call("PATCH", path, platformKey, `{"url":"https://example.com/hooks"}`).want(200) // the same
		if got := w.call("POST", path+"/disable", platformKey, nil).want(200).health(""); got != "disabled 1 1" {
			t.Errorf("%s: disabled as %s", name, got)
		}
		change(path)
		w.call("POST", path+"/enable", platformKey, nil).want(200)
		if got := w.call("GET", path, platformKey, nil).want(200).health(""); got != "healthy <nil> <nil>" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestStatsAreAChart(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	hook := w.webhook(account, platformKey)
	path := "/v1/accounts/" + account + "/webhooks/" + hook + "/stats"
	w.attempted(account, hook, 0, 4, 1)
	w.attempted(account, hook, 3*time.Hour, 6, 2)
	for query, want := range map[string]struct {
		bucket           string
		n                int
		attempts, failed string
	}{
		"":            {"15m", 96, "10", "3"},
		"?window=24h": {"15m", 96, "10", "3"},
		"?window=6h":  {"5m", 72, "10", "3"},
		"?window=1h":  {"1m", 60, "4", "1"},
		"?window=10m": {"1m", 10, "4", "1"},
	} {
		got := w.call("GET", path+query, platformKey, nil).want(200)
		data := got.get("data").([]any)
		if got.str("bucket") != want.bucket || len(data) != want.n ||
			got.get("attempts") != json.Number(want.attempts) || got.get("failures") != json.Number(want.failed) {
			t.Errorf("%q: %d buckets of %s, %s of %s failed", query, len(data), got.str("bucket"), got.get("failures"), got.get("attempts"))
		}
		var seen int64
		for i, b := range data {
			n, _ := b.(map[string]any)["attempts"].(json.Number).Int64()
			seen += n
			if at := b.(map[string]any)["at"].(string); i > 0 && at <= data[i-1].(map[string]any)["at"].(string) {
				t.Errorf("%q: bucket %d begins at %s", query, i, at)
			}
		}
		if fmt.Sprint(seen) != want.attempts {
			t.Errorf("%q: buckets hold %d attempts", query, seen)
		}
	}
	for query, want := range map[string]string{"?window=9m": "window out_of_range", "?window=25h": "window out_of_range", "?window=day": "window invalid_format"} {
		if got := w.call("GET", path+query, platformKey, nil).want(422).problems(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q", query, got)
		}
	}
	w.call("GET", strings.Replace(path, hook, uuid.NewString(), 1), platformKey, nil).want(404)
	w.call("GET", path, w.key(account, fanfare.ScopeWrite), nil).want(403)
}

func TestHealthPoliciesAreWrittenFromAbove(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	account := w.account(parent)
	own, above := w.key(account), w.key(parent)
	path := "/v1/accounts/" + account + "/webhooks"
	body := `{"url":"https://example.com","event_types":["*"],"health_policy":{"grace":"90m","disable":false,"window":null}}`

	if got := w.call("POST", path, own, body).want(403).str("code"); got != "not_allowed" {
		t.Errorf("refused as %s", got)
	}
	hook := w.call("POST", path, above, body).want(201)
	if got := fmt.Sprint(hook.get("health_policy")); got != "map[disable:false grace:90m]" {
		t.Errorf("kept as %s", got)
	}
	path += "/" + hook.str("id")
	for _, change := range []string{`{"health_policy":null}`, `{"health_policy":{"disable":true}}`} {
		w.call("PATCH", path, own, change).want(403)
	}
	w.call("PATCH", path, own, `{"name":"n","health_policy":{"disable":false,"grace":"1h30m"}}`).want(200) // as it is
	if got := w.call("PATCH", path, platformKey, `{"health_policy":{}}`).want(200).get("health_policy"); got != nil {
		t.Errorf("reset to %v", got)
	}
}

func TestFaultsOfAHealthPolicyAndOfEmails(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	hook := w.webhook(account, platformKey)
	path := "/v1/accounts/" + account + "/webhooks/" + hook
	eleven := strings.Repeat(`"a@example.com",`, 10) + `"a@example.com"`
	for _, tc := range []struct {
		body string
		want []string
	}{
		{`{"health_policy":[]}`, []string{"/health_policy wrong_type"}},
		{`{"health_policy":{"disable":1,"warn":"no","failure_percent":0,"min_attempts":0,"window":"23m","burst_failures":-1,
			"burst_within":"59s","exhausted_in_a_row":1001,"grace":"8d","off":true}}`, []string{
			"/health_policy/burst_failures out_of_range", "/health_policy/burst_within out_of_range", "/health_policy/disable wrong_type",
			"/health_policy/exhausted_in_a_row out_of_range", "/health_policy/failure_percent out_of_range", "/health_policy/grace out_of_range",
			"/health_policy/min_attempts out_of_range", "/health_policy/off unknown_field", "/health_policy/warn wrong_type",
			"/health_policy/window out_of_range",
		}},
		{`{"health_policy":{"failure_percent":101,"window":"25h","burst_within":"61m"}}`, []string{
			"/health_policy/burst_within out_of_range", "/health_policy/failure_percent out_of_range", "/health_policy/window out_of_range",
		}},
		{`{"notification_emails":"a@example.com"}`, []string{"/notification_emails wrong_type"}},
		{`{"notification_emails":[` + eleven + `]}`, []string{"/notification_emails too_many"}},
		{`{"notification_emails":["a@example.com","Ann <a@example.com>","a@example.com\r\nBcc: b@example.com","a b@example.com","é@example.com",
			"a@localhost","a@example.com,b@example.com","@example.com",""]}`, []string{
			"/notification_emails/1 invalid_format", "/notification_emails/2 invalid_format", "/notification_emails/3 invalid_format",
			"/notification_emails/4 invalid_format", "/notification_emails/5 invalid_format", "/notification_emails/6 invalid_format",
			"/notification_emails/7 invalid_format", "/notification_emails/8 invalid_format",
		}},
	} {
		got := w.call("PATCH", path, platformKey, tc.body).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%.60s: %q, want %q", tc.body, got, tc.want)
		}
	}
	for _, at := range []string{path, "/v1/accounts/" + account} {
		if got := fmt.Sprint(w.call("PATCH", at, platformKey, `{"notification_emails":["a@example.com","o'brien+x@b.example"]}`).want(200).get("notification_emails")); got != "[a@example.com o'brien+x@b.example]" {
			t.Errorf("%s: %s", at, got)
		}
		if got := fmt.Sprint(w.call("PATCH", at, platformKey, `{"notification_emails":null}`).want(200).get("notification_emails")); got != "[]" {
			t.Errorf("%s: reset to %s", at, got)
		}
	}
}

func TestWhatTheServiceDisabledIsEnabledTogether(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	child := w.account(parent)
	mine, _ := w.broken(parent)
	below, _ := w.broken(child)
	other := w.webhook(parent, platformKey)
	path := "/v1/accounts/" + parent + "/webhooks"
	w.call("POST", path+"/"+other+"/disable", platformKey, nil).want(200)

	if got := w.call("POST", path+"/re-enable", platformKey, nil).want(200).get("enabled"); got != json.Number("1") {
		t.Errorf("enabled %v", got)
	}
	if !w.enabled(mine) || w.enabled(below) {
		t.Error("not the account's own only")
	}
	for _, want := range []json.Number{"1", "0"} {
		if got := w.call("POST", path+"/re-enable", platformKey, `{"descendants":true}`).want(200).get("enabled"); got != want {
			t.Errorf("with descendants: enabled %v, want %s", got, want)
		}
	}
	if !w.enabled(below) {
		t.Error("not below")
	}
	if got := w.call("GET", path+"/"+other, platformKey, nil).want(200).str("disabled.by"); got != "user" {
		t.Errorf("what somebody disabled is disabled by %s", got)
	}
	rows, err := w.store.ClaimOutbox(t.Context(), store.OutboxMail, 10, time.Minute)
	if err != nil || len(rows) != 4 {
		t.Errorf("mails: %v, %v", rows, err)
	}
	for _, r := range rows {
		if body, err := store.ParseMailBody(r.Body); err != nil || body.WebhookID != mine.ID && body.WebhookID != below.ID || body.At.IsZero() {
			t.Errorf("%s: %s, %v", r.Name, r.Body, err)
		}
	}
	again := []string{"Idempotency-Key", "k"}
	w.call("POST", path+"/re-enable", platformKey, nil, again...).want(200)
	if got := w.call("POST", path+"/re-enable", platformKey, nil, again...).want(200); got.header.Get("Idempotency-Replayed") != "true" {
		t.Error("not the first answer")
	}
	w.call("POST", path+"/re-enable", platformKey, `{"descendants":true}`, again...).want(409)
}

func TestAPolicyIsTriedWithoutEffect(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	child := w.account(parent)
	hook := w.webhook(child, platformKey)
	kept := w.webhook(child, platformKey)
	w.call("PATCH", "/v1/accounts/"+child+"/webhooks/"+kept, platformKey, `{"health_policy":{"disable":false,"warn":false}}`).want(200)
	for _, id := range []string{hook, kept} {
		w.attempted(child, id, time.Minute, 7, 7)
	}
	path := "/v1/accounts/" + parent + "/health-policy/test"
	try := func(body string) *reply { t.Helper(); return w.call("POST", path, platformKey, body).want(200) }

	if got := try(`{"descendants":true}`).get("data").([]any); len(got) != 0 {
		t.Errorf("as it is: %v", got)
	}
	burst := try(`{"descendants":true,"health_policy":{"burst_failures":6,"burst_within":"5m"}}`)
	if got := burst.get("data").([]any); len(got) != 1 || burst.str("data.0.webhook_id") != hook || burst.str("data.0.verdict") != "disable" ||
		burst.str("data.0.evidence.rule") != "burst" || burst.get("data.0.evidence.failures") != json.Number("7") {
		t.Errorf("%s", burst.body)
	}
	if got := try(`{"descendants":true,"health_policy":{"min_attempts":7}}`); got.str("data.0.verdict") != "warn" {
		t.Errorf("%s", got.body)
	}
	if got := try(`{"health_policy":{"min_attempts":7}}`).get("data").([]any); len(got) != 0 {
		t.Errorf("without descendants: %v", got)
	}
	w.call("PATCH", "/v1/accounts/"+parent, platformKey, `{"settings":{"health_policy":{"min_attempts":7}}}`).want(200)
	if err := w.registry.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := try(`{"descendants":true}`); got.str("data.0.webhook_id") != hook {
		t.Errorf("inherited: %s", got.body)
	}
	w.call("POST", path, platformKey, `{"health_policy":{"min_attempts":0}}`).want(422)
}

func TestSettingsKeepAHealthPolicyThatTheirWriterMayNotChange(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	own := w.key(account)
	path := "/v1/accounts/" + account
	w.call("PATCH", path, platformKey, `{"settings":{"health_policy":{"disable":false}}}`).want(200)
	got := w.call("PATCH", path, own, `{"settings":{"signature":null}}`).want(200)
	if fmt.Sprint(got.get("settings.health_policy")) != "map[disable:false]" {
		t.Errorf("%s", got.body)
	}
	w.call("PATCH", path, own, `{"settings":{"health_policy":{"disable":true}}}`).want(403)
	w.call("PATCH", path, own, `{"settings":{"health_policy":null}}`).want(403)
	w.call("PATCH", path, own, `{"settings":{"health_policy":{"disable":false}}}`).want(200)
	if got := w.call("PATCH", path, platformKey, `{"settings":{"health_policy":null}}`).want(200).get("settings.health_policy"); got != nil {
		t.Errorf("%v", got)
	}
}
