package dispatcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// counted is a health with a clock of its own, and the table that it writes to.
type counted struct {
	*health
	clock    time.Time
	err      error // what writes answer
	lose     bool  // they do not reach the table either
	during   func()
	writes   [][]store.HealthRow
	table    map[healthKey]store.HealthRow
	troubles []string
}

func newCounted() *counted {
	c := &counted{clock: time.Date(2026, 3, 1, 12, 0, 30, 0, time.UTC), table: make(map[healthKey]store.HealthRow), during: func() {}}
	c.health = newHealth(func() time.Time { return c.clock }, func(ctx context.Context, rows []store.HealthRow) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.during()
		c.writes = append(c.writes, slices.Clone(rows))
		for i := range rows {
			if !c.lose {
				c.table[keyOf(&rows[i])] = rows[i]
			}
		}
		return c.err
	}, func(_ context.Context, what string, _ error) { c.troubles = append(c.troubles, what) }, func() {})
	return c
}

var (
	healthHook = uuid.UUID{1, 15: 1}
	healthNode = uuid.UUID{2}
)

// attempt makes one that has just ended.
func (c *counted) attempt(ok bool) *fanfare.Attempt {
	a := &fanfare.Attempt{
		WebhookID: healthHook, AccountID: uuid.UUID{3}, Node: healthNode, Trigger: fanfare.TriggerFirst,
		StartedAt: c.clock.Add(-time.Second), Duration: time.Second, Verdict: fanfare.VerdictDelivered,
	}
	if !ok {
		a.Verdict, a.Error = fanfare.VerdictRetry, fanfare.ErrStatus
	}
	return a
}

// held is how many rows are in memory.
func (c *counted) held() (n int) {
	for i := range c.shards {
		n += len(c.shards[i].rows)
	}
	return n
}

// sum is what the table says of the webhook, by minute.
func (c *counted) sum() map[string]string {
	sums := make(map[string][2]int32)
	for _, r := range c.table {
		s := sums[r.Minute.Format("15:04")]
		sums[r.Minute.Format("15:04")] = [2]int32{s[0] + r.Failures, s[1] + r.Attempts}
	}
	texts := make(map[string]string)
	for minute, s := range sums {
		texts[minute] = string([]byte{byte('0' + s[0]), '/', byte('0' + s[1])})
	}
	return texts
}

func (c *counted) wantSum(t *testing.T, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, c.sum()); diff != "" {
		t.Errorf("failures/attempts: %s", diff)
	}
}

func TestHealthCountsAttemptsByTheMinuteOfTheirEnd(t *testing.T) {
	c := newCounted()
	c.ended(c.attempt(true))
	c.ended(c.attempt(false))
	slow := c.attempt(false)
	slow.Duration = 2 * time.Minute // it ends in a minute to come
	c.ended(slow)

	c.flush(t.Context())

	row := store.HealthRow{
		WebhookID: healthHook, AccountID: uuid.UUID{3}, Node: healthNode, Minute: c.clock.Truncate(time.Minute), Attempts: 2, Failures: 1,
		Durations: [store.HealthRanges]int32{15: 2},
	}
	late := row
	late.Minute, late.Attempts, late.Durations = row.Minute.Add(2*time.Minute), 1, [store.HealthRanges]int32{24: 1}
	if diff := cmp.Diff([][]store.HealthRow{{row, late}}, c.writes); diff != "" {
		t.Error(diff)
	}
}

func TestOwnFaultsAndTestSendsAreNoHealth(t *testing.T) {
	c := newCounted()
	own, test := c.attempt(false), c.attempt(false)
	own.Error, test.Trigger = fanfare.ErrOwn, fanfare.TriggerTest
	c.ended(own)
	c.ended(test)
	c.flush(t.Context())
	if len(c.writes) != 0 || c.held() != 0 {
		t.Errorf("wrote %v", c.writes)
	}
	for _, trigger := range []fanfare.Trigger{fanfare.TriggerFirst, fanfare.TriggerRetry} {
		a := c.attempt(false)
		a.Trigger = trigger
		c.ended(a)
	}
	c.flush(t.Context())
	c.wantSum(t, map[string]string{"12:00": "2/2"})
}

