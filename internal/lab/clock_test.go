package lab

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

// jumping is the lane of a clock of Postgres that is set wrong and then right again (C14): while it is so
// far ahead that the log has no partition, publishes are refused and the log does not move; when it is right
// again everything goes on, and nothing was given up or is put off because of it.
type jumping struct {
	jumps []time.Duration
	rate  float64
	held  time.Duration // how long the clock is wrong
	crash bool          // a node is killed while it is
	back  time.Duration // in which a publish must succeed when it is right again; 0: at some time
}

func (j *jumping) run(l *lab) {
	c := l.ownClock()
	l.start(2)
	owner := l.account("out of time")
	endpoints := l.endpoints(2)
	topics := []*topic{
		l.topic(owner, "lab.good", wish{}, endpoints[0]),
		l.topic(owner, "lab.again", wish{steps: manySeconds}, endpoints[1]),
	}
	endpoints[1].becomes(l.sometimes(.2, answering(http.StatusBadRequest), healthy))
	turns := func(i int) *topic { return topics[i%2] }
	for _, by := range j.jumps {
		// Retries are due while the clock is wrong, and some are written then.
		before := l.load(j.rate, time.Second, turns)
		c.set(by)
		during := l.load(j.rate, j.held, turns)
		c.set(0)
		when := fmt.Sprintf("with the clock off by %s", by)
		refused := during.onlyRefused(when)
		if by > 10*aDay {
			l.report.bar("refused "+when, refused > 0, refused, "> 0")
		}
		if took := l.resumes("the clock was off by "+by.String(), turns, func() {}); j.back > 0 {
			l.report.atMost("s until publishing resumed after the clock was off by "+by.String(), took.Seconds(), j.back.Seconds())
		}
		before.delivered("held up, published before it was off by "+by.String(), patience)
		during.delivered("held up, published "+when, patience)
	}
	l.load(j.rate, time.Second, turns).delivered("held up after it all", patience)
	position := fanfare.Position(l.count(`SELECT last_value FROM log_pos`))
	ahead := time.Until(position.Time())
	l.report.bar("the log's position is ahead", ahead < 2*time.Hour, ahead.Round(time.Second), "< 2h")
	var flying int64
	if j.crash {
		flying = j.die(l, c, topics[0])
	}
	l.balance(books{limit: 2 * patience, flying: flying})
}

// die kills a node with requests in flight while the clock is ahead: its lease seems to last for an hour when
// the clock is right again, and yet its work is taken over.
func (j *jumping) die(l *lab, c *clock, t *topic) (flying int64) {
	gate := make(chan struct{})
	e := t.hooks[0].endpoint
	c.set(time.Hour)
	l.resumes("the clock was set ahead", func(int) *topic { return t }, func() {})
	l.pause(2 * time.Second) // the leases were renewed by the clock that is ahead
	e.becomes(held(gate))
	p := l.load(j.rate, time.Second, func(int) *topic { return t })
	victim := l.nodes[1]
	victim.kill()
	l.nodes = l.nodes[:1]
	c.set(0)
	e.becomes(healthy)
	close(gate)
	p.delivered("left behind by a node that died while the clock was ahead", patience)
	return int64(len(p.events))
}

// clock is the clock of the lab's database, as far as the nodes read it.
type clock struct{ l *lab }

// ownClock lets the lab's database have a clock that can be set: functions that stand in front of those of
// Postgres. It must come before the first node.
func (l *lab) ownClock() *clock {
	l.Helper()
	l.exec(`CREATE TABLE lab_clock (ahead interval NOT NULL)`)
	l.exec(`INSERT INTO lab_clock VALUES ('0')`)
	l.exec(`CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
		AS 'SELECT pg_catalog.clock_timestamp() + (SELECT ahead FROM public.lab_clock)'`)
	l.exec(`CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE
		AS 'SELECT pg_catalog.now() + (SELECT ahead FROM public.lab_clock)'`)
	l.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$`)
	return &clock{l}
}

func (c *clock) set(ahead time.Duration) {
	c.l.Helper()
	c.l.exec(`UPDATE lab_clock SET ahead = $1`, ahead)
}

var c14Short = jumping{jumps: []time.Duration{time.Hour, 40 * aDay}, rate: 50, held: time.Second}

func TestAClockThatJumpsRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	run(t, "C14 short", "", &c14Short).finish(t)
}
