package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a hostile receiver does with a connection once it has read a request's head.
var hostilities = []struct {
	name string
	do   func(c net.Conn, quit <-chan struct{})
}{
	{"a byte a second", func(c net.Conn, quit <-chan struct{}) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		drip(c, quit, "x", time.Second)
	}},
	{"a header byte a second", func(c net.Conn, quit <-chan struct{}) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX-Slow: ")
		drip(c, quit, "x", time.Second)
	}},
	{"an endless body", func(c net.Conn, quit <-chan struct{}) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
		drip(c, quit, strings.Repeat("x", 64<<10), time.Millisecond)
	}},
	{"a flood of headers", func(c net.Conn, quit <-chan struct{}) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
		drip(c, quit, strings.Repeat("X-Flood: "+strings.Repeat("x", 500)+"\r\n", 16), time.Millisecond)
	}},
	{"a flood of 1xx", func(c net.Conn, quit <-chan struct{}) {
		drip(c, quit, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 16), time.Millisecond)
	}},
	{"silence", func(_ net.Conn, quit <-chan struct{}) { <-quit }},
}

// drip writes until the other side has had enough.
func drip(c net.Conn, quit <-chan struct{}, text string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// hostileReceiver opens a receiver that does one of the hostilities, and counts the requests that it got.
func (l *lab) hostileReceiver(do func(net.Conn, <-chan struct{})) (url string) {
	l.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.ok(err)
	var all sync.WaitGroup
	quit := make(chan struct{})
	var mu sync.Mutex // guards conns
	conns := make(map[net.Conn]bool)
	all.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			all.Go(func() {
				defer func() {
					c.Close()
					mu.Lock()
					delete(conns, c)
					mu.Unlock()
				}()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				do(c, quit)
			})
		}
	})
	l.Cleanup(func() {
		close(quit)
		listener.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + listener.Addr().String()
}

// hostile is the lane of many receivers that abuse the connection, all at once beside healthy ones: memory
// stays bounded, nothing panics and the healthy ones do not feel it.
type hostile struct {
	abusers  int
	healthy  int
	timeout  time.Duration // of the abusers' webhooks
	rate     float64       // of all the healthy ones
	baseline time.Duration // 0: latencies and memory are not compared
	duration time.Duration
	limit    time.Duration
}

func (h *hostile) run(l *lab) {
	l.start(1)
	n := l.nodes[0]
	owners := l.accounts(h.healthy)
	good := make([]*topic, h.healthy)
	for i, e := range l.endpoints(h.healthy) {
		good[i] = l.topic(owners[i], "lab.good", wish{}, e)
	}
	turns := func(i int) *topic { return good[i%len(good)] }

	const typ = "lab.abuse"
	l.eventType(typ)
	urls := make([]string, len(hostilities))
	for i, k := range hostilities {
		urls[i] = l.hostileReceiver(k.do)
	}
	villains := l.accounts(10)
	abused := make([]*topic, len(villains))
	for i, a := range villains {
		abused[i] = &topic{account: a, typ: typ}
	}
	var mu sync.Mutex // guards the hooks of abused
	l.parallel(h.abusers, func(i int) {
		t := abused[i%len(abused)]
		made := l.hook(&endpoint{l: l, url: urls[i%len(urls)]}, t.account, typ, wish{timeout: h.timeout, maxInFlight: 1})
		mu.Lock()
		t.hooks = append(t.hooks, made)
		mu.Unlock()
	})
	var bad []*hook
	for _, t := range abused {
		bad = append(bad, t.hooks...)
	}

	p := l.load(h.rate, max(h.baseline, time.Second), turns)
	l.until("the baseline has arrived", func() bool { return p.arrived(everyHook) })
	before := p.latency("baseline", everyHook)
	rss := n.rss()
	memory := n.watch(100 * time.Millisecond)
	l.load(1000, time.Duration(len(abused))*time.Millisecond, func(i int) *topic { return abused[i] })
	during := l.load(h.rate, h.duration, turns)
	l.within(h.limit, func() bool { return during.arrived(everyHook) })
	l.report.none("healthy deliveries held up", during.missing(everyHook))
	after := during.latency("healthy beside abusers", everyHook)
	// Each abuser's slot comes back: by its timeout, or because the node had enough.
	ids := make([]string, len(bad))
	for i, b := range bad {
		ids[i] = b.id
	}
	held := func() int64 {
		return int64(len(ids)) - l.count(`SELECT count(DISTINCT webhook_id) FROM attempts WHERE webhook_id = ANY ($1::uuid[])`, ids)
	}
	l.within(h.limit, func() bool { return held() == 0 })
	l.report.none("slots that abusers kept", held())
	most := peak(memory.stop())
	l.report.figure("RSS MiB before", rss)
	l.report.bar("the node panicked", !n.panicked(), n.panicked(), "false")
	if h.baseline > 0 {
		l.report.atMost("RSS MiB more", most-rss, 128)
		l.report.atMost("healthy p99 ms", after.P99, max(1.5*before.P99, before.P99+20))
	}
	l.audit(patience, bad...)
}

var hostileShort = hostile{abusers: 30, healthy: 3, timeout: time.Second, rate: 100, duration: time.Second, limit: patience / 2}

func TestAbusersHoldUpNobodyAndTheirSlotsComeBack(t *testing.T) {
	t.Parallel()
	run(t, "hostile short", "", &hostileShort).finish(t)
}
