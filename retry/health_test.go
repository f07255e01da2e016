package retry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fanfare-webhooks/fanfare/retry"
)

// life is an endpoint's story on a virtual clock that starts at noon: what it answered, and what was
// decided. Every minute is judged at its end, as the disabler does, with the hours that it would read.
type life struct {
	policy  retry.HealthPolicy
	minutes []retry.HealthMinute // oldest first
	from    time.Time
}

// at adds attempts that end in the minute that begins so long after noon.
func (l *life) at(after time.Duration, attempts, failures int) *life {
	l.minutes = append(l.minutes, retry.HealthMinute{At: noon.Add(after).Truncate(time.Minute), Attempts: attempts, Failures: failures})
	return l
}

// each adds such attempts every so often in [from, to).
func (l *life) each(every, from, to time.Duration, attempts, failures int) *life {
	for at := from; at < to; at += every {
		l.at(at, attempts, failures)
	}
	return l
}

// gaveUp makes the last minute's failures the last of as many deliveries.
func (l *life) gaveUp() *life {
	m := &l.minutes[len(l.minutes)-1]
	m.Exhausted = m.Failures
	return l
}

// gaveUpEach does so for all minutes.
func (l *life) gaveUpEach() *life {
	for i := range l.minutes {
		l.minutes[i].Exhausted = l.minutes[i].Failures
	}
	return l
}

func (l *life) with(change func(*retry.HealthPolicy)) *life { change(&l.policy); return l }

// enabled says that the endpoint was enabled so long after noon.
func (l *life) enabled(after time.Duration) *life { l.from = noon.Add(after); return l }

func story() *life { return &life{policy: retry.DefaultHealth} }

// told is when a life's first warning and its end came, after noon; never: neither.
type told struct {
	warned, disabled time.Duration
	rule             retry.HealthRule
}

const never = time.Duration(-1)

// live judges from noon until two hours after the last attempt, each minute at its end.
func (l *life) live() told {
	got := told{warned: never, disabled: never}
	var since time.Time
	kept := l.policy.Window + l.policy.Window/24 // what is read
	first, end := 0, 0                           // of the minutes that are known and are past
	last := time.Duration(0)
	if n := len(l.minutes); n > 0 {
		last = l.minutes[n-1].At.Sub(noon)
	}
	for after := time.Minute; after <= last+2*time.Hour; after += time.Minute {
		now := noon.Add(after)
		h := retry.HealthHistory{From: l.from, Since: since, Begin: now.Add(-kept)}
		if h.From.After(now) {
			h.From = time.Time{}
		}
		for end < len(l.minutes) && l.minutes[end].At.Before(now) {
			end++
		}
		for first < end && l.minutes[first].At.Before(h.Begin) {
			first++
		}
		h.Minutes = l.minutes[first:end]
		j := l.policy.Judge(now, h)
		since = j.Since
		switch j.Verdict {
		case retry.HealthWarn:
			if got.warned == never {
				got.warned = after
			}
		case retry.HealthDisable:
			got.disabled, got.rule = after, j.Rule
			return got
		}
	}
	return got
}

