package bench

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const idA, idB = "01900000-0000-7000-8000-00000000000a", "01900000-0000-7000-8000-00000000000b"

// publishTo publishes n events through a node that answers as handle does.
func publishTo(t *testing.T, n int, timeout time.Duration, handle http.HandlerFunc) (ids []string, fault string) {
	t.Helper()
	node := httptest.NewServer(handle)
	defer node.Close()
	p, err := newPublisher(Target{URL: node.URL + "/base/", Key: "ffk_x"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.timeout = timeout
	fault = p.post("/v1/x/events", n, func(b []byte) []byte { return append(b, "body"...) }, func(i int, id []byte) {
		if i != len(ids) {
			t.Errorf("receipt %d after %d", i, len(ids))
		}
		ids = append(ids, string(id))
	})
	return ids, fault
}

func TestAPublishCallSaysWhatTheNodeMustKnow(t *testing.T) {
	ids, fault := publishTo(t, 1, callTimeout, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" || r.Method != http.MethodPost || r.URL.Path != "/base/v1/x/events" ||
			r.Header.Get("Authorization") != "Bearer ffk_x" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %s %v, %q, %v", r.Method, r.URL, r.Header, body, err)
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"id":"%s","type":"a.b"}`, idA)
	})
	if fault != "" || !slices.Equal(ids, []string{idA}) {
		t.Errorf("got %q, %q", ids, fault)
	}
}

func TestWhatBecomesOfAPublishCall(t *testing.T) {
	accept := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			for part := range strings.SplitSeq(answer, "|") { // so many chunks
				fmt.Fprint(w, part)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for _, c := range []struct {
		name   string
		handle http.HandlerFunc
		n      int
		ids    []string
		fault  string
	}{
		{"a receipt", accept(`{"id":"` + idA + `","type":"a.b"}`), 1, []string{idA}, ""},
		{"a receipt in chunks", accept(`{"id":|"` + idA + `","ty|pe":"a.b"}`), 1, []string{idA}, ""},
		{"a receipt in another form", accept(`{ "type": "a.b", "id": "` + idA + `" }`), 1, []string{idA}, ""},
		{"a batch's", accept(`{"data":[{"id":"` + idA + `"},{"id":"` + idB + `"}]}`), 2, []string{idA, idB}, ""},
		{"a batch's in another form", accept(`{"data": [{"x": 1, "id": "` + idA + `"}, {"id": "` + idB + `"}]}`), 2, []string{idA, idB}, ""},
		{"a receipt too few", accept(`{"data":[{"id":"` + idA + `"}]}`), 2, nil, "answer"},
		{"a receipt too many", accept(`{"data":[{"id":"` + idA + `"},{"id":"` + idB + `"}]}`), 1, nil, "answer"},
		{"no id", accept(`{"id":""}`), 1, nil, "answer"},
		{"no JSON", accept(`ok`), 1, nil, "answer"},
		{"another status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 1, nil, "503"},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1, nil, "connection"},
		{"a late answer", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // net/http looks for the end of the connection only then
			<-r.Context().Done()
		}, 1, nil, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := callTimeout
			if c.fault == "timeout" {
				timeout = 10 * time.Millisecond
			}
			ids, fault := publishTo(t, c.n, timeout, c.handle)
			if fault != c.fault || !slices.Equal(ids, c.ids) {
				t.Errorf("got %q, %q, want %q, %q", ids, fault, c.ids, c.fault)
			}
		})
	}
}

// A connection is kept, unless the node or a fault ends it.
func TestConnectionsOfPublishers(t *testing.T) {
	var mu sync.Mutex
	from := make(map[string]int)
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr]++
		mu.Unlock()
		if r.URL.Path == "/close" {
			w.Header().Set("Connection", "close")
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"id":"%s"}`, idA)
	}))
	defer node.Close()
	p, err := newPublisher(Target{URL: node.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	post := func(path string) string {
		return p.post(path, 1, func(b []byte) []byte { return append(b, '{', '}') }, func(int, []byte) {})
	}
	for _, path := range []string{"/keep", "/keep", "/close", "/keep"} {
		if fault := post(path); fault != "" {
			t.Errorf("%s: %s", path, fault)
		}
	}
	if len(from) != 2 {
		t.Errorf("calls by connection: %v", from)
	}
	p.idle[0].used = time.Now().Add(-2 * maxIdle)
	if fault := post("/keep"); fault != "" || len(from) != 3 {
		t.Errorf("after a long pause: %q, %v", fault, from)
	}
	p.close()
	if fault := post("/keep"); fault != "connection" {
		t.Errorf("after close: %q", fault)
	}
}

func TestAURLThatNobodyCanCall(t *testing.T) {
	for _, url := range []string{"", "localhost:8080", "ftp://x", "http://", "http://x y"} {
		if _, err := newPublisher(Target{URL: url}); err == nil {
			t.Errorf("%q is accepted", url)
		}
	}
}
