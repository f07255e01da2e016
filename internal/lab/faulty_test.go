package lab

import (
	"fmt"
	"testing"
	"time"
)

// faulty is the lane of receivers that hang and one that refuses, beside healthy ones (F1, F3): they
// cost the others nothing. Those that hang answer nobody before every event for a healthy endpoint has
// arrived, or the webhook's timeout has passed: whoever waited for one would be seen.
type faulty struct {
	endpoints  int
	hanging    int // of them; the last ones
	refusing   bool
	oneAccount bool // all webhooks belong to one account, else each to its own
	slots      int  // requests in flight of the node; 0: the product's default
	hookSlots  int  // max_in_flight of the webhooks that will hang; 0: the product's default
	rate       float64
	baseline   time.Duration // 0: latencies are not compared
	duration   time.Duration
	factor     float64       // of the baseline's p99, or 20 ms more
	limit      time.Duration // for what is healthy to arrive after the last publish
}

func (f *faulty) run(l *lab) {
	topics := f.world(l)
	var bad []*hook
	for _, t := range topics[f.endpoints-f.hanging:] {
		bad = append(bad, t.hooks[0])
	}
	hanging := bad
	if f.refusing {
		bad = append(bad, topics[0].hooks[0])
	}
	good := besides(bad...)
	turns := func(i int) *topic { return topics[i%len(topics)] }
	var before latency
	if f.baseline > 0 {
		p := l.load(f.rate, f.baseline, turns)
		l.until("the baseline has arrived", func() bool { return p.arrived(everyHook) })
		before = p.latency("baseline", good)
	}

	gate := make(chan struct{})
	for _, h := range hanging {
		h.endpoint.becomes(held(gate))
	}
	if f.refusing {
		topics[0].hooks[0].moves(l.darkEndpoint())
	}
	memory := l.nodes[0].watch(250 * time.Millisecond)
	p := l.load(f.rate, f.duration, turns)
	l.within(f.limit, func() bool { return p.arrived(good) })
	l.report.none("healthy deliveries held up", p.missing(good))
	l.report.figure("RSS MiB", peak(memory.stop()))
	after := p.latency("healthy beside faulty", good)
	most := 0
	for _, h := range hanging {
		most = max(most, h.endpoint.inFlight())
	}
	limit := or(f.hookSlots, 32)
	if f.baseline > 0 {
		limit += limit / 8 // requests that were given up and whose end the receiver has not noticed
	}
	l.report.atMost("in flight at one endpoint", float64(most), float64(limit))
	if f.baseline > 0 {
		l.report.atMost("healthy p99 ms", after.P99, max(f.factor*before.P99, before.P99+20))
	}
	close(gate)
	l.audit(patience, bad...)
}

// world makes the endpoints, all healthy, and a topic for each.
func (f *faulty) world(l *lab) []*topic {
	if f.slots > 0 {
		l.env["FANFARE_MAX_IN_FLIGHT"] = fmt.Sprint(f.slots)
	}
	l.start(1)
	owners := []string{l.account("the only one")}
	if !f.oneAccount {
		owners = l.accounts(f.endpoints)
	}
	endpoints := l.endpoints(f.endpoints)
	topics := make([]*topic, f.endpoints)
	l.parallel(f.endpoints, func(i int) {
		w := wish{}
		if i >= f.endpoints-f.hanging {
			w.maxInFlight = f.hookSlots
		}
		topics[i] = l.topic(owners[i%len(owners)], fmt.Sprintf("lab.e%d", i), w, endpoints[i])
	})
	return topics
}

// or is v unless that is zero.
func or(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// What hangs wants all the slots there are.
var (
	f1Short = faulty{
		endpoints: 10, hanging: 1, refusing: true, hookSlots: 4, rate: 400, duration: time.Second, limit: 15 * time.Second,
	}
	f1ShortOneHome = faulty{
		endpoints: 10, hanging: 1, refusing: true, oneAccount: true, slots: 16, hookSlots: 16, rate: 400, duration: time.Second,
		limit: 15 * time.Second,
	}
	f3Short = faulty{
		endpoints: 10, hanging: 3, slots: 16, hookSlots: 8, rate: 400, duration: time.Second, limit: 15 * time.Second,
	}
)

func TestAFaultyEndpointHoldsUpNobody(t *testing.T) {
	t.Parallel()
	run(t, "F1 short", "", &f1Short).finish(t)
}

func TestAFaultyEndpointHoldsUpNobodyInItsOwnAccount(t *testing.T) {
	t.Parallel()
	run(t, "F1 short, one account", "", &f1ShortOneHome).finish(t)
}

func TestAThirdOfTheEndpointsHangsAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	run(t, "F3 short", "", &f3Short).finish(t)
}
