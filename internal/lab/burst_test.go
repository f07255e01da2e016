package lab

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// burst is the lane of one account that publishes a great many events at once beside quiet ones (F2).
type burst struct {
	events   int // of the loud account
	quiet    int // accounts
	rate     float64
	slots    int           // requests in flight of the node; 0: the product's default
	hookSize int           // max_in_flight of the loud one's webhook; 0: the product's default
	held     bool          // the loud one's receiver answers nobody while the quiet ones publish
	baseline time.Duration // 0: latencies are not compared
	duration time.Duration // at least, of the quiet ones' publishing
	limit    time.Duration // for the quiet ones' to arrive after the last publish
}

// hookDepth is how many deliveries of one webhook a node keeps in memory.
const hookDepth = 1000

func (b *burst) run(l *lab) {
	if b.slots > 0 {
		l.env["FANFARE_MAX_IN_FLIGHT"] = fmt.Sprint(b.slots)
	}
	l.start(1)
	l.eventType("lab.burst")
	owners := l.accounts(b.quiet + 1)
	endpoints := l.endpoints(b.quiet + 1)
	topics := make([]*topic, b.quiet+1)
	l.parallel(len(topics), func(i int) {
		w := wish{}
		if i == 0 {
			w.maxInFlight = b.hookSize
		}
		topics[i] = l.topic(owners[i], "lab.burst", w, endpoints[i])
	})
	loud, quiet := topics[0], topics[1:]
	turns := func(i int) *topic { return quiet[i%len(quiet)] }
	rate := b.rate * float64(b.quiet)
	var before latency
	if b.baseline > 0 {
		p := l.load(rate, b.baseline, turns)
		l.until("the baseline has arrived", func() bool { return p.arrived(everyHook) })
		before = p.latency("baseline", everyHook)
	}

	gate := make(chan struct{})
	if b.held {
		endpoints[0].becomes(held(gate))
	}
	memory := l.nodes[0].watch(250 * time.Millisecond)
	var loudPhase *phase
	var loudOne sync.WaitGroup
	begin := time.Now()
	loudOne.Go(func() { loudPhase = l.burst(b.events, loud) })
	if b.held {
		loudOne.Wait()
	}
	if b.held { // it is all committed, and nothing of it can leave
		waits := l.nodes[0].metrics().sum("fanfare_queue_deliveries")
		l.report.atMost("deliveries in memory", waits, hookDepth)
	}
	var phases []*phase
	gone := false
	for begun := time.Now(); !gone || time.Since(begun) < b.duration; {
		phases = append(phases, l.load(rate, min(b.duration, time.Second), turns))
		if gone = b.held || loudPhase != nil && loudPhase.arrived(everyHook); gone && !b.held {
			l.report.Figures["burst delivered after s"] = time.Since(begin).Seconds()
		}
		if time.Since(begun) > 2*patience {
			break
		}
	}
	loudOne.Wait()
	during := &phase{l: l}
	for _, p := range phases {
		during.events = append(during.events, p.events...)
	}
	l.within(b.limit, func() bool { return during.arrived(everyHook) })
	l.report.none("quiet deliveries held up", during.missing(everyHook))
	l.report.figure("RSS MiB", peak(memory.stop()))
	after := during.latency("quiet beside loud", everyHook)
	if b.baseline > 0 {
		l.report.atMost("quiet p99 ms", after.P99, 2*before.P99)
		l.report.atMost("quiet max ms", after.Max, 1000)
	}
	close(gate)
	l.audit(2 * patience)
}

var f2Short = burst{events: 3000, quiet: 4, rate: 20, slots: 8, held: true, duration: time.Second, limit: 15 * time.Second}

func TestALoudAccountHoldsUpNobody(t *testing.T) {
	t.Parallel()
	run(t, "F2 short", "", &f2Short).finish(t)
}
