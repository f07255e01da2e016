package receivers_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/receivers"
	"github.com/fanfare-webhooks/fanfare/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client shares no idle connections with other tests.
func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post sends body with the headers h to the receiver and returns the answer's status.
func post(ctx context.Context, t *testing.T, c *http.Client, r *receivers.Receiver, h http.Header, body []byte) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = h
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func node(library string) func(testing.TB, string) *receivers.Receiver {
	return func(t testing.TB, secret string) *receivers.Receiver { return receivers.StartNode(t, library, secret) }
}

func TestReceiversAgreeWithSignature(t *testing.T) {
	for name, start := range map[string]func(testing.TB, string) *receivers.Receiver{
		"standardwebhooks": node(receivers.StandardWebhooks),
		"svix":             node(receivers.Svix),
		"go":               receivers.StartGo,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			const id, text = "0199f3c2-7a10-7b55-8c3e-1f2a3b4c5d6e", `{"type":"invoice.paid","data":{"customer":"Zoë 🎺"}}`
			secret, older, other := signature.GenerateSecret(), signature.GenerateSecret(), signature.GenerateSecret()
			type secrets = []signature.Secret
			r, c := start(t, secret.Text()), client(t)

			for _, test := range []struct {
				name    string
				age     time.Duration
				secrets secrets
				body    string // what is sent; text is what is signed
				id      string // likewise
				refusal string // "": accepted
			}{
				{name: "signed", secrets: secrets{secret}},
				{name: "signed with two secrets", secrets: secrets{older, secret}},
				{name: "signed some minutes ago", age: 4 * time.Minute, secrets: secrets{secret}},
				{name: "another secret", secrets: secrets{other}, refusal: "signature"},
				{name: "a tampered body", secrets: secrets{secret}, body: strings.Replace(text, "paid", "void", 1), refusal: "signature"},
				{name: "another id", secrets: secrets{secret}, id: "0199f3c2-7a10-7b55-8c3e-1f2a3b4c5d6f", refusal: "signature"},
				{name: "a stale timestamp", age: 6 * time.Minute, secrets: secrets{secret}, refusal: "too old"},
				{name: "a timestamp to come", age: -6 * time.Minute, secrets: secrets{secret}, refusal: "too new"},
			} {
				h := http.Header{"X-Fanfare-Attempt": {"3"}}
				signature.SetHeaders(h, id, time.Now().Add(-test.age), []byte(text), test.secrets...)
				body, sentID := text, id
				if test.body != "" {
					body = test.body
				}
				if test.id != "" {
					sentID = test.id
					h.Set(signature.HeaderID, sentID)
				}

				status := post(ctx, t, c, r, h, []byte(body))
				report := r.Next(ctx)

				sum := sha256.Sum256([]byte(body))
				if report.ID != sentID || report.Attempt != 3 || report.SHA256 != hex.EncodeToString(sum[:]) {
					t.Errorf("%s: reported %+v", test.name, report)
				}
				if test.refusal == "" {
					if status != http.StatusNoContent || !report.OK || report.Error != "" {
						t.Errorf("%s: answered %d, %+v", test.name, status, report)
					}
				} else if status != http.StatusBadRequest || report.OK || !strings.Contains(report.Error, test.refusal) {
					t.Errorf("%s: answered %d, %+v", test.name, status, report)
				}
			}
		})
	}
}

func TestReceiversOfOldAgreeWithSignature(t *testing.T) {
	const secret, header, body = "It's a Secret to Everybody", "X-CallCov-Signature", `{"text":"Zoë 🎺","n":1e3}`
	for name, test := range map[string]struct {
		start  func() *receivers.Receiver
		signed string // what is signed, for a good signature
	}{
		"Express, raw":       {func() *receivers.Receiver { return receivers.StartExpress(t, secret, header, receivers.Raw) }, body},
		"Express, stringify": {func() *receivers.Receiver { return receivers.StartExpress(t, secret, header, receivers.Stringify) }, `{"text":"Zoë 🎺","n":1000}`},
		"Flask":              {func() *receivers.Receiver { return receivers.StartFlask(t, secret, header) }, body},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		r, c := test.start(), client(t)
		key, err := signature.SecretFromText(secret)
		if err != nil {
			t.Fatal(err)
		}
		scheme := signature.Scheme{Algorithm: signature.HMACSHA256, Header: header}
		for _, signed := range []string{test.signed, test.signed + " "} {
			h := http.Header{"Content-Type": {"application/json"}, "Webhook-Id": {"event"}}
			scheme.SetHeaders(h, "", time.Now(), []byte(signed), key)
			status := post(ctx, t, c, r, h, []byte(body))
			report, good := r.Next(ctx), signed == test.signed
			if report.OK != good || report.ID != "event" || (status == http.StatusNoContent) != good {
				t.Errorf("%s, %q: answered %d, %+v", name, signed, status, report)
			}
		}
		if status := post(ctx, t, c, r, http.Header{"Content-Type": {"application/json"}}, []byte(body)); status != http.StatusUnauthorized || r.Next(ctx).OK {
			t.Errorf("%s, unsigned: answered %d", name, status)
		}
		cancel()
	}
}
