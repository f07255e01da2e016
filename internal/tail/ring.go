package tail

import (
	"sort"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// ring is the newest part of the log, of all accounts: every event after from up to to. The zero value
// holds nothing.
type ring struct {
	begun    bool
	from, to fanfare.Position
	events   []entry // in the order of the log
	bytes    int64
}

// entry is an event and when it was read.
type entry struct {
	fanfare.Event
	at time.Time
}

// begin makes the ring one that has read nothing after a position.
func (r *ring) begin(after fanfare.Position) { *r = ring{begun: true, from: after, to: after} }

// overhead is what an event needs beside its data.
const overhead = 400

func size(e *entry) int64 { return int64(len(e.Data)) + overhead }

// kept is how long an event stays: data that was expunged must not be read for long.
const kept = time.Minute

// add appends what was read after r.to, and forgets what is too old, and the oldest beyond a number of bytes.
func (r *ring) add(events []fanfare.Event, most int64, now time.Time) {
	for i := range events {
		r.events = append(r.events, entry{events[i], now})
		r.bytes += size(&r.events[len(r.events)-1])
	}
	if n := len(r.events); n > 0 {
		r.to = fanfare.PositionOf(r.events[n-1].ID)
	}
	old := 0
	for ; r.bytes > most || old < len(r.events) && now.Sub(r.events[old].at) > kept; old++ {
		e := &r.events[old]
		r.from = fanfare.PositionOf(e.ID)
		r.bytes -= size(e)
		*e = entry{} // the array may live on
	}
	r.events = r.events[old:]
}

// holds says whether every event after a position and up to another one is here.
func (r *ring) holds(after, end fanfare.Position) bool {
	return r.begun && r.from <= after && after <= end && end <= r.to
}

// examined is how many events one looks at before others have their turn with the ring.
const examined = 1000

// pick is a page that one call makes of the ring.
type pick struct {
	q      *store.LogQuery
	within func(account uuid.UUID) bool // nil without descendants
	page   *store.LogPage
	bytes  int64 // of its data
}

// pick adds what is wanted after the page's end and up to another position; the ring must hold all of it. more says
// that it looked at enough for now, and the page is not complete.
func (r *ring) pick(p *pick, end fanfare.Position) (more bool) {
	first := sort.Search(len(r.events), func(i int) bool { return fanfare.PositionOf(r.events[i].ID) > p.page.Read })
	for n := range r.events[first:] {
		e := &r.events[first+n]
		at := fanfare.PositionOf(e.ID)
		switch {
		case at > end:
			p.page.Read = end
			return false
		case n == examined:
			return true
		}
		if p.wants(&e.Event) {
			if p.bytes+int64(len(e.Data)) > p.q.MaxBytes && len(p.page.Events) > 0 {
				return false
			}
			p.page.Events = append(p.page.Events, e.Event)
			p.bytes += int64(len(e.Data))
		}
		if p.page.Read = at; len(p.page.Events) == p.q.Limit {
			return false
		}
	}
	p.page.Read = end
	return false
}

// wants asks for the type last: it is the most expensive to compare.
func (p *pick) wants(e *fanfare.Event) bool {
	mine := e.AccountID == p.q.AccountID || p.within != nil && p.within(e.AccountID)
	return mine && !e.Test && chosen(p.q.Types, e.Type)
}
