package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/maphash"
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
	layout
	origin   time.Time     // all times are counted from here
	start    time.Duration // of the load
	events   []event
	sent     int            // of events: the others were never sent
	arrivals []atomic.Int64 // seq*fanOut+place: when it came first, in ns; 0: it did not

	seed           maphash.Seed
	prefix, suffix []byte // of an event's data, around its number

	acknowledged atomic.Int64 // events
	arrived      atomic.Int64 // pairs, once each
	duplicated   atomic.Int64
	unexpected   atomic.Int64
	badSignature atomic.Int64

	mu        sync.Mutex
	faults    map[string]int // guarded by mu, like the rest; failed publish calls by kind
	surprises []string       // what was wrong with the first deliveries that were not as they should be
}

const maxSurprises = 5

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

func newLedger(events int, w layout, size int) *ledger {
	var run [8]byte
	rand.Read(run[:]) // never fails
	return &ledger{
		layout: w, origin: time.Now(), events: make([]event, events), sent: events, arrivals: make([]atomic.Int64, events*w.fanOut),
		seed: maphash.MakeSeed(), faults: make(map[string]int),
		prefix: fmt.Appendf(nil, `{"run":"%s","event":"`, hex.EncodeToString(run[:])),
		suffix: fmt.Appendf(nil, `","fill":"%s"}`, strings.Repeat("x", size-minSize)),
	}
}

func (l *ledger) since() time.Duration { return time.Since(l.origin) }

// appendData appends what event seq is published with: always the same number of bytes.
func (l *ledger) appendData(dst []byte, seq int) []byte {
	dst = append(dst, l.prefix...)
	end := len(dst) + digits
	dst = append(dst, "0000000000"...)
	for i := end - 1; seq > 0; i-- {
		dst[i] += byte(seq % 10)
		seq /= 10
	}
	return append(dst, l.suffix...)
}

// seqOf is the number of the event with this data, byte for byte.
func (l *ledger) seqOf(data []byte) (seq int, ok bool) {
	number, okPrefix := bytes.CutPrefix(data, l.prefix)
	number, okSuffix := bytes.CutSuffix(number, l.suffix)
	if !okPrefix || !okSuffix || len(number) != digits {
		return 0, false
	}
	for _, c := range number {
		if c < '0' || c > '9' {
			return 0, false
		}
		seq = seq*10 + int(c-'0')
	}
	return seq, seq < len(l.events)
}

// sameID reports whether nobody said another id of the event.
func (l *ledger) sameID(seq int, id []byte) bool {
	hash := maphash.Bytes(l.seed, id) | 1
	known := &l.events[seq].id
	return known.CompareAndSwap(0, hash) || known.Load() == hash
}

// acknowledge notes that the node took event seq.
func (l *ledger) acknowledge(seq int, id []byte) {
	if !l.sameID(seq, id) {
		l.surprise(fmt.Sprintf("event %d: its publisher was given the id %s, a webhook another", seq, id))
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

// surprise notes a delivery, or an answer, that is not what was published.
func (l *ledger) surprise(text string) {
	l.unexpected.Add(1)
	l.note(text)
}

func (l *ledger) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.surprises) < maxSurprises {
		l.surprises = append(l.surprises, text)
	}
}

// arrive notes a delivery to webhook, and whether its signature was good.
func (l *ledger) arrive(webhook int, id, data []byte, at time.Time, signature error) {
	if signature != nil {
		l.badSignature.Add(1)
		l.note(fmt.Sprintf("webhook %d, event %s: %v", webhook, id, signature))
	}
	seq, ok := l.seqOf(data)
	if !ok {
		l.surprise(fmt.Sprintf("webhook %d, event %s: its data was not published in this run", webhook, id))
		return
	}
	place, ok := l.wants(webhook, seq)
	switch {
	case !ok:
		l.surprise(fmt.Sprintf("webhook %d, event %s: it is for others", webhook, id))
	case !l.sameID(seq, id):
		l.surprise(fmt.Sprintf("webhook %d, event %s: this is the data of an event with another id", webhook, id))
	case l.arrivals[seq*l.fanOut+place].CompareAndSwap(0, int64(at.Sub(l.origin))):
		l.arrived.Add(1)
	default:
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
	return l.outstanding() <= 0 && l.missing() == 0
}

// outstanding is how many deliveries of acknowledged events have not arrived, less those that arrived of
// events whose publisher got no answer.
func (l *ledger) outstanding() int64 { return l.acknowledged.Load()*int64(l.fanOut) - l.arrived.Load() }

func (l *ledger) missing() (n int) {
	for seq := range l.sent {
		if l.events[seq].acknowledged {
			for place := range l.fanOut {
				if l.arrival(seq, place) == 0 {
					n++
				}
			}
		}
	}
	return n
}

// arrival is when the event first came to the webhook at that place of its group; 0: it did not.
func (l *ledger) arrival(seq, place int) time.Duration {
	return time.Duration(l.arrivals[seq*l.fanOut+place].Load())
}

// reached is how many webhooks were due an event.
func (l *ledger) reached() int {
	groups := make(map[[2]int]bool)
	for seq := range l.sent {
		if l.events[seq].acknowledged {
			account, group := l.to(seq)
			groups[[2]int{account, group}] = true
		}
	}
	return len(groups) * l.fanOut
}
