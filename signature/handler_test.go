package signature_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// handled is a Handler with what it handed on.
type handled struct {
	signature.Handler
	secret signature.Secret
	bodies []string
	answer int // of Next
}

func newHandled() *handled {
	h := &handled{secret: signature.GenerateSecret(), answer: http.StatusAccepted}
	h.Secrets = []signature.Secret{h.secret}
	h.Next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		h.bodies = append(h.bodies, string(body))
		w.WriteHeader(h.answer)
	})
	return h
}

func (h *handled) signed(id, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hook", strings.NewReader(body))
	signature.SetHeaders(r.Header, id, time.Now(), []byte(body), h.secret)
	return r
}

// status is the answer to a request.
func (h *handled) status(r *http.Request) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestHandlerHandsASignedRequestOnWithItsBody(t *testing.T) {
	h := newHandled()
	if got := h.status(h.signed("a", `{"a":1}`)); got != http.StatusAccepted {
		t.Errorf("answered %d", got)
	}
	if fmt.Sprint(h.bodies) != `[{"a":1}]` {
		t.Errorf("handed on %q", h.bodies)
	}
}

func TestHandlerRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(h *handled, r *http.Request)
		status int
		why    error
	}{
		"no headers":     {func(_ *handled, r *http.Request) { r.Header = http.Header{} }, 401, signature.ErrMissingHeader},
		"another body":   {func(_ *handled, r *http.Request) { r.Body = io.NopCloser(strings.NewReader("other")) }, 401, signature.ErrSignature},
		"another secret": {func(h *handled, _ *http.Request) { h.Secrets = []signature.Secret{signature.GenerateSecret()} }, 401, signature.ErrSignature},
		"no secret":      {func(h *handled, _ *http.Request) { h.Secrets = nil }, 401, signature.ErrSignature},
		"an old request": {func(h *handled, r *http.Request) {
			signature.SetHeaders(r.Header, "a", time.Now().Add(-time.Hour), []byte("body"), h.secret)
		}, 401, signature.ErrTimestamp},
		"a large body": {func(h *handled, _ *http.Request) { h.MaxBody = 3 }, 413, nil},
		"half a body": {func(_ *handled, r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("bo"), broken{}))
		}, 400, io.ErrUnexpectedEOF},
		"a failing store": {func(h *handled, _ *http.Request) { h.Seen = failing{has: true} }, 500, errStore},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandled()
			var told error
			h.Refused = func(_ *http.Request, err error) { told = err }
			r := h.signed("a", "body")
			test.change(h, r)
			if got := h.status(r); got != test.status {
				t.Errorf("answered %d, want %d", got, test.status)
			}
			if len(h.bodies) > 0 {
				t.Errorf("handed on %q", h.bodies)
			}
			if told == nil || test.why != nil && !errors.Is(told, test.why) {
				t.Errorf("told %v", told)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

var errStore = errors.New("the store is away")

type failing struct{ has, add bool }

func (f failing) Has(context.Context, string) (bool, error) {
	if f.has {
		return false, errStore
	}
	return false, nil
}

func (f failing) Add(context.Context, string) error {
	if f.add {
		return errStore
	}
	return nil
}

func TestHandlerHandsAnEventOnUntilItIsHandled(t *testing.T) {
	h := newHandled()
	for i, step := range []struct{ next, want, handedOn int }{
		{500, 500, 1}, // not handled: it may come again
		{202, 202, 2},
		{202, 200, 2}, // a repeat
		{500, 200, 2},
	} {
		h.answer = step.next
		if got := h.status(h.signed("a", "body")); got != step.want || len(h.bodies) != step.handedOn {
			t.Errorf("step %d: answered %d, handed on %d times", i, got, len(h.bodies))
		}
	}
	h.answer = 204
	if got := h.status(h.signed("b", "body")); got != 204 {
		t.Errorf("another event is answered %d", got)
	}
}

func TestHandlerTakesAPanicForNotHandled(t *testing.T) {
	h := newHandled()
	next := h.Next
	h.Next = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	func() {
		defer func() { recover() }()
		h.status(h.signed("a", "body"))
	}()
	h.Next = next
	if h.status(h.signed("a", "body")); len(h.bodies) != 1 {
		t.Errorf("handed on %d times", len(h.bodies))
	}
}

func TestRequestsAboutOneEventAreHandedOnOneAfterTheOther(t *testing.T) {
	h := newHandled()
	entered, proceed := make(chan struct{}, 3), make(chan struct{})
	var mu sync.Mutex
	times := 0
	h.Next = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		times++
		mu.Unlock()
		entered <- struct{}{}
		<-proceed
	})
	requests := []*http.Request{h.signed("a", "body"), h.signed("a", "body"), h.signed("a", "body")}
	gone, cancel := context.WithCancelCause(t.Context())
	requests[2] = requests[2].WithContext(gone)
	answers := make(chan int, len(requests))
	go func() { answers <- h.status(requests[0]) }()
	<-entered
	go func() { answers <- h.status(requests[1]) }()
	cancel(errors.New("the sender hung up"))
	if got := h.status(requests[2]); got != http.StatusServiceUnavailable {
		t.Errorf("whoever does not wait is answered %d", got)
	}
	close(proceed)
	for range 2 {
		if got := <-answers; got != http.StatusOK {
			t.Errorf("answered %d", got)
		}
	}
	if times != 1 {
		t.Errorf("handed on %d times", times)
	}
}

