package lab

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// endpoint is a receiver with an address of its own. What it does can be changed at any time.
type endpoint struct {
	l         *lab
	url       string
	listening bool // what arrives there is noted
	does      atomic.Pointer[behaviour]

	mu     sync.Mutex // guards what follows
	flying int        // requests that it has in hand
	peak   int        // the most there ever were
	oks    int        // requests answered with 2xx
}

// behaviour answers a request and says with which status; 0: with none.
type behaviour func(e *endpoint, w http.ResponseWriter, r *http.Request) (status int)

// arrival is a request that an endpoint got.
type arrival struct {
	event   int // its number; -1: it has none
	id      string
	at      time.Time
	attempt int
	status  int               // what it was answered
	ended   time.Time         // when
	sum     [sha256.Size]byte // of the body
	signed  bool              // by the lab's secret
	flying  int               // requests in the endpoint's hands, with this one
	oks     int               // requests that the endpoint had answered with 2xx before
}

// endpoints opens n receivers that answer 200.
func (l *lab) endpoints(n int) []*endpoint {
	l.Helper()
	all := make([]*endpoint, n)
	for i := range all {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		l.ok(err)
		all[i] = &endpoint{l: l, url: "http://" + listener.Addr().String()}
		all[i].becomes(healthy)
		all[i].serve(listener)
	}
	return all
}

// darkEndpoint is a receiver at whose address nobody listens. The port is taken, so that nobody else can
// have it meanwhile.
func (l *lab) darkEndpoint() *endpoint {
	l.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	l.ok(err)
	l.Cleanup(func() { _ = syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	l.ok(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(fd)
	l.ok(err)
	return &endpoint{l: l, url: "http://127.0.0.1:" + strconv.Itoa(name.(*syscall.SockaddrInet4).Port)}
}

func (e *endpoint) serve(listener net.Listener) {
	e.listening = true
	server := &http.Server{Handler: e, ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // until Close
	e.l.Cleanup(func() { _ = server.Close(); <-done })
}

func (e *endpoint) becomes(b behaviour) { e.does.Store(&b) }

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // it did not arrive
	}
	a := arrival{at: time.Now(), event: numberIn(body), id: r.Header.Get(signature.HeaderID), sum: sha256.Sum256(body)}
	e.l.lastArrival.Store(a.at.UnixNano())
	a.attempt, _ = strconv.Atoi(r.Header.Get("X-Fanfare-Attempt"))
	a.signed = signature.Verify(r.Header, body, a.at, e.l.secret) == nil
	e.mu.Lock()
	e.flying++
	e.peak = max(e.peak, e.flying)
	a.flying, a.oks = e.flying, e.oks
	e.mu.Unlock()
	h := e.l.hookOf(r.Header.Get("X-Fanfare-Webhook-Id"))
	entry := h.note(a)
	// The response leaves after this function: a request that follows it finds the books in order.
	a.status = (*e.does.Load())(e, w, r)
	a.ended = time.Now()
	h.answered(entry, a)
	e.mu.Lock()
	e.flying--
	if a.status/100 == 2 {
		e.oks++
	}
	e.mu.Unlock()
	if a.status == 0 {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	w.WriteHeader(a.status)
}

// inFlight is the most requests that the endpoint ever had in hand at once.
func (e *endpoint) inFlight() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peak
}

// numberIn finds the number that every event of the lab begins its data with.
func numberIn(body []byte) int {
	_, rest, ok := bytes.Cut(body, []byte(`"data":{"n":`))
	if !ok {
		return -1
	}
	n, digits := 0, 0
	for ; digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9'; digits++ {
		n = 10*n + int(rest[digits]-'0')
	}
	if digits == 0 {
		return -1
	}
	return n
}

// What receivers do.

func healthy(*endpoint, http.ResponseWriter, *http.Request) int { return http.StatusOK }

// answering gives the same status to everybody.
func answering(status int) behaviour {
	return func(*endpoint, http.ResponseWriter, *http.Request) int { return status }
}

// slowly does what b does, d later.
func slowly(d time.Duration, b behaviour) behaviour {
	return func(e *endpoint, w http.ResponseWriter, r *http.Request) int {
		if !e.wait(r, time.After(d)) {
			return 0
		}
		return b(e, w, r)
	}
}

// held keeps every request until the gate is closed, and then answers 200.
func held(gate <-chan struct{}) behaviour {
	return func(e *endpoint, _ http.ResponseWriter, r *http.Request) int {
		select {
		case <-gate:
			return http.StatusOK
		case <-r.Context().Done():
		case <-e.l.closing:
		}
		return 0
	}
}

// wait reports whether the time came before the client or the lab left.
func (e *endpoint) wait(r *http.Request, after <-chan time.Time) bool {
	select {
	case <-after:
		return true
	case <-r.Context().Done():
	case <-e.l.closing:
	}
	return false
}

// capped does what b does up to rate times a second, with as much again saved up; beyond it answers 429
// and asks to be left alone for a second, as real receivers do.
func capped(rate float64, b behaviour) behaviour {
	var mu sync.Mutex
	tokens, last := rate, time.Now()
	return func(e *endpoint, w http.ResponseWriter, r *http.Request) int {
		mu.Lock()
		now := time.Now()
		tokens, last = min(rate, tokens+rate*now.Sub(last).Seconds()), now
		granted := tokens >= 1
		if granted {
			tokens--
		}
		mu.Unlock()
		if !granted {
			w.Header().Set("Retry-After", "1")
			return http.StatusTooManyRequests
		}
		return b(e, w, r)
	}
}

// sometimes does b with probability share and else a. Which requests it meets depends only on the seed
// and their order.
func (l *lab) sometimes(share float64, b, a behaviour) behaviour {
	var mu sync.Mutex
	return func(e *endpoint, w http.ResponseWriter, r *http.Request) int {
		mu.Lock()
		hit := l.rand.Float64() < share
		mu.Unlock()
		if hit {
			return b(e, w, r)
		}
		return a(e, w, r)
	}
}
