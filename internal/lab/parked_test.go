package lab

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"
)

// parked is the lane of a great many deliveries that wait for endpoints that are down, in one account,
// beside quiet accounts with a few of their own (F5): memory, the start and the claims do not grow with
// them, and what the quiet ones are owed goes out.
type parked struct {
	dead     int // webhooks, all of one account
	events   int // each owed to all of them
	waiting  int // more of the quiet accounts' deliveries, due in an hour
	quiet    int // accounts
	owed     int // deliveries that each of them is owed, due now
	rate     float64
	duration time.Duration
	limit    time.Duration // for the quiet ones' to arrive
	bars     bool          // memory and times are asserted
}

func (p *parked) run(l *lab) {
	l.start(1)
	owners := l.accounts(p.quiet + 1)
	l.eventType("lab.parked")
	dark := make([]*endpoint, p.dead)
	for i := range dark {
		dark[i] = l.darkEndpoint()
	}
	dead := l.topic(owners[0], "lab.parked", wish{}, dark...)
	endpoints := l.endpoints(min(p.quiet, 10))
	quiet := make([]*topic, p.quiet)
	// Some fail each first try: there is something to claim all the time.
	endpoints[0].becomes(func(_ *endpoint, _ http.ResponseWriter, r *http.Request) int {
		if r.Header.Get("X-Fanfare-Attempt") == "1" {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	l.parallel(p.quiet, func(i int) {
		e := endpoints[i%len(endpoints)]
		quiet[i] = &topic{account: owners[i+1], typ: "lab.parked", hooks: []*hook{l.hook(e, owners[i+1], "lab.parked", wish{})}}
	})
	all := []backlog{{topic: dead, events: p.events, due: -time.Minute, silent: true}}
	for _, t := range quiet {
		if p.waiting > 0 {
			all = append(all, backlog{topic: t, events: p.waiting / p.quiet, due: time.Hour, silent: true})
		}
		all = append(all, backlog{topic: t, events: p.owed, due: -time.Second})
	}
	l.offline(func() {
		begin := time.Now()
		l.stepsOfAll(manySeconds)
		l.park(all...)
		l.report.figure("s to seed", time.Since(begin).Seconds())
	})
	l.report.count("parked", l.silent)

	owed := &phase{l: l, events: numbers(0, len(l.events))}
	n := l.nodes[0]
	begin := time.Now()
	first := n.metrics()
	memory := n.watch(250 * time.Millisecond)
	fresh := l.load(p.rate, p.duration, func(i int) *topic { return quiet[i%len(quiet)] })
	l.within(p.limit, func() bool { return fresh.arrived(everyHook) && owed.arrived(everyHook) })
	l.report.none("quiet deliveries held up", fresh.missing(everyHook))
	l.report.none("quiet deliveries that were parked and held up", owed.missing(everyHook))
	fresh.latency("quiet beside parked", everyHook)
	l.report.figure("s from the start to the last that was owed", since(begin, owed))
	// Whoever claims what cannot go has to put it back.
	const back = 40
	l.report.atMost("put back into Postgres", n.metrics().sum("fanfare_deliveries_parked_total"), float64(back*p.dead))
	most := peak(memory.stop())
	claims := n.metrics().quantile(first, "fanfare_claim_seconds", .99) * 1000
	if p.bars {
		l.report.atMost("RSS MiB", most, 256)
		l.report.atMost("start s", n.took.Seconds(), 10)
		l.report.bar("claim p99 ms", claims <= 20, fmt.Sprint(claims), "≤ 20")
	}
	if !math.IsNaN(claims) {
		l.report.figure("claim p99 ms", claims)
	}
	l.audit(p.limit, dead.hooks...)
}

// since is how long after begin the last of the phase arrived.
func since(begin time.Time, p *phase) (s float64) {
	for _, number := range p.events {
		e := p.l.event(number)
		for _, h := range e.topic.hooks {
			for _, a := range h.journal() {
				if a.event == number {
					s = max(s, a.at.Sub(begin).Seconds())
				}
			}
		}
	}
	return s
}

func numbers(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

var f5Short = parked{dead: 2, events: 10_000, quiet: 20, owed: 3, rate: 100, duration: time.Second, limit: patience / 2}

func TestWhatIsParkedForADeadEndpointHoldsUpNobody(t *testing.T) {
	t.Parallel()
	run(t, "F5 short", "", &f5Short).finish(t)
}
