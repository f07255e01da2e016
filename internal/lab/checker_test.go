package lab

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// What the checker looks for. Each name is a bar of every lane.
const (
	lost        = "lost"         // durable, and its receiver never said 2xx to it
	unexpected  = "unexpected"   // it arrived, and was never published, not for this webhook, or under another id
	again       = "duplicates"   // answered with 2xx before
	wrongBody   = "wrong bodies" // not the envelope that the event's bytes make
	forged      = "bad signatures"
	early       = "early retries" // before its step after the end of the try before it
	phantom     = "phantoms"      // the API says delivered, and no receiver said 2xx
	unaccounted = "unaccounted"   // the API knows no state of a pair
	differing   = "states that differ from the journals"
)

// kinds are what must never be; duplicates are counted apart.
var kinds = []string{lost, unexpected, wrongBody, forged, early, phantom, unaccounted, differing}

// earlySlack is how far the clocks of a node and of Postgres, of which a node knows the difference to half a
// round trip, may be apart before a retry counts as early.
const earlySlack = 100 * time.Millisecond

// stated is what the API says of a delivery.
type stated struct{ State, Reason string }

// ledger is what is known of one webhook when all is quiet.
type ledger struct {
	name     string
	steps    []time.Duration   // of its retry schedule; nil: not known
	owed     []int             // the numbers of the events that match it, but for those refused
	arrivals []arrival         // the journal of its receiver
	states   map[string]stated // by event id; nil: the API was not asked
	failing  bool              // its deliveries need not have ended, nor in success
	unheard  bool              // some requests may be in no journal
}

// checker holds journals against each other. It meets all arrivals, and then checks each webhook once.
type checker struct {
	events   []event // by number
	counts   map[string]int64
	pairs    int64 // of a durable event and a webhook that it matched
	arrived  int64 // pairs answered with 2xx
	requests int64
	examples map[string][]string // the first of each kind
}

func newChecker(events []event) *checker {
	return &checker{events: events, counts: make(map[string]int64), examples: make(map[string][]string)}
}

func (c *checker) found(kind, format string, args ...any) {
	const few = 3
	if c.counts[kind]++; c.counts[kind] <= few {
		c.examples[kind] = append(c.examples[kind], fmt.Sprintf(format, args...))
	}
}

// pair is an event and a webhook.
type pair struct {
	arrivals []*arrival // in order
	oks      int
}

// meet learns the ids of events of which no publisher was told one: what arrives first says it. Such an event
// is durable, and is owed to all of its webhooks.
func (c *checker) meet(arrivals []arrival) {
	for i := range arrivals {
		if n := arrivals[i].event; n >= 0 && n < len(c.events) && c.events[n].id == "" {
			c.events[n].id = arrivals[i].id
		}
	}
}

// durable reports whether an event must have a state.
func (e *event) durable() bool { return e.acknowledged() || e.id != "" }

// check takes one webhook's ledger.
func (c *checker) check(b *ledger) {
	pairs := make(map[int]*pair, len(b.owed))
	for _, number := range b.owed {
		pairs[number] = &pair{}
	}
	arrivals := slices.Clone(b.arrivals)
	slices.SortStableFunc(arrivals, func(x, y arrival) int { return x.at.Compare(y.at) })
	for i := range arrivals {
		c.arrival(b, &arrivals[i], pairs[arrivals[i].event])
	}
	listed := len(b.states)
	for _, number := range b.owed {
		e, p := &c.events[number], pairs[number]
		c.pair(b, number, e, p)
		if _, ok := b.states[e.id]; ok || e.id == "" {
			listed--
		}
	}
	if b.states != nil && listed > 0 {
		c.found(differing, "webhook %s: the API lists %d deliveries of events that nobody published", b.name, listed)
		c.counts[differing] += int64(listed - 1)
	}
}

