package echo

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

func TestASignatureIsVerifiedWithTheSecretThatItWasTold(t *testing.T) {
	// Its text holds what means something else in a query.
	secret := signature.SecretFromBytes([]byte("\xfb\xff\xbf\xfe\xfb\xff\xbf\xfe\xfb\xff\xbf\xfe\xfb\xff\xbf\xfe\xfb\xff\xbf\xfe\xfb\xff\xbf\xfe"))
	if !strings.ContainsAny(secret.Text(), "+/") {
		t.Fatal(secret.Text())
	}
	other := signature.GenerateSecret()
	for name, c := range map[string]struct {
		method, query, body string
		signed              string // what is; "": nothing
		by                  signature.Secret
		at                  time.Time
		valid               bool
	}{
		"a body":              {"POST", "?secret=" + secret.Text(), `{"n":1}`, `{"n":1}`, secret, time.Now(), true},
		"beside options":      {"PUT", "?status=500&secret=" + secret.Text(), `{}`, `{}`, secret, time.Now(), true},
		"a query":             {"GET", "?secret=" + secret.Text() + "&status=200&id=1&data%5Bn%5D=1", "", "id=1&data%5Bn%5D=1", secret, time.Now(), true},
		"another secret":      {"POST", "?secret=" + secret.Text(), `{}`, `{}`, other, time.Now(), false},
		"another body":        {"POST", "?secret=" + secret.Text(), `{"n":1}`, `{"n": 1}`, secret, time.Now(), false},
		"another query":       {"GET", "?secret=" + secret.Text() + "&id=2", "", "id=1", secret, time.Now(), false},
		"long ago":            {"POST", "?secret=" + secret.Text(), `{}`, `{}`, secret, time.Now().Add(-time.Hour), false},
		"none":                {"POST", "?secret=" + secret.Text(), `{}`, "", secret, time.Now(), false},
		"more than is looked": {"POST", "?secret=" + secret.Text(), strings.Repeat("x", maxBody+1), strings.Repeat("x", maxBody+1), secret, time.Now(), false},
	} {
		e := New()
		r := httptest.NewRequest(c.method, "/echo/box"+c.query, strings.NewReader(c.body))
		if c.signed != "" {
			signature.SetHeaders(r.Header, "evt_1", c.at, []byte(c.signed), c.by)
		}
		handler(e).ServeHTTP(httptest.NewRecorder(), r)
		got := e.Requests("box")[0]
		if v := got.Signature; v == nil || v.Valid != c.valid || c.valid != (v.Detail == "") {
			t.Errorf("%s: %+v", name, v)
		}
		text, err := json.Marshal(got)
		if err != nil || strings.Contains(string(text), strings.TrimPrefix(secret.Text(), "whsec_")) || !strings.Contains(got.Query, "secret=…") {
			t.Errorf("%s: %v, the secret is shown in %s", name, err, got.Query)
		}
	}

	e := New()
	send(e, "POST", "/echo/box", "")
	if v := e.Requests("box")[0].Signature; v != nil {
		t.Errorf("without a secret: %+v", v)
	}
	for _, bad := range []string{"", "whsec_", "x", "%zz", "whsec_AAAA"} {
		if w := send(e, "POST", "/echo/box?secret="+bad, ""); w.Code != 400 || !strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
}
