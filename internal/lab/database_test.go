package lab

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowDatabase is the lane of a Postgres whose every answer is late: nothing is lost, nothing is stuck, and
// a metric shows it.
type slowDatabase struct {
	delays []time.Duration
	rate   float64
	each   time.Duration // how long with each delay
	bar    time.Duration // for publishing at the longest delay, p99; 0: not asserted
}

func (s *slowDatabase) run(l *lab) {
	p := l.behindProxy()
	l.start(1)
	endpoints := l.endpoints(2)
	account := l.account("behind a slow database")
	good := l.topic(account, "lab.good", wish{}, endpoints[0])
	endpoints[1].becomes(l.sometimes(.3, answering(http.StatusBadRequest), healthy)) // claims are late too
	bad := l.topic(account, "lab.again", wish{steps: manySeconds}, endpoints[1])
	turns := func(i int) *topic {
		if i%20 == 0 {
			return bad
		}
		return good
	}
	n := l.nodes[0]
	for _, delay := range s.delays {
		p.delay.Store(int64(delay))
		before := n.metrics()
		during := l.load(s.rate, s.each, turns)
		l.within(patience, func() bool { return during.arrived(everyHook) })
		l.report.none(fmt.Sprintf("stuck at %s", delay), during.missing(everyHook))
		_, _, unasked, unknown := during.tally()
		l.report.none(fmt.Sprintf("publishes that failed at %s", delay), unasked+unknown)
		during.latency(fmt.Sprintf("delivery at %s", delay), func(h *hook) bool { return h == good.hooks[0] })
		took := during.publishing(fmt.Sprintf("publish at %s", delay))
		if s.bar > 0 {
			l.report.atMost(fmt.Sprintf("publish p99 ms at %s", delay), took.P99, float64((s.bar + 3*delay).Milliseconds()))
		}
		shown := n.metrics().quantile(before, "fanfare_ingest_commit_seconds", .5)
		l.report.bar(fmt.Sprintf("the metric shows %s", delay), shown >= delay.Seconds(), fmt.Sprintf("commits take %gs", shown), "≥ the delay")
	}
	p.delay.Store(0)
	l.audit(patience)
}

var slowShort = slowDatabase{delays: []time.Duration{20 * time.Millisecond}, rate: 100, each: time.Second}

func TestASlowDatabaseLosesAndSticksNothing(t *testing.T) {
	t.Parallel()
	run(t, "slow database short", "", &slowShort).finish(t)
}

// stalled is the lane of a Postgres that stops answering while events pour in: what is acknowledged is not
// lost, and beyond what the node can hold it says at once when to come again.
type stalled struct {
	batches int // of some 3.8 MB
	limit   time.Duration
}

func (s *stalled) run(l *lab) {
	p := l.behindProxy()
	l.start(1)
	t := l.topic(l.account("in a flood"), "lab.flood", wish{}, l.endpoints(1)...)
	memory := l.nodes[0].watch(100 * time.Millisecond)
	const each = 16
	heavy := strings.Repeat("x", 240_000)
	begin := time.Now()
	first := l.announce(s.batches*each, func(int) *topic { return t }, func(int) time.Time { return begin })
	bodies := make([]string, s.batches)
	data := func(number int) string { return fmt.Sprintf(`{"n":%d,"pad":"%s"}`, number, heavy) }
	for b := range bodies {
		var events []string
		for i := range each {
			events = append(events, fmt.Sprintf(`{"account_id":"%s","type":"%s","data":%s}`, t.account, t.typ, data(first+b*each+i)))
		}
		bodies[b] = `{"events":[` + strings.Join(events, ",") + `]}`
	}

	p.stall.Lock()
	release := sync.OnceFunc(p.stall.Unlock)
	defer release()
	refused := make(chan struct{}, s.batches)
	var mu sync.Mutex // guards statuses and unasked
	statuses, unasked := make(map[int]int64), int64(0)
	var all sync.WaitGroup
	for b, body := range bodies {
		all.Go(func() {
			status, _, asked := l.post(0, "/v1/events/batch", []byte(body))
			known := status
			if status != http.StatusAccepted {
				known = 0 // 503 also says that nobody knows
				refused <- struct{}{}
			}
			for i := range each {
				l.answered(first+b*each+i, func(e *event) { e.status, e.data = known, data })
			}
			mu.Lock()
			defer mu.Unlock()
			if statuses[status]++; status != http.StatusAccepted && !asked {
				unasked++
			}
		})
	}
	early := false
	select {
	case <-refused:
		early = true
	case <-time.After(4 * time.Second): // then the lease runs out and every publish is refused
	}
	l.report.bar("refused before Postgres answers", early, early, "true")
	release()
	all.Wait()
	for status, n := range statuses {
		l.report.count(fmt.Sprintf("batches answered %d", status), n)
		if status != http.StatusAccepted && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
			l.report.bar("answers", false, status, "202, 429 or 503")
		}
	}
	l.report.bar("some were accepted", statuses[http.StatusAccepted] > 0, statuses[http.StatusAccepted], "> 0")
	l.report.none("refusals without Retry-After", unasked)
	waiting := &phase{l: l, events: numbers(first, first+s.batches*each)}
	l.within(s.limit, func() bool { return waiting.arrived(everyHook) })
	l.report.none("acknowledged and not delivered", waiting.missing(everyHook))
	l.report.figure("RSS MiB", peak(memory.stop()))
	l.audit(s.limit)
}

// 23 batches are more than the 64 MiB that may wait for their commit.
var f7Short = stalled{batches: 23, limit: patience / 2}

func TestAFloodIsRefusedEarlyAndLosesNothing(t *testing.T) {
	t.Parallel()
	run(t, "F7 short", "", &f7Short).finish(t)
}
