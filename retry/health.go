package retry

import (
	"slices"
	"time"
)

// HealthPolicy says when the owner of an endpoint that fails is warned, and when the endpoint is
// disabled. An attempt has failed if it was not answered with 2xx; tests and failures of our own are no
// attempts here.
//
// A day's hours are 24ths of Window, by the clock in UTC: with another Window they are shorter.
type HealthPolicy struct {
	Disable     bool          // false: only the receiver's own 410 disables
	Warn        bool          // false: nobody is warned
	Percent     int           // of attempts: from so many failed on, an hour is bad; 1 to 100
	MinAttempts int           // fewer say nothing
	Window      time.Duration // for how long an endpoint must have failed to be disabled; [MinHealthWindow] to [MaxHealthWindow]
	// Burst disables after so many failures within BurstWithin, whatever went well meanwhile; 0: never.
	Burst       int
	BurstWithin time.Duration // of the clock's whole minutes
	Exhausted   int           // disables after so many deliveries given up in a row, within a day; 0: never
	Grace       time.Duration // after enabling, in which nothing is disabled
}

// The bounds of a policy.
const (
	MinHealthWindow = healthHours * time.Minute
	MaxHealthWindow = 24 * time.Hour
	MaxMinAttempts  = 10_000
	MaxBurst        = 10_000
	MinBurstWithin  = time.Minute
	MaxBurstWithin  = time.Hour
	MaxExhausted    = 1000
	MaxHealthGrace  = 7 * 24 * time.Hour
)

// DefaultHealth is the policy of a platform that sets none.
var DefaultHealth = HealthPolicy{
	Disable: true, Warn: true, Percent: 50, MinAttempts: 10, Window: 24 * time.Hour, BurstWithin: time.Minute, Grace: time.Hour,
}

// healthHours is how many hours a day has.
const healthHours = 24

// hour is how long a day's hours are.
func (p HealthPolicy) hour() time.Duration { return p.Window / healthHours }

// bad reports whether an hour with so many failures among its attempts, of which it has some, is a bad one.
func (p HealthPolicy) bad(c HealthCount) bool {
	return c.Failures*100 >= p.Percent*c.Attempts
}

// Enough reports whether so many attempts and failures are a reason to worry.
func (p HealthPolicy) Enough(c HealthCount) bool { return c.Attempts >= p.MinAttempts && p.bad(c) }

// HealthCount is what became of attempts.
type HealthCount struct {
	Attempts int
	Failures int // of them
}

func (c *HealthCount) add(m HealthMinute) {
	c.Attempts += m.Attempts
	c.Failures += m.Failures
}

// HealthMinute is what became of the attempts that ended within one minute, on all nodes together.
type HealthMinute struct {
	At        time.Time // its beginning
	Attempts  int
	Failures  int // of the attempts
	Exhausted int // of the failures: those with which their delivery was given up
}

// HealthHistory is what is known of an endpoint.
type HealthHistory struct {
	// From is when the endpoint was last enabled, or its URL changed; minutes that began before do not count.
	From time.Time
	// Since is an answer of an earlier judgement, for what Minutes does not reach back to; zero: none.
	Since time.Time
	// Begin is where Minutes begin: of what was before nothing is known but Since.
	Begin   time.Time
	Minutes []HealthMinute // those with attempts, oldest first
}

// HealthVerdict is what is to be done about an endpoint.
type HealthVerdict string

// The verdicts.
const (
	HealthFine    HealthVerdict = ""
	HealthWarn    HealthVerdict = "warn"
	HealthDisable HealthVerdict = "disable"
)

// HealthRule is what a verdict was reached by.
type HealthRule string

// The rules.
const (
	RuleRatio     HealthRule = "ratio"     // failing for a whole window, or for a warning, in the last hour
	RuleBurst     HealthRule = "burst"     // many failures in a short time
	RuleExhausted HealthRule = "exhausted" // deliveries given up in a row
)

// HealthJudgement is a verdict with what it was reached by.
type HealthJudgement struct {
	Verdict HealthVerdict
	Rule    HealthRule // "" if the verdict is [HealthFine]
	Within  time.Duration
	Count   HealthCount // within Within
	// Exhausted is how many deliveries were given up since the last success.
	Exhausted int
	// Since is the beginning of the minute with the first failure after the last hour that was not bad;
	// zero: none.
	Since time.Time
	// NotBefore is the earliest time at which the endpoint could be disabled for its ratio, as far as the
	// history goes: new attempts can only make it later. Zero if nothing has failed.
	NotBefore time.Time
}

