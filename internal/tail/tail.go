// Package tail reads the log in its order for those who follow it, and waits with them for what comes next.
//
// It hides that ten thousand who wait cost the database as little as one: while anybody waits, one reader
// follows the end of the log, of all accounts, and keeps the newest of it in memory, up to a number of
// bytes. Whoever is further behind reads from the database, a page at a time. And it hides that the answers of
// all of them together take no more than so much memory, and those of one account no more than its share.
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

// Accounts are the tree of accounts in memory, and how to be sure of it.
type Accounts struct {
	Tree    func() Tree                 // the newest one
	CatchUp func(context.Context) error // returns when Tree has everything that was committed before the call
}

// Tree knows which account is below which: a [registry.Snapshot].
type Tree interface {
	// Lineage lists an account and all that it is below; nil if there is no such account.
	Lineage(account uuid.UUID) []uuid.UUID
	// Within says whether an account is root or below it.
	Within(root, account uuid.UUID) bool
}

// Options of a tail. Zero values take the defaults.
type Options struct {
	Bytes      int64         // of events in memory, while anybody waits; 32 MiB
	Answers    int64         // bytes of events in answers that are under way; 64 MiB
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
	wokenBytes  = 256 << 10              // of data in the answer of one who waited: there may be thousands at once
	tick        = 10 * time.Millisecond  // hints that come within it are one
	linger      = 5 * time.Second        // how long the reader goes on when nobody waits: most come back
	retryAfter  = 500 * time.Millisecond // between two questions to a database that does not answer
	readTimeout = 5 * time.Second
)

// Why there is no answer.
var (
	// ErrAway: the log could not be read to the end of the wait.
	ErrAway = errors.New("the log cannot be read")
	// ErrTooMany: the account has as many who wait as there is room for others.
	ErrTooMany = errors.New("too many wait already")
	// ErrFull: answers that nobody has read yet take all the memory that they may.
	ErrFull = errors.New("too many answers are under way")
)

// Tail follows one log. It may be used by many goroutines.
type Tail struct {
	log      Log
	accounts Accounts
	options  Options
	metrics  *metrics
	room     *room // of answers

	woken   chan struct{} // holds one token when something was committed here
	begun   chan struct{} // holds one token when somebody waits and nobody reads
	stopped chan struct{} // closed by Stop
	stop    sync.Once

	mu      sync.Mutex // guards what follows
	ring    ring
	known   fanfare.Position // up to it the tree has the accounts of all events
	reading bool
	asOf    time.Time // when the read began that the ring ends with
	away    error     // of the newest read
	left    time.Time // when the last one who waited left
	waiters map[uuid.UUID]map[*waiter]struct{}
	waiting int
	deep    int // how many of them want descendants' events too
}

