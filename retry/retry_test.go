package retry_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/retry"
)

var (
	failed = retry.Outcome{Verdict: fanfare.VerdictRetry, Error: fanfare.ErrStatus, Charged: true}
	stale  = retry.Outcome{Verdict: fanfare.VerdictRetry, Error: fanfare.ErrConnect, Prompt: true}
	own    = retry.Outcome{Verdict: fanfare.VerdictRetry, Error: fanfare.ErrOwn}
)

// Six attempts on a virtual clock, each of which takes three seconds to fail.
func TestDefaultScheduleFromEndToEnd(t *testing.T) {
	const took = 3 * time.Second
	for _, rnd := range []float64{0, 0.5, 0.999999} {
		now, tries, trigger := noon, 0, fanfare.TriggerFirst
		for i, step := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour} {
			end := now.Add(took)
			got := retry.Default.AfterAttempt(retry.Ended{Outcome: failed, Trigger: trigger, At: end, First: noon, Tries: tries}, rnd)
			if got.State != fanfare.Pending || got.Reason != "" || got.Tries != i+1 {
				t.Fatalf("after attempt %d: %+v", i+1, got)
			}
			if wait := got.RetryAt.Sub(end); wait < step || wait > step+step/10 {
				t.Errorf("after attempt %d the wait is %v", i+1, wait)
			}
			if retry.Default.Expired(noon, got.RetryAt) {
				t.Errorf("attempt %d expired before it was due", i+2)
			}
			now, tries, trigger = got.RetryAt, got.Tries, fanfare.TriggerRetry
		}
		got := retry.Default.AfterAttempt(retry.Ended{Outcome: failed, Trigger: trigger, At: now.Add(took), First: noon, Tries: tries}, rnd)
		if want := (retry.Decision{State: fanfare.Exhausted, Reason: fanfare.ReasonSchedule, Tries: 6}); got != want {
			t.Errorf("after the last attempt: %+v", got)
		}
	}
}

