package signature

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Handler is an [http.Handler] that lets only signed requests through, with a body of bounded size, and
// each event once. Set its fields before the first request and leave them then.
//
// It answers 401 to a request that is not signed as it must be, 413 to one that is too large, 400 to one whose
// body does not come whole, and 200 to the repeat of an event that was handled. Everything else is for Next.
type Handler struct {
	// Next handles an event: it finds the verified body in the request, whole and in memory. An answer of
	// 2xx says that the event needs not come again; after any other, or a panic, the same event is handed on
	// again when it is repeated. Two requests about one event are never with Next at once.
	Next http.Handler

	// Secrets that requests may be signed with: while one is being replaced, the old and the new one.
	Secrets []Secret

	// Verify checks a request; nil: the function Verify, for Standard Webhooks.
	Verify func(h http.Header, body []byte, now time.Time, secrets ...Secret) error

	// MaxBody is the size of the largest body that is read, in bytes; 0: 1 MiB.
	MaxBody int64

	// Query is the query that the webhook's own URL has, without its ?; "": none. Of a GET what follows it is
	// signed, in the place of a body.
	Query string

	// Seen remembers which events were handled; nil: this Handler remembers the last 10,000 itself.
	Seen Seen

	// Refused is told why a request was not handed on, for a log; nil: nobody is. It is not told of repeats.
	Refused func(r *http.Request, err error)

	mu     sync.Mutex
	inHand map[string]chan struct{} // guarded by mu; events that are with Next, closed when they come back
	own    Seen                     // guarded by mu; made when Seen is nil
}

// Seen remembers which events were handled, by their ids ([HeaderID]). Receivers of more than one process
// share one, in a database for instance; it should remember for as long as the sender repeats and replays.
// It is used by many goroutines.
type Seen interface {
	// Has reports whether the id was added. After an error the request is answered 500, and comes again.
	Has(ctx context.Context, id string) (bool, error)

	// Add notes that the event was handled. After an error it is handed on again if it comes again.
	Add(ctx context.Context, id string) error
}

const (
	defaultMaxBody = 1 << 20
	defaultSeen    = 10_000
)

// Remember gives a Seen that holds the last n ids in memory, at least one.
func Remember(n int) Seen {
	return &memory{ids: make(map[string]struct{}), ring: make([]string, max(n, 1))}
}

type memory struct {
	mu   sync.Mutex
	ids  map[string]struct{} // guarded by mu
	ring []string            // guarded by mu; the ids in the order of their coming; "": none yet
	next int                 // guarded by mu; of ring, the oldest
}

func (m *memory) Has(_ context.Context, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, has := m.ids[id]
	return has, nil
}

func (m *memory) Add(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, has := m.ids[id]; has {
		return nil
	}
	delete(m.ids, m.ring[m.next])
	m.ids[id] = struct{}{}
	m.ring[m.next] = id
	m.next = (m.next + 1) % len(m.ring)
	return nil
}

// ServeHTTP verifies the request and hands it on unless its event was handled before.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := h.verified(w, r)
	if err != nil {
		status := http.StatusBadRequest
		switch {
		case errors.As(err, new(*http.MaxBytesError)):
			status = http.StatusRequestEntityTooLarge
		case errors.Is(err, ErrSignature), errors.Is(err, ErrTimestamp), errors.Is(err, ErrMissingHeader):
			status = http.StatusUnauthorized
		}
		h.refuse(w, r, status, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	id := r.Header.Get(HeaderID)
	if id == "" { // of a scheme that does not tell; the body may
		h.Next.ServeHTTP(w, r)
		return
	}
	leave, err := h.enter(r.Context(), id)
	if err != nil {
		h.refuse(w, r, http.StatusServiceUnavailable, err)
		return
	}
	defer leave()
	seen := h.seen()
	switch handled, err := seen.Has(r.Context(), id); {
	case err != nil:
		h.refuse(w, r, http.StatusInternalServerError, err)
		return
	case handled:
		w.WriteHeader(http.StatusOK)
		return
	}
	answer := &answered{ResponseWriter: w, status: http.StatusOK}
	h.Next.ServeHTTP(answer, r)
	if answer.status/100 != 2 {
		return
	}
	// The sender may be gone by now: the event is handled all the same.
	if err := seen.Add(context.WithoutCancel(r.Context()), id); err != nil && h.Refused != nil {
		h.Refused(r, err)
	}
}

// verified reads a request to its end and gives its body, once that is known to be signed.
func (h *Handler) verified(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := h.MaxBody
	if limit <= 0 {
		limit = defaultMaxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, err
	}
	signed := body
	if r.Method == http.MethodGet {
		signed = []byte(strings.TrimPrefix(strings.TrimPrefix(r.URL.RawQuery, h.Query), "&"))
	}
	verify := h.Verify
	if verify == nil {
		verify = Verify
	}
	return body, verify(r.Header, signed, time.Now(), h.Secrets...)
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	if h.Refused != nil {
		h.Refused(r, err)
	}
	http.Error(w, http.StatusText(status), status)
}

// enter waits until no other request about the event is with Next.
func (h *Handler) enter(ctx context.Context, id string) (leave func(), err error) {
	for {
		h.mu.Lock()
		other, busy := h.inHand[id]
		if !busy {
			if h.inHand == nil {
				h.inHand = make(map[string]chan struct{})
			}
			mine := make(chan struct{})
			h.inHand[id] = mine
			h.mu.Unlock()
			return func() {
				h.mu.Lock()
				delete(h.inHand, id)
				h.mu.Unlock()
				close(mine)
			}, nil
		}
		h.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (h *Handler) seen() Seen {
	if h.Seen != nil {
		return h.Seen
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own == nil {
		h.own = Remember(defaultSeen)
	}
	return h.own
}

// answered notes the status of an answer.
type answered struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (a *answered) WriteHeader(status int) {
	if status >= 200 && !a.wrote { // before it there may be informational ones
		a.status, a.wrote = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answered) Write(b []byte) (int, error) {
	a.wrote = true
	return a.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }
