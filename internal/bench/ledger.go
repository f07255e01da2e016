package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ledger keeps account of every event and every (event, webhook) pair of a run. Publishers and
// receivers write to it at the same time; report reads it when they are done. Its tables hold no
// pointers and are made in one piece, so that the garbage collector does not walk through them while
// it is being measured.
type ledger struct {
	origin   time.Time     // all times are counted from here
	start    time.Duration // of the load
	events   []event
	webhooks int
	arrivals []atomic.Int64 // seq*webhooks+webhook: when it came first, in ns; 0: it did not

	seed           maphash.Seed
	prefix, suffix string // of an event's data, around its number

	acknowledged atomic.Int64 // events
	arrived      atomic.Int64 // pairs, once each
	duplicated   atomic.Int64
	unexpected   atomic.Int64
	badSignature atomic.Int64

	mu     sync.Mutex
	faults map[string]int // guarded by mu; failed publish calls by kind
}

// event is written by its publisher, except id.
type event struct {
	due, sent, answered time.Duration
	acknowledged        bool

	// A hash of the event's id as whoever was first to know it said, the node's answer or a delivery:
	// the other must say the same. 0: nobody yet.
	id atomic.Uint64
}

const (
	digits  = 10 // of an event's number
	minSize = len(`{"run":"0123456789abcdef","event":"0123456789","fill":""}`)
	maxSize = 256 << 10
)

func newLedger(events, webhooks, size int) *ledger {
	var run [8]byte
	rand.Read(run[:]) // never fails
	return &ledger{
		origin: time.Now(), events: make([]event, events), webhooks: webhooks, arrivals: make([]atomic.Int64, events*webhooks),
		seed: maphash.MakeSeed(), faults: make(map[string]int),
		prefix: fmt.Sprintf(`{"run":"%s","event":"`, hex.EncodeToString(run[:])),
		suffix: fmt.Sprintf(`","fill":"%s"}`, strings.Repeat("x", size-minSize)),
	}
}

func (l *ledger) since() time.Duration { return time.Since(l.origin) }

// data is what event seq is published with: always the same number of bytes.
func (l *ledger) data(seq int) string {
	return l.prefix + fmt.Sprintf("%0*d", digits, seq) + l.suffix
}

// seqOf is the number of the event with this data, byte for byte.
func (l *ledger) seqOf(data string) (seq int, ok bool) {
	number, okPrefix := strings.CutPrefix(data, l.prefix)
	number, okSuffix := strings.CutSuffix(number, l.suffix)
	if !okPrefix || !okSuffix || len(number) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 63)
	return int(n), err == nil && n < uint64(len(l.events))
}

// sameID reports whether nobody said another id of the event.
func (l *ledger) sameID(seq int, id string) bool {
	hash := maphash.String(l.seed, id) | 1
	known := &l.events[seq].id
	return known.CompareAndSwap(0, hash) || known.Load() == hash
}

// acknowledge notes that the node took event seq.
func (l *ledger) acknowledge(seq int, id string) {
	if !l.sameID(seq, id) {
		l.unexpected.Add(1)
	}
	l.events[seq].acknowledged = true
	l.acknowledged.Add(1)
}

// fault notes that a publish call failed.
func (l *ledger) fault(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[kind]++
}

// arrive notes a delivery to webhook.
func (l *ledger) arrive(webhook int, id, data string, at time.Time, signed bool) {
	if !signed {
		l.badSignature.Add(1)
	}
	seq, ok := l.seqOf(data)
	if !ok || webhook >= l.webhooks || !l.sameID(seq, id) {
		l.unexpected.Add(1)
		return
	}
	if l.arrivals[seq*l.webhooks+webhook].CompareAndSwap(0, int64(at.Sub(l.origin))) {
		l.arrived.Add(1)
	} else {
		l.duplicated.Add(1)
	}
}

// drain waits for the deliveries that are due, and says how the wait ended.
func (l *ledger) drain(ctx context.Context) Ended {
	const step = 10 * time.Millisecond
	began, seen := l.since(), l.arrived.Load()
	last, uninterrupted := began, began
	for !l.complete() {
		pause(context.WithoutCancel(ctx), step)
		now := l.since()
		if n := l.arrived.Load(); n > seen {
			last, seen = now, n
		}
		if ctx.Err() == nil {
			uninterrupted = now
		}
		switch {
		case now-uninterrupted > grace:
			return Interrupted
		case now-last > quiet:
			return Quiet
		case now-began > maxDrain:
			return Late
		}
	}
	if ctx.Err() != nil {
		return Interrupted
	}
	return Complete
}

// complete reports whether every pair that is due has arrived.
func (l *ledger) complete() bool {
	// Deliveries of events whose publisher got no answer count in arrived as well: a sum that is large
	// enough proves nothing yet.
	return l.arrived.Load() >= l.acknowledged.Load()*int64(l.webhooks) && l.missing() == 0
}

func (l *ledger) missing() (n int) {
	for seq := range l.events {
		if l.events[seq].acknowledged {
			for w := range l.webhooks {
				if l.arrival(seq, w) == 0 {
					n++
				}
			}
		}
	}
	return n
}

// arrival is when the event came to webhook first; 0: it did not.
func (l *ledger) arrival(seq, webhook int) time.Duration {
	return time.Duration(l.arrivals[seq*l.webhooks+webhook].Load())
}
