package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/fanfare-webhooks/fanfare/internal/receivers"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// page is a page of any list.
type page[T any] struct {
	Data []T     `json:"data"`
	Next *string `json:"next"`
}

type delivery struct {
	EventID   string `json:"event_id"`
	WebhookID string `json:"webhook_id"`
	AccountID string `json:"account_id"`
	State     string `json:"state"`
	Attempts  int    `json:"attempts"`
}

type attempt struct {
	EventID string `json:"event_id"`
	Number  int    `json:"number"`
	Trigger string `json:"trigger"`
	Status  int    `json:"status"`
	Verdict string `json:"verdict"`
	State   string `json:"state"`
}

// seen remembers the bodies of a receiver's requests by event.
type seen struct {
	mu     sync.Mutex
	bodies map[string][]string // event id → hashes of bodies, in order of arrival
}

func (s *seen) add(id, hash string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies[id] = append(s.bodies[id], hash)
	return len(s.bodies[id])
}

func (s *seen) of(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies[id])
}

// failingTwice answers 500 to the first two requests about each event.
func failingTwice(t *testing.T) (string, *seen) {
	s := &seen{bodies: make(map[string][]string)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sum := sha256.Sum256(body)
		if s.add(r.Header.Get(signature.HeaderID), hex.EncodeToString(sum[:])) <= 2 {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, "not yet")
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, s
}

// collect reads a verifying receiver's reports until it has accepted each of the events.
func collect(t *testing.T, r *receivers.Receiver, s *seen, events []string) {
	t.Helper()
	left := make(map[string]bool)
	for _, id := range events {
		left[id] = true
	}
	for len(left) > 0 {
		report := r.Next(t.Context())
		if !report.OK {
			t.Fatalf("a receiver refused %s: %s", report.ID, report.Error)
		}
		s.add(report.ID, report.SHA256)
		delete(left, report.ID)
	}
}

// Two accounts and a sub-account, three webhooks: a receiver in Node, one with the Go library of the
// Standard Webhooks project, and one that fails twice. The node is killed and restarted in between.
func TestEveryPairEndsDeliveredThroughAKillAndARestart(t *testing.T) {
	n := dev(t)
	platform := n.cred.PlatformKey
	account := func(name, parent string) string {
		body := map[string]any{"name": name}
		if parent != "" {
			body["parent_id"] = parent
		}
		var a struct{ ID string }
		n.must("POST", "/v1/accounts", platform, body, &a)
		return a.ID
	}
	a, b := account("A", ""), account("B", "")
	sub := account("A's sub-account", a)

	nodeSecret, goSecret := signature.GenerateSecret().Text(), signature.GenerateSecret().Text()
	inNode, inGo := receivers.StartNode(t, receivers.StandardWebhooks, nodeSecret), receivers.StartGo(t, goSecret)
	failingURL, failing := failingTwice(t)
	webhook := func(account string, body map[string]any) string {
		body["event_types"] = []string{"call.*"}
		body["retry_schedule"] = []string{"1s", "1s", "1s", "1s", "1s"}
		var w struct{ ID string }
		n.must("POST", "/v1/accounts/"+account+"/webhooks", platform, body, &w)
		return w.ID
	}
	hookA := webhook(a, map[string]any{"url": inNode.URL, "secret": nodeSecret, "include_subaccounts": true})
	hookB := webhook(b, map[string]any{"url": inGo.URL, "secret": goSecret})
	hookSub := webhook(sub, map[string]any{"url": failingURL})

	serial := 0
	publish := func(account string, count int) (ids []string) {
		for range count {
			serial++
			var e struct {
				ID      string `json:"id"`
				Matched int    `json:"matched"`
			}
			n.must("POST", "/v1/accounts/"+account+"/events", platform,
				map[string]any{"type": "call.ended", "data": map[string]any{"n": serial, "text": "Zoë \u2028 <&>"}}, &e)
			if e.Matched != 1 {
				t.Errorf("event %s matched %d webhooks of its own account", e.ID, e.Matched)
			}
			ids = append(ids, e.ID)
		}
		return ids
	}
	subEvents, bEvents := publish(sub, 8), publish(b, 8)
	n.kill()
	n.start()
	subEvents, bEvents = append(subEvents, publish(sub, 8)...), append(bEvents, publish(b, 8)...)
	n.stop()
	n.start()
	subEvents, bEvents = append(subEvents, publish(sub, 4)...), append(bEvents, publish(b, 4)...)

	viaNode, viaGo := &seen{bodies: map[string][]string{}}, &seen{bodies: map[string][]string{}}
	collect(t, inNode, viaNode, subEvents)
	collect(t, inGo, viaGo, bEvents)

	states := func(account, event string) map[string]string {
		var p page[delivery]
		n.must("GET", "/v1/accounts/"+account+"/events/"+event+"/deliveries", platform, nil, &p)
		got := make(map[string]string)
		for _, d := range p.Data {
			if d.AccountID != account {
				t.Errorf("account %s is shown a delivery of %s", account, d.AccountID)
			}
			got[d.WebhookID] = d.State
		}
		return got
	}
	delivered := func(account, event, hook string) {
		t.Helper()
		n.until(fmt.Sprintf("event %s is delivered to webhook %s", event, hook), func() bool {
			s := states(account, event)
			return len(s) == 1 && s[hook] == "delivered"
		})
	}
	for _, id := range subEvents {
		delivered(a, id, hookA)
		delivered(sub, id, hookSub)
	}
	for _, id := range bEvents {
		delivered(b, id, hookB)
	}

	for _, id := range subEvents {
		var p page[attempt]
		n.must("GET", "/v1/accounts/"+sub+"/events/"+id+"/attempts", platform, nil, &p)
		slices.Reverse(p.Data) // oldest first
		tellsTheStory(t, p.Data)
		if hashes := failing.of(id); len(hashes) < 3 || len(slices.Compact(slices.Sorted(slices.Values(hashes)))) != 1 {
			t.Errorf("event %s: %d requests with differing bodies: %v", id, len(hashes), hashes)
		}
	}
	for _, s := range []*seen{viaNode, viaGo} {
		for id, hashes := range s.bodies {
			if len(slices.Compact(slices.Sorted(slices.Values(hashes)))) != 1 {
				t.Errorf("event %s came with differing bodies", id)
			}
		}
	}
}

// tellsTheStory checks the attempts at the receiver that fails twice. A kill may hide a failure from the
// log, since what a request taught is recorded after it.
func tellsTheStory(t *testing.T, attempts []attempt) {
	t.Helper()
	if len(attempts) < 2 || len(attempts) > 4 {
		t.Errorf("%d attempts: %+v", len(attempts), attempts)
		return
	}
	for i, a := range attempts {
		last := i == len(attempts)-1
		switch {
		case last && (a.Status != 200 || a.Verdict != "delivered" || a.State != "delivered"):
			t.Errorf("the last attempt: %+v", a)
		case !last && (a.Status != 500 || a.Verdict != "retry" || a.State != "pending"):
			t.Errorf("attempt %d: %+v", i, a)
		case a.Number > 1 && a.Trigger != "retry", a.Number == 1 && a.Trigger != "first":
			t.Errorf("attempt %d has the trigger %s", a.Number, a.Trigger)
		}
	}
}
