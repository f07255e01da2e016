package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// Postgres is killed, with what it had not yet written, while events are published. Nothing may be
// acknowledged meanwhile that is lost, the node must not end, and work resumes by itself.
func TestNothingAcknowledgedIsLostWhenPostgresCrashes(t *testing.T) {
	n := dev(t)
	var mu sync.Mutex
	arrived := make(map[string]int)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		arrived[r.Header.Get(signature.HeaderID)]++
	}))
	defer receiver.Close()
	key := n.cred.AccountKey
	n.must("POST", "/v1/accounts/me/webhooks", key, map[string]any{
		"url": receiver.URL, "event_types": []string{"*"}, "retry_schedule": []string{"1s", "1s", "1s"},
	}, nil)

	const total, crashAt = 400, 150
	var acknowledged []string
	refused := 0
	for len(acknowledged) < total {
		var e struct{ ID string }
		status, err := n.try("POST", "/v1/accounts/me/events", key, map[string]any{"type": "invoice.paid", "data": map[string]any{}}, &e)
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusAccepted:
			acknowledged = append(acknowledged, e.ID)
		case status == http.StatusServiceUnavailable:
			refused++
			wait(retryPause)
		default:
			t.Fatalf("status %d", status)
		}
		if len(acknowledged) == crashAt && refused == 0 {
			killPostgres(n)
		}
	}
	if refused == 0 {
		t.Error("no publish met the outage")
	}
	n.until("every acknowledged event has arrived", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range acknowledged {
			if arrived[id] == 0 {
				return false
			}
		}
		return true
	})
	n.until("the node is ready", func() bool {
		resp, err := http.Get(n.cred.AdminURL + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

const retryPause = 50 * time.Millisecond

func killPostgres(n *node) {
	n.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		n.Fatal(err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		n.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		n.Fatal(err)
	}
}
