package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// Receivers that were written for another sender take what Fanfare sends after an import, without a change.
func TestImportedWebhooksReachTheirReceivers(t *testing.T) {
	n := dev(t)
	type request struct {
		*http.Request
		body []byte
	}
	got := make(map[string]chan request) // by path
	for _, path := range []string{"/kazoo", "/svix", "/convoy"} {
		got[path] = make(chan request, 10)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got[r.URL.Path] <- request{r, body}
	}))
	defer receiver.Close()
	secret := signature.GenerateSecret()
	for source, export := range map[string]string{
		"kazoo": `{"_id":"h1","name":"PBX","uri":"URL/kazoo?site=7","hook":"channel_destroy","http_verb":"get","format":"form-data",
			"custom_data":{"tenant":"42"},"custom_request_headers":{"X-Token":"s3cret"},"include_internal_legs":false,"pvt_account_id":"a1"}`,
		"svix":   `{"data":[{"id":"ep1","url":"URL/svix","description":"","metadata":{},"filterTypes":["invoice.paid"],"key":"SECRET"}],"done":true}`,
		"convoy": `{"data":{"content":[{"uid":"E1","url":"URL/convoy","name":"C","secrets":[{"value":"a secret of Convoy's"}]}]}}`,
	} {
		file := filepath.Join(t.TempDir(), source+".json")
		export = strings.NewReplacer("URL", receiver.URL, "SECRET", strings.TrimPrefix(secret.Text(), "whsec_")).Replace(export)
		if err := os.WriteFile(file, []byte(export), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"1 created, 0 there already, 0 not imported", "0 created, 1 there already, 0 not imported"} {
			c := exec.CommandContext(t.Context(), binary, "import", source, file, "--type", "channel_destroy=invoice.paid", "--event-types", "invoice.*")
			c.Env = append(os.Environ(), "FANFARE_URL="+n.cred.URL, "FANFARE_KEY="+n.cred.AccountKey)
			if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
				t.Fatalf("%s: %v\n%s", source, err, out)
			}
		}
	}
	const data = `{"call_id":"c 1","legs":["a","b"], "tenant":1}`
	publishVerbatim(n, data)
	// Not for Kazoo's, which leaves internal legs out.
	publishVerbatim(n, `{"is_internal_leg":true}`)

	receive := func(path string) request {
		select {
		case r := <-got[path]:
			return r
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing came to %s", path)
			return request{}
		}
	}
	r := receive("/kazoo")
	if want := "site=7&call_id=c%201&legs%5B%5D=a&legs%5B%5D=b&tenant=42"; r.Method != http.MethodGet || r.URL.RawQuery != want || len(r.body) > 0 {
		t.Errorf("Kazoo: %s %s, %q", r.Method, r.URL, r.body)
	}
	if h := r.Header; h.Get("X-Hook-ID") != "h1" || h.Get("X-Account-ID") != "a1" || h.Get("X-Token") != "s3cret" {
		t.Errorf("Kazoo: %v", h)
	}
	bodies := fmt.Sprint(data, `{"is_internal_leg":true}`)
	for range 2 {
		if r := receive("/svix"); !strings.Contains(bodies, string(r.body)) || signature.Verify(r.Header, r.body, time.Now(), secret) != nil {
			t.Errorf("Svix: %q, %v", r.body, r.Header)
		}
		r := receive("/convoy")
		mac := hmac.New(sha256.New, []byte("a secret of Convoy's"))
		mac.Write(r.body)
		if r.Header.Get("X-Convoy-Signature") != hex.EncodeToString(mac.Sum(nil)) || !bytes.Contains([]byte(bodies), r.body) {
			t.Errorf("Convoy: %q, %v", r.body, r.Header)
		}
	}
	if len(got["/kazoo"]) > 0 {
		t.Error("Kazoo: an internal leg came")
	}
}