func TestHealthIsWrittenWhenItChanged(t *testing.T) {
	c := newCounted()
	c.ended(c.attempt(true))
	c.flush(t.Context())
	c.flush(t.Context())
	if len(c.writes) != 1 {
		t.Errorf("%d writes of one change", len(c.writes))
	}
	c.ended(c.attempt(false))
	c.flush(t.Context())
	c.wantSum(t, map[string]string{"12:00": "1/2"})
}

func TestHealthThatWasCountedDuringAWriteIsWrittenByTheNext(t *testing.T) {
	c := newCounted()
	c.ended(c.attempt(true))
	c.during = func() { c.ended(c.attempt(false)) }
	c.flush(t.Context())
	c.wantSum(t, map[string]string{"12:00": "0/1"})
	c.during = func() {}
	c.flush(t.Context())
	c.wantSum(t, map[string]string{"12:00": "1/2"})
}

func TestHealthWhoseWriteFailedIsWrittenAgainWithAbsoluteNumbers(t *testing.T) {
	for name, lose := range map[string]bool{"not applied": true, "applied, but reported failed": false} {
		t.Run(name, func(t *testing.T) {
			c := newCounted()
			c.err, c.lose = errors.New("away"), lose
			c.ended(c.attempt(false))
			c.flush(t.Context())
			c.clock = c.clock.Add(time.Hour) // the minute is long over
			c.flush(t.Context())
			if len(c.troubles) != 2 {
				t.Errorf("troubles: %q", c.troubles)
			}

			c.err, c.lose = nil, false
			c.flush(t.Context())

			c.wantSum(t, map[string]string{"12:00": "1/1"})
			c.flush(t.Context())
			if len(c.writes) != 3 || c.held() != 0 {
				t.Errorf("%d writes, %d rows in memory", len(c.writes), c.held())
			}
		})
	}
}

func TestAnIncarnationsCountsStayItsOwn(t *testing.T) {
	c := newCounted()
	c.ended(c.attempt(false))
	c.flush(t.Context())
	c.ended(c.attempt(false)) // not written when the node is taken for dead
	next := c.attempt(true)
	next.Node = uuid.UUID{4}
	c.ended(next)
	c.ended(c.attempt(true)) // was in flight meanwhile

	c.flush(t.Context())

	c.wantSum(t, map[string]string{"12:00": "2/4"})
	if dead := c.table[healthKey{healthHook, healthNode, minuteOf(c.clock)}]; dead.Attempts != 3 {
		t.Errorf("the dead incarnation's row: %+v", dead)
	}
}

// A row that is over leaves memory, and must not begin anew at one when a sender comes late.
func TestAnAttemptReportedLateLowersNoRow(t *testing.T) {
	c := newCounted()
	late := c.attempt(false)
	for range 3 {
		c.ended(c.attempt(true))
	}
	c.flush(t.Context())
	c.clock = c.clock.Add(2 * time.Minute)
	c.flush(t.Context())
	if c.held() != 1 {
		t.Errorf("%d rows in memory of an open minute", c.held())
	}
	c.clock = c.clock.Add(time.Minute)
	c.flush(t.Context())
	if c.held() != 0 {
		t.Errorf("%d rows in memory of a minute that is over", c.held())
	}

	c.ended(late)
	c.flush(t.Context())

	c.wantSum(t, map[string]string{"12:00": "0/3", "12:01": "1/1"})
}

func TestHealthFollowsAClockThatIsSetBack(t *testing.T) {
	c := newCounted()
	c.clock = c.clock.Add(24 * time.Hour)
	c.flush(t.Context())
	c.clock = c.clock.Add(-24 * time.Hour)
	c.flush(t.Context())
	c.ended(c.attempt(true))
	c.flush(t.Context())
	if _, ok := c.table[healthKey{healthHook, healthNode, minuteOf(c.clock)}]; !ok {
		t.Errorf("the table has %v", c.table)
	}
}

