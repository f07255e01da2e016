package retry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare/retry"
)

const day = 24 * time.Hour

func TestNext(t *testing.T) {
	const most = 0.999999999
	for _, test := range []struct {
		name       string
		tries      int
		retryAfter time.Duration
		rnd        float64
		least      time.Duration
		below      time.Duration // 0: the wait is least
	}{
		{name: "after the first", tries: 1, least: time.Minute},
		{name: "after the second", tries: 2, least: 5 * time.Minute},
		{name: "after the last but one", tries: 5, least: 6 * time.Hour},
		{name: "the most jitter", tries: 1, rnd: most, least: 65 * time.Second, below: 66 * time.Second},
		{name: "half of the jitter", tries: 4, rnd: 0.5, least: 63 * time.Minute},
		{name: "a longer Retry-After", tries: 1, retryAfter: 2 * time.Hour, least: 2 * time.Hour},
		{name: "a longer Retry-After with jitter", tries: 1, retryAfter: 2 * time.Hour, rnd: 0.5, least: 126 * time.Minute},
		{name: "a shorter Retry-After", tries: 2, retryAfter: time.Second, least: 5 * time.Minute},
		{name: "a Retry-After beyond its bound", tries: 1, retryAfter: day, least: 6 * time.Hour},
		{name: "a negative Retry-After", tries: 1, retryAfter: -time.Hour, least: time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			wait, ok := retry.Default.Next(test.tries, test.retryAfter, test.rnd)
			if !ok || wait < test.least || (test.below == 0 && wait > test.least) || (test.below != 0 && wait >= test.below) {
				t.Errorf("got %v, %v", wait, ok)
			}
		})
	}
	for _, tries := range []int{6, 7, 1 << 40} {
		if wait, ok := retry.Default.Next(tries, time.Hour, 0); ok {
			t.Errorf("after %d tries: wait %v", tries, wait)
		}
	}
}

// steps draws a schedule within the bounds.
func steps(t *rapid.T) retry.Schedule {
	step := rapid.Map(rapid.Int64Range(int64(retry.MinStep), int64(retry.MaxStep)), func(n int64) time.Duration { return time.Duration(n) })
	schedule := retry.Schedule(rapid.SliceOfN(step, 0, retry.MaxSteps).Draw(t, "schedule"))
	for schedule.Total() > retry.MaxTotal {
		schedule = schedule[1:]
	}
	return schedule
}

func TestNextKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedule := steps(t)
		tries := rapid.IntRange(1, retry.MaxSteps+2).Draw(t, "tries")
		retryAfter := time.Duration(rapid.Int64().Draw(t, "retryAfter"))
		rnd := rapid.Float64Range(0, 1-1e-9).Draw(t, "rnd")

		wait, ok := schedule.Next(tries, retryAfter, rnd)
		if ok != (tries <= len(schedule)) {
			t.Fatalf("ok is %v", ok)
		}
		if !ok {
			return
		}
		asked := min(retryAfter, 6*time.Hour)
		if wait < schedule[tries-1] || wait < asked {
			t.Errorf("%v is earlier than step %v or Retry-After %v", wait, schedule[tries-1], asked)
		}
		if most := max(schedule[tries-1], asked); float64(wait) > 1.1*float64(most) {
			t.Errorf("%v is more than a tenth later than %v", wait, most)
		}
	})
}

func TestValidSchedulesAreAccepted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedule := steps(t)
		if faults := schedule.Validate(0); faults != nil {
			t.Fatalf("got %v", faults)
		}
	})
	if faults := retry.Default.Validate(time.Minute); faults != nil {
		t.Errorf("the default: %v", faults)
	}
}

func TestParseSchedule(t *testing.T) {
	got, faults := retry.ParseSchedule([]string{"1m", "5m", "15m", "1h", "6h"}, time.Minute)
	if faults != nil || !cmp.Equal(got, retry.Default) {
		t.Errorf("got %v, %v", got, faults)
	}
	got, faults = retry.ParseSchedule(nil, time.Minute)
	if faults != nil || len(got) != 0 {
		t.Errorf("none: got %v, %v", got, faults)
	}
}

func TestScheduleFaultsNameTheirStep(t *testing.T) {
	repeat := func(n int, text string) []string {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = text
		}
		return texts
	}
	const (
		serve    = "must be from 1m to 1d"
		dev      = "must be from 1s to 1d"
		notation = "is not a duration such as 500ms, 90s, 5m, 6h or 1d"
	)
	for _, test := range []struct {
		name  string
		texts []string
		floor time.Duration
		want  []retry.Fault
	}{
		{"bounds", []string{"1m", "1d"}, time.Minute, nil},
		{"below the platform's floor", []string{"1m", "59s", "1h"}, time.Minute, []retry.Fault{{Step: 1, Message: serve}}},
		{"below the least floor", []string{"999ms"}, 0, []retry.Fault{{Step: 0, Message: dev}}},
		{"nothing", []string{"0s"}, time.Second, []retry.Fault{{Step: 0, Message: dev}}},
		{"above the ceiling", []string{"1m", "86400001ms"}, time.Minute, []retry.Fault{{Step: 1, Message: serve}}},
		{"no durations", []string{"5", "1m", "soon"}, time.Minute, []retry.Fault{{Step: 0, Message: notation}, {Step: 2, Message: notation}}},
		{"both", []string{"1m", "1s", ""}, time.Minute, []retry.Fault{{Step: 1, Message: serve}, {Step: 2, Message: notation}}},
		{"as many as allowed", repeat(20, "1m"), time.Minute, nil},
		{"too many", repeat(21, "1m"), time.Minute, []retry.Fault{{Step: -1, Message: "has 21 steps; at most 20 are allowed"}}},
		{"as long as allowed", repeat(7, "1d"), time.Minute, nil},
		{"too long", append(repeat(7, "1d"), "1m"), time.Minute, []retry.Fault{{Step: -1, Message: "takes 10081m in all; at most 7d are allowed"}}},
		{"far too long", repeat(20, "106751d"), time.Minute, func() (faults []retry.Fault) {
			for i := range 20 {
				faults = append(faults, retry.Fault{Step: i, Message: serve})
			}
			return faults
		}()},
	} {
		t.Run(test.name, func(t *testing.T) {
			schedule, faults := retry.ParseSchedule(test.texts, test.floor)
			if diff := cmp.Diff(test.want, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if (schedule == nil) != (test.want != nil) {
				t.Errorf("got schedule %v", schedule)
			}
		})
	}
}

// ParseSchedule and Validate hold the same rules.
func TestValidateAgreesWithParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		milliseconds := rapid.SliceOfN(rapid.Int64Range(0, int64(day/time.Millisecond)*3/2), 0, 22).Draw(t, "schedule")
		var schedule retry.Schedule
		var texts []string
		for _, n := range milliseconds {
			schedule = append(schedule, time.Duration(n)*time.Millisecond)
			texts = append(texts, retry.FormatDuration(schedule[len(schedule)-1]))
		}
		_, faults := retry.ParseSchedule(texts, time.Minute)
		if diff := cmp.Diff(schedule.Validate(time.Minute), faults); diff != "" {
			t.Errorf("(-Validate +ParseSchedule):\n%s", diff)
		}
	})
}
