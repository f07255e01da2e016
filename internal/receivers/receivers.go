// Package receivers starts webhook receivers whose verifying part is another's: Standard Webhooks' own
// libraries for Node.js and for Go, Svix's for Node.js, and the few lines that people write for Express and
// Flask. End-to-end tests send to them to learn whether receivers out there accept what Fanfare signs.
//
// It hides how such a receiver is installed, started, read and ended. Only tests import it.
package receivers

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// Report is what a receiver says about one request.
type Report struct {
	ID      string `json:"id"`      // the webhook-id header
	OK      bool   `json:"ok"`      // the signature is good; the answer was 204, else 400 or 401
	Error   string `json:"error"`   // the verifying library's words; "" if OK
	Attempt int    `json:"attempt"` // the X-Fanfare-Attempt header; 0: none
	SHA256  string `json:"sha256"`  // of the body, in hex
}

// Receiver is a receiver at work. It ends with the test that started it.
type Receiver struct {
	URL string // http, on the loopback

	t       testing.TB
	mu      sync.Mutex
	reports []Report      // guarded by mu; not yet given to Next
	err     error         // guarded by mu; why there will be no further reports
	more    chan struct{} // holds a token if reports or err may have changed
}

var errEnded = errors.New("the receiver has ended")

func newReceiver(t testing.TB) *Receiver {
	return &Receiver{t: t, more: make(chan struct{}, 1)}
}

// Next waits for the report of the next request, in the order of their answers, which is the order of
// arrival only for a sender that waits for each answer. The test fails, and stops, when ctx ends first
// or the receiver died. One goroutine at a time may wait, and it must be the test's own.
func (r *Receiver) Next(ctx context.Context) Report {
	r.t.Helper()
	for {
		report, ok, err := r.take()
		if ok {
			return report
		}
		if err != nil {
			r.t.Fatalf("receivers: no further report: %v", err)
		}
		select {
		case <-r.more:
		case <-ctx.Done():
			r.t.Fatalf("receivers: waited for a report: %v", context.Cause(ctx))
		}
	}
}

func (r *Receiver) take() (Report, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) == 0 {
		return Report{}, false, r.err
	}
	report := r.reports[0]
	r.reports = r.reports[1:]
	return report, true, nil
}

func (r *Receiver) add(report Report) {
	r.mu.Lock()
	r.reports = append(r.reports, report)
	r.mu.Unlock()
	r.wake()
}

// end says that there will be no further reports.
func (r *Receiver) end(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	r.wake()
}

func (r *Receiver) wake() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}
