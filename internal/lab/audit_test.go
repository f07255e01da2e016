package lab

import "time"

// audit waits until every delivery but those of the webhooks in failing has ended, and then holds the
// journals against what was acknowledged and against the log.
func (l *lab) audit(limit time.Duration, failing ...*hook) {
	l.Helper()
	ids := make([]string, len(failing))
	for i, h := range failing {
		ids[i] = h.id
	}
	done := l.within(limit, func() bool {
		return l.count(`SELECT (SELECT count(*) FROM open_groups) +
			(SELECT count(*) FROM retries WHERE webhook_id <> ALL ($1::uuid[]))`, ids) == 0
	})
	l.report.bar("every delivery ended", done, done, "true")

	expected := besides(failing...)
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
	var unexpected, forged, arrived int64
	l.mu.Lock()
	hooks := make([]*hook, 0, len(l.hooks))
	for _, h := range l.hooks {
		hooks = append(hooks, h)
	}
	l.mu.Unlock()
	for _, h := range hooks {
		h.mu.Lock()
		for _, n := range h.delivered {
			duplicates += int64(n - 1)
			arrived++
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
	// An attempt says delivered exactly where a receiver said 2xx, and every pair has a state.
	l.report.none("phantoms", l.count(`
		SELECT count(*) FROM (SELECT DISTINCT webhook_id, event_id FROM attempts WHERE state = 'delivered') d`)-arrived)
	if len(unknown) == 0 {
		l.report.none("unaccounted", pairs-l.count(`
			SELECT count(*) FROM (SELECT webhook_id, event_id FROM attempts UNION SELECT webhook_id, event_id FROM retries) p`))
	}
}
