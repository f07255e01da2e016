package listen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/client"
	"github.com/fanfare-webhooks/fanfare/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "ffk_of-a-test"

// script is an API that answers calls one after the other, and then ends the run.
type script struct {
	*testing.T
	url  string
	stop context.CancelFunc

	mu      sync.Mutex
	answers []string // status, space, body; "break": the connection breaks
	calls   []string // path and query, then what was sent
}

func newScript(t *testing.T, answers ...string) (context.Context, *script) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &script{T: t, answers: answers, stop: stop}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(stop)
	s.url = server.URL
	return ctx, s
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Authorization") != "Bearer "+key {
		s.Errorf("%v %v", err, r.Header)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, strings.TrimSpace(r.URL.RequestURI()+" "+string(body)))
	if len(s.answers) == 0 {
		s.stop()
		<-r.Context().Done()
		return
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	if answer == "break" {
		panic(http.ErrAbortHandler)
	}
	var status int
	text := answer[4:]
	fmt.Sscan(answer, &status) //nolint:errcheck // the test's own text
	w.WriteHeader(status)
	io.WriteString(w, text) //nolint:errcheck // the client may be gone
}

// eventID is the id of a test's n-th event.
func eventID(n int) uuid.UUID {
	return fanfare.EventID(fanfare.PositionAt(time.Date(2026, 3, 1, 12, 0, n, 0, time.UTC)), 1)
}

var account = uuid.MustParse("01900000-0000-7000-8000-000000000001")

func pageOf(cursor string, events ...int) string {
	var data []string
	for _, n := range events {
		data = append(data, fmt.Sprintf(`{"id":%q,"account_id":%q,"type":"call.ended","data":{"n": %d},"occurred_at":null}`, eventID(n), account, n))
	}
	return fmt.Sprintf(`200 {"data":[%s],"cursor":%q,"caught_up":true}`, strings.Join(data, ","), cursor)
}

// receiver verifies what it is sent and answers with a status for each.
func receiver(t *testing.T, secret signature.Secret, status func(n int) int) (url string, bodies func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = signature.Verify(r.Header, body, time.Now(), secret)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Fanfare-Event-Type") != "call.ended" {
			t.Errorf("%v %v", err, r.Header)
		}
		mu.Lock()
		got = append(got, string(body))
		n := len(got)
		mu.Unlock()
		w.WriteHeader(status(n))
		io.WriteString(w, "line one\nline \x1b[31mtwo") //nolint:errcheck // the client may be gone
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

