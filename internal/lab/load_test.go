package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// event is one that the lab published, or tried to: the publisher's journal has it as acknowledged, refused,
// or neither, and then nobody knows.
type event struct {
	topic    *topic
	due      time.Time // when it was to be published
	sent     time.Time // when the request went out that was answered; zero: not noted
	answered time.Time
	status   int                     // of the last answer; 0: none
	asked    bool                    // a refusal said when to come again
	shed     bool                    // a 503 that says that nothing was stored
	id       string                  // of an acknowledged one; "": unknown, or made by SQL: then what arrives first says it
	data     func(number int) string // that it carries; nil: dataOf
}

func (e *event) acknowledged() bool { return e.status == http.StatusAccepted }

// refused reports whether it is certain that the event was not stored.
func (e *event) refused() bool {
	return e.shed || e.status > 0 && e.status < http.StatusInternalServerError && !e.acknowledged()
}

// phase is a part of a load: the numbers of its events.
type phase struct {
	l      *lab
	begun  time.Time
	events []int
}

// pad makes an event's data some 256 bytes long.
var pad = strings.Repeat("x", 220)

func dataOf(number int) string { return fmt.Sprintf(`{"n":%d,"pad":"%s"}`, number, pad) }

// announce numbers events that are about to be published.
func (l *lab) announce(n int, t func(i int) *topic, due func(i int) time.Time) (first int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(l.events)
	for i := range n {
		l.events = append(l.events, event{topic: t(i), due: due(i)})
	}
	return first
}

func (l *lab) answered(number int, set func(e *event)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.events[number]
	e.answered = time.Now()
	set(e)
}

// maxPublishing is the most publishes under way at once.
const maxPublishing = 512

// load publishes rate events a second for d, open loop: event i goes out at i/rate seconds, whatever
// became of those before it. next says about what.
func (l *lab) load(rate float64, d time.Duration, next func(i int) *topic) *phase {
	n := max(int(rate*d.Seconds()), 1)
	begin := time.Now()
	due := func(i int) time.Time { return begin.Add(time.Duration(float64(i) / rate * float64(time.Second))) }
	first := l.announce(n, next, due)
	p := &phase{l: l, begun: begin}
	var under sync.WaitGroup
	slots := make(chan struct{}, maxPublishing)
	for i := range n {
		p.events = append(p.events, first+i)
		sleepUntil(due(i))
		slots <- struct{}{}
		under.Go(func() {
			l.publish(first + i)
			<-slots
		})
	}
	under.Wait()
	return p
}

// publish sends one announced event to one of the nodes.
func (l *lab) publish(number int) {
	l.mu.Lock()
	t := l.events[number].topic
	l.mu.Unlock()
	l.note(number, l.send(l.nodes[number%len(l.nodes)], t, number, ""))
}

// reply is what a publish got.
type reply struct {
	sent   time.Time
	status int // 0: no answer
	body   []byte
	asked  bool  // there was a Retry-After
	err    error // without an answer: why
}

// send publishes an event at a node, under an idempotency key unless that is "".
func (l *lab) send(n *node, t *topic, number int, key string) reply {
	body := `{"type":"` + t.typ + `","data":` + dataOf(number) + `}`
	return l.postTo(n, "/v1/accounts/"+t.account+"/events", []byte(body), key)
}

// note journals the reply to an event's publish.
func (l *lab) note(number int, r reply) {
	var said struct{ ID, Code string }
	if r.status > 0 && json.Unmarshal(r.body, &said) != nil {
		l.Errorf("publish: %d %s", r.status, r.body)
	}
	l.answered(number, func(e *event) {
		e.sent, e.status, e.asked = r.sent, r.status, r.asked
		e.shed = r.status == http.StatusServiceUnavailable && said.Code == "overloaded"
		if e.acknowledged() {
			e.id = said.ID
		}
	})
}

// post sends a publish to one of the nodes. status is 0 without an answer; asked says that there was a
// Retry-After.
func (l *lab) post(number int, path string, body []byte) (status int, answer []byte, asked bool) {
	r := l.postTo(l.nodes[number%len(l.nodes)], path, body, "")
	return r.status, r.body, r.asked
}

func (l *lab) postTo(n *node, path string, body []byte, key string) reply {
	r := reply{sent: time.Now()}
	q, err := http.NewRequestWithContext(l.Context(), http.MethodPost, n.api+path, bytes.NewReader(body))
	if err != nil {
		r.err = err
		return r
	}
	q.Header.Set("Authorization", "Bearer "+platformKey)
	q.Header.Set("Content-Type", "application/json")
	if key != "" {
		q.Header.Set("Idempotency-Key", key)
	}
	resp, err := l.http.Do(q)
	if err != nil {
		r.err = err
		return r
	}
	if r.body, r.err = readAll(resp.Body); r.err == nil {
		r.status, r.asked = resp.StatusCode, resp.Header.Get("Retry-After") != ""
	}
	return r
}

