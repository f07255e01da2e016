package mail

import (
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxKept is how many mails are kept.
const maxKept = 100

// Kept is a [Sender] that sends nothing, but shows on a page what it would have sent. It may be used by many goroutines.
type Kept struct {
	mu    sync.Mutex // guards mails
	mails []keptMail // oldest first
}

type keptMail struct {
	Message
	At time.Time
}

// Send keeps messages.
func (k *Kept) Send(_ context.Context, messages []Message) []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range messages {
		k.mails = append(k.mails, keptMail{m, time.Now().UTC()})
	}
	k.mails = slices.Delete(k.mails, 0, max(len(k.mails)-maxKept, 0))
	return make([]error, len(messages))
}

//go:embed kept.html
var keptHTML string

var keptPage = template.Must(template.New("").Parse(keptHTML))

// ServeHTTP shows the mails, newest first.
func (k *Kept) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	k.mu.Lock()
	mails := slices.Clone(k.mails)
	k.mu.Unlock()
	slices.Reverse(mails)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	// A mail is shown as somebody would get it, but nothing in it may run here.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'")
	_ = keptPage.Execute(w, mails)
}
