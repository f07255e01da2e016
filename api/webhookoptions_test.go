package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
)

const newHook = `{"url":"https://example.com/hooks","event_types":["*"],`

// member is a member of an answer as JSON.
func (r *reply) member(name string) string {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(r.body, &all); err != nil {
		r.t.Fatal(err)
	}
	return string(all[name])
}

func TestEveryOptionOfAWebhookIsReadBackChangedAndReset(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/webhooks"
	const github = `{"scheme":"hmac-sha256","header":"X-Hub-Signature-256","encoding":"hex","prefix":"sha256=","timestamp":null}`
	for _, tc := range []struct{ member, given, read, none string }{
		{"method", `"PUT"`, `"PUT"`, `"POST"`},
		{"method", `"GET"`, `"GET"`, `"POST"`},
		{"method", `"POST"`, `"POST"`, `"POST"`},
		{"format", `"form"`, `"form"`, `"json"`},
		{"payload", `"raw"`, `"raw"`, `"envelope"`},
		{"json", `"ecmascript"`, `"ecmascript"`, `"verbatim"`},
		{"custom_data", `{ "b":"<&>", "a":"\u00e9" }`, `{"b":"<&>","a":"é"}`, `{}`},
		{"headers", `{"X-B":"{event_id} <b>","X-A":"","Authorization":{"secret":"Bearer 1"}}`, `{"X-B":"{event_id} <b>","X-A":"","Authorization":{"secret":null}}`, `{}`},
		{"signature", `{"scheme":"github"}`, github, `{"scheme":"standard"}`},
		{"signature", `[{"scheme":"github"}]`, github, `{"scheme":"standard"}`},
		{
			"signature", `{"scheme":"hex","header":"X-CallCov-Signature"}`,
			`{"scheme":"hmac-sha256","header":"X-CallCov-Signature","encoding":"hex","prefix":"","timestamp":null}`, `{"scheme":"standard"}`,
		},
		{
			"signature", `[{"scheme":"standard"},{"scheme":"stripe","header":"Acme-Signature"},
				{"scheme":"hmac-sha512","header":"X-A","encoding":"base64","prefix":"<v0=","timestamp":{"header":"X-T"}}]`,
			`[{"scheme":"standard"},{"scheme":"hmac-sha256","header":"Acme-Signature","encoding":"hex","prefix":"v1=","timestamp":{"prefix":"t="}},` +
				`{"scheme":"hmac-sha512","header":"X-A","encoding":"base64","prefix":"<v0=","timestamp":{"header":"X-T"}}]`,
			`{"scheme":"standard"}`,
		},
	} {
		created := w.call("POST", path, platformKey, newHook+`"`+tc.member+`":`+tc.given+`}`).want(201)
		hook := path + "/" + created.str("id")
		got := w.call("GET", hook, platformKey, nil).want(200)
		if created.member(tc.member) != tc.read || got.member(tc.member) != tc.read {
			t.Errorf("%s %s: created %s, got %s", tc.member, tc.given, created.member(tc.member), got.member(tc.member))
		}
		if back := w.call("PATCH", hook, platformKey, string(got.body)).want(200); back.member(tc.member) != tc.read {
			t.Errorf("%s %s: written back %s", tc.member, tc.given, back.member(tc.member))
		}
		if kept := w.call("PATCH", hook, platformKey, `{"name":"other"}`).want(200); kept.member(tc.member) != tc.read {
			t.Errorf("%s %s: after another change %s", tc.member, tc.given, kept.member(tc.member))
		}
		if reset := w.call("PATCH", hook, platformKey, `{"`+tc.member+`":null}`).want(200); reset.member(tc.member) != tc.none {
			t.Errorf("%s %s: reset to %s", tc.member, tc.given, reset.member(tc.member))
		}
		if set := w.call("PATCH", hook, platformKey, `{"`+tc.member+`":`+tc.given+`}`).want(200); set.member(tc.member) != tc.read {
			t.Errorf("%s %s: set to %s", tc.member, tc.given, set.member(tc.member))
		}
	}
}

