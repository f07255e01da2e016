package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

func TestTheExamplesOfTheGuideAboutOneOffDestinationsAreTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/one-off-destinations.md")
	if err != nil {
		t.Fatal(err)
	}
	n := dev(t)
	target := regexp.MustCompile(`[A-Z]+ /([a-z0-9-]+)`)
	tried := 0
	var event struct{ ID string } // that was published last
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		kind, body := block[1], block[2]
		method, path, isCall := strings.Cut(strings.TrimPrefix(kind, "json "), " ")
		switch {
		case kind == "json publication":
			body = strings.ReplaceAll(body, "https://jobs.example.com/", n.cred.URL+"/echo/")
			n.must("POST", "/v1/accounts/me/events", n.cred.AccountKey, json.RawMessage(body), &event)
			tried++
		case kind == "http":
			job := target.FindStringSubmatch(body)[1]
			n.shows(job, job, body)
		case kind == "json GET deliveries":
			n.listsDeliveries(event.ID, body)
		case isCall && method == "GET":
			var got json.RawMessage
			n.must(method, "/v1/accounts/me/"+path, n.cred.AccountKey, nil, &got)
			if !alike(strings.Join(strings.Fields(body), ""), string(got)) {
				t.Errorf("%s: %s", kind, got)
			}
		case isCall:
			n.must(method, "/v1/accounts/me/"+path, n.cred.AccountKey, json.RawMessage(body), nil)
		default:
			t.Errorf("a block is for %q", kind)
		}
	}
	if tried < 3 {
		t.Errorf("only %d events were published", tried)
	}
}

// oneOff is a delivery to a one-off destination.
type oneOff struct {
	WebhookID   *string `json:"webhook_id"`
	Destination int     `json:"destination"`
	State       string  `json:"state"`
	Reason      *string `json:"reason"`
}

// listsDeliveries waits until an event's deliveries are what a list in a guide says.
func (n *node) listsDeliveries(event, body string) {
	n.Helper()
	byPlace := func(list []oneOff) string {
		places := make(map[int]oneOff)
		for _, d := range list {
			places[d.Destination] = d
		}
		text, err := json.Marshal(places)
		if err != nil {
			n.Fatal(err)
		}
		return string(text)
	}
	var want page[oneOff]
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		n.Fatal(err)
	}
	n.until("the deliveries are "+body, func() bool {
		var got page[oneOff]
		n.must("GET", "/v1/accounts/me/events/"+event+"/deliveries", n.cred.AccountKey, nil, &got)
		return len(got.Data) == len(want.Data) && byPlace(got.Data) == byPlace(want.Data)
	})
}

func TestOneOffDestinationsOutliveAKill(t *testing.T) {
	n := dev(t)
	var secrets page[struct{ Secret string }]
	n.must("GET", "/v1/accounts/me/signing-secrets", n.cred.AccountKey, nil, &secrets)
	secret, err := signature.ParseSecret(secrets.Data[0].Secret)
	if err != nil {
		t.Fatal(err)
	}
	var killed atomic.Bool
	hang, arrived := make(chan struct{}), make(chan string, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := signature.Verify(r.Header, body, time.Now(), secret); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		arrived <- r.Header.Get(signature.HeaderID) + r.URL.Path
		if !killed.Load() {
			<-hang
		}
	}))
	defer server.Close()
	want := make(map[string]bool)
	for i := range 10 {
		var e struct{ ID string }
		n.must("POST", "/v1/accounts/me/events", n.cred.AccountKey, map[string]any{
			"type": "invoice.paid", "data": map[string]any{"n": i},
			"destinations": []map[string]any{{"url": server.URL + "/a"}, {"url": server.URL + "/b"}},
		}, &e)
		want[e.ID+"/a"], want[e.ID+"/b"] = true, true
	}
	<-arrived // what is in flight now is answered to nobody
	n.kill()
	killed.Store(true)
	close(hang)
	for len(arrived) > 0 {
		<-arrived
	}

	n.start()

	for len(want) > 0 {
		select {
		case got := <-arrived:
			delete(want, got)
		case <-time.After(60 * time.Second):
			t.Fatalf("%d of 20 never arrived", len(want))
		}
	}
	n.until("all are delivered", func() bool {
		var left page[json.RawMessage]
		n.must("GET", "/v1/accounts/me/deliveries?state=pending", n.cred.AccountKey, nil, &left)
		return len(left.Data) == 0
	})
}
