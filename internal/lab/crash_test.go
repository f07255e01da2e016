package lab

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/devpg"
)

// crash is the lane of nodes that are killed and a Postgres that crashes, with all that it had not written,
// while publishers publish (C1, C2, C3): what was acknowledged arrives, and work resumes by itself.
type crash struct {
	nodes      int
	publishers int
	events     int
	rate       float64 // of publishing, at most
	endpoints  int
	failing    int // of them; they answer 500
	kills      int // of nodes, each of which is started anew
	crashes    int // of Postgres
	deaths     int // how often every node is marked dead by another, while all of them live
	gap        between
	repeats    float64 // the share of deliveries that may arrive twice
	bars       bool    // times are asserted
	limit      time.Duration
}

// between is the least and the most of a random time.
type between struct{ least, most time.Duration }

func (s between) draw(r *rand.Rand) time.Duration {
	return s.least + time.Duration(r.Float64()*float64(s.most-s.least))
}

func (c *crash) run(l *lab) {
	var server *devpg.Server
	if c.crashes > 0 {
		server = l.ownPostgres()
	}
	f := l.newFleet(c.nodes)
	bad, pick := l.world(c.endpoints, c.failing)
	chance := rand.New(rand.NewPCG(l.report.Seed, 1))
	var faults []func()
	var outages []span
	var delivered, resumed time.Duration // the longest that it took after a fault
	s := f.stream(c.publishers, c.events, c.rate, pick, everySecond)
	for range c.kills {
		faults = append(faults, func() {
			f.kill(l.nodes[chance.IntN(len(l.nodes))])
			f.start()
			delivered = max(delivered, l.arrives(time.Now()))
		})
	}
	for range c.crashes {
		faults = append(faults, func() {
			outages = append(outages, l.crashPostgres(server, between{0, time.Second}.draw(chance)))
			resumed = max(resumed, s.resumes(time.Now()))
		})
	}
	for range c.deaths {
		faults = append(faults, func() {
			l.exec(`UPDATE nodes SET dead = true`)
			resumed = max(resumed, s.resumes(time.Now()))
		})
	}
	chance.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for _, fault := range faults {
		l.pause(c.gap.draw(chance))
		fault()
	}
	if c.bars {
		l.report.bar("the load outlasted the faults", !s.done(), s.done(), "false")
		if c.kills > 0 {
			l.report.atMost("s until the first delivery", delivered.Seconds(), 10)
		}
		if c.crashes+c.deaths > 0 {
			l.report.atMost("s until publishing resumed", resumed.Seconds(), 5)
		}
	} else {
		s.quit.Store(true)
	}
	s.wait()
	l.report.none("acknowledged while Postgres was down", s.acknowledgedIn(outages))
	l.report.none("refusals that are not 503 or 429 with Retry-After", s.odd())
	for _, n := range l.nodes {
		l.report.bar("the process never ends by itself", !n.panicked(), n.panicked(), "false")
	}
	l.balance(books{limit: c.limit, failing: bad, repeats: c.repeats})
	l.report.none("quarantined", l.count(`SELECT count(*) FROM attempts WHERE reason = 'quarantined'`))
}

// arrives waits for the first arrival after a moment and answers how long it took.
func (l *lab) arrives(after time.Time) time.Duration {
	l.within(patience, func() bool { return l.lastArrival.Load() > after.UnixNano() })
	return time.Since(after)
}

// crashPostgres ends the server without a checkpoint, and starts it again after a while. It answers when it
// was certainly down.
func (l *lab) crashPostgres(s *devpg.Server, down time.Duration) span {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	l.ok(s.Crash(ctx))
	outage := span{from: time.Now()}
	l.pause(down)
	outage.to = time.Now()
	l.ok(s.Restart(ctx))
	l.sql.Reset() // its connections are broken
	return outage
}

// In the short forms duplicates are not counted: on a machine that is busy with other tests a crash repeats
// what it may.
var (
	c1Short = crash{
		nodes: 1, publishers: 4, events: 20_000, rate: 300, endpoints: 5, failing: 1, kills: 2, gap: between{200 * time.Millisecond, 600 * time.Millisecond},
		repeats: 1, limit: patience,
	}
	c2Short = crash{
		nodes: 1, publishers: 4, events: 20_000, rate: 300, endpoints: 5, failing: 1, crashes: 2, gap: between{300 * time.Millisecond, 600 * time.Millisecond},
		repeats: 1, limit: patience,
	}
)

func TestNothingIsLostWhenANodeIsKilled(t *testing.T) {
	t.Parallel()
	run(t, "C1 short", "", &c1Short).finish(t)
}

func TestNothingIsLostWhenPostgresCrashes(t *testing.T) {
	t.Parallel()
	run(t, "C2 short", "", &c2Short).finish(t)
}

// rolling is the lane of deploys one after the other while publishers publish (C6): nothing is lost, and
// nothing arrives twice. Between deploys one is rolled back: a node is told to stop while it starts.
type rolling struct {
	nodes      int
	publishers int
	events     int
	rate       float64
	endpoints  int
	deploys    int
	backs      int // deploys that are rolled back before
	gap        time.Duration
	limit      time.Duration
}

func (r *rolling) run(l *lab) {
	f := l.newFleet(r.nodes)
	_, pick := l.world(r.endpoints, 0)
	chance := rand.New(rand.NewPCG(l.report.Seed, 1))
	s := f.stream(r.publishers, r.events, r.rate, pick, always)
	for range r.backs {
		n := l.spawnNode(nil, nil)
		l.pause(between{0, 300 * time.Millisecond}.draw(chance))
		n.terminate()
		l.until("a node that is told to stop while it starts ends", n.ended)
		f.start()
		f.stop(l.nodes[len(l.nodes)-1]) // it had begun to work, and the old ones work on
	}
	for range r.deploys {
		l.pause(r.gap)
		f.start()
		f.stop(l.nodes[0])
	}
	l.report.bar("the load outlasted the deploys", !s.done(), s.done(), "false")
	s.quit.Store(true)
	s.wait()
	l.report.none("refusals that are not 503 or 429 with Retry-After", s.odd())
	l.report.figure("refusals", float64(len(s.refusals)))
	l.balance(books{limit: r.limit})
	// A node that is told to stop just as it joins leaves its lease to run out: it owns nothing.
	l.report.atMost("leases that were not given back", float64(l.count(`SELECT count(*) FROM nodes WHERE dead`)), float64(r.backs))
}

var c6Short = rolling{nodes: 2, publishers: 4, events: 10_000, rate: 150, endpoints: 5, deploys: 3, backs: 1, limit: patience}

func TestADeployLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	run(t, "C6 short", "", &c6Short).finish(t)
}

// terminate tells the node to stop and does not wait; it may have ended before.
func (n *node) terminate() { _ = n.cmd.Process.Signal(syscall.SIGTERM) }
