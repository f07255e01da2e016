//go:build chaos

package lab

import (
	"fmt"
	"sync"
	"time"
)

// overload is the lane of publishers that want several times what the receivers can take (F7): what is
// accepted is acknowledged soon, the rest is told when to come again, and memory does not grow.
type overload struct {
	accounts int
	slots    int           // requests in flight of the node
	latency  time.Duration // of the receivers: slots ÷ latency is the capacity
	times    float64       // the capacity
	duration time.Duration
	limit    time.Duration // to deliver what is left when the load ends
}

func (o *overload) run(l *lab) {
	l.env["FANFARE_MAX_IN_FLIGHT"] = fmt.Sprint(o.slots)
	l.start(1)
	owners := l.accounts(o.accounts)
	topics := make([]*topic, o.accounts)
	for i, e := range l.endpoints(o.accounts) {
		topics[i] = l.topic(owners[i], "lab.load", wish{}, e)
		e.becomes(slowly(o.latency, healthy))
	}
	capacity := float64(o.slots) / o.latency.Seconds()
	l.report.figure("capacity a second", capacity)
	n := l.nodes[0]
	memory := n.watch(time.Second)
	var p *phase
	var load sync.WaitGroup
	load.Go(func() {
		p = l.load(o.times*capacity, o.duration, func(i int) *topic { return topics[i%len(topics)] })
	})
	load.Wait()
	acknowledged, refused, unasked, unknown := p.tally()
	l.report.count("acknowledged", acknowledged)
	l.report.count("refused", refused)
	l.report.none("refusals without Retry-After", unasked)
	l.report.none("publishes without an answer", unknown)
	left := p.missing(everyHook)
	l.report.bar("some were refused", refused > 0, refused, "> 0")
	// What a node takes on beyond its capacity it can deliver within minutes, not hours.
	l.report.atMost("s to deliver what is left", float64(left)/capacity, 150)
	l.report.atMost("accepted p99 ms", p.publishing("publish").P99, 250)
	samples := memory.stop()
	half := len(samples) / 2
	l.report.figure("RSS MiB", peak(samples))
	l.report.atMost("RSS MiB more in the second half", peak(samples[half:])-peak(samples[:half]), 32)
	p.latency("delivery", everyHook)
	l.within(o.limit, func() bool {
		l.pause(time.Second)
		return p.arrived(everyHook)
	})
	l.audit(patience)
}

// soak is the lane of an ordinary load with a few faults for a long time (F8): nothing that a node holds
// grows, and what has ended leaves no rows where work waits.
type soak struct {
	endpoints int
	faults    float64 // of the requests: a third each is answered 500, hangs up, and is late
	rate      float64
	duration  time.Duration
}

func (s *soak) run(l *lab) {
	l.start(1)
	account := l.account("soaking")
	topics := make([]*topic, s.endpoints)
	faulty := l.sometimes(1./3, answering(500), l.sometimes(.5, hanging(0), slowly(2*time.Second, healthy)))
	for i, e := range l.endpoints(s.endpoints) {
		topics[i] = l.topic(account, fmt.Sprintf("lab.e%d", i), wish{steps: manySeconds, timeout: time.Second}, e)
		e.becomes(l.sometimes(s.faults, faulty, healthy))
	}
	n := l.nodes[0]
	turns := func(i int) *topic { return topics[i%len(topics)] }
	l.load(s.rate, 5*time.Second, turns) // connections are open, pools are full
	watch := n.watch(time.Second)
	var held []metrics
	var rows []float64 // of the tables where work waits
	var p *phase
	var load sync.WaitGroup
	load.Go(func() { p = l.load(s.rate, s.duration, turns) })
	for begun := time.Now(); time.Since(begun) < s.duration; l.pause(s.duration / 40) {
		held = append(held, n.metrics())
		rows = append(rows, float64(l.count(`SELECT (SELECT count(*) FROM retries) + (SELECT count(*) FROM open_groups)`)))
	}
	load.Wait()
	samples := watch.stop()
	flat := func(name string, of func(i int) float64, n int, slack float64) {
		var first, second float64
		for i := range n {
			if i < n/2 {
				first = max(first, of(i))
			} else {
				second = max(second, of(i))
			}
		}
		l.report.figure(name+", first half", first)
		l.report.atMost(name+", second half", second, 1.1*first+slack)
	}
	flat("RSS MiB", func(i int) float64 { return samples[i].rss }, len(samples), 8)
	flat("descriptors", func(i int) float64 { return samples[i].fds }, len(samples), 16)
	flat("goroutines", func(i int) float64 { return held[i].sum("go_goroutines") }, len(held), 32)
	flat("retries and open groups", func(i int) float64 { return rows[i] }, len(rows), 100)
	flat("metric series", func(i int) float64 { return float64(len(held[i])) }, len(held), 0)
	l.within(patience, func() bool { l.pause(time.Second); return p.arrived(everyHook) })
	p.latency("delivery", everyHook)
	l.audit(2 * patience)
	// The sizes of the tables where rows come and go: no bloat beyond what vacuum needs.
	for _, table := range []string{"retries", "open_groups"} {
		l.report.atMost(table+" MiB", float64(l.count(`SELECT pg_total_relation_size($1::text::regclass)`, table))/mib, 16)
	}
}