func TestHandlerGoesByTheStatusThatWasSent(t *testing.T) {
	for name, test := range map[string]struct {
		next    func(w http.ResponseWriter)
		handled bool
	}{
		"nothing written": {func(http.ResponseWriter) {}, true},
		"two statuses":    {func(w http.ResponseWriter) { w.WriteHeader(500); w.WriteHeader(200) }, false},
		"a body first":    {func(w http.ResponseWriter) { io.WriteString(w, "ok"); w.WriteHeader(500) }, true},
		"hints first":     {func(w http.ResponseWriter) { w.WriteHeader(103); w.WriteHeader(500) }, false},
	} {
		h := newHandled()
		times := 0
		h.Next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			times++
			test.next(w)
		})
		for range 2 {
			h.status(h.signed("a", "body"))
		}
		if handled := times == 1; handled != test.handled {
			t.Errorf("%s: handed on %d times", name, times)
		}
	}
}

func TestAnEventIsRememberedAlthoughItsSenderIsGone(t *testing.T) {
	h := newHandled()
	h.Seen = &heeding{Seen: signature.Remember(1)}
	ctx, hangUp := context.WithCancel(t.Context())
	next := h.Next
	h.Next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		hangUp()
	})
	h.status(h.signed("a", "body").WithContext(ctx))
	if h.status(h.signed("a", "body")); len(h.bodies) != 1 {
		t.Errorf("handed on %d times", len(h.bodies))
	}
}

// heeding gives up with its context, as a database does.
type heeding struct{ signature.Seen }

func (h *heeding) Add(ctx context.Context, id string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return h.Seen.Add(ctx, id)
}

func TestHandlerTellsOfAnEventThatCannotBeRemembered(t *testing.T) {
	h := newHandled()
	var told error
	h.Seen, h.Refused = failing{add: true}, func(_ *http.Request, err error) { told = err }
	if got := h.status(h.signed("a", "body")); got != http.StatusAccepted || told != errStore {
		t.Errorf("answered %d, told %v", got, told)
	}
}

func TestHandlerVerifiesTheQueryOfAGet(t *testing.T) {
	for _, test := range []struct {
		url, own string
		want     int
	}{
		{"/hook?a=1&b=2", "", http.StatusAccepted},
		{"/hook?token=x&a=1&b=2", "token=x", http.StatusAccepted},
		{"/hook?token=x&a=1&b=2", "", http.StatusUnauthorized},
		{"/hook?a=1&b=3", "", http.StatusUnauthorized},
	} {
		h := newHandled()
		h.Query = test.own
		r := httptest.NewRequest(http.MethodGet, test.url, nil)
		signature.SetHeaders(r.Header, "a", time.Now(), []byte("a=1&b=2"), h.secret)
		if got := h.status(r); got != test.want {
			t.Errorf("%s: %d, want %d", test.url, got, test.want)
		}
	}
}

func TestHandlerAsksAnotherSchemeAndDoesWithoutAnID(t *testing.T) {
	h := newHandled()
	h.Verify = func(header http.Header, body []byte, _ time.Time, secrets ...signature.Secret) error {
		if header.Get("X-Token") != string(body)+secrets[0].Text() {
			return signature.ErrSignature
		}
		return nil
	}
	for range 2 {
		r := httptest.NewRequest(http.MethodPut, "/hook", strings.NewReader("body"))
		r.Header.Set("X-Token", "body"+h.secret.Text())
		h.status(r)
	}
	if len(h.bodies) != 2 {
		t.Errorf("without an id handed on %d times", len(h.bodies))
	}
}

func TestRememberForgetsTheOldest(t *testing.T) {
	seen := signature.Remember(2)
	for _, id := range []string{"a", "b", "a", "c"} {
		if err := seen.Add(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	got := ""
	for _, id := range []string{"a", "b", "c"} {
		if has, err := seen.Has(t.Context(), id); has && err == nil {
			got += id
		}
	}
	if got != "bc" {
		t.Errorf("remembers %s", got)
	}
}
