package dispatcher

import (
	"testing"
	"time"
)

const limit = 32

func newEndpoint() *endpoint {
	e := &endpoint{}
	e.aim("https://example.com", limit, pace{})
	return e
}

// learn feeds n attempts, one after the other at now.
func (e *endpoint) learn(now time.Time, n int, l lesson) {
	for range n {
		e.ended(now, l)
	}
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestAnEndpointIsDownAfterFiveFailuresInARow(t *testing.T) {
	e := newEndpoint()
	e.learn(start, 4, lesson{kind: failed})
	e.learn(start, 1, lesson{kind: succeeded})
	e.learn(start, 4, lesson{kind: failed})
	if e.down() {
		t.Error("down after four in a row")
	}
	e.learn(start, 1, lesson{kind: learnedNothing})
	if e.down() {
		t.Error("our own fault counted")
	}
	e.learn(start, 1, lesson{kind: failed})
	if !e.down() || e.state() != endpointDown {
		t.Error("not down after five in a row")
	}
}

func TestAnEndpointThatIsDownIsProbed(t *testing.T) {
	e := newEndpoint()
	e.learn(start, 5, lesson{kind: overloaded, gap: time.Hour})
	if ok, at := e.next(start, 0); ok || !at.Equal(start.Add(probeEvery)) {
		t.Errorf("right after: %v, next at %s", ok, at)
	}
	probe := start.Add(probeEvery)
	if ok, _ := e.next(probe, 0); !ok {
		t.Error("no probe when a minute is over")
	}
	if ok, at := e.next(probe, 1); ok || !at.IsZero() {
		t.Error("a second probe beside the first")
	}
	if !e.shut(start, 0) || e.shut(probe, 0) || !e.shut(probe, 1) {
		t.Error("more than the probe waits in memory")
	}
}

func TestAHigherLimitLetsNoSecondProbeThrough(t *testing.T) {
	e := newEndpoint()
	e.aim("https://example.com", 1, pace{})
	e.learn(start, 5, lesson{kind: overloaded})
	e.aim("https://example.com", limit, pace{})
	if ok, _ := e.next(start.Add(probeEvery), 1); ok {
		t.Error("a second probe beside the first")
	}
}

func TestALoneDeliveryOfAnEndpointThatIsDownKeepsToItsSchedule(t *testing.T) {
	e := newEndpoint()
	e.learn(start, 5, lesson{kind: overloaded, gap: 3 * time.Second})
	if ok, at := e.next(start, 0); ok || !at.Equal(start.Add(3*time.Second)) {
		t.Errorf("%v, next at %s", ok, at)
	}
}

func TestAnEndpointThatComesBackIsReleasedGradually(t *testing.T) {
	e := newEndpoint()
	e.learn(start, 5, lesson{kind: overloaded})
	back := start.Add(probeEvery)
	for window := 2; window <= limit; window++ {
		if e.learn(back, 1, lesson{kind: succeeded}); e.window != window {
			t.Fatalf("the window is %d, want %d", e.window, window)
		}
		if ok, _ := e.next(back, window); ok {
			t.Fatalf("more than %d in flight", window)
		}
	}
	if e.learn(back, 100, lesson{kind: succeeded}); e.window != limit {
		t.Errorf("the window grew to %d", e.window)
	}
}

func TestAnEndpointThatIsOverloadedGetsLess(t *testing.T) {
	e := newEndpoint()
	for range 9 {
		e.learn(start, 1, lesson{kind: overloaded})
		e.learn(start, 1, lesson{kind: succeeded})
	}
	if e.window != limit {
		t.Fatalf("halved after 9 of 20")
	}
	e.learn(start, 1, lesson{kind: overloaded})
	if e.window != limit/2 {
		t.Fatalf("the window is %d after 10 of 20", e.window)
	}
	worse := func(at time.Time) {
		for range 10 {
			e.learn(at, 1, lesson{kind: overloaded})
			e.learn(at, 1, lesson{kind: succeeded})
		}
	}
	if worse(start.Add(halveEvery - 1)); e.window != limit/2 {
		t.Errorf("halved twice in a second: %d", e.window)
	}
	if worse(start.Add(halveEvery)); e.window != limit/4 {
		t.Errorf("the window is %d a second later", e.window)
	}
}

func TestANarrowWindowWidensSlowly(t *testing.T) {
	e := newEndpoint()
	e.narrow(start)
	if e.learn(start, widenAfter-1, lesson{kind: succeeded}); e.window != limit/2 {
		t.Errorf("the window is %d, widened too soon", e.window)
	}
	if e.learn(start, 1, lesson{kind: succeeded}); e.window != limit/2+1 {
		t.Errorf("the window is %d after %d successes", e.window, widenAfter)
	}
}

func TestAnEndpointThatRefusesWhatItIsSentIsNotOverloaded(t *testing.T) {
	e := newEndpoint()
	for range 100 {
		e.learn(start, 1, lesson{kind: failed})
		e.learn(start, 1, lesson{kind: succeeded})
	}
	if e.window != limit {
		t.Errorf("the window is %d", e.window)
	}
}

func TestAnEndpointThatIsBusyRests(t *testing.T) {
	e := newEndpoint()
	e.learn(start, 10, lesson{kind: busy})
	if e.down() || e.window != limit/2 {
		t.Errorf("down %v, window %d", e.down(), e.window)
	}
	if ok, at := e.next(start, 0); ok || !at.Equal(start.Add(throttled)) {
		t.Errorf("%v, next at %s", ok, at)
	}
	e.learn(start, 1, lesson{kind: busy, rest: time.Minute})
	e.learn(start, 1, lesson{kind: busy, rest: time.Second})
	if ok, at := e.next(start, 0); ok || !at.Equal(start.Add(time.Minute)) {
		t.Errorf("it asked for a minute: %v, next at %s", ok, at)
	}
	if !e.shut(start, 0) || e.shut(start.Add(time.Minute), 0) {
		t.Error("for a minute deliveries wait in memory")
	}
}

func TestAnotherURLIsAnotherEndpoint(t *testing.T) {
	e := newEndpoint()
	e.learn(start, 5, lesson{kind: overloaded})
	e.aim("https://example.com", limit, pace{})
	if !e.down() {
		t.Fatal("forgiven for nothing")
	}
	e.aim("https://example.org", limit, pace{})
	if ok, _ := e.next(start, limit-1); !ok || e.state() != endpointHealthy {
		t.Error("the new address pays for the old one")
	}
}

func TestALimitThatChangesIsKept(t *testing.T) {
	e := newEndpoint()
	for _, l := range []int{10, 64} {
		if e.aim("https://example.com", l, pace{}); e.window != l {
			t.Errorf("window %d of %d", e.window, l)
		}
	}
	e.learn(start, 10, lesson{kind: overloaded})
	e.learn(start, 1, lesson{kind: succeeded})
	if e.aim("https://example.com", 100, pace{}); e.window >= 64 {
		t.Errorf("a narrow window became %d", e.window)
	}
}

func TestNoPeriodHoldsMoreThanARateLimitAllows(t *testing.T) {
	for _, tc := range []struct {
		count int
		per   time.Duration
		tick  time.Duration // how late a timer may be
	}{
		{1, time.Second, time.Millisecond},
		{7, time.Second, time.Millisecond},
		{100, time.Second, time.Millisecond},
		{1000, time.Minute, 100 * time.Millisecond},
		{5000, time.Second, time.Millisecond},
	} {
		e := newEndpoint()
		e.aim("https://example.com", 1<<20, newPace(tc.count, tc.per))
		var starts []time.Time
		for now := start; now.Before(start.Add(5 * tc.per)); now = now.Add(tc.tick) {
			for ok, _ := e.next(now, 0); ok; ok, _ = e.next(now, 0) {
				e.pace.started(now)
				starts = append(starts, now)
			}
		}
		for i := range starts {
			if j := i + tc.count; j < len(starts) && starts[j].Sub(starts[i]) < tc.per {
				t.Errorf("%d in %s: %d came within %s", tc.count, tc.per, tc.count+1, starts[j].Sub(starts[i]))
				break
			}
		}
		if least := tc.count * 5 * 95 / 100; len(starts) < least {
			t.Errorf("%d in %s: only %d in five periods", tc.count, tc.per, len(starts))
		}
	}
}

func TestANarrowWindowIsRemembered(t *testing.T) {
	for what, e := range map[string]*endpoint{"back from down": newEndpoint(), "unknown": newEndpoint(), "halved": newEndpoint()} {
		switch what {
		case "back from down":
			e.learn(start, 5, lesson{kind: failed})
			e.learn(start, 1, lesson{kind: succeeded})
		case "unknown":
			e.cautious(start)
		case "halved":
			e.narrow(start)
		}
		if at := e.spentAt(narrowFor); !at.Equal(start.Add(narrowFor)) {
			t.Errorf("%s: forgotten after %s", what, at.Sub(start))
		}
	}
	if at := newEndpoint().spentAt(narrowFor); !at.IsZero() {
		t.Errorf("a healthy one is remembered until %s", at)
	}
}

func TestAProbeThatSaysLittleIsFollowedByAWait(t *testing.T) {
	for what, l := range map[string]lesson{"429": {kind: busy}, "our own fault": {kind: ourFault, gap: time.Hour}} {
		e := newEndpoint()
		e.learn(start, 5, lesson{kind: overloaded})
		probe := start.Add(probeEvery)
		e.learn(probe, 1, l)
		if ok, at := e.next(probe, 0); ok || !at.Equal(probe.Add(probeEvery)) {
			t.Errorf("%s: %v, next at %s", what, ok, at)
		}
		if e.learn(probe.Add(probeEvery), 2, lesson{kind: succeeded}); e.window != 3 {
			t.Errorf("%s: the window is %d after two successes", what, e.window)
		}
	}
	e := newEndpoint()
	e.learn(start, 5, lesson{kind: overloaded})
	e.learn(start.Add(probeEvery), 1, lesson{kind: learnedNothing})
	if ok, _ := e.next(start.Add(probeEvery), 0); !ok {
		t.Error("what ended without a request took the probe's place")
	}
}

func TestAHigherRateLimitHoldsAtOnce(t *testing.T) {
	e := newEndpoint()
	e.aim("https://example.com", limit, newPace(1, time.Hour))
	e.pace.started(start)
	e.aim("https://example.com", limit, newPace(100, time.Second))
	if ok, at := e.next(start.Add(time.Second), 0); !ok {
		t.Errorf("the next starts in %s", at.Sub(start))
	}
}
