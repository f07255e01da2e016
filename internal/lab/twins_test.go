//go:build chaos

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// twins is the lane of one node and then two, as loaded as they can be: what a delivery costs when the
// work is shared, node and Postgres together. In the end one of the two is killed under load.
type twins struct {
	pairs    int
	duration time.Duration // of each half of a pair
	conns    int
	share    float64 // what two may cost a delivery, as a multiple of one
	back     time.Duration
}

func (w *twins) run(l *lab) {
	l.start(1)
	const endpoints = 10
	owners := l.accounts(endpoints)
	topics := make([]*topic, endpoints)
	l.eventType("lab.load")
	for i, e := range l.endpoints(endpoints) {
		topics[i] = &topic{account: owners[i], typ: "lab.load", hooks: []*hook{l.hook(e, owners[i], "lab.load", wish{})}}
	}
	turns := func(i int) *topic { return topics[i%len(topics)] }
	all := func(p *phase) func() bool {
		return func() bool { l.pause(200 * time.Millisecond); return p.arrived(everyHook) }
	}
	// cost is the CPU seconds of 10,000 deliveries.
	cost := func() float64 {
		calm, _ := l.flood(w.conns, 0, time.Second, turns)
		l.until("the warmup has arrived", all(calm))
		before := l.cpu()
		p, _ := l.flood(w.conns, 0, w.duration, turns)
		l.until("what was published has arrived", all(p))
		used := l.cpu() - before
		acknowledged, _, _, _ := p.tally()
		return used / float64(acknowledged) * 10_000
	}
	var one, two, ratios []float64
	for range w.pairs {
		one = append(one, cost())
		l.start(1)
		two = append(two, cost())
		ratios = append(ratios, two[len(two)-1]/one[len(one)-1])
		l.nodes[1].stop()
		l.nodes = l.nodes[:1]
	}
	l.report.figure("CPU s per 10,000, one node", median(one))
	l.report.figure("CPU s per 10,000, two nodes", median(two))
	l.report.atMost("CPU of two nodes ÷ of one", median(ratios), w.share)

	l.start(1)
	doomed := l.nodes[1]
	var killed time.Time
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		l.pause(w.duration / 2)
		killed = time.Now()
		doomed.kill()
	}()
	p, _ := l.flood(w.conns, 0, w.duration, turns)
	<-dead
	l.nodes = l.nodes[:1]
	l.within(patience, all(p))
	l.report.atMost("s from the kill until all had arrived", time.Since(killed).Seconds(), max(w.duration/2, w.back).Seconds())
	// What it had sent and not yet recorded is sent again: its slots, and what waited for a lot.
	l.balance(books{limit: patience, flying: 5000})
}

// cpu is the CPU seconds that the nodes and Postgres have used. It needs /proc.
func (l *lab) cpu() (seconds float64) {
	l.Helper()
	server := postgres(l.T).PID()
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a malformed pattern
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name stands in parentheses; from the state on: ppid is the second, utime to cstime the 12th to 15th.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			continue
		}
		pid := filepath.Base(filepath.Dir(path))
		ours := fields[1] == strconv.Itoa(server) || pid == strconv.Itoa(server)
		for _, n := range l.nodes {
			ours = ours || pid == strconv.Itoa(n.cmd.Process.Pid)
		}
		if !ours {
			continue
		}
		used := fields[11:13] // what ended children used is in the server's own
		if pid == strconv.Itoa(server) {
			used = fields[11:15]
		}
		for _, f := range used {
			ticks, err := strconv.ParseFloat(f, 64)
			l.ok(err)
			seconds += ticks / 100 // USER_HZ, on every architecture that Go knows
		}
	}
	if seconds == 0 {
		l.Fatal(fmt.Errorf("nothing in /proc about pid %d", server))
	}
	return seconds
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}
