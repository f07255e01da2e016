package dispatcher

import (
	"math/bits"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

const (
	// downAfter is how many failures in a row make an endpoint down.
	downAfter = 5
	// probeEvery is how often an endpoint that is down is tried at least, while anything is due.
	probeEvery = time.Minute
	// recalled is how many of the last attempts decide whether an endpoint is given less.
	recalled = 20
	// halveEvery is how soon an endpoint may be given less again: what was in flight has ended by then.
	halveEvery = time.Second
	// narrowFor is how long an idle endpoint's window is remembered.
	narrowFor = time.Minute
	// hostFor is how long it is remembered of a host of one-off destinations, and what its failures were: there
	// is no bound to how many hosts there are.
	hostFor = 10 * time.Second
	// widenAfter is how many successes widen a window by one, once it has been too wide.
	widenAfter = 32
	// throttled is how long an endpoint rests after a 429 that does not say.
	throttled = time.Second
	// maxHeld is how long deliveries wait in memory for an endpoint that rests. For longer they are parked.
	maxHeld = 10 * time.Second
	// briskFor is how soon an endpoint answers that waits for nothing but its turn.
	briskFor = time.Second
	// unknownWindow is how many requests an endpoint gets at first that has retries but no history here.
	unknownWindow = 4
	// defaultLimit is the max_in_flight of a webhook that this node does not know.
	defaultLimit = 32
)

// endpoint is what this node knows of a webhook's receiver, and decides by it how many requests may be
// in flight and when the next may start. Time comes in as an argument, and the queue counts what is in
// flight.
//
//	open     window = limit
//	narrow   window < limit: it answered with 429, 5xx, a refusal or not at all; the window grows by one
//	         for each 32 successes
//	down     five failures in a row: one request at a time, and not before probeAt
//	ramping  a success after being down: the window grows by one for each success
//
// Beside that it may rest until a time that it asked for, and be paced by the webhook's rate limit.
type endpoint struct {
	url   string // another URL is another endpoint
	limit int    // of requests in flight: this node's share of the webhook's max_in_flight
	pace  pace

	brisk     bool // its last attempt succeeded within briskFor
	window    int
	movedAt   time.Time // when the window last changed
	ramp      int       // a window below it grows by one for each success
	successes int       // since the window was last widened
	recent    uint32    // the last attempts, the newest lowest; 1: overloaded or out of reach
	halvedAt  time.Time // when the window was last halved

	failures  int // in a row
	failedAt  time.Time
	probeAt   time.Time
	restUntil time.Time
}

// lesson is what an attempt taught about its endpoint.
type lesson struct {
	kind kind
	url  string // that was called; "": none
	took time.Duration
	rest time.Duration // that the receiver asked for
	gap  time.Duration // until the delivery's own next try; 0: it has none
}

type kind uint8

const (
	learnedNothing kind = iota // no request was made
	ourFault                   // it failed by a fault of ours, or by nobody's
	succeeded
	failed     // the endpoint works, but refuses what it is sent
	overloaded // a timeout, a refused connection, a 5xx
	busy       // 429
)

// aim says what the registry says of the endpoint now.
func (e *endpoint) aim(url string, limit int, p pace) {
	if e.url != url || e.limit == 0 {
		*e = endpoint{url: url, limit: limit, window: limit, ramp: limit, pace: p}
		return
	}
	if e.limit != limit {
		if e.window == e.limit || e.window > limit {
			e.window = limit
		}
		if e.ramp == e.limit {
			e.ramp = limit
		}
		e.limit = limit
	}
	e.pace.set(p)
}

// cautious is for an endpoint of which only retries are known: they may have failed for a reason that
// still holds.
func (e *endpoint) cautious(now time.Time) {
	if e.url != "" {
		e.window, e.movedAt = min(e.window, unknownWindow), now
	}
}

func (e *endpoint) down() bool { return e.failures >= downAfter && !weaken.Off(weaken.Gate) }

// next says whether a request may start now beside those in flight. If only time is in the way, at is
// when to ask again.
func (e *endpoint) next(now time.Time, flying int) (ok bool, at time.Time) {
	switch {
	case e.down() && flying > 0, flying >= e.window && !weaken.Off(weaken.InFlight):
		return false, time.Time{}
	case e.down() && now.Before(e.probeAt):
		return false, later(e.probeAt, e.restUntil)
	case now.Before(e.restUntil):
		return false, e.restUntil
	}
	at = e.pace.next()
	return !now.Before(at) || weaken.Off(weaken.Rate), at
}

// shut reports whether deliveries should rather wait in Postgres than in memory.
func (e *endpoint) shut(now time.Time, flying int) bool {
	return e.down() && (flying > 0 || now.Before(e.probeAt)) || e.restUntil.Sub(now) > maxHeld
}

// ended takes in what an attempt taught that ended at now.
func (e *endpoint) ended(now time.Time, l lesson) {
	switch l.kind {
	case learnedNothing:
		return
	case ourFault:
		if e.down() {
			e.probeAt = now.Add(min(max(l.gap, 0), probeEvery))
		}
		return
	case succeeded:
		e.brisk = l.took < briskFor
		e.succeed(now)
		return
	case busy:
		// It is there and says how it is: neither down nor healthy.
		if e.down() {
			e.probeAt = now.Add(probeGap(l))
		} else {
			e.narrow(now)
		}
	default:
		e.failedAt = now
		if e.failures++; e.down() {
			e.probeAt = now.Add(probeGap(l))
			e.window, e.movedAt, e.ramp, e.successes, e.recent = 1, now, e.limit, 0, 0
		} else {
			e.remember(now, l.kind == overloaded)
		}
	}
	e.brisk = false
	if l.rest == 0 && l.kind == busy {
		l.rest = throttled
	}
	e.restUntil = later(e.restUntil, now.Add(l.rest))
}

// probeGap is how long after a probe the next one is due. A lone delivery keeps to its schedule.
func probeGap(l lesson) time.Duration {
	if 0 < l.gap && l.gap < probeEvery {
		return l.gap
	}
	return probeEvery
}

func (e *endpoint) succeed(now time.Time) {
	e.recent <<= 1
	e.failures = 0
	switch e.successes++; {
	case e.window >= e.limit:
	case weaken.Off(weaken.Ramp):
		e.window = e.limit
	case e.window < e.ramp || e.successes >= widenAfter:
		e.window++
		e.movedAt, e.successes = now, 0
	}
}

func (e *endpoint) remember(now time.Time, bad bool) {
	e.recent <<= 1
	if bad {
		e.recent |= 1
	}
	if bits.OnesCount32(e.recent<<(32-recalled))*2 >= recalled {
		e.narrow(now)
	}
}

// narrow halves the window, once in a while: what was in flight before says nothing new.
func (e *endpoint) narrow(now time.Time) {
	if now.Sub(e.halvedAt) < halveEvery {
		return
	}
	e.halvedAt, e.movedAt = now, now
	e.window = max(e.window/2, 1)
	e.ramp, e.successes, e.recent = e.window, 0, 0
}

// spentAt is when an idle endpoint may be forgotten: a new one would decide the same, or what made this one
// narrow, or fail, is longer ago than it is to be remembered for.
func (e *endpoint) spentAt(remembered time.Duration) time.Time {
	at := later(e.restUntil, e.pace.turn)
	if e.failures > 0 {
		at = later(at, later(e.failedAt, e.probeAt).Add(remembered))
	}
	if e.window < e.limit {
		at = later(at, e.movedAt.Add(remembered))
	}
	return at
}

// How an endpoint is, for people.
const (
	endpointHealthy = "healthy" // its last attempt did not fail
	endpointFailing = "failing" // one to four attempts failed in a row
	endpointDown    = "down"    // five or more did
)

func (e *endpoint) state() string {
	switch {
	case e.failures == 0:
		return endpointHealthy
	case e.failures < downAfter:
		return endpointFailing
	default:
		return endpointDown
	}
}

// pace spaces the starts of requests evenly, such that no window of a limit's period holds more than its
// count. It is the generic cell rate algorithm (ITU-T I.371): a request may come early by what a timer may
// be late, and pays for it with the rate.
type pace struct {
	step  time.Duration // between starts; 0: no limit
	slack time.Duration // how much earlier than its turn one may start
	turn  time.Time     // of the next
}

// newPace is at most count starts in any period per.
func newPace(count int, per time.Duration) pace {
	if count == 0 {
		return pace{}
	}
	early := max(count/50, 1) - 1 // starts that may come early together
	step := per / time.Duration(count-early)
	return pace{step: step, slack: step * time.Duration(early)}
}

// set takes over another limit. The turn stays, but for what a higher limit makes of the last step.
func (p *pace) set(to pace) {
	if to.step < p.step {
		p.turn = p.turn.Add(to.step - p.step)
	}
	p.step, p.slack = to.step, to.slack
}

// next is when a request may start; the zero time: at any.
func (p *pace) next() time.Time {
	if p.step == 0 {
		return time.Time{}
	}
	return p.turn.Add(-p.slack)
}

// started counts a request.
func (p *pace) started(now time.Time) {
	if p.step > 0 {
		p.turn = later(p.turn, now).Add(p.step)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
