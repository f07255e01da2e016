package lab

import (
	"maps"
	"slices"
	"time"
)

// audit waits until every delivery that is due soon has ended, but those of the webhooks in failing, and
// then holds the journals against what was acknowledged and against the log.
func (l *lab) audit(limit time.Duration, failing ...*hook) {
	l.Helper()
	expected := besides(failing...)
	hooks := l.known()
	var ids []string
	for _, h := range hooks {
		if expected(h) {
			ids = append(ids, h.id)
		}
	}
	left := func() int64 {
		return l.count(`SELECT (SELECT count(*) FROM open_groups) + (SELECT count(*) FROM retries
			WHERE webhook_id = ANY ($1::uuid[]) AND due_at < now() + interval '30 minutes')`, ids)
	}
	l.within(limit, func() bool {
		l.pause(100 * time.Millisecond)
		return left() == 0
	})
	l.report.none("deliveries that never ended", left())

	var lost, duplicates, acknowledged, pairs int64
	known := make(map[int]string) // acknowledged → id
	unknown := make(map[int]bool)
	l.mu.Lock()
	events := l.events
	l.mu.Unlock()
	for number := range events {
		e := &events[number]
		if e.status == 0 {
			unknown[number] = true
		}
		if !e.acknowledged() {
			continue
		}
		acknowledged++
		known[number] = e.id
		for _, h := range e.topic.hooks {
			pairs++
			if expected(h) && !h.has(number) {
				lost++
			}
		}
	}
	var unexpected, forged, arrived, owed int64
	for _, h := range hooks {
		h.mu.Lock()
		for _, n := range h.delivered {
			duplicates += int64(n - 1)
			if arrived++; expected(h) {
				owed++
			}
		}
		for _, a := range h.arrivals {
			id, ok := known[a.event]
			if h.endpoint == nil || !ok && !unknown[a.event] || ok && id != "" && id != a.id {
				unexpected++
			}
			if !a.signed {
				forged++
			}
		}
		h.mu.Unlock()
	}
	l.report.count("acknowledged", acknowledged)
	l.report.count("deliveries", arrived)
	l.report.none("lost", lost)
	l.report.none("unexpected", unexpected)
	l.report.none("duplicates", duplicates)
	l.report.none("bad signatures", forged)
	// The log says delivered exactly where a receiver said 2xx, and every pair has a state.
	l.report.none("phantoms", l.count(`SELECT count(*) FROM (
		SELECT DISTINCT webhook_id, event_id FROM attempts WHERE state = 'delivered' AND webhook_id = ANY ($1::uuid[])) d`, ids)-owed)
	if len(unknown) == 0 {
		l.report.none("unaccounted", pairs+l.silent-l.count(`SELECT (SELECT count(*) FROM retries) + (SELECT count(*) FROM (
			SELECT DISTINCT webhook_id, event_id FROM attempts a
			WHERE NOT EXISTS (SELECT FROM retries r WHERE r.webhook_id = a.webhook_id AND r.event_id = a.event_id)) ended)`))
	}
}

// known lists the webhooks that were made or that something arrived for.
func (l *lab) known() []*hook {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.hooks))
}
