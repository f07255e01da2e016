package lab

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"
)

// terminated is the lane of connections to Postgres that end in the middle of anything (C4): nothing is
// lost, and no goroutine stays behind. Then those end, again and again, on which nodes are told of changes,
// and the changes are known all the same.
type terminated struct {
	rate     float64
	kills    float64 // a second
	duration time.Duration
	changes  int           // of the registry, while nobody can listen
	visible  time.Duration // in which each of them is known to every node; 0: at some time
}

const (
	// endAny ends a connection of the nodes, be it in use or at rest.
	endAny = `SELECT count(pg_terminate_backend(pid)) FROM (
		SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fanfare'
		ORDER BY random() LIMIT 1) one`
	endListeners = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'fanfare' AND query LIKE 'LISTEN %'`
)

func (c *terminated) run(l *lab) {
	l.start(2)
	owner := l.account("cut off")
	endpoints := l.endpoints(4)
	topics := make([]*topic, len(endpoints))
	for i, e := range endpoints {
		topics[i] = l.topic(owner, fmt.Sprintf("lab.e%d", i), wish{steps: manySeconds}, e)
	}
	endpoints[0].becomes(l.sometimes(.2, answering(http.StatusBadRequest), healthy)) // claims are cut off too
	turns := func(i int) *topic { return topics[i%len(topics)] }
	l.load(c.rate, time.Second, turns).delivered("held up before", patience)
	before := make([]float64, len(l.nodes))
	for i, n := range l.nodes {
		before[i] = n.goroutines()
	}

	var p *phase
	var load sync.WaitGroup
	load.Go(func() { p = l.load(c.rate, c.duration, turns) })
	ended := int64(0)
	for begun := time.Now(); time.Since(begun) < c.duration; l.pause(time.Duration(float64(time.Second) / c.kills)) {
		ended += l.count(endAny)
	}
	load.Wait()
	l.report.count("connections ended", ended)
	p.onlyRefused("while connections end")
	p.publishing("publish while connections end")
	p.delivered("held up", 2*patience)
	p.latency("delivery while connections end", everyHook)
	c.unheard(l, owner, endpoints[0])

	strays := 0.
	for i, n := range l.nodes {
		l.within(patience, func() bool { return n.goroutines() <= before[i]+5 })
		strays = max(strays, n.goroutines()-before[i])
		l.report.bar(fmt.Sprintf("node %d panicked", i), !n.panicked(), n.panicked(), "false")
	}
	l.report.atMost("goroutines more than before", strays, 5)
	l.until("every node hears of changes again", func() bool {
		return l.nodes[0].metrics().sum("fanfare_registry_listening")+l.nodes[1].metrics().sum("fanfare_registry_listening") == 2
	})
	l.audit(patience)
}

// unheard makes changes that no node is told of.
func (c *terminated) unheard(l *lab, owner string, e *endpoint) {
	l.eventType("lab.nothing")
	var latest time.Duration
	unknown := int64(0)
	for range c.changes {
		want := l.nodes[0].metrics().sum("fanfare_registry_webhooks") + 1
		l.count(endListeners)
		l.hook(e, owner, "lab.nothing", wish{})
		made := time.Now()
		known := l.within(patience/2, func() bool {
			l.count(endListeners)
			for _, n := range l.nodes {
				if n.metrics().sum("fanfare_registry_webhooks") < want {
					return false
				}
			}
			return true
		})
		if !known {
			unknown++
		}
		latest = max(latest, time.Since(made))
	}
	l.report.none("changes that stayed unknown", unknown)
	if c.visible > 0 {
		l.report.atMost("s until a change was known", latest.Seconds(), c.visible.Seconds())
	}
}

// goroutines is how many the node has when nobody talks to it.
func (n *node) goroutines() float64 {
	n.l.Helper()
	least := math.Inf(1)
	n.l.http.CloseIdleConnections()
	for range 10 {
		n.l.pause(20 * time.Millisecond)
		least = min(least, n.metrics().sum("go_goroutines"))
	}
	return least
}

var c4Short = terminated{rate: 100, kills: 25, duration: 2 * time.Second, changes: 2}

func TestConnectionsToPostgresThatEndLoseNothing(t *testing.T) {
	t.Parallel()
	run(t, "C4 short", "", &c4Short).finish(t)
}
