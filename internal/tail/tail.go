// Package tail reads the log in its order for those who follow it, and waits with them for what comes next.
//
// It hides that ten thousand who wait cost the database as little as one: while anybody waits, one reader
// follows the end of the log, of all accounts, and keeps the newest of it in memory, up to a number of
// bytes. Whoever is further behind reads from the database, a page at a time.
//
// The order of the log is that of commits, so that to read on after the last event seen can skip none, on
// whichever node it was published. This node's own commits wake the reader; those of others it finds by
// asking, ten times a second.
package tail

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Log is the database as it is followed: a [store.Store].
type Log interface {
	// Follow reads what an account may see of the log after a position. The error is a [*store.ExpiredError] or
	// a [*store.AheadError] if that cannot be done without a gap.
	Follow(ctx context.Context, q store.LogQuery) (*store.LogPage, error)
	// Tail reads the log after a position, of all accounts, and says whether that was its end. It shows no
	// event without all those before it.
	Tail(ctx context.Context, after fanfare.Position, limit int, maxBytes int64) (events []fanfare.Event, end bool, err error)
}

// Tree knows which account is below which: a [registry.Snapshot].
type Tree interface {
	// Lineage lists an account and all that it is below; nil if there is no such account.
	Lineage(account uuid.UUID) []uuid.UUID
}

// Options of a tail. Zero values take the defaults.
type Options struct {
	Bytes      int64         // of events in memory, while anybody waits; 32 MiB
	MaxWaiting int           // who may wait at once; 20,000
	Poll       time.Duration // how often the log's end is looked at without a hint, while anybody waits; 100 ms
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// What a reader takes at once, and how it paces itself.
const (
	pieceEvents = 1000
	pieceBytes  = 4 << 20
	pageBytes   = 4 << 20                // of data in one answer
	tick        = 10 * time.Millisecond  // hints that come within it are one
	linger      = 5 * time.Second        // how long the reader goes on when nobody waits: most come back
	retryAfter  = 500 * time.Millisecond // between two questions to a database that does not answer
	readTimeout = 5 * time.Second
)

// Why nobody can be made to wait.
var (
	// ErrAway: the log could not be read to the end of the wait.
	ErrAway = errors.New("the log cannot be read")
	// ErrTooMany: the account has as many who wait as there is room for others.
	ErrTooMany = errors.New("too many wait already")
)

// Tail follows one log. It may be used by many goroutines.
type Tail struct {
	log     Log
	tree    func() Tree
	options Options
	metrics *metrics

	woken   chan struct{} // holds one token when something was committed here
	begun   chan struct{} // holds one token when somebody waits and nobody reads
	stopped chan struct{} // closed by Stop
	stop    sync.Once

	mu      sync.Mutex // guards what follows
	ring    ring
	reading bool
	asOf    time.Time // when the read began that the ring ends with
	away    error     // of the newest read
	left    time.Time // when the last one who waited left
	waiters map[uuid.UUID]map[*waiter]struct{}
	waiting int
	deep    int // how many of them want descendants' events too
}

// waiter is one who waits.
type waiter struct {
	query *store.LogQuery
	wake  chan struct{} // holds one token when there is something, or it is not known any more
}

// New makes a tail. It reads nothing before [Tail.Run].
func New(log Log, tree func() Tree, o Options) *Tail {
	if o.Bytes == 0 {
		o.Bytes = 32 << 20
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 20_000
	}
	if o.Poll == 0 {
		o.Poll = 100 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tail{
		log: log, tree: tree, options: o,
		woken: make(chan struct{}, 1), begun: make(chan struct{}, 1), stopped: make(chan struct{}),
		waiters: make(map[uuid.UUID]map[*waiter]struct{}),
	}
	t.metrics = newMetrics(o.Registerer, func() (waiting int, bytes int64) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.waiting, t.ring.bytes
	})
	return t
}

// Query says what to read, and how long to wait if that is nothing.
type Query struct {
	AccountID   uuid.UUID
	Descendants bool             // also what happened in accounts below it
	Types       []string         // names, "prefix.*" or "*"; empty: all
	After       fanfare.Position // or one of [store.FromOldest] and [store.FromLatest]
	Limit       int
	Wait        time.Duration // 0: not at all
}

// Read answers what comes after a position, at once if there is anything or the log goes on, or else when
// there is, the wait is over, or the node stops. The end of ctx ends it with its error; other errors are
// [ErrTooMany], [ErrAway] and those of [Log.Follow].
func (t *Tail) Read(ctx context.Context, q Query) (*store.LogPage, error) {
	lq := store.LogQuery{
		AccountID: q.AccountID, Descendants: q.Descendants, Types: q.Types, After: q.After, Limit: q.Limit, MaxBytes: pageBytes,
		Within: func(account uuid.UUID) bool { return t.below(q.AccountID, account) },
	}
	var end <-chan time.Time
	if q.Wait > 0 {
		timer := time.NewTimer(q.Wait)
		defer timer.Stop()
		end = timer.C
	}
	began := time.Now()
	for over := q.Wait <= 0 || q.After == store.FromLatest; ; {
		page, err := t.page(ctx, &lq, began, over)
		if err != nil || len(page.Events) > 0 || !page.CaughtUp || over {
			return page, err
		}
		lq.After = page.Read
		if over, err = t.wait(ctx, &lq, end); err != nil {
			return nil, err
		}
	}
}

// page reads from memory, and if that does not reach back so far, from the database. The last page of a call
// is no older than the call.
func (t *Tail) page(ctx context.Context, q *store.LogQuery, began time.Time, last bool) (*store.LogPage, error) {
	t.mu.Lock()
	page, current := t.ring.page(q), t.asOf.After(began)
	t.mu.Unlock()
	if page != nil && (current || !last || len(page.Events) > 0) {
		page.CaughtUp = page.CaughtUp && (current || len(page.Events) == 0)
		return page, nil
	}
	t.metrics.pages.Inc()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return t.log.Follow(ctx, *q)
}

// wait returns when there may be something to read after q.After. over says that it will not wait again.
func (t *Tail) wait(ctx context.Context, q *store.LogQuery, end <-chan time.Time) (over bool, err error) {
	w := &waiter{query: q, wake: make(chan struct{}, 1)}
	if err := t.enter(w); err != nil {
		return false, err
	}
	defer t.leave(w)
	select {
	case <-w.wake:
		return false, nil
	case <-t.stopped:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-end:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away != nil {
		return false, errors.Join(ErrAway, t.away)
	}
	return true, nil
}

// enter makes w one who waits, and begins to read the log unless that is under way. An account may have as
// many as would still find room.
func (t *Tail) enter(w *waiter) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.waiters[w.query.AccountID]
	if len(mine) >= t.options.MaxWaiting-t.waiting {
		return ErrTooMany
	}
	if mine == nil {
		mine = make(map[*waiter]struct{})
		t.waiters[w.query.AccountID] = mine
	}
	mine[w] = struct{}{}
	t.waiting++
	if w.query.Descendants {
		t.deep++
	}
	switch {
	case !t.reading:
		t.reading = true
		t.ring.begin(w.query.After)
		notify(t.begun)
	case w.query.After < t.ring.from || t.ring.after(w.query) < len(t.ring.events):
		notify(w.wake) // it came in the meantime
	}
	return nil
}

func (t *Tail) leave(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.waiters[w.query.AccountID]
	if delete(mine, w); len(mine) == 0 {
		delete(t.waiters, w.query.AccountID)
	}
	t.waiting--
	if w.query.Descendants {
		t.deep--
	}
	t.left = time.Now()
}

// Wake says that this node has committed something. It costs nothing.
func (t *Tail) Wake() { notify(t.woken) }

// Stop answers everybody who waits, and whoever comes later, at once.
func (t *Tail) Stop() { t.stop.Do(func() { close(t.stopped) }) }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is there
	}
}

