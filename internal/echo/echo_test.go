package echo

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler routes as the API does.
func handler(e *Echo) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo/{name}", func(w http.ResponseWriter, r *http.Request) { e.Receive(w, r, r.PathValue("name")) })
	mux.HandleFunc("/echo/{name}/view", func(w http.ResponseWriter, r *http.Request) { e.View(w, r, r.PathValue("name")) })
	return mux
}

func send(e *Echo, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler(e).ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func TestARequestIsAnsweredAndRemembered(t *testing.T) {
	e := New()
	r := httptest.NewRequest("PUT", "http://hook.test/echo/a-B_9?x=1&y=%20", strings.NewReader(`{"n":1}`))
	r.Header.Set("X-Fanfare-Attempt", "2")
	w := httptest.NewRecorder()
	before := time.Now().Add(-time.Millisecond)

	handler(e).ServeHTTP(w, r)

	if w.Code != 200 || w.Body.String() != "ok\n" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	got := e.Requests("a-B_9")
	if len(got) != 1 {
		t.Fatalf("%d requests", len(got))
	}
	g := got[0]
	if g.Method != "PUT" || g.Path != "/echo/a-B_9" || g.Query != "x=1&y=%20" || g.Body != `{"n":1}` || g.BodyEncoding != "utf8" || g.Truncated {
		t.Errorf("%+v", g)
	}
	if g.Headers["X-Fanfare-Attempt"][0] != "2" || g.Headers["Host"][0] != "hook.test" || g.ReceivedAt.Before(before) {
		t.Errorf("%+v", g)
	}
	if len(e.Requests("other")) != 0 {
		t.Error("another name has it, too")
	}
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	json.Unmarshal(text, &m)
	for _, k := range []string{"id", "received_at", "method", "path", "query", "headers", "body", "body_encoding", "truncated", "signature"} {
		if _, ok := m[k]; !ok {
			t.Errorf("%s is not in %s", k, text)
		}
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", m["received_at"].(string))
	if err != nil || at.Before(before.Truncate(time.Millisecond)) {
		t.Errorf("received_at %v, %v", m["received_at"], err)
	}
}

func TestOptionsChooseTheAnswer(t *testing.T) {
	e := New()
	for target, want := range map[string]int{
		"?status=500": 500, "?status=204": 204, "?status=304": 304, "?status=200": 200, "?delay=1ms": 200, "?delay=0s&status=429": 429,
		"?status=199": 400, "?status=600": 400, "?status=x": 400, "?delay=31s": 400, "?delay=-1s": 400, "?delay=1": 400,
	} {
		before := len(e.Requests("n"))
		if w := send(e, "POST", "/echo/n"+target, "x"); w.Code != want {
			t.Errorf("%s: status %d, want %d", target, w.Code, want)
		}
		if remembered := len(e.Requests("n")) > before; remembered != (want != 400) {
			t.Errorf("%s: remembered %v", target, remembered)
		}
	}
}

func TestADelayEndsWhenTheSenderGoesOrTheServerStops(t *testing.T) {
	for name, stop := range map[string]func(*Echo, context.CancelFunc){
		"sender": func(_ *Echo, cancel context.CancelFunc) { cancel() },
		"server": func(e *Echo, _ context.CancelFunc) { e.Close(); e.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			e := New()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan struct{})
			_, arrived := e.since("n", [16]byte{})
			go func() {
				defer close(done)
				handler(e).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/echo/n?delay=30s", nil))
			}()
			<-arrived // remembered before the delay
			stop(e, cancel)
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("the delay goes on")
			}
		})
	}
}

func TestNamesAreChecked(t *testing.T) {
	e := New()
	for _, name := range []string{"", "a b", "é", "a.b", "a/b", strings.Repeat("a", 65), "a\x00"} {
		for _, serve := range []func(http.ResponseWriter, *http.Request, string){e.Receive, e.View} {
			w := httptest.NewRecorder()
			serve(w, httptest.NewRequest("GET", "/", nil), name)
			if w.Code != 404 {
				t.Errorf("%q: status %d", name, w.Code)
			}
		}
	}
	if !ValidName(strings.Repeat("a", 64)) {
		t.Error("64 characters are refused")
	}
}