func TestLives(t *testing.T) {
	const (
		minute = time.Minute
		hour   = time.Hour
	)
	fine := told{never, never, ""}
	burst := func(p *retry.HealthPolicy) { p.Burst, p.BurstWithin = 6, minute }
	inARow := func(p *retry.HealthPolicy) { p.Exhausted = 3 }
	for _, test := range []struct {
		name string
		life *life
		want told
	}{
		{"nothing was ever sent", story(), fine},
		{"healthy", story().each(10*minute, 0, 26*hour, 100, 0), fine},
		{"one failure in a hundred", story().each(10*minute, 0, 26*hour, 100, 1), fine},
		{"a failure each hour among good ones", story().each(hour, 0, 48*hour, 3, 1), fine},
		{"just under half", story().each(10*minute, 0, 48*hour, 100, 49), fine},
		{"half, with successes to the last", story().each(10*minute, 0, 48*hour, 100, 50), told{minute, never, ""}},
		{"half, and then one failure after an hour's silence", story().each(10*minute, 0, 48*hour, 100, 50).at(50*hour, 1, 1), told{minute, 50*hour + minute, retry.RuleRatio}},
		{
			"dead from the start, an event a minute", story().each(minute, 0, 48*hour, 1, 1),
			told{10 * minute, day + minute, retry.RuleRatio},
		},
		{
			"dead from the start, three an hour: too few for a warning in the hour that counts",
			story().each(20*minute, 0, 48*hour, 1, 1),
			told{never, day + minute, retry.RuleRatio},
		},
		{
			"dead from the start, three an hour with their retries", story().each(20*minute, 0, 48*hour, 4, 4),
			told{41 * minute, day + minute, retry.RuleRatio},
		},
		{"slow drip, an event an hour", story().each(hour, 0, 48*hour, 1, 1), told{never, day + minute, retry.RuleRatio}},
		{"slower drip, an event every three hours: too few in a day", story().each(3*hour, 0, 72*hour, 1, 1), fine},
		{
			"every three hours, with a retry each", story().each(3*hour, 0, 72*hour, 2, 2),
			told{never, day + minute, retry.RuleRatio},
		},
		{"nine attempts, all failed", story().at(0, 9, 9), fine},
		{"ten attempts, all failed", story().at(0, 10, 10), told{minute, never, ""}},
		{
			"healthy for a day, then dead", story().each(10*minute, 0, day, 2, 0).each(10*minute, day, 72*hour, 2, 2),
			told{day + 21*minute, 48*hour + minute, retry.RuleRatio},
		},
		{
			"dies half-way through an hour that was good until then", story().each(10*minute, 0, 40*minute, 2, 0).each(10*minute, 40*minute, 72*hour, 2, 2),
			told{61 * minute, 25*hour + minute, retry.RuleRatio},
		},
		{
			"dead for 23 hours, then well", story().each(10*minute, 0, 23*hour, 2, 2).each(10*minute, 23*hour, 26*hour, 2, 0),
			told{41 * minute, never, ""},
		},
		{
			"dead for a day but for one good hour", story().each(10*minute, 0, 12*hour, 2, 2).each(10*minute, 12*hour, 13*hour, 2, 0).each(10*minute, 13*hour, 60*hour, 2, 2),
			told{41 * minute, 37*hour + minute, retry.RuleRatio},
		},
		{
			"dead, one success in the last hour", story().each(10*minute, 0, 23*hour+30*minute, 2, 2).at(23*hour+30*minute, 4, 3).each(10*minute, 23*hour+40*minute, 48*hour, 2, 2),
			told{41 * minute, 24*hour + 31*minute, retry.RuleRatio},
		},
		{
			"an hour that begins with a success and goes on badly", story().each(10*minute, 0, 12*hour, 2, 2).at(12*hour, 1, 0).each(10*minute, 12*hour+10*minute, 26*hour, 2, 2),
			told{41 * minute, day + minute, retry.RuleRatio},
		},
		{
			"flapping, two hours each", func() *life {
				l := story()
				for at := time.Duration(0); at < 28*hour; at += 4 * hour {
					l.each(10*minute, at, at+2*hour, 2, 2).each(10*minute, at+2*hour, at+4*hour, 2, 0)
				}
				return l
			}(),
			told{41 * minute, never, ""},
		},
		{
			"flapping by the request, mostly bad", story().each(10*minute, 0, 26*hour, 10, 9), told{minute, never, ""},
		},
		{
			"failures of long ago, quiet for a day, and a bad hour", story().each(minute, 0, hour, 10, 1).each(minute, 30*hour, 31*hour, 1, 1),
			told{30*hour + 10*minute, never, ""},
		},
		{
			"recovered during grace", story().each(10*minute, 0, 10*hour, 2, 2).enabled(10*hour).each(10*minute, 10*hour, 10*hour+20*minute, 2, 2).
				each(10*minute, 10*hour+20*minute, 36*hour, 2, 0),
			told{41 * minute, never, ""},
		},
		{
			"enabled, and failing again: a day anew", story().each(10*minute, 0, 20*hour, 2, 2).enabled(20*hour).each(10*minute, 20*hour, 72*hour, 2, 2),
			told{41 * minute, 44*hour + minute, retry.RuleRatio},
		},
		{
			"a burst, by default", story().at(0, 6, 6), fine,
		},
		{"a burst of six in a minute", story().with(burst).at(5*minute, 6, 6), told{never, 6 * minute, retry.RuleBurst}},
		{"five in a minute", story().with(burst).each(10*minute, 0, 25*hour, 5, 5), told{11 * minute, day + minute, retry.RuleRatio}},
		{"five in each of many minutes", story().with(burst).each(minute, 0, 20*minute, 5, 5), told{2 * minute, never, ""}},
		{"a burst among many good ones", story().with(burst).at(0, 1000, 6), told{never, minute, retry.RuleBurst}},
		{
			"six in five minutes", story().with(func(p *retry.HealthPolicy) { p.Burst, p.BurstWithin = 6, 5*minute }).each(minute, 0, hour, 2, 2),
			told{never, 3 * minute, retry.RuleBurst},
		},
		{
			"a burst within the grace", story().with(burst).enabled(minute).at(30*minute, 6, 6), fine,
		},
		{
			"a burst that lasts beyond the grace", story().with(burst).enabled(minute).each(minute, 30*minute, 3*hour, 6, 6),
			told{32 * minute, 61 * minute, retry.RuleBurst},
		},
		{
			"a burst before enabling", story().with(burst).with(func(p *retry.HealthPolicy) { p.Grace = 0 }).enabled(minute/2).at(0, 6, 6), fine,
		},
		{
			"a grace longer than the day", story().with(func(p *retry.HealthPolicy) { p.Window, p.Grace = 2*hour, 6*hour }).enabled(0).each(minute, 0, 7*hour, 1, 1),
			told{10 * minute, 6 * hour, retry.RuleRatio},
		},
		{
			"given up in a row within the grace", story().with(inARow).enabled(0).each(10*minute, 0, 2*hour, 1, 1).gaveUpEach(),
			told{never, hour, retry.RuleExhausted},
		},
		{"three deliveries given up, by default", story().each(hour, 0, 3*hour, 1, 1).gaveUpEach(), fine},
		{
			"three deliveries given up in a row", story().with(inARow).each(hour, 0, 3*hour, 1, 1).gaveUpEach(),
			told{never, 2*hour + minute, retry.RuleExhausted},
		},
		{
			"three given up, with a success between them", story().with(inARow).at(0, 1, 1).gaveUp().at(hour, 1, 0).at(2*hour, 2, 2).gaveUp(), fine,
		},
		{
			"an off switch", story().with(func(p *retry.HealthPolicy) { p.Disable = false; p.Burst = 6; p.Exhausted = 3 }).each(10*minute, 0, 26*hour, 9, 9).gaveUpEach(),
			told{11 * minute, never, ""},
		},
		{
			"no warnings", story().with(func(p *retry.HealthPolicy) { p.Warn = false }).each(10*minute, 0, 48*hour, 2, 2),
			told{never, day + minute, retry.RuleRatio},
		},
		{
			"a stricter share", story().with(func(p *retry.HealthPolicy) { p.Percent = 90 }).each(minute, 0, 48*hour, 10, 8), fine,
		},
		{
			"a shorter day", story().with(func(p *retry.HealthPolicy) { p.Window = 2 * hour }).each(minute, 0, 48*hour, 1, 1),
			told{10 * minute, 2*hour + minute, retry.RuleRatio},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.life.live(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// What a judgement is reached by is what its mail and the API show.
func TestAJudgementNamesItsEvidence(t *testing.T) {
	l := story().each(time.Minute, 0, 24*time.Hour, 4, 3)
	l.each(time.Minute, 24*time.Hour, 25*time.Hour, 2, 2)
	now := noon.Add(25*time.Hour + time.Minute)
	got := l.policy.Judge(now, retry.HealthHistory{Begin: noon, Minutes: l.minutes})
	want := retry.HealthJudgement{
		Verdict: retry.HealthDisable, Rule: retry.RuleRatio, Within: 24 * time.Hour,
		Count: retry.HealthCount{Attempts: 4*(23*60-1) + 2*60, Failures: 3*(23*60-1) + 2*60},
		Since: noon, NotBefore: noon.Add(25 * time.Hour),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The first failure is known although the minutes do not reach back to it.
func TestWhatWasJudgedBeforeIsCarriedOn(t *testing.T) {
	l := story().each(3*time.Hour, 10*time.Hour, 40*time.Hour, 2, 2)
	h := retry.HealthHistory{Since: noon, Begin: noon.Add(10 * time.Hour), Minutes: l.minutes}
	now := noon.Add(30 * time.Hour)
	if got := l.policy.Judge(now, h); got.Verdict != retry.HealthDisable || !got.Since.Equal(noon) {
		t.Errorf("got %+v", got)
	}
	h.From = noon.Add(time.Hour) // counters were reset after that
	if got := l.policy.Judge(now, h); got.Verdict != retry.HealthFine || !got.Since.Equal(noon.Add(10*time.Hour)) {
		t.Errorf("after a reset: got %+v", got)
	}
}

// An hour of which only the end is known is not taken for a good one.
func TestAnHourHalfKnownIsNotJudged(t *testing.T) {
	h := retry.HealthHistory{Since: noon, Begin: noon.Add(50 * time.Minute), Minutes: []retry.HealthMinute{
		{At: noon.Add(55 * time.Minute), Attempts: 1},
	}}
	if got := retry.DefaultHealth.Judge(noon.Add(2*time.Hour), h); !got.Since.Equal(noon) {
		t.Errorf("got %+v", got)
	}
	h.Begin = noon
	if got := retry.DefaultHealth.Judge(noon.Add(2*time.Hour), h); !got.Since.IsZero() {
		t.Errorf("wholly known: got %+v", got)
	}
}

// An hour that begins well may end badly.
func TestAnHourIsJudgedWhenItIsOver(t *testing.T) {
	h := retry.HealthHistory{Since: noon, Begin: noon.Add(2 * time.Hour), Minutes: []retry.HealthMinute{{At: noon.Add(3 * time.Hour), Attempts: 1}}}
	if got := retry.DefaultHealth.Judge(noon.Add(4*time.Hour-1), h); !got.Since.Equal(noon) {
		t.Errorf("before: got %+v", got)
	}
	if got := retry.DefaultHealth.Judge(noon.Add(4*time.Hour), h); !got.Since.IsZero() {
		t.Errorf("after: got %+v", got)
	}
}

func TestOverridesAreInheritedMemberByMember(t *testing.T) {
	read := func(text string) retry.HealthOverride {
		t.Helper()
		o, err := retry.ParseHealthOverride([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	got := retry.DefaultHealth.
		Override(read(`{"disable": false, "window": "12h", "burst_failures": 6, "burst_within": "2m", "grace": "0s"}`)).
		Override(read(``)).Override(read(`null`)).Override(read(`{}`)).
		Override(read(`{"disable": true, "warn": false, "failure_percent": 75, "min_attempts": 3, "exhausted_in_a_row": 5, "of_a_later_version": 1}`))
	want := retry.HealthPolicy{
		Disable: true, Percent: 75, MinAttempts: 3, Window: 12 * time.Hour, Burst: 6, BurstWithin: 2 * time.Minute, Exhausted: 5,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := retry.ParseHealthOverride([]byte(`{"window": "soon"}`)); err == nil {
		t.Error("read what is no duration")
	}
}