// Run reads while anybody waits, until ctx ends.
func (t *Tail) Run(ctx context.Context) error {
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.begun:
		}
		for next := time.Duration(0); t.wanted() && sleep(ctx, next, t.woken); {
			next = t.read(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// wanted says whether anybody waits, or did a moment ago. If not, what was read is forgotten.
func (t *Tail) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading = t.waiting > 0 || time.Since(t.left) < linger
	if !t.reading {
		t.ring, t.away = ring{}, nil
	}
	return t.reading
}

// sleep waits for d, or less if there is a hint, but for no less than a tick if it waits at all. It answers
// false if ctx ended.
func sleep(ctx context.Context, d time.Duration, hint <-chan struct{}) bool {
	for _, part := range []struct {
		d    time.Duration
		hint <-chan struct{}
	}{{min(d, tick), nil}, {d - tick, hint}} {
		if part.d <= 0 {
			break
		}
		timer := time.NewTimer(part.d)
		select {
		case <-timer.C:
		case <-part.hint:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err() == nil
}

// read reads on from where the ring ends, and says how long there is time until the next read.
func (t *Tail) read(ctx context.Context) (next time.Duration) {
	t.mu.Lock()
	to := t.ring.to
	t.mu.Unlock()
	began := time.Now()
	short, cancel := context.WithTimeout(ctx, readTimeout)
	events, end, err := t.log.Tail(short, to, pieceEvents, pieceBytes)
	cancel()
	if ctx.Err() != nil {
		return 0
	}
	t.metrics.reads.Inc()
	t.mu.Lock()
	defer t.mu.Unlock()
	if (err != nil) != (t.away != nil) {
		if err != nil {
			t.options.Log.WarnContext(ctx, "the log's end cannot be read; who waits goes on waiting", "error", err)
		} else {
			t.options.Log.InfoContext(ctx, "the log's end can be read again")
		}
	}
	if t.away = err; err != nil {
		return retryAfter
	}
	t.ring.add(events, t.options.Bytes, began)
	t.wake(events)
	if !end {
		return 0
	}
	t.asOf = began
	return t.options.Poll
}

// wake tells those who wait for one of the events. Whoever it told has left when it is told again, or has
// its token still.
func (t *Tail) wake(events []fanfare.Event) {
	var tree Tree
	if t.deep > 0 {
		tree = t.tree()
	}
	for i := range events {
		e := &events[i]
		if e.Test {
			continue
		}
		for w := range t.waiters[e.AccountID] {
			w.tell(e)
		}
		if tree == nil {
			continue
		}
		for _, account := range tree.Lineage(e.AccountID) {
			for w := range t.waiters[account] {
				if w.query.Descendants {
					w.tell(e)
				}
			}
		}
	}
}

func (w *waiter) tell(e *fanfare.Event) {
	if fanfare.PositionOf(e.ID) > w.query.After && chosen(w.query.Types, e.Type) {
		notify(w.wake)
	}
}

// below says whether an account is root or below it.
func (t *Tail) below(root, account uuid.UUID) bool {
	return account == root || slices.Contains(t.tree().Lineage(account), root)
}

// chosen says whether a type is among the patterns: names, "prefix.*" or "*"; none: all.
func chosen(patterns []string, typ string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return typ == p || wild && strings.HasPrefix(typ, prefix)
	})
}
