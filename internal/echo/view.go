package echo

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	maxStreams   = 64
	heartbeat    = 15 * time.Second       // keeps proxies from closing a quiet stream
	batchPause   = 100 * time.Millisecond // a busy name is sent in batches, not one by one
	writeTimeout = 30 * time.Second       // for one batch: a viewer that reads nothing is let go
)

// page holds nothing of the request: the script reads the name from the address and writes what it is
// given as text, never as markup.
//
//go:embed view.html
var page string

// policy allows the page's own script and style, by their hashes, and requests to its own origin.
var policy = fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	hashOf("<script>", "</script>"), hashOf("<style>", "</style>"))

func hashOf(open, end string) string {
	_, rest, _ := strings.Cut(page, open)
	text, _, _ := strings.Cut(rest, end)
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// View answers with a page that shows what a name receives as it comes. The query's format chooses
// another form: json is {"data": […]}, newest first; events is a stream of server-sent events, one a
// request, oldest first, that goes on until the viewer leaves or [Echo.Close]. A bad name answers 404.
func (e *Echo) View(w http.ResponseWriter, r *http.Request, name string) {
	if !ValidName(name) {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Query().Get("format") {
	case "json":
		writeJSON(w, map[string]any{"data": e.Requests(name)})
	case "events":
		e.stream(w, r, name)
	default:
		h.Set("Content-Security-Policy", policy)
		h.Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(page))
	}
}

// stream sends what is kept after the Last-Event-ID, then what arrives.
func (e *Echo) stream(w http.ResponseWriter, r *http.Request, name string) {
	select {
	case e.streams <- struct{}{}:
		defer func() { <-e.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many viewers", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	last, _ := uuid.Parse(r.Header.Get("Last-Event-ID")) // none or a strange one: everything is sent
	if _, err := fmt.Fprint(w, "retry: 1000\n\n"); err != nil || out.Flush() != nil {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		requests, changed := e.since(name, last)
		out.SetWriteDeadline(time.Now().Add(writeTimeout)) // some writers have none: then the server's rules
		for _, req := range requests {
			text, err := json.Marshal(req)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "id: %s\ndata: %s\n\n", req.ID, text); err != nil {
				return
			}
			last = req.ID
		}
		if len(requests) > 0 && out.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			if _, err := fmt.Fprint(w, ":\n\n"); err != nil || out.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-e.done:
			return
		}
		pause.Reset(batchPause)
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		case <-e.done:
			return
		}
	}
}
