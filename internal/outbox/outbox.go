// Package outbox hands over what changes owe to the outside: rows that were written in the transaction of
// a change, and that somebody has to take from there.
//
// It hides how a row is never lost and its work seldom done twice: rows are taken for a term, removed when
// they are handed over, and put off for longer and longer while they are not. Every node drains; none
// waits for another.
package outbox

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Source is where the rows are: a [store.Store]. An error leaves open whether what was asked is done; all of
// it may be repeated.
type Source interface {
	// ClaimOutbox takes up to limit rows that are due, the oldest first, and counts a try of each. Nobody else
	// gets them before term is over.
	ClaimOutbox(ctx context.Context, kind store.OutboxKind, limit int, term time.Duration) ([]store.OutboxRow, error)
	// FinishOutbox removes rows.
	FinishOutbox(ctx context.Context, ids []uuid.UUID) error
	// PostponeOutbox makes rows due again after waits, one for each.
	PostponeOutbox(ctx context.Context, ids []uuid.UUID, waits []time.Duration) error
	// OutboxWritten receives when this process has written rows of a kind. It is only a hint.
	OutboxWritten(kind store.OutboxKind) <-chan struct{}
}

// Handle hands rows over. Its answer is parallel to rows: nil for one that is done with and goes, an error
// for one that is tried again later, for ever. A row may come again although it was done: its id is the same then.
// ctx outlives a stop of the drain, but not the term for which the rows are ours.
type Handle func(ctx context.Context, rows []store.OutboxRow) []error

// Options of a drain. The zero value is fine. Handing over 100 rows must take less than Term by ten seconds.
type Options struct {
	// Before is called at the beginning of each turn, for what makes rows out of something else.
	Before func(ctx context.Context) error
	Poll   time.Duration // how often rows are asked for without a hint; 0: 2 s
	Term   time.Duration // for how long rows are taken: what a dead node had in hand waits for so long; 0: 1 min
	Log    *slog.Logger
}

const (
	// lot is the most rows of one call of a [Handle].
	lot = 100
	// finishDeadline bounds a statement that says what became of rows.
	finishDeadline = 5 * time.Second
	// A row waits for firstWait after its first try that failed, and ever longer, up to maxWait.
	firstWait = time.Second
	maxWait   = 5 * time.Minute
)

// Drain hands over the rows of one kind.
type Drain struct {
	source  Source
	kind    store.OutboxKind
	handle  Handle
	options Options
	log     *slog.Logger
	failing bool // the last turn did not reach Postgres
}

// New makes a drain, which [Drain.Run] runs.
func New(s Source, kind store.OutboxKind, handle Handle, o Options) *Drain {
	if o.Poll == 0 {
		o.Poll = 2 * time.Second
	}
	if o.Term == 0 {
		o.Term = time.Minute
	}
	d := &Drain{source: s, kind: kind, handle: handle, options: o, log: o.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Run hands rows over until ctx ends. It survives that Postgres is away.
func (d *Drain) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.source.OutboxWritten(d.kind):
		}
		more, err := d.turn(ctx)
		d.tell(ctx, err)
		wait := d.options.Poll
		if more && err == nil {
			wait = 0
		}
		timer.Reset(wait)
	}
}

// turn hands over one lot, and says whether there may be more.
func (d *Drain) turn(ctx context.Context) (more bool, err error) {
	if d.options.Before != nil {
		// What it could not do keeps nobody else's rows.
		defer func(failed error) { err = errors.Join(failed, err) }(d.options.Before(ctx))
	}
	rows, err := d.source.ClaimOutbox(ctx, d.kind, lot, d.options.Term)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	ours, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.options.Term-2*finishDeadline)
	errs := d.handle(ours, rows)
	cancel()
	return len(rows) == lot, d.settle(context.WithoutCancel(ctx), rows, errs)
}

// settle says what became of rows. What it cannot say is tried again when their term is over.
func (d *Drain) settle(ctx context.Context, rows []store.OutboxRow, errs []error) error {
	var done, later []uuid.UUID
	var waits []time.Duration
	for i := range rows {
		if errs[i] == nil {
			done = append(done, rows[i].ID)
			continue
		}
		wait := backoff(rows[i].Tries)
		later, waits = append(later, rows[i].ID), append(waits, wait)
		d.log.Warn("a row of the outbox was not handed over and is kept", "kind", d.kind, "id", rows[i].ID, "name", rows[i].Name,
			"account", rows[i].AccountID, "tries", rows[i].Tries, "again_in", wait.Round(time.Second), "error", errs[i])
	}
	ctx, cancel := context.WithTimeout(ctx, finishDeadline)
	defer cancel()
	if len(later) > 0 {
		if err := d.source.PostponeOutbox(ctx, later, waits); err != nil {
			return err
		}
	}
	if len(done) == 0 {
		return nil
	}
	return d.source.FinishOutbox(ctx, done)
}

// backoff is how long a row waits after tries that failed: nodes must not come back all at once.
func backoff(tries int) time.Duration {
	wait := maxWait
	if tries <= 8 { // or the shift would pass maxWait
		wait = firstWait << (max(tries, 1) - 1)
	}
	return wait + time.Duration(rand.Int64N(int64(wait)/4)) //nolint:gosec // jitter
}

// tell tells the log when the outbox cannot be read or written, and when it can again.
func (d *Drain) tell(ctx context.Context, err error) {
	switch {
	case err != nil && !d.failing && ctx.Err() == nil:
		d.log.Warn("the outbox waits for Postgres", "kind", d.kind, "error", err)
	case err == nil && d.failing:
		d.log.Info("the outbox goes on", "kind", d.kind)
	}
	d.failing = err != nil && ctx.Err() == nil
}
