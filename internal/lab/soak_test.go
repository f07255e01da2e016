//go:build chaos

package lab

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

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
	faulty := l.sometimes(1./3, answering(http.StatusInternalServerError), l.sometimes(.5, hanging(0), slowly(2*time.Second, healthy)))
	for i, e := range l.endpoints(s.endpoints) {
		topics[i] = l.topic(account, fmt.Sprintf("lab.e%d", i), wish{steps: manySeconds, timeout: time.Second}, e)
		e.becomes(l.sometimes(s.faults, faulty, healthy))
	}
	n := l.nodes[0]
	turns := func(i int) *topic { return topics[i%len(topics)] }
	l.load(s.rate, 5*time.Second, turns) // connections are open, pools are full
	watch := n.watch(time.Second)
	var p *phase
	var load sync.WaitGroup
	load.Go(func() { p = l.load(s.rate, s.duration, turns) })
	var held []metrics
	var rows []float64 // of the tables where work waits
	for begun := time.Now(); time.Since(begun) < s.duration; l.pause(s.duration / 40) {
		held = append(held, n.metrics())
		rows = append(rows, float64(l.count(`SELECT (SELECT count(*) FROM retries) + (SELECT count(*) FROM open_groups)`)))
	}
	load.Wait()
	samples := watch.stop()
	l.flat("RSS MiB", len(samples), 8, func(i int) float64 { return samples[i].rss })
	l.flat("descriptors", len(samples), 16, func(i int) float64 { return samples[i].fds })
	l.flat("goroutines", len(held), 32, func(i int) float64 { return held[i].sum("go_goroutines") })
	l.flat("retries and open groups", len(rows), 100, func(i int) float64 { return rows[i] })
	l.flat("metric series", len(held), 0, func(i int) float64 { return float64(len(held[i])) })
	l.within(patience, func() bool { l.pause(time.Second); return p.arrived(everyHook) })
	p.latency("delivery", everyHook)
	l.audit(2 * patience)
	// The sizes of the tables where rows come and go: no bloat beyond what vacuum needs.
	for _, table := range []string{"retries", "open_groups"} {
		l.report.atMost(table+" MiB", float64(l.count(`SELECT pg_total_relation_size($1::text::regclass)`, table))/mib, 16)
	}
}

// hanging keeps every request for d and then hangs up.
func hanging(d time.Duration) behaviour {
	return slowly(d, func(*endpoint, http.ResponseWriter, *http.Request) int { return 0 })
}

// flat is the bar that something does not grow: of n readings, the median of the second half is at most a
// tenth, and slack, above that of the first. A hiccup of the machine moves no median.
func (l *lab) flat(name string, n int, slack float64, of func(i int) float64) {
	var all []float64
	for i := range n {
		all = append(all, of(i))
	}
	l.report.figure(name+", at most", slices.Max(all))
	first, second := all[:n/2], all[n/2:]
	slices.Sort(first)
	slices.Sort(second)
	was := first[len(first)/2]
	l.report.figure(name+", first half", was)
	l.report.atMost(name+", second half", second[len(second)/2], 1.1*was+slack)
}