// warnWithin is what a warning looks back on.
const warnWithin = time.Hour

// Judge decides about an endpoint.
//
// It is disabled if it has failed for a whole window: each hour of it that had attempts was bad, there were
// enough of them in all, the first failure is as old as the window, nothing went well in the last hour, and
// something failed in it: silence is no reason.
// An hour is judged when it is over. A minute counts as long as a part of it is within what is asked about,
// so nothing is disabled too early for what the minutes leave open.
func (p HealthPolicy) Judge(now time.Time, h HealthHistory) HealthJudgement {
	var (
		hour           = p.hour()
		ago            = func(d time.Duration) time.Time { return now.Add(-d - time.Minute) } // minutes after it are partly within d
		whole          = ago(p.Window)
		lately         = ago(warnWithin)
		j              = HealthJudgement{Since: h.Since}
		all, recent    HealthCount
		failed, passed time.Time // the newest minutes with a failure and with a success

		begin time.Time // of the hour that is being counted
		count HealthCount
		first time.Time // failure in it
	)
	if j.Since.Before(h.From) {
		j.Since = time.Time{}
	}
	over := func() {
		switch {
		case begin.Before(h.Begin): // not wholly known: what came of it is in h.Since
		case count.Attempts > 0 && !p.bad(count) && !begin.Add(hour).After(now):
			j.Since = time.Time{}
		case j.Since.IsZero():
			j.Since = first
		}
		count, first = HealthCount{}, time.Time{}
	}
	for _, m := range h.Minutes {
		if m.At.Before(h.From) {
			continue
		}
		if m.At.Sub(begin) >= hour {
			over()
			begin = m.At.Truncate(hour)
		}
		count.add(m)
		if m.At.After(whole) {
			all.add(m)
		}
		if m.At.After(lately) {
			recent.add(m)
		}
		if m.Failures > 0 {
			if failed = m.At; first.IsZero() {
				first = m.At
			}
		}
		if j.Exhausted += m.Exhausted; m.Failures < m.Attempts {
			passed, j.Exhausted = m.At, 0
		}
	}
	over()
	if !j.Since.IsZero() {
		j.NotBefore = j.Since.Add(time.Minute + p.Window)
		if quiet := passed.Add(time.Minute + hour); !passed.IsZero() && quiet.After(j.NotBefore) {
			j.NotBefore = quiet
		}
	}
	dead := !j.Since.IsZero() && !now.Before(j.NotBefore) && failed.After(ago(hour)) && all.Attempts >= p.MinAttempts

	graced := now.Before(h.From.Add(p.Grace))
	var burst HealthCount
	if p.Burst > 0 {
		burst = p.burst(now, h)
	}
	switch {
	case p.Disable && !graced && dead:
		j.Verdict, j.Rule, j.Within, j.Count = HealthDisable, RuleRatio, p.Window, all
	case p.Disable && !graced && p.Burst > 0 && burst.Failures >= p.Burst:
		j.Verdict, j.Rule, j.Within, j.Count = HealthDisable, RuleBurst, p.BurstWithin, burst
	case p.Disable && !graced && p.Exhausted > 0 && j.Exhausted >= p.Exhausted:
		j.Verdict, j.Rule, j.Within, j.Count = HealthDisable, RuleExhausted, p.Window, all
	case p.Warn && p.Enough(recent):
		j.Verdict, j.Rule, j.Within, j.Count = HealthWarn, RuleRatio, warnWithin, recent
	default:
		j.Within, j.Count = warnWithin, recent
	}
	return j
}

// burstSeen is how many minutes ago a burst may have ended that is still acted on: counts are written
// down after the minute is over, and judged after that.
const burstSeen = 3

// burst is the worst of the last stretches of whole minutes that are as long as a burst.
func (p HealthPolicy) burst(now time.Time, h HealthHistory) (worst HealthCount) {
	minutes := max(p.BurstWithin/time.Minute, 1) * time.Minute
	for ago := range burstSeen {
		var c HealthCount
		end := now.Truncate(time.Minute).Add(time.Duration(1-ago) * time.Minute)
		for _, m := range slices.Backward(h.Minutes) {
			if m.At.Before(h.From) || m.At.Before(end.Add(-minutes)) {
				break
			}
			if m.At.Before(end) {
				c.add(m)
			}
		}
		if c.Failures > worst.Failures {
			worst = c
		}
	}
	return worst
}