func TestAHundredRequestsAreKeptNewestFirst(t *testing.T) {
	e := New()
	for i := range 150 {
		send(e, "POST", "/echo/n", fmt.Sprint(i))
	}
	got := e.Requests("n")
	if len(got) != 100 || got[0].Body != "149" || got[99].Body != "50" {
		t.Fatalf("%d requests from %q to %q", len(got), got[0].Body, got[len(got)-1].Body)
	}
}

func TestAMebibyteIsKeptForAName(t *testing.T) {
	e := New()
	for i := range 20 {
		send(e, "POST", "/echo/n", fmt.Sprint(i)+strings.Repeat("x", 200<<10))
	}
	got := e.Requests("n")
	if len(got) != 5 || !strings.HasPrefix(got[0].Body, "19x") {
		t.Fatalf("%d requests", len(got))
	}
}

func TestTheHundredAndFirstNameEvictsTheLeastRecentlyUsed(t *testing.T) {
	e := New()
	for i := range 100 {
		send(e, "POST", fmt.Sprintf("/echo/n%d", i), "")
	}
	send(e, "POST", "/echo/n0", "")
	send(e, "GET", "/echo/n50/view", "") // looking is not using
	send(e, "POST", "/echo/new", "")
	if len(e.Requests("n0")) != 2 || len(e.Requests("n1")) != 0 || len(e.Requests("n2")) != 1 || len(e.Requests("new")) != 1 {
		t.Fatalf("n0 %d, n1 %d, n2 %d, new %d", len(e.Requests("n0")), len(e.Requests("n1")), len(e.Requests("n2")), len(e.Requests("new")))
	}
	if len(e.boxes) != 100 || e.recent.Len() != 100 {
		t.Fatalf("%d names", len(e.boxes))
	}
}

func TestLargeAndBinaryRequestsAreKeptInPart(t *testing.T) {
	e := New()
	send(e, "POST", "/echo/n", strings.Repeat("é", 400<<10))
	if g := e.Requests("n")[0]; !g.Truncated || g.BodyEncoding != "utf8" || len(g.Body) != 512<<10 {
		t.Errorf("text: %v %s %d", g.Truncated, g.BodyEncoding, len(g.Body))
	}
	send(e, "POST", "/echo/n", "x"+strings.Repeat("é", 400<<10))
	if g := e.Requests("n")[0]; !g.Truncated || g.BodyEncoding != "utf8" || len(g.Body) != 512<<10-1 {
		t.Errorf("text cut within a character: %v %s %d", g.Truncated, g.BodyEncoding, len(g.Body))
	}
	send(e, "POST", "/echo/n", strings.Repeat("\xff", 512<<10))
	g := e.Requests("n")[0]
	if raw, err := base64.StdEncoding.DecodeString(g.Body); g.Truncated || g.BodyEncoding != "base64" || len(raw) != 512<<10 || err != nil {
		t.Errorf("bytes: %v %s %d", g.Truncated, g.BodyEncoding, len(g.Body))
	}
	r := httptest.NewRequest("POST", "/echo/n?"+strings.Repeat("q", 20<<10), nil)
	r.Header.Set("X-A", strings.Repeat("h", 100<<10))
	r.Header.Set("X-B", strings.Repeat("h", 100<<10))
	handler(e).ServeHTTP(httptest.NewRecorder(), r)
	if g := e.Requests("n")[0]; !g.Truncated || g.size() > 80<<10 {
		t.Errorf("headers: %v %d", g.Truncated, g.size())
	}
}

