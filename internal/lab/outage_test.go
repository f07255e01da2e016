package lab

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// outage is the lane of an endpoint that is down while a great many deliveries are due, and then comes
// back and takes only so much (F4): it is probed, released gradually, and nobody beside it feels it.
type outage struct {
	due         int
	maxInFlight int
	steps       []time.Duration // nil: the product's schedule
	down        time.Duration
	probes      int           // at least so many are awaited while it is down
	latency     time.Duration // of its answers
	cap         float64       // requests a second that it takes when it is back, 429 beyond; 0: any
	rate        float64       // of the healthy webhook beside it, of the same account
	baseline    time.Duration // 0: latencies are not compared
	limit       time.Duration // to deliver what is due
}

func (o *outage) run(l *lab) {
	l.start(1)
	account := l.account("with an endpoint that is down")
	endpoints := l.endpoints(2)
	bad := l.topic(account, "lab.bad", wish{maxInFlight: o.maxInFlight, steps: o.steps}, endpoints[0])
	good := l.topic(account, "lab.good", wish{}, endpoints[1])
	beside := func(int) *topic { return good }
	hook := bad.hooks[0]
	var before latency
	if o.baseline > 0 {
		p := l.load(o.rate, o.baseline, beside)
		l.until("the baseline has arrived", func() bool { return p.arrived(everyHook) })
		before = p.latency("baseline", everyHook)
	}

	endpoints[0].becomes(slowly(o.latency, answering(http.StatusServiceUnavailable)))
	l.offline(func() { l.park(backlog{topic: bad, events: o.due, due: -time.Second}) })
	down := l.load(o.rate, o.down, beside)
	// Until it is known to be down: five failures, and what was in flight with the last of them.
	unaware := or(o.maxInFlight, 32) + 4
	l.within(patience, func() bool { return hook.got() >= unaware+o.probes || o.probes == 0 })
	journal := hook.journal()
	together := 0
	for _, a := range journal[min(unaware, len(journal)):] {
		if a.flying > 1 {
			together++
		}
	}
	l.report.none("probes beside others", int64(together))
	// An outage of so many steps of the schedule is worth so many probes, and as many again for a slow test.
	step := time.Minute
	if o.steps != nil {
		step = o.steps[0]
	}
	allowed := unaware + 2*int(time.Since(down.begun)/step) + 2
	l.report.atMost("requests while down", float64(len(journal)), float64(allowed))

	back := slowly(o.latency, healthy)
	if o.cap > 0 {
		back = capped(o.cap, back)
	}
	endpoints[0].becomes(back)
	was := len(journal)
	again := l.load(o.rate, max(o.down, time.Second), beside)
	waiting := &phase{l: l, events: numbers(0, len(l.events))}
	l.within(o.limit, func() bool {
		l.pause(200 * time.Millisecond)
		return waiting.arrived(everyHook)
	})
	l.report.none("deliveries that waited in vain", waiting.missing(everyHook))
	steep, refused := 0, 0
	journal = hook.journal()
	for _, a := range journal[was:] {
		if a.flying > a.oks-journal[was].oks+1 {
			steep++
		}
		if a.status == http.StatusTooManyRequests {
			refused++
		}
	}
	l.report.none("requests ahead of the ramp", int64(steep))
	l.report.figure("in flight at most", float64(endpoints[0].inFlight()))
	l.report.atMost("429 among its requests", float64(refused)/float64(max(len(journal)-was, 1)), 0.05)
	if o.baseline > 0 {
		limit := max(1.2*before.P99, before.P99+20)
		l.report.atMost("healthy p99 ms beside down", down.latency("beside down", everyHook).P99, limit)
		l.report.atMost("healthy p99 ms beside the ramp", again.latency("beside the ramp", everyHook).P99, limit)
	}
	l.audit(o.limit)
}

func seconds(n ...int) []time.Duration {
	all := make([]time.Duration, len(n))
	for i, s := range n {
		all[i] = time.Duration(s) * time.Second
	}
	return all
}

// manySeconds is a schedule of twenty tries, a second apart.
var manySeconds = slices.Repeat(seconds(1), 20)

var f4Short = outage{
	due: 300, maxInFlight: 8, steps: manySeconds, down: time.Second, probes: 2, latency: 2 * time.Millisecond, rate: 50, limit: patience,
}

func TestAnEndpointThatIsDownIsProbedAndThenServed(t *testing.T) {
	t.Parallel()
	run(t, "F4 short", "", &f4Short).finish(t)
}
