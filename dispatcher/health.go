package dispatcher

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const (
	healthEvery    = 10 * time.Second
	healthDeadline = 10 * time.Second // of a flush; what it does not reach is the next one's
	// healthOpen is for how many minutes after its own a row still counts what ended in it: a sender may
	// be held up between the end of an attempt and its report.
	healthOpen    = 2
	healthShards  = 64
	healthLot     = 1000    // rows of one statement
	maxHealthRows = 100_000 // of past minutes that may wait for Postgres: some 25 MB
)

// health counts what became of attempts, by webhook, minute and incarnation, and writes the counts down.
//
// Numbers are absolute, and nobody else writes the rows of an incarnation of this process. So a write is
// repeated without harm, a row is never read, and what a dead incarnation counted stays its own: a row
// that went on under another name would count the same attempts twice.
type health struct {
	now     func() time.Time // the database's clock
	write   func(context.Context, []store.HealthRow) error
	trouble func(ctx context.Context, what string, err error) // tells the operator
	turned  func()                                            // called after each turn of loop
	most    int                                               // rows of past minutes that may wait for Postgres
	lost    atomic.Int64                                      // rows dropped unwritten

	shards [healthShards]healthShard
	losing bool // rows were dropped since the last flush that succeeded; only flush uses it
}

// healthShard has the rows of some of the webhooks.
type healthShard struct {
	mu     sync.Mutex // guards the rest
	rows   map[healthKey]*healthCount
	oldest int64    // the first minute that is still open; what ended before counts there
	_      [40]byte // one shard, one cache line
}

type healthKey struct {
	webhook, node uuid.UUID
	minute        int64 // since 1970
}

type healthCount struct {
	account                     uuid.UUID
	attempts, failures, written int32 // written: attempts of the row that Postgres has
	exhausted                   int32 // of the failures: those with which their delivery was given up
	durations                   [store.HealthRanges]int32
}

func newHealth(now func() time.Time, write func(context.Context, []store.HealthRow) error,
	trouble func(context.Context, string, error), turned func(),
) *health {
	h := &health{now: now, write: write, trouble: trouble, turned: turned, most: maxHealthRows}
	for i := range h.shards {
		h.shards[i].rows = make(map[healthKey]*healthCount)
	}
	return h
}

// ended counts an attempt that has ended: when it did, how long it took, whether it failed. Test sends
// and what failed by our own fault say nothing about the receiver.
func (h *health) ended(a *fanfare.Attempt) {
	if a.Trigger == fanfare.TriggerTest || a.Error == fanfare.ErrOwn {
		return
	}
	key := healthKey{webhook: a.WebhookID, node: a.Node, minute: minuteOf(a.StartedAt.Add(a.Duration))}
	took := store.HealthRange(a.Duration)
	s := h.shard(key.webhook)
	s.mu.Lock()
	defer s.mu.Unlock()
	// A row that was written and has left memory must not begin anew, with lower numbers.
	key.minute = max(key.minute, s.oldest)
	c := s.rows[key]
	if c == nil {
		c = &healthCount{account: a.AccountID}
		s.rows[key] = c
	}
	c.attempts++
	c.durations[took]++
	if a.Verdict != fanfare.VerdictDelivered {
		c.failures++
		if a.State == fanfare.Exhausted {
			c.exhausted++
		}
	}
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

func (h *health) shard(webhook uuid.UUID) *healthShard {
	return &h.shards[webhook[len(webhook)-1]%healthShards] // the random end of an id
}

// loop writes what was counted, every [healthEvery] and once more when ctx ends; by then whatever is to
// be counted has been.
func (h *health) loop(ctx context.Context) {
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			h.flush(ctx)
			h.turned()
		case <-ctx.Done():
			h.flush(context.WithoutCancel(ctx))
			return
		}
	}
}

// flush writes every row that changed since it was written. One whose write fails, or may have, stays for
// the next time. Only one flush may run.
func (h *health) flush(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, healthDeadline)
	defer cancel()
	oldest := minuteOf(h.now()) - healthOpen
	left := h.collect(oldest)
	for len(left) > 0 {
		lot := left[:min(healthLot, len(left))]
		if err := h.write(short, lot); err != nil {
			h.trouble(ctx, "the health of webhooks was not written and is kept", err)
			h.bound(ctx, left, oldest)
			return
		}
		h.wrote(lot)
		left = left[len(lot):]
	}
	h.losing = false
}

// collect returns the rows that changed since they were written, closes the minutes before oldest, and
// forgets those of their rows that are written. The clock may have been set back: so may oldest.
func (h *health) collect(oldest int64) []store.HealthRow {
	var rows []store.HealthRow
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		s.oldest = oldest
		for key, c := range s.rows {
			switch {
			case c.attempts != c.written:
				rows = append(rows, store.HealthRow{
					WebhookID: key.webhook, AccountID: c.account, Minute: time.Unix(key.minute*60, 0).UTC(), Node: key.node,
					Attempts: c.attempts, Failures: c.failures, Exhausted: c.exhausted, Durations: c.durations,
				})
			case key.minute < oldest:
				delete(s.rows, key)
			}
		}
		s.mu.Unlock()
	}
	// A statement that was given up may still run: both lock their rows in the same order.
	slices.SortFunc(rows, func(a, b store.HealthRow) int {
		return cmp.Or(bytes.Compare(a.WebhookID[:], b.WebhookID[:]), a.Minute.Compare(b.Minute), bytes.Compare(a.Node[:], b.Node[:]))
	})
	return rows
}

// wrote notes what Postgres has. What was counted meanwhile is still to be written.
func (h *health) wrote(rows []store.HealthRow) {
	for i := range rows {
		r := &rows[i]
		s := h.shard(r.WebhookID)
		s.mu.Lock()
		s.rows[keyOf(r)].written = r.Attempts
		s.mu.Unlock()
	}
}

func keyOf(r *store.HealthRow) healthKey {
	return healthKey{webhook: r.WebhookID, node: r.Node, minute: minuteOf(r.Minute)}
}

// bound drops the oldest of the rows that could not be written when more than most wait. Rows
// of open minutes are not dropped: they are as many as there are busy webhooks, and would begin anew.
func (h *health) bound(ctx context.Context, left []store.HealthRow, oldest int64) {
	closed := slices.DeleteFunc(left, func(r store.HealthRow) bool { return minuteOf(r.Minute) >= oldest })
	over := len(closed) - h.most
	if over <= 0 {
		return
	}
	slices.SortFunc(closed, func(a, b store.HealthRow) int { return a.Minute.Compare(b.Minute) })
	for i := range closed[:over] {
		r := &closed[i]
		s := h.shard(r.WebhookID)
		s.mu.Lock()
		delete(s.rows, keyOf(r))
		s.mu.Unlock()
	}
	h.lost.Add(int64(over))
	if !h.losing {
		h.losing = true
		h.trouble(ctx, "the health of webhooks waits for Postgres for too long: the oldest is dropped",
			fmt.Errorf("more than %d rows are not written", h.most))
	}
}
