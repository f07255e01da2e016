// Package echo is the test receiver: a place to point a webhook at, and a page that shows what arrives.
//
// It hides how a signature is checked, and a bounded memory of requests: 100 names, the least recently used of which makes room, and for
// each 100 requests and 1 MiB, the oldest of which make room. Nothing is written to disk.
package echo

import (
	"container/list"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

const (
	maxNames    = 100
	maxRequests = 100       // of a name
	maxBytes    = 1 << 20   // of a name, headers included
	maxBody     = 512 << 10 // kept of one request
	maxHeader   = 64 << 10  // kept of one request
	maxTarget   = 8 << 10   // kept of a path or a query
	maxRead     = 16 << 20  // of a body; what is longer is cut off
	maxDelay    = 30 * time.Second
)

// Request is one request that was received. It never changes.
type Request struct {
	ID           uuid.UUID           `json:"id"` // time-ordered
	ReceivedAt   Time                `json:"received_at"`
	Method       string              `json:"method"`
	Path         string              `json:"path"`
	Query        string              `json:"query"`
	Headers      map[string][]string `json:"headers"` // with Host
	Body         string              `json:"body"`
	BodyEncoding string              `json:"body_encoding"` // utf8 or base64
	Truncated    bool                `json:"truncated"`     // something was too long to keep whole
	Signature    *Verdict            `json:"signature"`     // nil: it was told no secret
}

// Time is a time that JSON shows in UTC with milliseconds (RFC 3339).
type Time struct{ time.Time }

// MarshalJSON always writes three digits of the second's fraction.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// Echo receives and remembers requests. It may be used by many goroutines.
type Echo struct {
	done      chan struct{} // closed by Close
	closeOnce sync.Once
	streams   chan struct{} // a token for each open stream of events

	mu      sync.Mutex
	boxes   map[string]*list.Element // by name
	recent  *list.List               // of *box, most recently used first
	changed chan struct{}            // closed when a request arrives; nil if nobody waits
}

// box is what one name has received.
type box struct {
	name     string
	requests []*Request // oldest first
	bytes    int
}

// New makes an empty receiver.
func New() *Echo {
	return &Echo{
		done:    make(chan struct{}),
		streams: make(chan struct{}, maxStreams),
		boxes:   map[string]*list.Element{},
		recent:  list.New(),
	}
}

// Close ends open streams and delays, now and from now on. It does not wait for them: the server's
// shutdown does.
func (e *Echo) Close() { e.closeOnce.Do(func() { close(e.done) }) }

// Receive remembers any request and answers 200 and "ok". The query may choose otherwise: status (200 to
// 599) and delay (a duration like 1.5s, at most 30s), which passes before the answer but after the
// request is remembered; with a secret (whsec_…) it says of each request whether that signed it. A bad option
// answers 400, a bad name 404, and neither is remembered.
func (e *Echo) Receive(w http.ResponseWriter, r *http.Request, name string) {
	if !ValidName(name) {
		http.NotFound(w, r)
		return
	}
	status, delay, fault := options(r)
	secret, told, err := secretOf(r.URL.RawQuery)
	if err != nil {
		fault = "secret is not a signing secret such as whsec_…"
	}
	if fault != "" {
		http.Error(w, fault, http.StatusBadRequest)
		return
	}
	req, body, err := read(r)
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	if told {
		req.Signature = verify(r, body, req, secret)
	}
	e.remember(name, req)
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-e.done:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		io.WriteString(w, "ok\n")
	}
}

// Requests lists what a name has received, newest first. The requests share their headers with the
// memory: read only.
func (e *Echo) Requests(name string) []Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	el, ok := e.boxes[name]
	if !ok {
		return []Request{}
	}
	kept := el.Value.(*box).requests
	out := make([]Request, 0, len(kept))
	for _, r := range slices.Backward(kept) {
		out = append(out, *r)
	}
	return out
}

// ValidName reports whether a name is 1 to 64 of A–Z a–z 0–9 - _.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 64
}

// since gives the requests of a name that came after the one given, oldest first (all of them if it is
// no longer kept), and a channel that is closed when there may be more.
func (e *Echo) since(name string, after uuid.UUID) ([]*Request, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	el, ok := e.boxes[name]
	if !ok {
		return nil, e.changed
	}
	kept := el.Value.(*box).requests
	i := slices.IndexFunc(kept, func(r *Request) bool { return r.ID == after })
	return slices.Clone(kept[i+1:]), e.changed
}

func (e *Echo) remember(name string, req *Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	el, ok := e.boxes[name]
	if !ok {
		if e.recent.Len() == maxNames {
			oldest := e.recent.Back()
			delete(e.boxes, oldest.Value.(*box).name)
			e.recent.Remove(oldest)
		}
		el = e.recent.PushFront(&box{name: name})
		e.boxes[name] = el
	}
	e.recent.MoveToFront(el)
	b := el.Value.(*box)
	b.requests = append(b.requests, req)
	b.bytes += req.size()
	for len(b.requests) > maxRequests || b.bytes > maxBytes {
		b.bytes -= b.requests[0].size()
		b.requests = slices.Delete(b.requests, 0, 1)
	}
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// size is about what the request takes in memory. It stays below maxBytes for any request, so that the
// newest always fits.
func (r *Request) size() int {
	n := 256 + len(r.Method) + len(r.Path) + len(r.Query) + len(r.Body)
	for name, values := range r.Headers {
		n += headerSize(name, values)
	}
	return n
}

func headerSize(name string, values []string) int {
	n := 64 + len(name)
	for _, v := range values {
		n += 16 + len(v)
	}
	return n
}

// read takes a request in, as much of it as is kept.
func read(r *http.Request) (*Request, []byte, error) {
	query := withoutSecret(r.URL.RawQuery)
	req := &Request{
		ReceivedAt: Time{time.Now()},
		Method:     clip(r.Method, 64),
		Path:       clip(r.URL.EscapedPath(), maxTarget),
		Query:      clip(query, maxTarget),
		Headers:    make(map[string][]string, len(r.Header)+1),
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, nil, err
	}
	req.ID = id
	req.Truncated = len(req.Path) < len(r.URL.EscapedPath()) || len(req.Query) < len(query)

	req.Headers["Host"] = []string{clip(r.Host, 512)}
	room := maxHeader
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if room -= headerSize(name, r.Header[name]); room < 0 {
			req.Truncated = true
			break
		}
		req.Headers[name] = r.Header[name]
	}

	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, nil, err
	}
	rest, err := io.CopyN(io.Discard, r.Body, maxRead-maxBody)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	if rest > 0 {
		req.Truncated = true
		body = wholeRunes(body)
	}
	req.BodyEncoding, req.Body = "utf8", string(body)
	if !utf8.Valid(body) {
		req.BodyEncoding, req.Body = "base64", base64.StdEncoding.EncodeToString(body)
	}
	return req, body, nil
}

// wholeRunes drops the part of a character that a cut left at the end.
func wholeRunes(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

func options(r *http.Request) (status int, delay time.Duration, fault string) {
	status = http.StatusOK
	q := r.URL.Query()
	if s := q.Get("status"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 200 || n > 599 {
			return 0, 0, "status is not a number from 200 to 599"
		}
		status = n
	}
	if s := q.Get("delay"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > maxDelay {
			return 0, 0, "delay is not a duration from 0s to " + maxDelay.String()
		}
		delay = d
	}
	return status, delay, ""
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

// writeJSON answers 200 with v, for which encoding does not fail.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
