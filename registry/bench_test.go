package registry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// benchID makes ids whose last bytes are as good as random, like those of real ones.
func benchID(kind byte, n int) (id uuid.UUID) {
	id[0], id[6], id[8] = kind, 0x70, 0x80
	binary.BigEndian.PutUint32(id[2:], uint32(n))
	binary.BigEndian.PutUint32(id[12:], uint32(n)*2654435761)
	return id
}

func benchWebhook(n, accounts, version int) fanfare.Webhook {
	return fanfare.Webhook{
		ID: benchID(2, n), AccountID: benchID(1, n%accounts), Version: int64(version), URL: fmt.Sprintf("https://example.com/hooks/%d", n),
		EventTypes: []string{fmt.Sprintf("call.%d", n%50), "invoice.*"}, RetrySchedule: []time.Duration{time.Minute, time.Hour},
	}
}

// benchSnapshot has accounts in a tree of three levels, and webhooks spread over them.
func benchSnapshot(accounts, webhooks int) *Snapshot {
	u := newUpdate(new(Snapshot), nil, noSecrets)
	for i := range accounts {
		a := store.RegistryAccount{ID: benchID(1, i)}
		if i > 0 {
			a.ParentID = benchID(1, i%min(i, 100))
			if i < 100 {
				a.ParentID = benchID(1, 0)
			}
		}
		u.Account(a)
	}
	for i := range webhooks {
		u.Webhook(benchWebhook(i, accounts, 1))
	}
	return u.done(1)
}

func BenchmarkMatch(b *testing.B) {
	const accounts = 10_000
	s := benchSnapshot(accounts, 100_000)
	var dst []*Webhook
	i := 0
	for b.Loop() {
		dst = s.Match(dst[:0], benchID(1, i%accounts), "call.7", benchData)
		i++
	}
}

func BenchmarkUpdate(b *testing.B) {
	const accounts, webhooks = 10_000, 100_000
	s := benchSnapshot(accounts, webhooks)
	i := 0
	for b.Loop() {
		w := benchWebhook(i%webhooks, accounts, i)
		u := newUpdate(s, nil, noSecrets)
		u.Changed(store.Changed{Webhooks: []uuid.UUID{w.ID}})
		u.Webhook(w)
		s = u.done(int64(i))
		i++
	}
}

var benchData = []byte(`{"customer_id": "c-1", "amount": 1250.00, "currency": "EUR", "customer": {"id": "c-1", "name": "Zoë Ångström", "country": "AT"},
	"tags": ["new", "vip"], "lines": [{"sku": "A-100", "count": 2, "price": {"net": 10.25, "vat": 2.05}}, {"sku": "B", "count": 1}]}`)

// BenchmarkMatchFilters is one account with that many webhooks on one type, each with a condition on
// another customer: by equality, which an index finds, and by an operator that none can.
func BenchmarkMatchFilters(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		s := crowd(n, byCustomer)
		events := make([][]byte, 1000)
		for i := range events {
			events[i] = bytes.Replace(benchData, []byte(`"c-1"`), fmt.Appendf(nil, `"c%d"`, i*n/len(events)), 1)
		}
		b.Run(fmt.Sprintf("equality/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var dst []*Webhook
			took := make([]time.Duration, 0, 1<<20)
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				if dst = s.Match(dst[:0], benchID(1, 0), "invoice.paid", events[i%len(events)]); len(dst) != 1 {
					b.Fatalf("%d match", len(dst))
				}
				if len(took) < cap(took) {
					took = append(took, time.Since(start))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
		})
	}
	for _, n := range []int{100, 1_000, 10_000} {
		s := crowd(n, func(i int, w *fanfare.Webhook) {
			w.Wishes = &fanfare.Wishes{Canonical: fmt.Appendf(nil, `{"data":{"amount":{"$gt":%d}}}`, 2000+i)}
		})
		b.Run(fmt.Sprintf("comparison/%d", n), func(b *testing.B) {
			for b.Loop() {
				s.Match(nil, benchID(1, 0), "invoice.paid", benchData)
			}
		})
	}
}

// BenchmarkUpdateFilters changes one of the webhooks of one account.
func BenchmarkUpdateFilters(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		s := crowd(n, byCustomer)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				w := benchWebhook(i%n, 1, i)
				w.EventTypes = []string{"invoice.paid"}
				byCustomer(i, &w)
				u := newUpdate(s, nil, noSecrets)
				u.Changed(store.Changed{Webhooks: []uuid.UUID{w.ID}})
				u.Webhook(w)
				s = u.done(int64(i))
			}
		})
	}
}

// BenchmarkMemory reports what a webhook takes, without its secret.
func BenchmarkMemory(b *testing.B) {
	const webhooks = 100_000
	for b.Loop() {
		before := heap()
		s := benchSnapshot(webhooks/10, webhooks)
		b.ReportMetric(float64(heap()-before)/webhooks, "B/webhook")
		runtime.KeepAlive(s)
	}
}

// BenchmarkMemoryFilters reports what one takes whose filter is all its own, and how long it takes to load.
func BenchmarkMemoryFilters(b *testing.B) {
	const webhooks = 100_000
	for b.Loop() {
		before, start := heap(), time.Now()
		s := crowd(webhooks, byCustomer)
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/webhooks, "ns/webhook")
		b.ReportMetric(float64(heap()-before)/webhooks, "B/webhook")
		runtime.KeepAlive(s)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
