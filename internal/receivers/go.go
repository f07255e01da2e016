package receivers

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// StartGo starts a receiver in this process that verifies against a secret (whsec_…) with Standard
// Webhooks' Go library.
func StartGo(t testing.TB, secret string) *Receiver {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatalf("receivers: %v", err)
	}
	r := newReceiver(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // the sender went away within the body
		}
		report := Report{ID: request.Header.Get(standardwebhooks.HeaderWebhookID)}
		if request.Method != http.MethodPost {
			report.Error = "the method is " + request.Method
		} else if err := webhook.Verify(body, request.Header); err != nil {
			report.Error = err.Error()
		}
		report.OK = report.Error == ""
		report.Attempt, _ = strconv.Atoi(request.Header.Get("X-Fanfare-Attempt"))
		sum := sha256.Sum256(body)
		report.SHA256 = hex.EncodeToString(sum[:])
		r.add(report)
		if report.OK {
			w.WriteHeader(http.StatusNoContent)
		} else {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	r.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		r.end(errEnded)
	})
	return r
}
