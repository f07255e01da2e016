package lab

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// rated is the lane of a webhook's own rate limit: a burst goes out at that rate, however many nodes there
// are, and waiting costs no try.
type rated struct {
	nodes  int
	events int
	count  int // a second
	limit  time.Duration
}

func (r *rated) run(l *lab) {
	l.start(r.nodes)
	more := map[string]any{"rate_limit": map[string]any{"count": r.count, "per": "1s"}}
	t := l.topic(l.account("paced"), "lab.paced", wish{more: more}, l.endpoints(1)...)
	for _, n := range l.nodes {
		l.until("the nodes know each other", func() bool { return n.metrics().sum("fanfare_nodes_live") == float64(r.nodes) })
	}
	p := l.burst(r.events, t)
	l.within(r.limit, func() bool { return p.arrived(everyHook) })
	l.report.none("deliveries that waited in vain", p.missing(everyHook))
	journal := t.hooks[0].journal()
	l.report.none("more tries than deliveries", int64(len(journal)-r.events))
	var at []time.Duration
	for _, a := range journal {
		at = append(at, a.at.Sub(l.origin))
	}
	slices.Sort(at)
	most, first := 0, 0
	for i := range at {
		for at[i]-at[first] >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	// What started apart may arrive together: a quarter is for the network.
	l.report.atMost("arrivals in any second", float64(most), 1.25*float64(r.count))
	if len(at) > 1 {
		l.report.figure("arrivals a second", float64(len(at)-1)/(at[len(at)-1]-at[0]).Seconds())
	}
	l.audit(patience)
}

var rateShort = rated{nodes: 1, events: 60, count: 20, limit: patience}

func TestARateLimitHoldsAndCostsNoTry(t *testing.T) {
	t.Parallel()
	run(t, "rate short", "", &rateShort).finish(t)
}

// scheduled is the lane of the retry schedule: every try waits for its step, and after the last one the
// delivery is exhausted (F9; package retry proves the product's own schedule on a virtual clock).
type scheduled struct {
	steps  []time.Duration
	events int
}

func (s *scheduled) run(l *lab) {
	l.start(1)
	e := l.endpoints(1)
	e[0].becomes(answering(http.StatusInternalServerError))
	owners := l.accounts(s.events) // each event has a webhook of its own: none waits for another's endpoint
	topics := make([]*topic, s.events)
	for i := range topics {
		topics[i] = l.topic(owners[i], "lab.failing", wish{steps: s.steps}, e...)
	}
	l.load(1000, time.Duration(s.events)*time.Millisecond, func(i int) *topic { return topics[i] })
	var total time.Duration
	for _, step := range s.steps {
		total += step
	}
	exhausted := func() int64 {
		return l.count(`SELECT count(*) FROM attempts WHERE state = 'exhausted' AND reason = 'schedule'`)
	}
	l.within(2*total+patience/2, func() bool { return exhausted() == int64(s.events) })
	l.report.none("deliveries that were not exhausted", int64(s.events)-exhausted())
	early, strange := 0, 0
	var late []time.Duration
	for _, t := range topics {
		journal := t.hooks[0].journal()
		if len(journal) != len(s.steps)+1 {
			strange++
			continue
		}
		for i, a := range journal[1:] {
			if a.attempt != i+2 {
				strange++
			}
			wait := a.at.Sub(journal[i].at) - s.steps[i]
			if wait < 0 {
				early++
			}
			late = append(late, wait)
		}
	}
	l.summary("later than the step", late)
	l.report.none("early tries", int64(early))
	l.report.none("tries that are missing or too many", int64(strange))
}

var f9Short = scheduled{steps: seconds(1, 1), events: 5}

func TestEveryTryWaitsForItsStep(t *testing.T) {
	t.Parallel()
	run(t, "F9 short", "", &f9Short).finish(t)
}

// moved is the lane of a webhook that gets another address while deliveries wait for the old one: the new
// address gets them all, and no probe of the old one keeps them.
type moved struct {
	events int
	limit  time.Duration
}

func (m *moved) run(l *lab) {
	l.start(1)
	endpoints := l.endpoints(2)
	endpoints[0].becomes(answering(http.StatusServiceUnavailable))
	t := l.topic(l.account("moving"), "lab.moving", wish{steps: manySeconds}, endpoints[0])
	p := l.load(200, time.Duration(m.events)*time.Second/200, func(int) *topic { return t })
	h := t.hooks[0]
	l.within(patience, func() bool { return h.got() >= 6 })
	was := endpoints[1].inFlight()
	h.moves(endpoints[1])
	l.within(m.limit, func() bool { return p.arrived(everyHook) })
	l.report.none("deliveries that stayed behind", p.missing(everyHook))
	l.report.bar("in flight at the new address before", was == 0, was, "0")
	l.audit(patience)
}

var movedShort = moved{events: 100, limit: patience / 2}

func TestWhatWaitsGoesToTheNewAddress(t *testing.T) {
	t.Parallel()
	run(t, "moved short", "", &movedShort).finish(t)
}

// storm is the lane of an outage of every endpoint at once, as a receiver's provider has it, and of its
// end: all that waits is delivered, at no endpoint ahead of the ramp, and what is new does not wait long.
type storm struct {
	webhooks  int
	endpoints int  // that the webhooks share
	fanOut    bool // every event goes to all, else to one of them
	accounts  int
	rate      float64
	down      time.Duration
	steps     []time.Duration
	limit     time.Duration
}

func (s *storm) run(l *lab) {
	l.start(1)
	l.eventType("lab.storm")
	owners := l.accounts(s.accounts)
	endpoints := l.endpoints(s.endpoints)
	topics := make([]*topic, s.webhooks)
	l.parallel(s.webhooks, func(i int) {
		typ := "lab.storm"
		if !s.fanOut {
			typ = fmt.Sprintf("lab.storm%d", i)
			l.eventType(typ)
		}
		owner := owners[i%len(owners)]
		topics[i] = &topic{account: owner, typ: typ, hooks: []*hook{
			l.hook(endpoints[i%len(endpoints)], owner, typ, wish{}),
		}}
	})
	l.offline(func() { l.stepsOfAll(s.steps) })
	if s.fanOut {
		all := &topic{account: owners[0], typ: "lab.storm"}
		for _, t := range topics {
			all.hooks = append(all.hooks, t.hooks...)
		}
		topics = []*topic{all}
	}
	beside := l.topic(l.account("beside"), "lab.beside", wish{}, l.endpoints(1)...)
	for _, e := range endpoints {
		e.becomes(answering(http.StatusServiceUnavailable))
	}
	n := l.nodes[0]
	memory := n.watch(250 * time.Millisecond)
	// Every second event is for the healthy account beside.
	p := l.load(s.rate, s.down, func(i int) *topic {
		if i%2 == 0 {
			return beside
		}
		return topics[i/2%len(topics)]
	})
	own := func(h *hook) bool { return h == beside.hooks[0] }
	l.within(patience/2, func() bool { return p.arrived(own) })
	l.report.none("healthy deliveries held up", p.missing(own))
	p.latency("healthy beside the outage", own)
	for _, e := range endpoints {
		e.becomes(slowly(2*time.Millisecond, healthy))
	}
	back := time.Now()
	l.within(s.limit, func() bool {
		l.pause(200 * time.Millisecond)
		return p.arrived(everyHook)
	})
	l.report.none("deliveries that waited in vain", p.missing(everyHook))
	l.report.figure("s from the end of the outage to the last delivery", time.Since(back).Seconds())
	l.report.figure("RSS MiB", peak(memory.stop()))
	l.report.bar("the node panicked", !n.panicked(), n.panicked(), "false")
	l.audit(patience)
}

var stormShort = storm{
	webhooks: 20, endpoints: 20, accounts: 5, rate: 200, down: 2 * time.Second, steps: manySeconds, limit: patience,
}

func TestAnOutageOfEverybodyEndsInDeliveries(t *testing.T) {
	t.Parallel()
	run(t, "storm short", "", &stormShort).finish(t)
}

var tenThousandShort = storm{
	webhooks: 60, endpoints: 2, fanOut: true, accounts: 1, rate: 20, down: time.Second, steps: manySeconds, limit: patience,
}

func TestManyWebhooksOfOneEventFailAtOnce(t *testing.T) {
	t.Parallel()
	run(t, "fan-out short", "", &tenThousandShort).finish(t)
}