func TestTheViewCanRunNothingButItself(t *testing.T) {
	e := New()
	send(e, "POST", "/echo/n", "<script>alert(1)</script>")
	w := send(e, "GET", "/echo/n/view", "")
	csp := w.Header().Get("Content-Security-Policy")
	if w.Code != 200 || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
		t.Errorf("%d %q", w.Code, csp)
	}
	body := w.Body.String()
	if strings.Contains(body, "alert(1)") || strings.Contains(body, "innerHTML") || strings.Contains(body, "src=") || strings.Count(body, "<script>") != 1 || strings.Count(body, "<style>") != 1 {
		t.Error("the page holds something of a request, or what the policy does not expect")
	}
	if w := send(e, "POST", "/echo/n/view", ""); w.Code != 405 {
		t.Errorf("POST: status %d", w.Code)
	}
}

func TestTheViewAsJSON(t *testing.T) {
	e := New()
	for _, want := range []int{0, 1} {
		w := send(e, "GET", "/echo/n/view?format=json", "")
		var got struct{ Data []Request }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Data == nil || len(got.Data) != want {
			t.Errorf("%s, %v", w.Body, err)
		}
		send(e, "POST", "/echo/n", "")
	}
}

// events reads a stream's events.
type events struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Scanner
}

func follow(t *testing.T, srv *httptest.Server, last string) *events {
	t.Helper()
	r, _ := http.NewRequest("GET", srv.URL+"/echo/n/view?format=events", nil)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "text/event-stream" {
		t.Fatalf("%s %q", resp.Status, ct)
	}
	return &events{t, resp.Body, bufio.NewScanner(resp.Body)}
}

// next is the body of the next request, and the event's id.
func (s *events) next() (body, id string) {
	s.t.Helper()
	for s.in.Scan() {
		if v, ok := strings.CutPrefix(s.in.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(s.in.Text(), "data: "); ok {
			var r Request
			if err := json.Unmarshal([]byte(v), &r); err != nil {
				s.t.Fatal(err)
			}
			return r.Body, id
		}
	}
	return "", ""
}

func TestAStreamShowsWhatIsKeptAndThenWhatArrives(t *testing.T) {
	e := New()
	srv := httptest.NewServer(handler(e))
	defer srv.Close()
	defer e.Close()
	send(e, "POST", "/echo/n", "1")
	send(e, "POST", "/echo/n", "2\n\ndata: x")
	s := follow(t, srv, "")
	one, firstID := s.next()
	two, _ := s.next()
	if one != "1" || two != "2\n\ndata: x" {
		t.Fatalf("%q %q", one, two)
	}
	send(e, "POST", "/echo/other", "no")
	send(e, "POST", "/echo/n", "3")
	if three, _ := s.next(); three != "3" {
		t.Fatalf("%q", three)
	}
	if again, _ := follow(t, srv, firstID).next(); again != "2\n\ndata: x" {
		t.Fatalf("after the first: %q", again)
	}
	if again, _ := follow(t, srv, "junk").next(); again != "1" {
		t.Fatalf("after a strange id: %q", again)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	e := New()
	srv := httptest.NewServer(handler(e))
	defer srv.Close()
	s := follow(t, srv, "")
	e.Close()
	late := time.AfterFunc(heartbeat/2, func() { s.body.Close() })
	defer late.Stop()
	if b, _ := s.next(); b != "" || s.in.Err() != nil {
		t.Fatalf("%q, %v", b, s.in.Err())
	}
}

func TestStreamsAreBounded(t *testing.T) {
	e := New()
	for range maxStreams {
		e.streams <- struct{}{}
	}
	if w := send(e, "GET", "/echo/n/view?format=events", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Fatalf("status %d", w.Code)
	}
}

func TestManySendersAndReaders(t *testing.T) {
	e := New()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				send(e, "POST", fmt.Sprintf("/echo/n%d", (i*31+j)%120), "x")
				e.Requests(fmt.Sprintf("n%d", j))
			}
		})
	}
	wg.Wait()
	if len(e.boxes) != 100 {
		t.Fatalf("%d names", len(e.boxes))
	}
}