// arrival looks at one request; p is nil if the webhook was owed nothing of the kind.
func (c *checker) arrival(b *ledger, a *arrival, p *pair) {
	c.requests++
	if p == nil {
		c.found(unexpected, "webhook %s got event %d (%s)", b.name, a.event, a.id)
		return
	}
	e := &c.events[a.event]
	if a.id != e.id {
		c.found(unexpected, "webhook %s got event %d as %s, and it is %s", b.name, a.event, a.id, e.id)
	}
	if !a.signed {
		c.found(forged, "webhook %s, event %d", b.name, a.event)
	}
	if a.sum != sha256.Sum256(envelopeOf(e, a.event, a.id)) {
		c.found(wrongBody, "webhook %s, event %d, attempt %d", b.name, a.event, a.attempt)
	}
	if p.arrivals = append(p.arrivals, a); a.status/100 == 2 {
		p.oks++
	}
}

func (c *checker) pair(b *ledger, number int, e *event, p *pair) {
	if e.durable() {
		c.pairs++
	}
	if p.oks > 0 {
		c.arrived++
		if p.oks > 1 {
			c.found(again, "webhook %s, event %d: %d times", b.name, number, p.oks)
			c.counts[again] += int64(p.oks - 2)
		}
	} else if e.durable() && !b.failing {
		c.found(lost, "webhook %s, event %d (%s)", b.name, number, e.id)
	}
	for i := range p.arrivals {
		if wait, ok := p.early(i, b.steps); !ok {
			c.found(early, "webhook %s, event %d, attempt %d: %s too early", b.name, number, p.arrivals[i].attempt, wait)
		}
	}
	if b.states != nil && e.durable() {
		c.state(b, number, e, p)
	}
}

// early says whether a try waited for its step, and else how much was missing. What is not known of the
// tries before it, it does not hold against this one.
func (p *pair) early(i int, steps []time.Duration) (missing time.Duration, ok bool) {
	a := p.arrivals[i]
	if a.attempt < 2 || a.attempt-2 >= len(steps) {
		return 0, true
	}
	// A crash has a try repeated under its number: the first end of it counts. A try that got no answer may
	// have cost nothing, and then the steps are counted otherwise.
	ends := make(map[int]time.Time)
	for _, b := range p.arrivals {
		if end, known := ends[b.attempt]; b.attempt < a.attempt && (!known || b.ended.Before(end)) {
			if b.status == 0 {
				return 0, true
			}
			ends[b.attempt] = b.ended
		}
	}
	if len(ends) != a.attempt-1 {
		return 0, true
	}
	missing = ends[a.attempt-1].Add(steps[a.attempt-2]).Sub(a.at)
	return missing, missing <= earlySlack
}

// state holds what the API says of a pair against what its receiver saw.
func (c *checker) state(b *ledger, number int, e *event, p *pair) {
	s := b.states[e.id]
	last := 0
	for _, a := range p.arrivals {
		last = max(last, a.attempt)
	}
	tried := fmt.Sprintf("webhook %s, event %d (%s): %s %s after %d requests, %d answered with 2xx", b.name, number, e.id, s.State, s.Reason,
		len(p.arrivals), p.oks)
	switch fanfare.State(s.State) {
	case "":
		c.found(unaccounted, "%s", tried)
	case fanfare.Delivered:
		if p.oks == 0 && !b.unheard {
			c.found(phantom, "%s", tried)
		}
	case fanfare.Pending:
		if !b.failing {
			c.found(differing, "%s", tried)
		}
	case fanfare.Exhausted:
		whole := b.steps == nil || b.unheard || s.Reason != string(fanfare.ReasonSchedule) || last > len(b.steps)
		if p.oks > 0 || !whole {
			c.found(differing, "%s", tried)
		}
	case fanfare.Discarded:
		if p.oks > 0 || !b.failing {
			c.found(differing, "%s", tried)
		}
	default:
		c.found(differing, "%s", tried)
	}
}

// envelopeOf is the body that an event's bytes make, whoever sends it and whenever.
func envelopeOf(e *event, number int, id string) []byte {
	data := dataOf
	if e.data != nil {
		data = e.data
	}
	at := ""
	if parsed, err := uuid.Parse(id); err == nil {
		at = fanfare.EventTime(parsed).Format("2006-01-02T15:04:05.000Z")
	}
	return fmt.Appendf(nil, `{"id":"%s","type":"%s","timestamp":"%s","account_id":"%s","data":%s}`, id, e.topic.typ, at, e.topic.account, data(number))
}
