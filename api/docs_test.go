package api_test

import (
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTheDocsAreServedWithAStrictPolicy(t *testing.T) {
	w := newWorld(t)
	docs := w.call("GET", "/docs", "", nil).want(200)
	policy := docs.header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %s", policy)
	}
	spec := w.call("GET", "/openapi.yaml", "", nil).want(200)
	if text, err := os.ReadFile("openapi.yaml"); err != nil || string(spec.body) != string(text) {
		t.Errorf("the spec is not the file's: %v", err)
	}
	for path, r := range map[string]*reply{"/docs": docs, "/openapi.yaml": spec} {
		w.call("GET", path, "", nil, "If-None-Match", r.header.Get("Etag")).want(304)
		w.call("HEAD", path, "", nil).want(200)
	}
	if hc := w.call("GET", "/hc", "", nil).want(200); string(hc.body) != "OK" {
		t.Errorf("/hc says %q", hc.body)
	}
}

func TestEchoTakesEveryMethodAndShowsWhatCame(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		w.call(method, "/echo/box", "", nil).want(200)
		w.call(method, "/echo/box?status=503", "", nil).want(503)
		w.call(method, "/echo/box?status=1", "", nil).want(400)
		w.call(method, "/echo/no%20box", "", nil).want(404)
	}
	w.server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("BREW", "/echo/box", nil))
	r := w.call("GET", "/v1/echo/box/requests", "", nil).want(200)
	if r.str("data.0.method") != "BREW" || r.str("data.14.method") != "GET" || r.get("data.15") != nil {
		t.Errorf("%s", r.body)
	}
	w.call("GET", "/v1/echo/no%20box/requests", "", nil).want(404)
	w.call("GET", "/echo/no%20box/view", "", nil).want(404)
	w.call("GET", "/echo/box/view?format=json", "", nil).want(200)
	if r := w.call("GET", "/echo/box/view", "", nil).want(200); !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%v", r.header)
	}
}

func TestWithoutAnEchoReceiverThereAreNoEchoRoutes(t *testing.T) {
	w := newWorldWith(t, worldOptions{noEcho: true})
	for _, path := range []string{"/echo/box", "/echo/box/view", "/v1/echo/box/requests"} {
		out := httptest.NewRecorder()
		w.server.ServeHTTP(out, httptest.NewRequest("GET", path, nil))
		if out.Code != 404 {
			t.Errorf("%s: %d", path, out.Code)
		}
	}
}

func TestViewersOfEchoAreBounded(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	var viewers sync.WaitGroup
	defer viewers.Wait()
	defer cancel()
	for range 64 {
		view := &flushWriter{ResponseRecorder: httptest.NewRecorder(), flushed: make(chan struct{})}
		viewers.Go(func() {
			w.server.ServeHTTP(view, httptest.NewRequestWithContext(ctx, "GET", "/echo/box/view?format=events", nil))
		})
		select {
		case <-view.flushed: // its stream has begun
		case <-time.After(10 * time.Second):
			t.Fatal("no stream began")
		}
	}
	if r := w.call("GET", "/echo/box/view?format=events", "", nil).want(503); r.header.Get("Retry-After") == "" {
		t.Errorf("%v", r.header)
	}
}

// flushWriter tells when it was flushed for the first time.
type flushWriter struct {
	*httptest.ResponseRecorder
	flushed chan struct{}
	once    sync.Once
}

func (w *flushWriter) Flush() { w.once.Do(func() { close(w.flushed) }) }
