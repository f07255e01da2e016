package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare/internal/receivers"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// awkward are the bodies that have broken receivers.
func awkward(t *testing.T) (bodies []string) {
	t.Helper()
	text, err := os.ReadFile("../shape/testdata/awkward.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			bodies = append(bodies, line)
		}
	}
	return bodies
}

// hook makes a webhook of the demo account and gives its id and its secret.
func (n *node) hook(body map[string]any) (id, secret string) {
	n.Helper()
	body["event_types"] = []string{"invoice.paid"}
	var w struct{ ID, Secret string }
	n.must("POST", "/v1/accounts/me/webhooks", n.cred.AccountKey, body, &w)
	return w.ID, w.Secret
}

func TestReceiversFromBeforeThereWereStandardsAcceptEveryBody(t *testing.T) {
	n := dev(t)
	const secret = "It's a Secret to Everybody"
	hex := func(header string) map[string]any { return map[string]any{"scheme": "hex", "header": header} }
	all := map[string]*receivers.Receiver{}
	add := func(name string, r *receivers.Receiver, body map[string]any) {
		body["url"], body["secret"] = r.URL, secret
		n.hook(body)
		all[name] = r
	}
	add("Express over JSON.stringify", receivers.StartExpress(t, secret, "X-CallCov-Signature", receivers.Stringify),
		map[string]any{"signature": hex("X-CallCov-Signature"), "json": "ecmascript"})
	add("the same, raw data", receivers.StartExpress(t, secret, "X-CallCov-Signature", receivers.Stringify),
		map[string]any{"signature": hex("X-CallCov-Signature"), "json": "ecmascript", "payload": "raw", "custom_data": map[string]string{"7": "é", "text": "<&>"}})
	add("Express over the raw body", receivers.StartExpress(t, secret, "x-connect-it-token", receivers.Raw),
		map[string]any{"signature": []any{map[string]any{"scheme": "standard"}, hex("x-connect-it-token")}})
	add("Flask", receivers.StartFlask(t, secret, "X-Acme-Signature"),
		map[string]any{"signature": hex("X-Acme-Signature"), "payload": "raw", "custom_data": map[string]string{"text": "1"}})

	// Without json: ecmascript such a receiver does not get by: the option is what makes it.
	control := receivers.StartExpress(t, secret, "X-S", receivers.Stringify)
	n.hook(map[string]any{"url": control.URL, "secret": secret, "signature": hex("X-S")})

	var events []string
	for _, body := range awkward(t) {
		events = append(events, publishVerbatim(n, body))
	}
	for name, r := range all {
		left := make(map[string]bool)
		for _, id := range events {
			left[id] = true
		}
		for len(left) > 0 {
			report := r.Next(t.Context())
			if !report.OK {
				t.Errorf("%s refused %s: %s", name, report.ID, report.Error)
			}
			delete(left, report.ID)
		}
	}
	for control.Next(t.Context()).OK {
	}
}

func TestRotatedSecretsVerifyOnBothSidesOfTheOverlap(t *testing.T) {
	n := dev(t)
	for name, start := range map[string]func(secret string) *receivers.Receiver{
		"npm standardwebhooks": func(secret string) *receivers.Receiver {
			return receivers.StartNode(t, receivers.StandardWebhooks, secret)
		},
		"npm svix":             func(secret string) *receivers.Receiver { return receivers.StartNode(t, receivers.Svix, secret) },
		"Standard Webhooks Go": func(secret string) *receivers.Receiver { return receivers.StartGo(t, secret) },
	} {
		older := signature.GenerateSecret().Text()
		before := start(older)
		id, _ := n.hook(map[string]any{"url": before.URL, "secret": older, "retry_schedule": []string{}})
		path := "/v1/accounts/me/webhooks/" + id
		rotate := func(overlap string) string {
			var next struct{ Secret string }
			n.must("POST", path+"/secrets/rotate", n.cred.AccountKey, map[string]any{"overlap": overlap}, &next)
			return next.Secret
		}
		send := func(to *receivers.Receiver) bool {
			n.must("PATCH", path, n.cred.AccountKey, map[string]any{"url": to.URL}, nil)
			event := publishVerbatim(n, `{"text": "Zoë 🎺"}`)
			report := to.Next(t.Context())
			if report.ID != event {
				t.Fatalf("%s: another event came", name)
			}
			return report.OK
		}
		if !send(before) {
			t.Errorf("%s: refused before the rotation", name)
		}
		after := start(rotate("1h"))
		if !send(before) || !send(after) {
			t.Errorf("%s: refused within the overlap", name)
		}
		last := start(rotate("0s"))
		if send(before) || send(after) || !send(last) {
			t.Errorf("%s: after the overlap an old secret is accepted, or the new one is not", name)
		}
		n.must("DELETE", path, n.cred.AccountKey, nil, nil)
	}
}