func TestHealthIsWrittenInLots(t *testing.T) {
	c := newCounted()
	for i := range 2*healthLot + 1 {
		a := c.attempt(true)
		a.WebhookID = uuid.UUID{byte(i >> 8), byte(i), 15: byte(i)}
		c.ended(a)
	}
	c.flush(t.Context())
	var sizes []int
	var all []store.HealthRow
	for _, w := range c.writes {
		sizes = append(sizes, len(w))
		all = append(all, w...)
	}
	if !slices.Equal(sizes, []int{healthLot, healthLot, 1}) || len(c.table) != 2*healthLot+1 {
		t.Errorf("lots of %v", sizes)
	}
	if !slices.IsSortedFunc(all, func(a, b store.HealthRow) int { return slices.Compare(a.WebhookID[:], b.WebhookID[:]) }) {
		t.Error("the rows are in no order")
	}
}

func TestHealthThatCannotBeWrittenIsBounded(t *testing.T) {
	c := newCounted()
	c.err, c.lose = errors.New("away"), true
	const most, hooks = 20, 6
	c.most = most
	minute := func() {
		for i := range hooks {
			a := c.attempt(false)
			a.WebhookID = uuid.UUID{15: byte(i)}
			c.ended(a)
		}
		c.clock = c.clock.Add(time.Minute)
	}
	for range 4 + healthOpen + 1 { // the last of them are open
		minute()
	}
	c.flush(t.Context())
	if want := most + healthOpen*hooks; c.held() != want || c.lost.Load() != 5*hooks-most {
		t.Errorf("%d rows are held, want %d; %d are lost", c.held(), want, c.lost.Load())
	}
	before := len(c.troubles)
	c.flush(t.Context())
	minute()
	c.flush(t.Context())
	if said := c.troubles[before:]; len(said) != 2 { // each flush fails; that rows are lost is said once
		t.Errorf("troubles: %q", said)
	}

	c.err, c.lose = nil, false
	c.flush(t.Context())
	minutes := make(map[string]int)
	for _, r := range c.table {
		minutes[r.Minute.Format("15:04")]++
	}
	if minutes["12:00"] != 0 || minutes["12:07"] != hooks || len(c.table) != most+healthOpen*hooks {
		t.Errorf("%d rows were written: %v", len(c.table), minutes)
	}
}

func TestHealthCountsFromManyGoroutines(t *testing.T) {
	c := newCounted()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				a := c.attempt(i%2 == 0)
				a.WebhookID[15] = byte(i % 3)
				c.ended(a)
			}
		})
	}
	for range 10 {
		c.flush(t.Context())
	}
	wg.Wait()
	c.flush(t.Context())
	var attempts, failures int32
	for _, r := range c.table {
		attempts, failures = attempts+r.Attempts, failures+r.Failures
	}
	if attempts != 8000 || failures != 4000 || len(c.table) != 3 {
		t.Errorf("%d of %d attempts of %d webhooks failed", failures, attempts, len(c.table))
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	c := newCounted()
	a := c.attempt(false)
	if n := testing.AllocsPerRun(1000, func() { c.ended(a) }); n != 0 {
		t.Errorf("%v allocations an attempt", n)
	}
}

func TestHealthIsWrittenEveryTenSecondsAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns int
		c := newCounted()
		c.turned = func() { turns++ }
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.loop(ctx) }()

		c.ended(c.attempt(true))
		time.Sleep(2*healthEvery + time.Second)
		synctest.Wait()
		if len(c.writes) != 1 || turns != 2 {
			t.Errorf("%d writes in %d turns", len(c.writes), turns)
		}
		c.ended(c.attempt(true))
		stop()
		<-done

		c.wantSum(t, map[string]string{"12:00": "0/2"})
	})
}

func TestHealthReachesPostgres(t *testing.T) {
	s, err := store.Open(t.Context(), store.Options{URL: pgtest.URL(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := newCounted()
	var seen error
	c.write = func(ctx context.Context, rows []store.HealthRow) error {
		seen = s.WriteHealth(ctx, rows)
		return seen
	}
	c.ended(c.attempt(false))
	c.flush(t.Context())
	if seen != nil || c.held() != 1 || len(c.troubles) != 0 {
		t.Errorf("%v %q", seen, c.troubles)
	}
	c.clock = c.clock.Add(time.Hour)
	c.flush(t.Context())
	if c.held() != 0 {
		t.Error("what was written stays in memory")
	}
}

func BenchmarkHealthEnded(b *testing.B) {
	c := newCounted()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		a := c.attempt(true)
		for n := byte(0); pb.Next(); n++ {
			a.WebhookID[15] = n
			c.ended(a)
		}
	})
}
