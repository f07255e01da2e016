// Package retry hides every rule about repeating: what an attempt's answer means, whether and when its
// delivery is tried again, when a delivery is given up for its age, and what a schedule may look like
// and how it is written.
//
// It is policy without a clock and without chance: the time and the random number are arguments, and
// the same arguments give the same answer.
package retry

import (
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

const (
	// ownFaultWait is how long after a fault of our own an attempt is repeated.
	ownFaultWait = time.Minute
	// grace is how far faults of our own and waiting for a turn may put a delivery behind its schedule.
	grace = 24 * time.Hour
)

// Ended is an attempt that has ended, and what its delivery was before it.
type Ended struct {
	Outcome Outcome
	Trigger fanfare.Trigger
	At      time.Time // when the attempt ended
	First   time.Time // when the delivery's first attempt started, or the publish if that made no request
	Tries   int       // charged tries before this one
}

// Decision is what a delivery is after an attempt.
type Decision struct {
	State   fanfare.State
	Reason  fanfare.Reason // "" unless State is exhausted or discarded
	RetryAt time.Time      // zero unless State is pending
	Tries   int            // charged tries, with this one
}

// AfterAttempt decides what becomes of a delivery with schedule s. The random number rnd is in [0, 1).
//
// What is not charged costs no try: the attempt is repeated, at once if it is prompt and after a minute
// otherwise, until the delivery is a day behind its schedule. A test is never repeated.
func (s Schedule) AfterAttempt(e Ended, rnd float64) Decision {
	tries := e.Tries
	if e.Outcome.Charged {
		tries++
	}
	end := func(state fanfare.State, reason fanfare.Reason) Decision {
		return Decision{State: state, Reason: reason, Tries: tries}
	}
	switch e.Outcome.Verdict {
	case fanfare.VerdictDelivered:
		return end(fanfare.Delivered, "")
	case fanfare.VerdictGone:
		return end(fanfare.Discarded, fanfare.ReasonGone)
	case fanfare.VerdictReject:
		return end(fanfare.Exhausted, fanfare.ReasonReject)
	}
	if e.Trigger == fanfare.TriggerTest {
		return end(fanfare.Exhausted, fanfare.ReasonSchedule)
	}

	var wait time.Duration
	if e.Outcome.Charged {
		var ok bool
		if wait, ok = s.Next(tries, e.Outcome.RetryAfter, rnd); !ok {
			return end(fanfare.Exhausted, fanfare.ReasonSchedule)
		}
	} else {
		if s[:min(tries, len(s))].Expired(e.First, e.At) {
			return end(fanfare.Exhausted, fanfare.ReasonExpired)
		}
		wait = later(ownFaultWait, rnd)
		if e.Outcome.Prompt {
			wait = 0
		}
	}
	return Decision{State: fanfare.Pending, RetryAt: e.At.Add(wait), Tries: tries}
}

// Expired reports whether a delivery that is due at now is too old to be tried: the whole schedule and
// a day have passed since first, the start of its first attempt, or the publish if there was none.
func (s Schedule) Expired(first, now time.Time) bool {
	return now.Sub(first) > s.Total()+grace
}
