package lab

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// books is what a lane's audit allows.
type books struct {
	limit   time.Duration // to become quiet
	failing []*hook       // their deliveries need not have ended, nor in success
	repeats float64       // the share of deliveries that may arrive twice
	flying  int64         // and so many more: requests that were in flight when something broke
}

// audit waits until every delivery that is due soon has ended, but those of the webhooks in failing, and
// then holds the journals of publishers and receivers and what the API says against each other, pair by pair.
func (l *lab) audit(limit time.Duration, failing ...*hook) {
	l.Helper()
	l.balance(books{limit: limit, failing: failing})
}

func (l *lab) balance(b books) {
	l.Helper()
	expected := besides(b.failing...)
	hooks := l.known()
	states, journals := l.quiet(b.limit, hooks, expected)
	l.mu.Lock()
	c := newChecker(slices.Clone(l.events))
	l.mu.Unlock()
	owed := l.published(c.events, expected)
	silent := l.silentPairs(hooks, owed)
	for _, journal := range journals {
		c.meet(journal)
	}
	for i, h := range hooks {
		c.check(&ledger{
			name: h.id, steps: h.steps, owed: owed[h], arrivals: journals[i], states: states[i], failing: !expected(h), unheard: h.unheard,
		})
	}
	c.counts[unaccounted] += silent
	l.report.count("pairs", c.pairs)
	l.report.count("deliveries", c.arrived)
	l.report.count("requests", c.requests)
	for _, kind := range kinds {
		l.report.none(kind, c.counts[kind])
	}
	l.report.count(again, c.counts[again])
	if allowed := b.flying + int64(b.repeats*float64(c.arrived)); allowed > 0 {
		l.report.atMost(again, float64(c.counts[again]), float64(allowed))
	} else {
		l.report.none(again, c.counts[again])
	}
	for _, kind := range slices.Sorted(maps.Keys(c.examples)) {
		for _, text := range c.examples[kind] {
			l.Logf("%s: %s", kind, text)
		}
	}
	for _, n := range l.nodes {
		n.remember()
	}
	l.report.figure("RSS MiB, at most", float64(l.memory.Load())/mib)
}

// quiet waits until every delivery that is due soon and expected to has ended, and answers what the API and the
// receivers say then, by webhook.
func (l *lab) quiet(limit time.Duration, hooks []*hook, expected func(*hook) bool) (states []map[string]stated, journals [][]arrival) {
	l.Helper()
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
	// What was published without an answer may be committed, and arrive, even now: then look again.
	journals = make([][]arrival, len(hooks))
	for begun, quiet := time.Now(), false; !quiet && time.Since(begun) <= limit; {
		l.within(limit, func() bool {
			l.pause(100 * time.Millisecond)
			return left() == 0
		})
		asked := time.Now()
		states = l.statesOf(hooks)
		l.report.figure("s to ask the API", time.Since(asked).Seconds())
		quiet = true
		for i, h := range hooks { // after the API was asked: what it calls delivered is in them
			journals[i] = h.journal()
			late := func(a arrival) bool { return a.at.After(asked) }
			quiet = quiet && (!expected(h) || !slices.ContainsFunc(journals[i], late))
		}
	}
	l.report.none("deliveries that never ended", left())
	return states, journals
}

// published says which events each webhook is owed, and puts into the report what the publishers' journals say
// and how long it took, to the webhooks whose deliveries are expected to end.
func (l *lab) published(events []event, expected func(*hook) bool) map[*hook][]int {
	owed := make(map[*hook][]int)
	var acknowledged, refused, unknown int64
	var publishing []time.Duration
	due := make(map[int]time.Time)
	for number := range events {
		e := &events[number]
		switch {
		case e.answered.IsZero(): // its turn never came
			continue
		case e.refused():
			refused++
			continue
		case e.acknowledged():
			acknowledged++
		default:
			unknown++
		}
		if e.acknowledged() && e.id != "" {
			publishing, due[number] = append(publishing, e.answered.Sub(e.due)), e.due
		}
		for _, h := range e.topic.hooks {
			owed[h] = append(owed[h], number)
		}
	}
	l.report.count("acknowledged", acknowledged)
	l.report.count("refused", refused)
	l.report.count("unknown", unknown)
	l.summary("every publish", publishing)
	var arriving []time.Duration
	for _, h := range l.known() {
		if !expected(h) {
			continue
		}
		seen := make(map[int]bool)
		for _, a := range h.journal() {
			if at, ok := due[a.event]; ok && !seen[a.event] {
				seen[a.event] = true
				arriving = append(arriving, a.at.Sub(at))
			}
		}
	}
	l.summary("every first arrival", arriving)
	return owed
}

// silentPairs counts the deliveries without a state of the webhooks that have too many to ask the API for:
// those that were put in by SQL, and those in the books beside them.
func (l *lab) silentPairs(hooks []*hook, owed map[*hook][]int) (unaccounted int64) {
	l.Helper()
	var ids []string
	for _, h := range hooks {
		if h.silent > 0 {
			ids = append(ids, h.id)
			unaccounted += h.silent + int64(len(owed[h]))
		}
	}
	if len(ids) == 0 {
		return 0
	}
	return unaccounted - l.count(`SELECT (SELECT count(*) FROM retries WHERE webhook_id = ANY ($1::uuid[])) + (SELECT count(*) FROM (
		SELECT DISTINCT webhook_id, event_id FROM attempts a WHERE webhook_id = ANY ($1::uuid[])
		AND NOT EXISTS (SELECT FROM retries r WHERE r.webhook_id = a.webhook_id AND r.event_id = a.event_id)) ended)`, ids)
}

// statesOf asks the API for every delivery of every webhook; nil for those that it is not asked for or that
// it does not know any more.
func (l *lab) statesOf(hooks []*hook) []map[string]stated {
	l.Helper()
	all := make([]map[string]stated, len(hooks))
	var mu sync.Mutex // guards faults
	var faults []error
	l.parallel(len(hooks), func(i int) {
		h := hooks[i]
		if h.account == "" || h.silent > 0 {
			return
		}
		states, err := h.states()
		if err != nil {
			mu.Lock()
			faults = append(faults, fmt.Errorf("webhook %s: %w", h.id, err))
			mu.Unlock()
		}
		all[i] = states
	})
	for _, err := range faults {
		l.Error("the API does not list deliveries:", err)
	}
	return all
}

// states reads the list of a webhook's deliveries to its end.
func (h *hook) states() (map[string]stated, error) {
	path := "/v1/accounts/" + h.account + "/webhooks/" + h.id + "/deliveries?limit=200"
	states := make(map[string]stated)
	for after := ""; ; {
		var page struct {
			Data []struct {
				EventID string `json:"event_id"`
				stated
			}
			Next *string
		}
		status, err := h.l.call("GET", path+after, nil, &page)
		switch {
		case status == http.StatusNotFound:
			return nil, nil // it was deleted, and nothing was ever sent to it
		case err != nil:
			return nil, err
		}
		for _, d := range page.Data {
			states[d.EventID] = d.stated
		}
		if page.Next == nil {
			return states, nil
		}
		after = "&after=" + *page.Next
	}
}

// known lists the webhooks that were made or that something arrived for.
func (l *lab) known() []*hook {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.hooks))
}