func TestAfterAttempt(t *testing.T) {
	outcome := func(verdict fanfare.Verdict) retry.Outcome { return retry.Outcome{Verdict: verdict, Charged: true} }
	throttled := failed
	throttled.RetryAfter = 2 * time.Hour
	ended := func(reason fanfare.Reason, tries int) retry.Decision {
		return retry.Decision{State: fanfare.Exhausted, Reason: reason, Tries: tries}
	}
	due := func(wait time.Duration, tries int) retry.Decision {
		return retry.Decision{State: fanfare.Pending, RetryAt: noon.Add(wait), Tries: tries}
	}
	for _, test := range []struct {
		name     string
		schedule retry.Schedule
		ended    retry.Ended // At is noon; First is an hour before unless given
		want     retry.Decision
	}{
		{"delivered", retry.Default, retry.Ended{Outcome: outcome(fanfare.VerdictDelivered)}, retry.Decision{State: fanfare.Delivered, Tries: 1}},
		{"delivered at last", retry.Default, retry.Ended{Outcome: outcome(fanfare.VerdictDelivered), Tries: 5}, retry.Decision{State: fanfare.Delivered, Tries: 6}},
		{"gone", retry.Default, retry.Ended{Outcome: outcome(fanfare.VerdictGone)}, retry.Decision{State: fanfare.Discarded, Reason: fanfare.ReasonGone, Tries: 1}},
		{"rejected", retry.Default, retry.Ended{Outcome: outcome(fanfare.VerdictReject)}, ended(fanfare.ReasonReject, 1)},
		{"failed", retry.Default, retry.Ended{Outcome: failed}, due(time.Minute, 1)},
		{"failed again", retry.Default, retry.Ended{Outcome: failed, Tries: 3}, due(time.Hour, 4)},
		{"throttled", retry.Default, retry.Ended{Outcome: throttled}, due(2*time.Hour, 1)},
		{"failed at last", retry.Default, retry.Ended{Outcome: failed, Tries: 5}, ended(fanfare.ReasonSchedule, 6)},
		{"throttled at last", retry.Default, retry.Ended{Outcome: throttled, Tries: 5}, ended(fanfare.ReasonSchedule, 6)},
		{"failed without retries", nil, retry.Ended{Outcome: failed}, ended(fanfare.ReasonSchedule, 1)},
		{"failed after the schedule was shortened", retry.Default[:2], retry.Ended{Outcome: failed, Tries: 4}, ended(fanfare.ReasonSchedule, 5)},

		{"our fault", retry.Default, retry.Ended{Outcome: own}, due(time.Minute, 0)},
		{"nobody's fault", retry.Default, retry.Ended{Outcome: stale, Tries: 2}, due(0, 2)},
		{"nobody's fault for longer than a day", retry.Default, retry.Ended{Outcome: stale, First: noon.Add(-day - 1)}, ended(fanfare.ReasonExpired, 0)},
		{"our fault at last", retry.Default, retry.Ended{Outcome: own, Tries: 5}, due(time.Minute, 5)},
		{"our fault without retries", nil, retry.Ended{Outcome: own}, due(time.Minute, 0)},
		{"our fault for a day", retry.Default, retry.Ended{Outcome: own, First: noon.Add(-day)}, due(time.Minute, 0)},
		{"our fault for longer", retry.Default, retry.Ended{Outcome: own, First: noon.Add(-day - 1)}, ended(fanfare.ReasonExpired, 0)},
		{"our fault a day behind", retry.Default, retry.Ended{Outcome: own, First: noon.Add(-day - 6*time.Minute), Tries: 2}, due(time.Minute, 2)},
		{"our fault further behind", retry.Default, retry.Ended{Outcome: own, First: noon.Add(-day - 6*time.Minute - 1), Tries: 2}, ended(fanfare.ReasonExpired, 2)},
		{"our fault after the schedule was shortened", retry.Default[:1], retry.Ended{Outcome: own, First: noon.Add(-day - time.Minute), Tries: 4}, due(time.Minute, 4)},

		{"a test delivered", retry.Default, retry.Ended{Outcome: outcome(fanfare.VerdictDelivered), Trigger: fanfare.TriggerTest}, retry.Decision{State: fanfare.Delivered, Tries: 1}},
		{"a test failed", retry.Default, retry.Ended{Outcome: failed, Trigger: fanfare.TriggerTest}, ended(fanfare.ReasonSchedule, 1)},
		{"a test failed by our fault", retry.Default, retry.Ended{Outcome: own, Trigger: fanfare.TriggerTest}, ended(fanfare.ReasonSchedule, 0)},
		{"a test rejected", retry.Default, retry.Ended{Outcome: outcome(fanfare.VerdictReject), Trigger: fanfare.TriggerTest}, ended(fanfare.ReasonReject, 1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.ended.At = noon
			if test.ended.First.IsZero() {
				test.ended.First = noon.Add(-time.Hour)
			}
			if test.ended.Trigger == "" {
				test.ended.Trigger = fanfare.TriggerRetry
			}
			if got := test.schedule.AfterAttempt(test.ended, 0); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// A fault of our own is repeated with jitter too.
func TestOwnFaultsAreSpread(t *testing.T) {
	got := retry.Default.AfterAttempt(retry.Ended{Outcome: own, Trigger: fanfare.TriggerFirst, At: noon, First: noon}, 0.5)
	if wait := got.RetryAt.Sub(noon); wait != 63*time.Second {
		t.Errorf("the wait is %v", wait)
	}
}

func TestExpired(t *testing.T) {
	for _, test := range []struct {
		name     string
		schedule retry.Schedule
		last     time.Duration // the greatest age that is not too old
	}{
		{"no retries", nil, day},
		{"the default", retry.Default, 7*time.Hour + 21*time.Minute + day},
		{"the longest", retry.Schedule{day, day, day, day, day, day, day}, 8 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.schedule.Expired(noon, noon.Add(test.last)) {
				t.Error("expired too early")
			}
			if !test.schedule.Expired(noon, noon.Add(test.last+1)) {
				t.Error("did not expire")
			}
			if test.schedule.Expired(noon, noon.Add(-day)) {
				t.Error("expired before it began")
			}
		})
	}
}

// Whatever the answers are, a delivery ends: after one try for each step and one more, within the
// schedule's time, what receivers asked for, the jitter and a day.
func TestEveryDeliveryEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedule := steps(t)
		bound := schedule.Total() + day + time.Duration(len(schedule))*retry.MaxRetryAfter
		bound += bound/10 + time.Hour
		now, tries, trigger := noon, 0, fanfare.TriggerFirst
		for range 4000 {
			outcome := own
			if rapid.IntRange(0, 9).Draw(t, "kind") < 3 {
				outcome = failed
				outcome.RetryAfter = time.Duration(rapid.Int64Range(0, int64(day)).Draw(t, "retryAfter"))
			}
			got := schedule.AfterAttempt(retry.Ended{Outcome: outcome, Trigger: trigger, At: now, First: noon, Tries: tries}, rapid.Float64Range(0, 0.999).Draw(t, "rnd"))
			charged := 0
			if outcome.Charged {
				charged = 1
			}
			if got.Tries != tries+charged {
				t.Fatalf("%d tries became %d", tries, got.Tries)
			}
			if now.Sub(noon) > bound {
				t.Fatalf("still at it after %v", now.Sub(noon))
			}
			if got.State != fanfare.Pending {
				if got.State != fanfare.Exhausted || !got.RetryAt.IsZero() || got.Tries > len(schedule)+1 {
					t.Fatalf("ended as %+v", got)
				}
				return
			}
			if got.Reason != "" || got.RetryAt.Before(now.Add(time.Second)) {
				t.Fatalf("pending as %+v at %v", got, now)
			}
			now, tries, trigger = got.RetryAt, got.Tries, fanfare.TriggerRetry
		}
		t.Fatal("did not end")
	})
}
