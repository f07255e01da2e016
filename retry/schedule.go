package retry

import (
	"fmt"
	"time"
)

// The bounds of a schedule. A platform may set a higher floor than [MinStep].
const (
	MaxSteps = 20
	MinStep  = time.Second
	MaxStep  = 24 * time.Hour
	MaxTotal = 7 * 24 * time.Hour
)

// jitter is the part of a wait that chance may add, so that what failed together is not repeated
// together.
const jitter = 0.1

// Schedule lists the waits between attempts, each counted from the end of the attempt before it. An
// empty schedule repeats nothing.
type Schedule []time.Duration

// Default is the schedule of a webhook that names none: six attempts in 7 h 21 min. It is not to be
// changed.
var Default = Schedule{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour}

// Next is how long to wait after the end of a failed attempt. The number of tries counts from 1 and
// includes that attempt; rnd is a random number in [0, 1). It is not ok if the schedule is over.
//
// The wait is the schedule's step or retryAfter, up to [MaxRetryAfter], whichever is longer, and up to
// a tenth more.
func (s Schedule) Next(tries int, retryAfter time.Duration, rnd float64) (wait time.Duration, ok bool) {
	if tries > len(s) {
		return 0, false
	}
	return later(max(s[tries-1], min(retryAfter, MaxRetryAfter)), rnd), true
}

// Total is the sum of the waits without jitter.
func (s Schedule) Total() time.Duration {
	var total time.Duration
	for _, step := range s {
		total += step
	}
	return total
}

func later(wait time.Duration, rnd float64) time.Duration {
	return wait + time.Duration(jitter*rnd*float64(wait))
}

// Fault is what is wrong with a schedule.
type Fault struct {
	Step    int    // the index of the step, or -1: the schedule as a whole
	Message string // a phrase for its author
}

// ParseSchedule reads a schedule of texts that [ParseDuration] understands. Each step is at least floor
// and at least [MinStep]. If there are faults there is no schedule.
func ParseSchedule(texts []string, floor time.Duration) (Schedule, []Fault) {
	if fault, ok := checkCount(len(texts)); !ok {
		return nil, []Fault{fault}
	}
	schedule := make(Schedule, 0, len(texts))
	var faults []Fault
	for i, text := range texts {
		step, err := ParseDuration(text)
		if err != nil {
			faults = append(faults, Fault{i, err.Error()})
		} else if fault, ok := checkStep(i, step, floor); !ok {
			faults = append(faults, fault)
		}
		schedule = append(schedule, step)
	}
	if faults == nil {
		faults = checkTotal(schedule)
	}
	if faults != nil {
		return nil, faults
	}
	return schedule, nil
}

// Validate reports what is wrong with a schedule; nil if nothing is. Each step must be at least floor
// and at least [MinStep].
func (s Schedule) Validate(floor time.Duration) []Fault {
	if fault, ok := checkCount(len(s)); !ok {
		return []Fault{fault}
	}
	var faults []Fault
	for i, step := range s {
		if fault, ok := checkStep(i, step, floor); !ok {
			faults = append(faults, fault)
		}
	}
	if faults == nil {
		faults = checkTotal(s)
	}
	return faults
}

func checkCount(n int) (Fault, bool) {
	if n <= MaxSteps {
		return Fault{}, true
	}
	return Fault{-1, fmt.Sprintf("has %d steps; at most %d are allowed", n, MaxSteps)}, false
}

func checkStep(i int, step, floor time.Duration) (Fault, bool) {
	floor = max(floor, MinStep)
	if step >= floor && step <= MaxStep {
		return Fault{}, true
	}
	return Fault{i, fmt.Sprintf("must be from %s to %s", FormatDuration(floor), FormatDuration(MaxStep))}, false
}

// checkTotal expects steps that are each within their bounds: their sum does not overflow.
func checkTotal(s Schedule) []Fault {
	if s.Total() <= MaxTotal {
		return nil
	}
	return []Fault{{-1, fmt.Sprintf("takes %s in all; at most %s are allowed", FormatDuration(s.Total()), FormatDuration(MaxTotal))}}
}