func TestEventsArePostedOnceInOrderAndSignedWhateverHappensToTheServer(t *testing.T) {
	ctx, s := newScript(
		t,
		`200 {"data":[],"cursor":"at-the-end","caught_up":true}`,
		pageOf("c1", 1, 2),
		"break",
		`503 {"code":"unavailable","detail":"Try again."}`,
		pageOf("c2", 3),
		`410 {"code":"cursor_expired","detail":"Too old.","oldest":"kept"}`,
		pageOf("c3", 4),
		`409 {"code":"cursor_ahead","detail":"Too new.","latest":"newest"}`,
		pageOf("c4", 5),
	)
	url, bodies := receiver(t, SecretOf(key), func(n int) int { return []int{200, 500, 204, 404, 302}[n-1] })
	var out bytes.Buffer
	err := Run(ctx, Options{Target: client.Target{URL: s.url + "/", Key: key}, Forward: url, Types: []string{"call.*", "paid"}, Descendants: true, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := 1; n <= 5; n++ {
		want = append(want, fmt.Sprintf(`{"id":%q,"type":"call.ended","timestamp":"2026-03-01T12:00:0%d.000Z","account_id":%q,"data":{"n": %d}}`,
			eventID(n), n, account, n))
	}
	if got := bodies(); !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var since []string
	for _, call := range s.calls {
		before, after, _ := strings.Cut(call, "&since=")
		cursor, _, _ := strings.Cut(after, "&")
		since = append(since, cursor)
		if before != "/v1/accounts/me/events/sync?descendants=true" || !strings.HasSuffix(call, "&types=call.%2A%2Cpaid&wait=30s") {
			t.Errorf("called %s", call)
		}
	}
	// What broke or was refused is asked again from the same place.
	if want := []string{"latest", "at-the-end", "c1", "c1", "c1", "c2", "kept", "c3", "newest", "c4"}; !slices.Equal(since, want) {
		t.Errorf("since %q, want %q", since, want)
	}
	for _, text := range []string{
		SecretOf(key).Text(), "Trying again", "Listening", "→ 200 OK", "→ 500 Internal Server Error: line one line [31mtwo", "→ 302 Found",
		"not kept any more", "shorter than it was", "--since c4",
	} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is not in\n%s", text, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("an escape sequence is printed")
	}
}

func TestAReceiverThatIsNotThereCostsNoMoreThanItsEvent(t *testing.T) {
	ctx, s := newScript(t, pageOf("c1", 1))
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	var out bytes.Buffer
	own := signature.GenerateSecret()
	if err := Run(ctx, Options{Target: client.Target{URL: s.url, Key: key}, Forward: gone.URL, Since: "oldest", Secret: &own, Out: &out}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "connection refused") || !strings.Contains(out.String(), own.Text()) ||
		len(s.calls) != 2 || strings.Contains(s.calls[0], "since") {
		t.Errorf("%q\n%s", s.calls, &out)
	}
}

func TestWhatTimeDoesNotHealEndsIt(t *testing.T) {
	for _, answer := range []string{
		`401 {"code":"unauthorized","detail":"This needs a valid key."}`,
		`404 {"code":"not_found","detail":"There is no such thing here."}`,
		`422 {"code":"invalid_cursor","detail":"The request has one fault.","errors":[{"parameter":"since","detail":"is no cursor"}]}`,
		`404 <html>`, // a URL of something else
	} {
		ctx, s := newScript(t, answer)
		err := Run(ctx, Options{Target: client.Target{URL: s.url, Key: key, Account: account.String()}, Forward: "http://localhost/hook", Out: io.Discard})
		var p *client.Problem
		if !errors.As(err, &p) || !strings.Contains(err.Error(), answer[:3]) || len(s.calls) != 1 || !strings.HasPrefix(s.calls[0], "/v1/accounts/"+account.String()) {
			t.Errorf("%s: %v after %q", answer, err, s.calls)
		}
	}
	for _, forward := range []string{"", "localhost:3000", "ftp://localhost/", "http://", "/hook", "http://a b"} {
		if err := Run(t.Context(), Options{Forward: forward, Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "forward") {
			t.Errorf("%q: %v", forward, err)
		}
	}
}

func TestTriggerPublishesASampleOrWhatIsGiven(t *testing.T) {
	const receipt = `202 {"id":"01","matched":3}`
	for _, c := range []struct {
		data    []byte
		answers []string
		calls   []string
	}{
		{nil, []string{`200 {"data":[{"a": 1},{"b":2}]}`, receipt}, []string{"/v1/event-types/paid/samples", `/v1/accounts/me/events {"type":"paid","data":{"a": 1}}`}},
		{nil, []string{`200 {"data":[]}`, receipt}, []string{"/v1/event-types/paid/samples", `/v1/accounts/me/events {"type":"paid","data":{}}`}},
		{json.RawMessage(`{"n" : 1e2}`), []string{receipt}, []string{`/v1/accounts/me/events {"type":"paid","data":{"n" : 1e2}}`}},
	} {
		ctx, s := newScript(t, c.answers...)
		r, err := Trigger(ctx, client.Target{URL: s.url, Key: key}, "paid", c.data)
		if err != nil || r.Matched != 3 || r.ID != "01" || !slices.Equal(s.calls, c.calls) {
			t.Errorf("%+v %v %q", r, err, s.calls)
		}
	}
	ctx, s := newScript(t, `404 {"detail":"There is no such thing here."}`)
	if _, err := Trigger(ctx, client.Target{URL: s.url, Key: key}, "nope", nil); err == nil || !strings.Contains(err.Error(), "no sample of nope") {
		t.Error(err)
	}
}
