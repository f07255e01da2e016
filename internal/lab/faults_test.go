package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// What the lanes of faults have in common.

// repeatable reports whether a publish that was answered so may be repeated.
func (r *reply) repeatable() bool {
	return r.status == 0 || r.status == http.StatusServiceUnavailable || r.status == http.StatusTooManyRequests
}

// insist publishes one event about t at a node until it is accepted, and answers how many webhooks of its
// account it matched.
func (l *lab) insist(n *node, t *topic) (number int, matched int64) {
	number = l.announce(1, func(int) *topic { return t }, func(int) time.Time { return time.Now() })
	var r reply
	l.within(patience, func() bool {
		r = l.send(n, t, number, fmt.Sprintf("lab-%d", number))
		return !r.repeatable()
	})
	l.note(number, r)
	var got struct{ Matched int64 }
	if r.status != http.StatusAccepted || json.Unmarshal(r.body, &got) != nil {
		l.Errorf("publish: %d %s", r.status, r.body)
	}
	return number, got.Matched
}

// ask makes one request to this node with the platform's key. status is 0 without an answer.
func (n *node) ask(method, path, body string) (status int, answer []byte) {
	r, err := http.NewRequestWithContext(n.l.Context(), method, n.api+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+platformKey)
	r.Header.Set("Content-Type", "application/json")
	resp, err := n.l.http.Do(r)
	if err != nil {
		return 0, nil
	}
	if answer, err = readAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// onlyRefused is the bar that every publish of the phase was accepted, or refused for now with a word on
// when to come again.
func (p *phase) onlyRefused(name string) (refused int64) {
	var other int64
	for _, number := range p.events {
		e := p.l.event(number)
		switch {
		case e.acknowledged():
		case e.asked && (e.status == http.StatusServiceUnavailable || e.status == http.StatusTooManyRequests):
			refused++
		default:
			if other++; other <= 3 {
				p.l.Logf("publish %d: answered %d, Retry-After: %v", number, e.status, e.asked)
			}
		}
	}
	p.l.report.count("refused "+name, refused)
	p.l.report.none("neither accepted nor refused for now "+name, other)
	return refused
}

// delivered is the bar that every acknowledged event of the phase arrives in time.
func (p *phase) delivered(name string, limit time.Duration) {
	p.l.Helper()
	p.l.within(limit, func() bool { p.l.pause(50 * time.Millisecond); return p.arrived(everyHook) })
	p.l.report.none(name, p.missing(everyHook))
}

// resumes publishes one event after the other until one is accepted, does something before each, and answers
// how long it took.
func (l *lab) resumes(after string, next func(i int) *topic, each func()) (took time.Duration) {
	l.Helper()
	all := &phase{l: l, begun: time.Now()}
	l.within(patience, func() bool {
		each()
		one := l.load(1000, time.Millisecond, next)
		all.events = append(all.events, one.events...)
		e := l.event(one.events[0])
		return e.acknowledged()
	})
	took = time.Since(all.begun)
	all.onlyRefused("after " + after)
	l.report.figure("s until publishing resumed after "+after, took.Seconds())
	return took
}

// allow lets something happen at most so often that an audit wants never to happen. Call it after the audit.
func (l *lab) allow(name string, most int64) {
	l.report.mu.Lock()
	defer l.report.mu.Unlock()
	i := slices.IndexFunc(l.report.Bars, func(b bar) bool { return b.Name == name })
	b := &l.report.Bars[i]
	b.Held, b.Want = l.report.Counts[name] <= most, fmt.Sprintf("≤ %d", most)
}

// dice are chances that depend only on the lane's seed and on the order of asking.
type dice struct {
	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

func (l *lab) newDice() *dice { return &dice{rand: rand.New(rand.NewPCG(l.report.Seed, 1))} }

// below is one of the numbers from 0 to n-1.
func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

func (d *dice) chance(share float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Float64() < share
}
