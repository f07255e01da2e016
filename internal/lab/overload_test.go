//go:build chaos

package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// overload is the lane of publishers that want several times what the node can take (F7): what it accepts
// it acknowledges soon and delivers, the rest is told when to come again, and memory does not grow. The
// node has one CPU: its publishers, its receivers and its Postgres have the other.
type overload struct {
	accounts int
	measure  time.Duration // of the capacity
	times    float64       // the capacity
	duration time.Duration
	limit    time.Duration // to deliver what is left when the load ends
}

func (o *overload) run(l *lab) {
	l.env["GOMAXPROCS"] = "1"
	l.start(1)
	owners := l.accounts(o.accounts)
	topics := make([]*topic, o.accounts)
	l.eventType("lab.load")
	for i, e := range l.endpoints(o.accounts) {
		topics[i] = &topic{account: owners[i], typ: "lab.load", hooks: []*hook{l.hook(e, owners[i], "lab.load", wish{})}}
	}
	turns := func(i int) *topic { return topics[i%len(topics)] }
	all := func(p *phase) func() bool {
		return func() bool { l.pause(200 * time.Millisecond); return p.arrived(everyHook) }
	}

	// What a few patient publishers get through, deliveries included.
	calm, _ := l.flood(64, 0, o.measure, turns)
	l.until("what was published to measure has arrived", all(calm))
	acknowledged, _, _, _ := calm.tally()
	capacity := float64(acknowledged) / time.Since(calm.begun).Seconds()
	l.report.figure("capacity a second", capacity)

	n := l.nodes[0]
	memory := n.watch(time.Second)
	p, unsent := l.flood(4096, o.times*capacity, o.duration, turns)
	acknowledged, refused, unasked, unknown := p.tally()
	l.report.count("accepted", acknowledged)
	l.report.count("refused", refused)
	l.report.count("unsent", unsent)
	l.report.none("refusals without Retry-After", unasked)
	l.report.none("publishes without an answer", unknown)
	l.report.bar("some were refused", refused > 0, refused, "> 0")
	l.report.figure("wanted a second", float64(len(p.events))/time.Since(p.begun).Seconds())
	l.report.figure("accepted a second", float64(acknowledged)/time.Since(p.begun).Seconds())
	l.report.atMost("accepted p99 ms", p.publishing("publish").P99, 250)
	samples := memory.stop()
	l.report.figure("RSS MiB", peak(samples))
	l.flat("RSS MiB", len(samples), 16, func(i int) float64 { return samples[i].rss })
	l.within(o.limit, all(p))
	p.latency("delivery", everyHook)
	l.audit(patience)
}

// flood is load for rates that an ordinary HTTP client cannot make: connections take turns. What none of
// them can send within a quarter of a second is not sent: it is the loader that is late then, or every
// connection waits for the node, which shows in the latency of those. A rate of 0 is a closed loop.
func (l *lab) flood(conns int, rate float64, d time.Duration, next func(i int) *topic) (p *phase, unsent int64) {
	begin := time.Now()
	p = &phase{l: l, begun: begin}
	var taken, skipped atomic.Int64
	var mu sync.Mutex // guards p.events
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() {
			w, err := dial(l.nodes[i%len(l.nodes)].api)
			if err != nil {
				l.Error(err)
				return
			}
			defer w.conn.Close()
			for {
				i := int(taken.Add(1)) - 1
				if rate > 0 {
					due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
					if time.Since(due) > 250*time.Millisecond {
						skipped.Add(1)
						continue
					}
					sleepUntil(due)
				}
				if time.Since(begin) > d {
					return
				}
				t, due := next(i), time.Now()
				number := l.announce(1, func(int) *topic { return t }, func(int) time.Time { return due })
				status, asked, id, err := w.publish(t, dataOf(number))
				l.answered(number, func(e *event) { e.status, e.asked, e.id = status, asked, id })
				mu.Lock()
				p.events = append(p.events, number)
				mu.Unlock()
				if err != nil {
					l.Log("flood:", err)
					return
				}
			}
		})
	}
	all.Wait()
	return p, skipped.Load()
}

// wire is a connection that publishes with next to no work of its own.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	b    []byte
}

func dial(api string) (*wire, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(api, "http://"))
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, r: bufio.NewReader(conn)}, nil
}

func (w *wire) publish(t *topic, data string) (status int, asked bool, id string, err error) {
	body := `{"type":"` + t.typ + `","data":` + data + `}`
	w.b = fmt.Appendf(w.b[:0], "POST /v1/accounts/%s/events HTTP/1.1\r\nHost: lab\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", t.account, platformKey, len(body), body)
	if err = w.conn.SetDeadline(time.Now().Add(patience)); err == nil {
		_, err = w.conn.Write(w.b)
	}
	if err != nil {
		return 0, false, "", err
	}
	line, err := w.r.ReadSlice('\n')
	if err != nil || len(line) < 12 {
		return 0, false, "", fmt.Errorf("status line %q: %w", line, err)
	}
	status, _ = strconv.Atoi(string(line[9:12]))
	length := 0
	for {
		line, err := w.r.ReadSlice('\n')
		if err != nil {
			return 0, false, "", err
		}
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch string(name) {
		case "Content-Length":
			length, _ = strconv.Atoi(string(value))
		case "Retry-After":
			asked = true
		case "":
			answer := make([]byte, length)
			if _, err := io.ReadFull(w.r, answer); err != nil {
				return 0, false, "", err
			}
			if status == http.StatusAccepted {
				_, rest, _ := bytes.Cut(answer, []byte(`"id":"`))
				text, _, _ := bytes.Cut(rest, []byte(`"`))
				id = string(text)
			}
			return status, asked, id, nil
		}
	}
}
