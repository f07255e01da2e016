package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
)

// instant takes every event at once.
type instant struct{ receipts []dispatcher.Receipt }

func (instant) Admit(context.Context, uuid.UUID) error { return nil }

func (p instant) Publish(_ context.Context, pubs []dispatcher.Publication) ([]dispatcher.Receipt, error) {
	return p.receipts[:len(pubs)], nil
}

func (instant) Test(context.Context, uuid.UUID, uuid.UUID, string, []byte) (*fanfare.Attempt, error) {
	return nil, io.EOF
}

// discard is a ResponseWriter that keeps nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// A publish from the router to the answer, without the network and the commit.
func BenchmarkPublish(b *testing.B) {
	w := newWorld(b)
	w.eventType("call.ended")
	key := w.key(w.account(""))
	p := instant{make([]dispatcher.Receipt, 1000)}
	for i := range p.receipts {
		p.receipts[i] = dispatcher.Receipt{ID: fanfare.EventID(fanfare.Position(i), 1), Matched: 1}
	}
	server := w.serverWith(p)
	for _, size := range []int{100, 1 << 10, 10 << 10, 256 << 10} {
		data := `{"text":"` + strings.Repeat("x", size/2) + `","list":[` + strings.Repeat(`12,`, (size/2-30)/3) + `0]}`
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			run(b, server, "/v1/accounts/me/events", key, `{"type":"call.ended","data":`+data+`}`)
		})
	}
	event := `{"account_id":"me","type":"call.ended","data":{"text":"` + strings.Repeat("x", 1000) + `"}}`
	b.Run("batch of 1000", func(b *testing.B) {
		run(b, server, "/v1/events/batch", key, `{"events":[`+strings.Repeat(event+",", 999)+event+`]}`)
	})
}

func run(b *testing.B, server *api.Server, path, key, body string) {
	blank := httptest.NewRequest("POST", path, nil)
	blank.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + key}}
	blank.ContentLength = int64(len(body))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r := *blank
		r.Body = io.NopCloser(strings.NewReader(body))
		w := discard{header: make(http.Header, 8)}
		server.ServeHTTP(&w, &r)
		if w.status != 202 {
			b.Fatal(w.status)
		}
	}
}