// New makes a tail. It reads nothing before [Tail.Run].
func New(log Log, accounts Accounts, o Options) *Tail {
	if o.Bytes == 0 {
		o.Bytes = 32 << 20
	}
	if o.Answers == 0 {
		o.Answers = 64 << 20
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
		log: log, accounts: accounts, options: o, room: newRoom(o.Answers),
		woken: make(chan struct{}, 1), begun: make(chan struct{}, 1), stopped: make(chan struct{}),
		waiters: make(map[uuid.UUID]map[*waiter]struct{}),
	}
	t.metrics = newMetrics(o.Registerer, t.room.used, func() (waiting int, bytes int64) {
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
// there is, the wait is over, or the node stops. Whoever has an answer calls done when it was written, or never
// will be: until then it takes room from others. The end of ctx ends it with its error; other errors are
// [ErrTooMany], [ErrFull], [ErrAway] and those of [Log.Follow].
func (t *Tail) Read(ctx context.Context, q Query) (page *store.LogPage, done func(), err error) {
	lq := store.LogQuery{
		AccountID: q.AccountID, Descendants: q.Descendants, Types: q.Types, After: q.After, Limit: q.Limit,
		MaxBytes: min(pageBytes, t.options.Answers/2),
		Tree: func(ctx context.Context) (func(uuid.UUID) bool, error) {
			err := t.accounts.CatchUp(ctx)
			return below(t.accounts.Tree(), q.AccountID), err
		},
	}
	var end <-chan time.Time
	if q.Wait > 0 {
		timer := time.NewTimer(q.Wait)
		defer timer.Stop()
		end = timer.C
	}
	began := time.Now()
	for over := q.Wait <= 0 || q.After == store.FromLatest; ; {
		page, done, err := t.page(ctx, &lq, began, over)
		if err != nil || len(page.Events) > 0 || !page.CaughtUp || over {
			return page, done, err
		}
		done()
		lq.After, lq.MaxBytes = page.Read, min(wokenBytes, lq.MaxBytes)
		if over, err = t.wait(ctx, &lq, end); err != nil {
			return nil, nil, err
		}
	}
}

// page takes room for as much as may come, reads, and keeps what did come, until done.
func (t *Tail) page(ctx context.Context, q *store.LogQuery, began time.Time, last bool) (page *store.LogPage, done func(), err error) {
	if err := t.room.take(ctx, q.AccountID, q.MaxBytes); err != nil {
		return nil, nil, err
	}
	bytes := int64(0)
	defer func() { t.room.free(q.AccountID, q.MaxBytes-bytes) }()
	if page, err = t.look(ctx, q, began, last); err != nil {
		return nil, nil, err
	}
	for i := range page.Events {
		bytes += int64(len(page.Events[i].Data))
	}
	return page, func() { t.room.free(q.AccountID, bytes) }, nil
}

// look reads from memory, and if that does not reach back so far, from the database. The last page of a call
// is no older than the call.
func (t *Tail) look(ctx context.Context, q *store.LogQuery, began time.Time, last bool) (*store.LogPage, error) {
	page, current := t.fromRing(ctx, q, began)
	if page != nil && (current || !last || len(page.Events) > 0) {
		page.CaughtUp = page.CaughtUp && (current || len(page.Events) == 0)
		return page, nil
	}
	t.metrics.pages.Inc()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return t.log.Follow(ctx, *q)
}

// fromRing reads up to where the ring ends now, nil if it cannot. current says that this end is no older than began.
func (t *Tail) fromRing(ctx context.Context, q *store.LogQuery, began time.Time) (page *store.LogPage, current bool) {
	t.mu.Lock()
	for q.Descendants && t.known < t.ring.to && t.ring.holds(q.After, t.ring.to) {
		to := t.ring.to
		t.mu.Unlock()
		if t.accounts.CatchUp(ctx) != nil {
			return nil, false
		}
		t.mu.Lock()
		t.known = max(t.known, to)
	}
	end, current := t.ring.to, t.asOf.After(began)
	t.mu.Unlock()
	p := pick{q: q, page: &store.LogPage{Read: q.After}}
	if q.Descendants {
		p.within = below(t.accounts.Tree(), q.AccountID)
	}
	for more := true; more; {
		t.mu.Lock()
		held := t.ring.holds(p.page.Read, end)
		if held {
			more = t.ring.pick(&p, end)
		}
		t.mu.Unlock()
		if !held {
			return nil, false
		}
	}
	p.page.CaughtUp = p.page.Read == end
	return p.page, current
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
		t.ring, t.known, t.away = ring{}, 0, nil
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
	defer cancel()
	events, end, err := t.log.Tail(short, to, pieceEvents, pieceBytes)
	t.metrics.reads.Inc()
	t.mu.Lock()
	defer t.mu.Unlock()
	// An account is created, or moved, before its events are committed, perhaps on another node, and the tree
	// may not have it yet. Asked after the events were read, it has.
	deep := err == nil && len(events) > 0 && t.deep > 0
	if deep {
		t.mu.Unlock()
		err = t.accounts.CatchUp(short)
		t.mu.Lock()
	}
	if ctx.Err() != nil {
		return 0
	}
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
	if deep {
		t.known = t.ring.to
	}
	t.wake(events)
	if !end {
		return 0
	}
	t.asOf = began
	return t.options.Poll
}

// below answers what says whether an account is root or below it. It asks once about each: a page may be
// chosen out of tens of thousands of events.
func below(tree Tree, root uuid.UUID) func(account uuid.UUID) bool {
	known := make(map[uuid.UUID]bool)
	return func(account uuid.UUID) bool {
		within, ok := known[account]
		if !ok {
			within = tree.Within(root, account)
			known[account] = within
		}
		return within
	}
}

// chosen says whether a type is among the patterns: names, "prefix.*" or "*"; none: all.
func chosen(patterns []string, typ string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return typ == p || wild && strings.HasPrefix(typ, prefix)
	})
}
