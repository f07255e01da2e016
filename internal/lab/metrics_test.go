package lab

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// metrics is one reading of /metrics: the value of each series by its full name, labels included.
type metrics map[string]float64

func (n *node) metrics() metrics {
	n.l.Helper()
	resp, err := n.l.http.Get(n.admin + "/metrics")
	n.l.ok(err)
	text, err := readAll(resp.Body)
	n.l.ok(err)
	m := make(metrics)
	for line := range strings.Lines(string(text)) {
		i := strings.LastIndexByte(line, ' ')
		if line[0] == '#' || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		n.l.ok(err)
		m[line[:i]] = v
	}
	return m
}

// sum adds up the series of a name whose labels contain each of the given texts.
func (m metrics) sum(name string, labels ...string) (sum float64) {
	for series, v := range m {
		own, rest, _ := strings.Cut(series, "{")
		if own == name && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(rest, l) }) {
			sum += v
		}
	}
	return sum
}

// quantile is the upper bound of the bucket of a histogram in which q of what came since an earlier
// reading ends; it is NaN if nothing came.
func (m metrics) quantile(since metrics, name string, q float64) float64 {
	type bucket struct{ bound, count float64 }
	var all []bucket
	for series, v := range m {
		rest, ok := strings.CutPrefix(series, name+"_bucket{")
		if !ok {
			continue
		}
		_, le, _ := strings.Cut(rest, `le="`)
		le, _, _ = strings.Cut(le, `"`)
		bound, err := strconv.ParseFloat(le, 64)
		if err != nil {
			return math.NaN()
		}
		i := slices.IndexFunc(all, func(b bucket) bool { return b.bound == bound })
		if i < 0 {
			i = len(all)
			all = append(all, bucket{bound: bound})
		}
		all[i].count += v - since[series]
	}
	slices.SortFunc(all, func(a, b bucket) int { return int(math.Copysign(1, a.bound-b.bound)) })
	if len(all) == 0 || all[len(all)-1].count == 0 {
		return math.NaN()
	}
	for _, b := range all {
		if b.count >= q*all[len(all)-1].count {
			return b.bound
		}
	}
	return math.Inf(1)
}

const mib = 1 << 20

// rss is the node's resident memory in MiB; 0 where there is no /proc.
func (n *node) rss() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return float64(pages*os.Getpagesize()) / mib
}

// remember keeps the most memory that the node ever held; nothing where there is no /proc, or no node.
func (n *node) remember() {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib uint64
	if _, err := fmt.Sscan(rest, &kib); err != nil { // of a process that has ended
		return
	}
	for was := n.l.memory.Load(); kib<<10 > was && !n.l.memory.CompareAndSwap(was, kib<<10); {
		was = n.l.memory.Load()
	}
}

// sample is what a node holds at a moment.
type sample struct {
	rss float64 // MiB
	fds float64
}

// watch samples a node until it is stopped.
type watch struct {
	stop func() []sample
}

func (n *node) watch(every time.Duration) *watch {
	quit := make(chan struct{})
	var all []sample
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			all = append(all, n.sample())
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
	return &watch{stop: sync.OnceValue(func() []sample {
		close(quit)
		done.Wait()
		return all
	})}
}

func (n *node) sample() sample {
	s := sample{rss: n.rss()}
	if fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid)); err == nil {
		s.fds = float64(len(fds))
	}
	return s
}

// peak is the most memory among samples, in MiB.
func peak(all []sample) (most float64) {
	for _, s := range all {
		most = max(most, s.rss)
	}
	return most
}