func TestFaultsOfOptions(t *testing.T) {
	w := newWorld(t)
	path := "/v1/accounts/" + w.account("") + "/webhooks"
	hook := path + "/" + w.call("POST", path, platformKey, newHook+`"headers":{"X-Plain":"a","X-Own":"b"}}`).want(201).str("id")
	scheme := func(rest string) string { return `{"signature":{"scheme":"hmac-sha256",` + rest + `}}` }
	for _, tc := range []struct {
		body string
		want []string
	}{
		{`{"method":"DELETE","format":"xml","payload":1,"json":"JSON","custom_data":[]}`, []string{
			"/custom_data wrong_type", "/format invalid_value", "/json invalid_value", "/method invalid_value", "/payload wrong_type",
		}},
		{`{"method":"post","custom_data":{"a":1,"b":null,"c":"\ud800"}}`, []string{
			"/custom_data/a wrong_type", "/custom_data/b wrong_type", "/custom_data/c invalid_text", "/method invalid_value",
		}},
		{`{"custom_data":{"a":"` + strings.Repeat("x", 8<<10) + `"}}`, []string{"/custom_data too_long"}},
		{`{"headers":{"Host":"x","webhook-id":"x","Content-Type":"x","Idempotency-Key":"x","Cookie":"x","Connection":"x","X-Fanfare-Attempt":"1"}}`, []string{
			"/headers/Connection invalid_value", "/headers/Content-Type invalid_value", "/headers/Cookie invalid_value", "/headers/Host invalid_value",
			"/headers/Idempotency-Key invalid_value", "/headers/X-Fanfare-Attempt invalid_value", "/headers/webhook-id invalid_value",
		}},
		{`{"headers":{"X A":"x","X-A":"a\r\nX-B: b","X-C":"{event}","X-D":1,"X-E":{},"X-F":{"secret":1},"X-G":{"secret":"a\nb"}}}`, []string{
			"/headers/X A invalid_format", "/headers/X-A invalid_text", "/headers/X-C invalid_value", "/headers/X-D wrong_type",
			"/headers/X-E/secret required", "/headers/X-F/secret wrong_type", "/headers/X-G/secret invalid_text",
		}},
		{`{"headers":{"X-New":{"secret":null},"X-Plain":{"secret":null}}}`, []string{
			"/headers/X-New/secret invalid_value", "/headers/X-Plain/secret invalid_value",
		}},
		{`{"headers":{"x-own":"1","X-Own":"2"}}`, []string{"/headers/X-Own duplicate_field"}},
		{`{"headers":{"` + strings.Repeat(`X":"`+strings.Repeat("v", 4000)+`","`, 5) + `Y":""}}`, []string{
			"/headers too_long", "/headers/X duplicate_field", "/headers/X duplicate_field", "/headers/X duplicate_field", "/headers/X duplicate_field",
		}},
		{`{"signature":"standard"}`, []string{"/signature wrong_type"}},
		{`{"signature":{}}`, []string{"/signature/scheme required"}},
		{`{"signature":{"scheme":"md5","key":1}}`, []string{"/signature/key unknown_field", "/signature/scheme invalid_value"}},
		{`{"signature":[]}`, []string{"/signature too_few"}},
		{`{"signature":[{"scheme":"standard"},{"scheme":"standard"}]}`, []string{"/signature/1 duplicate_field"}},
		{`{"signature":[{"scheme":"github"},{"scheme":"stripe"},{"scheme":"standard"},{"scheme":"hex"}]}`, []string{"/signature too_many"}},
		{`{"signature":[{"scheme":"hex","header":"X-S"},{"scheme":"github","header":"x-s"}]}`, []string{"/signature/1 duplicate_field"}},
		{`{"signature":[{"scheme":"hex","header":"X-T"},{"scheme":"hmac-sha512","header":"X-S","timestamp":{"header":"x-t"}}]}`, []string{"/signature/1 duplicate_field"}},
		{`{"signature":{"scheme":"standard","header":"X-S","encoding":"hex","prefix":"","timestamp":{}}}`, []string{
			"/signature/encoding invalid_value", "/signature/header invalid_value", "/signature/prefix invalid_value", "/signature/timestamp invalid_value",
		}},
		{`{"signature":{"scheme":"github","prefix":"x","encoding":"base64"}}`, []string{"/signature/encoding invalid_value", "/signature/prefix invalid_value"}},
		{`{"signature":{"scheme":"hex"}}`, []string{"/signature/header required"}},
		{scheme(`"header":null`), []string{"/signature/header required"}},
		{scheme(`"header":"webhook-signature"`), []string{"/signature/header invalid_value"}},
		{scheme(`"header":"Content-Type","encoding":"base32","prefix":"é"`), []string{
			"/signature/encoding invalid_value", "/signature/header invalid_value", "/signature/prefix invalid_text",
		}},
		{scheme(`"header":"X S","prefix":1,"timestamp":1`), []string{
			"/signature/header invalid_format", "/signature/prefix wrong_type", "/signature/timestamp wrong_type",
		}},
		{scheme(`"header":"X-S","prefix":" v1","timestamp":{}`), []string{"/signature/prefix invalid_text", "/signature/timestamp invalid_value"}},
		{scheme(`"header":"X-S","timestamp":{"header":"x-s"}`), []string{"/signature/timestamp duplicate_field"}},
		{scheme(`"header":"X-S","timestamp":{"header":"X-T","prefix":"t="}`), []string{"/signature/timestamp invalid_value"}},
		{scheme(`"header":"X-S","timestamp":{"prefix":""}`), []string{"/signature/timestamp/prefix invalid_value"}},
		{scheme(`"header":"X-S","prefix":"a,","timestamp":{"prefix":"t,"}`), []string{"/signature/prefix invalid_value", "/signature/timestamp/prefix invalid_value"}},
		{scheme(`"header":"x-own"`), []string{"/signature duplicate_field"}},
		{`{"headers":{"X-Sig":"1"},"signature":{"scheme":"hex","header":"x-sig"}}`, []string{"/headers/X-Sig duplicate_field"}},
	} {
		got := w.call("PATCH", hook, platformKey, tc.body).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("PATCH %.90s: %q, want %q", tc.body, got, tc.want)
		}
		if slices.Contains(tc.want, "/signature duplicate_field") || slices.Contains(tc.want, "/headers/X-Plain/secret invalid_value") {
			continue // with what the webhook has
		}
		got = w.call("POST", path, platformKey, newHook+tc.body[1:]).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("POST %.90s: %q, want %q", tc.body, got, tc.want)
		}
	}
}

