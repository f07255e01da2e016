package lab

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

// away is the lane of a Postgres that nobody reaches for a while (C16): nobody takes anybody for dead, and
// only what was in flight may be repeated.
type away struct {
	nodes      int
	publishers int
	events     int
	rate       float64
	endpoints  int
	before     time.Duration // how long all is well
	down       time.Duration // longer than a lease
	limit      time.Duration
}

func (a *away) run(l *lab) {
	server := l.ownPostgres()
	f := l.newFleet(a.nodes)
	_, pick := l.world(a.endpoints, 0)
	s := f.stream(a.publishers, a.events, a.rate, pick, everySecond)
	l.pause(a.before)
	incarnations := l.texts(`SELECT id::text FROM nodes WHERE NOT dead`)
	var flying int64
	for _, n := range l.nodes {
		flying += int64(n.metrics().sum("fanfare_in_flight"))
	}
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	l.ok(server.Stop(ctx))
	outage := span{from: time.Now()}
	l.pause(a.down)
	outage.to = time.Now()
	again, cancelAgain := context.WithTimeout(l.Context(), patience)
	defer cancelAgain()
	l.ok(server.Restart(again))
	l.sql.Reset()
	resumed := s.resumes(time.Now())
	l.report.figure("s until publishing resumed", resumed.Seconds())
	l.pause(a.before)
	s.quit.Store(true)
	s.wait()
	l.report.none("acknowledged while Postgres was away", s.acknowledgedIn([]span{outage}))
	l.report.none("refusals that are not 503 or 429 with Retry-After", s.odd())
	l.report.none("incarnations that ended", int64(len(incarnations)-kept(incarnations, l.texts(`SELECT id::text FROM nodes WHERE NOT dead`))))
	var taken int64
	for _, n := range l.nodes {
		taken += n.said("groups taken over from dead nodes")
		l.report.bar("the process never ends by itself", !n.panicked(), n.panicked(), "false")
	}
	l.report.none("takeovers from nodes taken for dead", taken)
	l.balance(books{limit: a.limit, flying: flying})
}

var c16Short = away{
	nodes: 2, publishers: 2, events: 10_000, rate: 100, endpoints: 3, before: 300 * time.Millisecond, down: 5500 * time.Millisecond,
	limit: patience,
}

func TestNobodyIsTakenForDeadWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	run(t, "C16 short", "", &c16Short).finish(t)
}

// deaf is the lane of a node whose log nobody can write: its disk is full. It works all the same.
type deaf struct{ events int }

func (d *deaf) run(l *lab) {
	l.start(1) // so that the world can be made
	t := l.topic(l.account("without a log"), "lab.deaf", wish{steps: manySeconds}, l.endpoints(2)...)
	t.hooks[0].endpoint.becomes(stumbling)
	l.nodes[0].stop()
	l.nodes = nil
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		l.Skip("this system has no /dev/full:", err)
	}
	defer full.Close()
	api, admin := freeAddress(l), freeAddress(l)
	n := l.spawnNode(map[string]string{"FANFARE_LISTEN": api, "FANFARE_ADMIN_LISTEN": admin, "FANFARE_LOG_LEVEL": "debug"}, full)
	n.api, n.admin = "http://"+api, "http://"+admin
	l.until("the node answers", n.answers)
	l.nodes = []*node{n}
	p := l.load(200, time.Duration(d.events)*time.Second/200, func(int) *topic { return t })
	_, refused, unasked, unknown := p.tally()
	l.report.none("publishes that failed", refused+unasked+unknown)
	l.balance(books{limit: patience})
	l.report.bar("the process never ends by itself", !n.ended(), n.ended(), "false")
	n.stop()
	l.nodes = nil
}

// freeAddress is one of this machine that nobody had a moment ago.
func freeAddress(l *lab) string {
	l.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.ok(err)
	defer listener.Close()
	return listener.Addr().String()
}

var deafShort = deaf{events: 100}

func TestANodeWorksWithoutALog(t *testing.T) {
	t.Parallel()
	run(t, "full log short", "", &deafShort).finish(t)
}
