package tail

import (
	"sort"
	"time"

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

// after is the index of the first event after q.After that q wants, or the number of events.
func (r *ring) after(q *store.LogQuery) int {
	i := sort.Search(len(r.events), func(i int) bool { return fanfare.PositionOf(r.events[i].ID) > q.After })
	for i < len(r.events) && !wants(q, &r.events[i].Event) {
		i++
	}
	return i
}

// page answers what comes after q.After, nil if that cannot be told.
func (r *ring) page(q *store.LogQuery) *store.LogPage {
	if !r.begun || q.After < r.from || q.After > r.to {
		return nil
	}
	page := &store.LogPage{Read: r.to, CaughtUp: true}
	var bytes int64
	for i := r.after(q); i < len(r.events); i++ {
		e := &r.events[i].Event
		if !wants(q, e) {
			continue
		}
		if bytes += int64(len(e.Data)); len(page.Events) == q.Limit || bytes > q.MaxBytes && len(page.Events) > 0 {
			page.Read, page.CaughtUp = fanfare.PositionOf(page.Events[len(page.Events)-1].ID), false
			break
		}
		page.Events = append(page.Events, *e)
	}
	return page
}

func wants(q *store.LogQuery, e *fanfare.Event) bool {
	return !e.Test && chosen(q.Types, e.Type) && (e.AccountID == q.AccountID || q.Descendants && q.Within(e.AccountID))
}
