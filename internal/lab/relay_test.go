//go:build chaos

package lab

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// relay is the lane of a takeover that is itself cut short: the node that took over is killed as well, and the
// next one does the work.
type relay struct {
	hooks, events int
	limit         time.Duration
}

func (r *relay) run(l *lab) {
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	defer release()
	f := l.newFleet(3)
	endpoints := l.endpoints(r.hooks)
	for _, e := range endpoints {
		e.becomes(held(gate))
	}
	t := l.topic(l.account("handed on and on"), "lab.relay", wish{}, endpoints...)
	first := l.announce(r.events, func(int) *topic { return t }, func(int) time.Time { return time.Now() })
	for number := range r.events {
		l.note(first+number, l.send(l.nodes[0], t, first+number, ""))
	}
	l.until("all is in flight", func() bool { return inHand(endpoints) == r.hooks*r.events })
	owner := ""
	for len(l.nodes) > 1 {
		dying := l.nodes[0]
		if owner != "" {
			dying = l.incarnation(owner)
		}
		f.kill(dying)
		was := owner
		l.until("another has taken over", func() bool {
			owners := l.texts(`SELECT DISTINCT g.owner::text FROM open_groups g JOIN nodes n ON n.id = g.owner AND NOT n.dead AND n.lease_until > now()`)
			if len(owners) != 1 || owners[0] == was || l.incarnation(owners[0]) == nil {
				return false
			}
			owner = owners[0]
			return true
		})
	}
	release()
	l.balance(books{limit: r.limit})
	l.report.none("quarantined", l.count(`SELECT count(*) FROM attempts WHERE reason = 'quarantined'`))
}

// inHand is how many requests the receivers have not answered.
func inHand(endpoints []*endpoint) (n int) {
	for _, e := range endpoints {
		e.mu.Lock()
		n += e.flying
		e.mu.Unlock()
	}
	return n
}

// incarnation is the running node that said it joined under an id; nil: none did.
func (l *lab) incarnation(id string) *node {
	for _, n := range l.nodes {
		if strings.Contains(n.printed(), id) && !n.ended() {
			for line := range strings.Lines(n.printed()) {
				if strings.Contains(line, `"joined"`) && strings.Contains(line, id) {
					return n
				}
			}
		}
	}
	return nil
}

// slowCommit is the lane of commits that take long on every node's account, as with a synchronous standby
// (C11b): they wait for each other, and still nobody waits long.
type slowCommit struct {
	nodes    int
	commit   time.Duration
	rate     float64
	duration time.Duration
	bar      time.Duration // for publishing, p99
}

func (s *slowCommit) run(l *lab) {
	for _, set := range []string{"commit_siblings = 0", fmt.Sprint("commit_delay = ", s.commit.Microseconds())} {
		l.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET ` + set + `', current_database()); END $$`)
	}
	l.start(s.nodes)
	t := l.topic(l.account("behind a slow disk"), "lab.commit", wish{}, l.endpoints(1)...)
	n := l.nodes[0]
	was := n.metrics()
	p := l.load(s.rate, s.duration, func(int) *topic { return t })
	acknowledged, refused, unasked, unknown := p.tally()
	l.report.none("publishes that failed", refused+unasked+unknown)
	l.report.bar("some were acknowledged", acknowledged > 0, acknowledged, "> 0")
	l.report.atMost("publish p99 ms", p.publishing("publish").P99, float64(s.bar.Milliseconds()))
	shown := n.metrics().quantile(was, "fanfare_ingest_commit_seconds", .5)
	l.report.bar("commits are slow", shown >= s.commit.Seconds(), shown, "≥ the delay")
	l.balance(books{limit: patience})
}
