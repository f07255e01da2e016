package lab

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// lossy is the lane of a way to Postgres that is slow, stops and breaks (C11): nothing is lost, memory stays
// bounded, and what cannot be committed in time is refused rather than kept waiting.
type lossy struct {
	rate     float64
	duration time.Duration
	every    time.Duration // between two faults
	silences bool          // among them connections that are half-open, which take Postgres's timeouts to notice
	bars     bool          // memory and waiting are asserted
	limit    time.Duration
}

func (c *lossy) run(l *lab) {
	p := l.behindProxy()
	l.start(1)
	owner := l.account("behind a bad way")
	endpoints := l.endpoints(4)
	topics := make([]*topic, len(endpoints))
	for i, e := range endpoints {
		topics[i] = l.topic(owner, fmt.Sprintf("lab.e%d", i), wish{steps: manySeconds}, e)
	}
	endpoints[0].becomes(l.sometimes(.2, answering(http.StatusBadRequest), healthy))
	turns := func(i int) *topic { return topics[i%len(topics)] }
	l.load(c.rate, time.Second, turns).delivered("held up before", patience)
	memory := l.nodes[0].watch(100 * time.Millisecond)

	d := l.newDice()
	var during *phase
	var load sync.WaitGroup
	load.Go(func() { during = l.load(c.rate, c.duration, turns) })
	for begun := time.Now(); time.Since(begun) < c.duration; l.pause(c.every) {
		c.fault(p, d, l.pause)
	}
	p.mend()
	load.Wait()
	l.report.count("connections broken", p.broken.Load())
	during.onlyRefused("while the way is bad")
	took := during.answering("publish while the way is bad, refusals among them")
	during.delivered("held up", c.limit)
	most := peak(memory.stop())
	l.report.figure("RSS MiB", most)
	if c.bars {
		l.report.atMost("longest wait of a publisher s", took.Max/1000, 6) // the node's own limit is 5 s
		l.report.atMost("RSS MiB", most, 256)
	}
	l.report.bar("the node panicked", !l.nodes[0].panicked(), l.nodes[0].panicked(), "false")
	l.audit(c.limit)
}

// fault does one thing to the way.
func (c *lossy) fault(p *proxy, d *dice, pause func(time.Duration)) {
	switch d.below(6) {
	case 0:
		p.delay.Store(int64(d.below(50)) * int64(time.Millisecond))
	case 1:
		p.delay.Store(0)
	case 2:
		p.breakOne(fate{there: 1 + int64(d.below(400)), back: -1, how: ending(d.below(2))}) // in the middle of a statement
	case 3:
		p.breakOne(fate{there: -1, back: 1 + int64(d.below(100)), how: ending(d.below(2))}) // in the middle of an answer
	case 4:
		p.stall.Lock()
		pause(time.Duration(100+d.below(900)) * time.Millisecond)
		p.stall.Unlock()
	case 5:
		how := ending(d.below(2))
		if c.silences {
			how = silence
		}
		p.breakOne(fate{how: how}) // wherever it is
	}
}

// answering is how long the phase's publishes took to be answered, whatever the answer.
func (p *phase) answering(name string) latency {
	var all []time.Duration
	for _, number := range p.events {
		e := p.l.event(number)
		all = append(all, e.answered.Sub(e.sent))
	}
	return p.l.summary(name, all)
}

var c11Short = lossy{rate: 100, duration: 3 * time.Second, every: 50 * time.Millisecond, limit: patience}

func TestABadWayToPostgresLosesNothing(t *testing.T) {
	t.Parallel()
	run(t, "C11 short", "", &c11Short).finish(t)
}

// torn is the lane of a network that breaks connections between the nodes and their receivers, in the
// middle of a request or of its answer: every event arrives in the end, and what the log says of it is what
// its receiver saw.
type torn struct {
	endpoints int
	share     float64 // of the connections that break
	rate      float64
	duration  time.Duration
	limit     time.Duration
}

func (c *torn) run(l *lab) {
	l.start(1)
	owner := l.account("in a bad network")
	endpoints := l.endpoints(c.endpoints)
	topics := make([]*topic, c.endpoints)
	d := l.newDice()
	var proxies []*proxy
	for i, e := range endpoints {
		p := e.behindProxy()
		proxies = append(proxies, p)
		next := func() fate {
			end := forever
			switch { // one of its first twenty requests, or the answer to one
			case !d.chance(c.share):
			case d.chance(.5):
				end.there, end.how = 1+int64(d.below(16_000)), ending(d.below(3))
			default:
				end.back, end.how = 1+int64(d.below(2000)), ending(d.below(3))
			}
			return end
		}
		p.fates.Store(&next)
		p.delay.Store(int64(time.Duration(i%3) * 5 * time.Millisecond))
		topics[i] = l.topic(owner, fmt.Sprintf("lab.e%d", i), wish{steps: manySeconds, timeout: time.Second}, e)
	}
	p := l.load(c.rate, c.duration, func(i int) *topic { return topics[i%len(topics)] })
	broken := int64(0)
	for _, x := range proxies {
		x.mend()
	}
	p.delivered("held up", c.limit)
	for _, x := range proxies {
		broken += x.broken.Load()
	}
	p.latency("delivery", everyHook)
	l.report.bar("connections broken", broken > 0, broken, "> 0")
	// A receiver that said 2xx to nobody gets the request again.
	l.balance(books{limit: c.limit, flying: broken})
	// A connection that was closed under its request costs no try, and no wait.
	l.allow(early, broken)
}

var tornShort = torn{endpoints: 6, share: .95, rate: 100, duration: 2 * time.Second, limit: patience}

func TestABadNetworkToReceiversLosesNothing(t *testing.T) {
	t.Parallel()
	run(t, "torn short", "", &tornShort).finish(t)
}