// burst publishes n events about t as fast as the node takes them, in batches of 100 by two publishers.
// What is refused is repeated when the refusal says so.
func (l *lab) burst(n int, t *topic) *phase {
	const batch = 100
	begin := time.Now()
	first := l.announce(n, func(int) *topic { return t }, func(int) time.Time { return begin })
	p := &phase{l: l, begun: begin}
	for i := range n {
		p.events = append(p.events, first+i)
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				from := int(next.Add(batch)) - batch
				if from >= n {
					return
				}
				for !l.publishBatch(first+from, first+min(from+batch, n), t) && l.Context().Err() == nil {
					l.pause(time.Second) // the smallest Retry-After
				}
			}
		})
	}
	all.Wait()
	return p
}

// publishBatch answers false if the batch was refused for now.
func (l *lab) publishBatch(from, to int, t *topic) bool {
	var b bytes.Buffer
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, `,{"account_id":"%s","type":"%s","data":%s}`, t.account, t.typ, dataOf(n))
	}
	body := append([]byte(`{"events":[`), b.Bytes()[1:]...)
	status, answer, asked := l.post(from/100, "/v1/events/batch", append(body, `]}`...))
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable && asked {
		return false
	}
	var receipts struct{ Data []struct{ ID string } }
	if status != http.StatusAccepted || json.Unmarshal(answer, &receipts) != nil || len(receipts.Data) != to-from {
		l.Errorf("publish a batch: %d %s", status, answer)
		return true
	}
	for i, r := range receipts.Data {
		l.answered(from+i, func(e *event) { e.status, e.id = status, r.ID })
	}
	return true
}

// everyHook chooses all.
func everyHook(*hook) bool { return true }

// besides chooses all but some.
func besides(some ...*hook) func(*hook) bool {
	return func(h *hook) bool {
		for _, s := range some {
			if s == h {
				return false
			}
		}
		return true
	}
}

// arrived reports whether each acknowledged event of the phase was answered with 2xx by each of its
// webhooks that which chooses.
func (p *phase) arrived(which func(*hook) bool) bool { return p.missing(which) == 0 }

// missing counts the deliveries that arrived is about and that are not there yet.
func (p *phase) missing(which func(*hook) bool) (n int64) {
	for _, number := range p.events {
		e := p.l.event(number)
		if !e.acknowledged() {
			continue
		}
		for _, h := range e.topic.hooks {
			if which(h) && !h.has(number) {
				n++
			}
		}
	}
	return n
}

func (l *lab) event(number int) event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[number]
}

// latency is how long the phase's events took from when they were due to be published to their first
// arrival at each of the webhooks that which chooses. It goes into the report under a name.
func (p *phase) latency(name string, which func(*hook) bool) latency {
	due := make(map[int]time.Time, len(p.events))
	hooks := make(map[*hook]bool)
	for _, number := range p.events {
		e := p.l.event(number)
		due[number] = e.due
		for _, h := range e.topic.hooks {
			if which(h) {
				hooks[h] = true
			}
		}
	}
	var all []time.Duration
	for h := range hooks {
		seen := make(map[int]bool)
		for _, a := range h.journal() {
			if at, mine := due[a.event]; mine && !seen[a.event] {
				seen[a.event] = true
				all = append(all, a.at.Sub(at))
			}
		}
	}
	return p.l.summary(name, all)
}

func (l *lab) summary(name string, ds []time.Duration) latency {
	s := summarize(ds)
	l.report.mu.Lock()
	defer l.report.mu.Unlock()
	l.report.Latency[name] = s
	return s
}

// publishing is how long the acknowledged events of the phase took from when they were due to their
// acknowledgement.
func (p *phase) publishing(name string) latency {
	var all []time.Duration
	for _, number := range p.events {
		if e := p.l.event(number); e.acknowledged() {
			all = append(all, e.answered.Sub(e.due))
		}
	}
	return p.l.summary(name, all)
}

// tally counts the phase's events by what their publish was answered.
func (p *phase) tally() (acknowledged, refused, unasked, unknown int64) {
	for _, number := range p.events {
		switch e := p.l.event(number); {
		case e.acknowledged():
			acknowledged++
		case e.status == 0:
			unknown++
		case e.asked:
			refused++
		default:
			unasked++
		}
	}
	return acknowledged, refused, unasked, unknown
}