// values are the headers that a node would send a webhook with.
func (w *world) values(hook string) (values []string) {
	w.t.Helper()
	if err := w.registry.CatchUp(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	r := w.registry.Snapshot().Webhook(uuid.MustParse(hook)).Request()
	for _, h := range r.Headers {
		values = append(values, h.Name+": "+h.Value.Fill(&shape.Values{EventID: "e"}))
	}
	return values
}

func TestSecretHeadersAreKeptSealedAndNeverReadBack(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	const secret = "Bearer 5f2d-hunter2"
	created := w.call("POST", path, platformKey, newHook+`"headers":{"Authorization":{"secret":"`+secret+`"},"X-Event":"{event_id}"}}`).want(201)
	id := created.str("id")
	answers := []*reply{
		created, w.call("GET", path+"/"+id, platformKey, nil), w.call("GET", path, platformKey, nil),
		// Null leaves it, in whatever spelling the name; a value replaces it.
		w.call("PATCH", path+"/"+id, platformKey, `{"headers":{"X-Event":"2","authorization":{"secret":null}}}`).want(200),
	}
	if got := w.values(id); !slices.Equal(got, []string{"X-Event: 2", "authorization: " + secret}) {
		t.Errorf("after it was left: %q", got)
	}
	if got := w.call("PATCH", path+"/"+id, platformKey, `{"headers":{"Authorization":{"secret":"`+secret+`2"}}}`).want(200); true {
		answers = append(answers, got)
	}
	if got := w.values(id); !slices.Equal(got, []string{"Authorization: " + secret + "2"}) {
		t.Errorf("after it was replaced: %q", got)
	}
	for _, a := range answers {
		if strings.Contains(string(a.body), "hunter2") {
			t.Errorf("an answer has the secret: %s", a.body)
		}
	}
	stored, err := w.store.Webhook(t.Context(), uuid.MustParse(account), uuid.MustParse(id))
	if err != nil {
		t.Fatal(err)
	}
	if h := stored.Options.Headers[0]; h.Value != "" || len(h.Sealed) == 0 || strings.Contains(string(h.Sealed), "hunter2") {
		t.Errorf("stored as %+v", h)
	}
	// What is kept counts in the size of all.
	long := `{"headers":{"Authorization":{"secret":"` + strings.Repeat("s", 4<<10) + `"}}}`
	w.call("PATCH", path+"/"+id, platformKey, long).want(200)
	four := `{"headers":{"Authorization":{"secret":null}`
	for _, name := range []string{"X-A", "X-B", "X-C"} {
		four += `,"` + name + `":"` + strings.Repeat("v", 4<<10) + `"`
	}
	if got := w.call("PATCH", path+"/"+id, platformKey, four+`}}`).want(422).problems(); !slices.Equal(got, []string{"/headers too_long"}) {
		t.Errorf("too much with what is kept: %q", got)
	}
}

func TestASecretOfAnyFormIsKeptForReceiversThatHaveOne(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/webhooks"
	const hmac = `"signature":{"scheme":"hex","header":"X-S"},`
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	for _, secret := range []string{
		"It's a Secret to Everybody", strings.Repeat("é", 16), strings.Repeat("x", 256), "whsec_not base64 at all", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		r := w.call("POST", path, platformKey, newHook+hmac+`"secret":`+quoted(secret)+`}`).want(201)
		listed := w.call("GET", path+"/"+r.str("id")+"/secrets", platformKey, nil).want(200)
		if r.str("secret") != secret || listed.str("data.0.secret") != secret {
			t.Errorf("%q: created %q, listed %q", secret, r.str("secret"), listed.str("data.0.secret"))
		}
	}
	// Beside Standard too, and where the account says so.
	w.call("POST", path, platformKey, newHook+`"signature":[{"scheme":"standard"},{"scheme":"github"}],"secret":"sixteen letters!"}`).want(201)
	w.call("PATCH", "/v1/accounts/"+account, platformKey, `{"settings":{"signature":{"scheme":"github"}}}`).want(200)
	w.call("POST", path, platformKey, newHook+`"secret":"sixteen letters!"}`).want(201)
	for _, body := range []string{
		`"signature":{"scheme":"standard"},"secret":"sixteen letters!"}`, hmac + `"secret":"fifteen letters"}`, hmac + `"secret":"` + strings.Repeat("x", 257) + `"}`,
	} {
		if got := w.call("POST", path, platformKey, newHook+body).want(422).problems(); !slices.Equal(got, []string{"/secret invalid_secret"}) {
			t.Errorf("%s: %q", body, got)
		}
	}
}

func TestAnAccountsDefaultSignatureIsInherited(t *testing.T) {
	w := newWorld(t)
	root := w.account("")
	leaf := w.account(root)
	hook := "/v1/accounts/" + leaf + "/webhooks/" + w.webhook(leaf, platformKey)
	signedBy := func() string {
		return w.call("GET", hook, platformKey, nil).want(200).str("signature.scheme")
	}
	created := w.call("POST", "/v1/accounts", platformKey, `{"name":"n","settings":{"signature":[{"scheme":"github"},{"scheme":"standard"}]}}`).want(201)
	if created.str("settings.signature.1.scheme") != "standard" {
		t.Errorf("created %s", created.body)
	}
	if got := signedBy(); got != "standard" {
		t.Errorf("signed by %s", got)
	}
	if r := w.call("PATCH", "/v1/accounts/"+root, platformKey, `{"settings":{"signature":{"scheme":"github"}}}`).want(200); r.str("settings.signature.header") != "X-Hub-Signature-256" {
		t.Errorf("set %s", r.body)
	}
	if got := signedBy(); got != "hmac-sha256" {
		t.Errorf("below an account that says so: %s", got)
	}
	w.call("PATCH", "/v1/accounts/"+root, platformKey, `{"name":"other"}`).want(200)
	w.call("PATCH", hook, platformKey, `{"signature":{"scheme":"standard"}}`).want(200)
	if got := signedBy(); got != "standard" {
		t.Errorf("one that says so itself: %s", got)
	}
	w.call("PATCH", hook, platformKey, `{"signature":null}`).want(200)
	if got := signedBy(); got != "hmac-sha256" {
		t.Errorf("one that says nothing any more: %s", got)
	}
	w.call("PATCH", "/v1/accounts/"+root, platformKey, `{"settings":null}`).want(200)
	if got := signedBy(); got != "standard" {
		t.Errorf("when nobody says anything any more: %s", got)
	}
	for body, want := range map[string]string{
		`{"settings":{"signature":{"scheme":"hex"}}}`: "/settings/signature/header required",
		`{"settings":{"other":1}}`:                    "/settings/other unknown_field",
		`{"settings":[]}`:                             "/settings wrong_type",
	} {
		if got := w.call("PATCH", "/v1/accounts/"+root, platformKey, body).want(422).problems(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q", body, got)
		}
	}
}

func TestAWebhookWhoseOptionsCannotBeReadSaysSo(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	hook := "/v1/accounts/" + account + "/webhooks/" + w.webhook(account, platformKey)
	w.exec(`UPDATE webhooks SET options = '{"signature":[{"scheme":"rot13"}]}'`)
	if r := w.call("GET", hook, platformKey, nil).want(200); r.str("disabled.by") != fanfare.DisabledByFilter {
		t.Errorf("%s", r.body)
	}
	if r := w.call("PATCH", hook, platformKey, `{"signature":null}`).want(200); r.get("enabled") != true {
		t.Errorf("%s", r.body)
	}
}
