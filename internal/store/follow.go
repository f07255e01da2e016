package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// LogQuery says which events to read in the order of the log. Test events are never among them.
type LogQuery struct {
	AccountID   uuid.UUID
	Descendants bool // also those of accounts below it
	// With Descendants: Tree answers what says whether an account is it or below it, by a tree that has at least
	// what was committed before the call.
	Tree     func(context.Context) (within func(account uuid.UUID) bool, err error)
	Types    []string         // names, "prefix.*" or "*"; empty: all
	After    fanfare.Position // everything up to it is known; [FromOldest], [FromLatest]
	Limit    int
	MaxBytes int64 // of the events' data together; one event comes however large it is
}

// Where to begin without a position.
const (
	FromOldest fanfare.Position = -1 // at the oldest event that is kept
	FromLatest fanfare.Position = -2 // behind the newest event
)

// LogPage is a piece of the log. No event up to Read that was asked for is missing in Events, and none
// that becomes visible later will be below Read.
type LogPage struct {
	Events   []fanfare.Event
	Read     fanfare.Position // how far the log was looked at
	CaughtUp bool             // that was its end
}

// ExpiredError says that events after the position asked for are not kept any more.
type ExpiredError struct{ Oldest fanfare.Position } // to go on after

func (*ExpiredError) Error() string { return "the log does not reach back that far" }

// AheadError says that the log has not come to the position asked for: it is another log's, or Postgres
// has lost its last commits.
type AheadError struct{ Latest fanfare.Position } // of the newest event

func (*AheadError) Error() string { return "the log has not come that far" }

// maxMerged is up to how many accounts' own parts of the log are merged. For more of them the whole log is read.
const maxMerged = 64

// Follow reads what an account may see of the log after a position. The error is an [*ExpiredError] or an
// [*AheadError] if that cannot be done without a gap. It looks at no more than 10,000 events.
func (s *Store) Follow(ctx context.Context, q LogQuery) (*LogPage, error) {
	p, err := s.follow(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("follow the log: %w", err)
	}
	return p, nil
}

func (s *Store) follow(ctx context.Context, q LogQuery) (*LogPage, error) {
	f := follower{s: s, q: q, page: &LogPage{Read: q.After}}
	if err := f.prepare(ctx); err != nil || f.page.CaughtUp {
		return f.page, err
	}
	return f.page, f.run(ctx)
}

// The accounts of a tree, but no more than one may be too many.
const smallTreeSQL = subtreeSQL + ` LIMIT $2`

func (s *Store) smallTree(ctx context.Context, root uuid.UUID) ([]uuid.UUID, error) {
	rows, err := s.pool.Query(ctx, smallTreeSQL, root, maxMerged+1)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

const logEndsSQL = `
SELECT (SELECT event_id FROM log_horizon), (SELECT id FROM events ORDER BY id DESC LIMIT 1)`

// logEnds is the position before the oldest event that is kept, and that of the newest, 0 if there is none.
func (s *Store) logEnds(ctx context.Context) (oldest, latest fanfare.Position, err error) {
	var horizon uuid.UUID
	var newest uuid.NullUUID
	if err := s.pool.QueryRow(ctx, logEndsSQL).Scan(&horizon, &newest); err != nil {
		return 0, 0, err
	}
	return beforeHorizon(horizon), fanfare.PositionOf(newest.UUID), nil
}

// beforeHorizon is the last position of which nothing is kept.
func beforeHorizon(horizon uuid.UUID) fanfare.Position {
	return max(fanfare.PositionOf(horizon)-1, 0)
}

// follower is one call of [Store.Follow].
type follower struct {
	s        *Store
	q        LogQuery
	until    fanfare.Position // nothing behind it is read, nor passed
	accounts []uuid.UUID      // that are merged
	within   func(account uuid.UUID) bool
	read     func(context.Context, int) (seen int, head uuid.NullUUID, horizon uuid.UUID, err error)
	page     *LogPage
	bytes    int64 // of the page's data
	full     bool
}

// prepare finds where to begin and which accounts to read. A page that is caught up then is the answer.
func (f *follower) prepare(ctx context.Context) error {
	f.accounts, f.read, f.until = []uuid.UUID{f.q.AccountID}, f.merge, math.MaxInt64
	if f.q.After >= 0 && f.q.After < math.MaxInt64 && !f.q.Descendants {
		return nil
	}
	oldest, latest, err := f.s.logEnds(ctx)
	switch {
	case err != nil:
		return err
	case f.q.After == math.MaxInt64: // there is none behind it
		return &AheadError{Latest: latest}
	case f.q.After == FromLatest:
		f.page.Read, f.page.CaughtUp = max(oldest, latest), true
		return nil
	case f.q.After == FromOldest:
		f.page.Read = oldest
	}
	if !f.q.Descendants {
		return nil
	}
	// The end comes first, then the tree: an account is created or moved before its events are committed, so
	// that a tree which is newer than the events has all that may have them. Of an account that comes later
	// the events lie behind this end.
	f.until = latest
	if f.accounts, err = f.s.smallTree(ctx, f.q.AccountID); err != nil || len(f.accounts) <= maxMerged {
		return err
	}
	f.read = f.scan
	f.within, err = f.q.Tree(ctx)
	return err
}

// run reads pieces until the page is full or the log ends.
func (f *follower) run(ctx context.Context) error {
	begin := f.page.Read
	p := pieces{size: f.q.Limit, left: maxExamined}
	for size := p.next(); size > 0 && !f.full; size = p.next() {
		after := f.page.Read
		seen, head, horizon, err := f.read(ctx, size)
		if err != nil {
			return err
		}
		oldest, newest := beforeHorizon(horizon), fanfare.PositionOf(head.UUID)
		switch {
		// What is gone may have held something only if something is left behind it.
		case begin < oldest && newest > begin:
			return &ExpiredError{Oldest: oldest}
		case !head.Valid && after > oldest:
			_, latest, err := f.s.logEnds(ctx)
			if err != nil {
				return err
			}
			if latest < after {
				return &AheadError{Latest: latest}
			}
			return nil // it has just come that far
		case seen < size && !f.full:
			f.page.Read = max(after, newest, oldest)
			f.page.CaughtUp = true
			return nil
		}
		f.page.CaughtUp = f.page.Read == newest
	}
	return nil
}

// add takes the next event of the log, unless the page is full without it.
func (f *follower) add(e *fanfare.Event, wanted bool) {
	switch {
	case f.full:
		return
	case wanted && len(f.page.Events) > 0 && (e.Data == nil || f.bytes+int64(len(e.Data)) > f.q.MaxBytes):
		f.full = true
		return
	case wanted:
		f.page.Events = append(f.page.Events, *e)
		f.bytes += int64(len(e.Data))
	}
	f.page.Read = fanfare.PositionOf(e.ID)
	f.full = len(f.page.Events) == f.q.Limit
}

// The bound on id finds the partitions. The newest event is asked for by a bound as well: none at or after
// $2 says that the log ends before it.
const logBoundsSQL = `
SELECT (SELECT id FROM events WHERE id >= $2 AND id <= $3 ORDER BY id DESC LIMIT 1) AS head, (SELECT event_id FROM log_horizon) AS horizon`

// Data beyond the bytes asked for does not come, but for the first. An account's events are asked for and put in
// order so that only the index by account has that order: by the one by id the planner may walk through
// everybody's events for those of an account that has few.
var mergeLogSQL = `
SELECT g.head, g.horizon, e.* FROM (` + logBoundsSQL + `) g
LEFT JOIN (
	SELECT id, account_id, type, pass, CASE WHEN pass AND sum(size) OVER (ORDER BY id) - size < $6 THEN data END AS data,
		occurred_at, idempotency_key, expunged_at
	FROM (
		SELECT e.*, CASE WHEN pass THEN octet_length(data) ELSE 0 END AS size
		FROM unnest($4::uuid[]) AS u (account) CROSS JOIN LATERAL (
			SELECT id, account_id, type, NOT test AND ` + typeFilter("$7", "$8") + ` AS pass, data, occurred_at, idempotency_key, expunged_at
			FROM events WHERE (account_id, id) >= (u.account, $1) AND account_id <= u.account AND id >= $1 AND id <= $3
			ORDER BY account_id, id LIMIT $5
		) e
		ORDER BY id LIMIT $5
	) e
) e ON true
ORDER BY e.id`

// merge reads the accounts' own parts of the log.
func (f *follower) merge(ctx context.Context, size int) (seen int, head uuid.NullUUID, horizon uuid.UUID, err error) {
	names, prefixes := splitPatterns(f.q.Types)
	rows, err := f.s.pool.Query(ctx, mergeLogSQL, nextID(f.page.Read), fanfare.EventID(f.page.Read, 0), lastID(f.until), f.accounts,
		size, f.q.MaxBytes-f.bytes, names, prefixes)
	if err != nil {
		return 0, head, horizon, err
	}
	var r logRow
	_, err = pgx.ForEachRow(rows, append([]any{&head, &horizon}, r.targets()...), func() error {
		if r.id.Valid { // else there is none
			seen++
			f.add(r.event(), deref(r.pass))
		}
		return nil
	})
	return seen, head, horizon, err
}

// nextID is the least id of an event after a position.
func nextID(p fanfare.Position) uuid.UUID { return fanfare.EventID(p+1, 0) }

// lastID is the greatest id of an event at a position.
func lastID(p fanfare.Position) uuid.UUID { return fanfare.EventID(p, math.MaxUint64) }

var scanLogSQL = `
SELECT g.head, g.horizon, e.* FROM (` + logBoundsSQL + `) g
LEFT JOIN (
	SELECT id, account_id, NOT test AND ` + typeFilter("$5", "$6") + ` AS pass FROM events
	WHERE id >= $1 AND id <= $3 ORDER BY id LIMIT $4
) e ON true
ORDER BY e.id`

// scan reads the whole log, of other accounts too, and then what is wanted of it.
func (f *follower) scan(ctx context.Context, size int) (seen int, head uuid.NullUUID, horizon uuid.UUID, err error) {
	names, prefixes := splitPatterns(f.q.Types)
	rows, err := f.s.pool.Query(ctx, scanLogSQL, nextID(f.page.Read), fanfare.EventID(f.page.Read, 0), lastID(f.until), size, names, prefixes)
	if err != nil {
		return 0, head, horizon, err
	}
	var (
		id, account   uuid.NullUUID
		pass          *bool
		found, wanted []uuid.UUID
	)
	_, err = pgx.ForEachRow(rows, []any{&head, &horizon, &id, &account, &pass}, func() error {
		if !id.Valid { // there is none
			return nil
		}
		found = append(found, id.UUID)
		if deref(pass) && len(f.page.Events)+len(wanted) < f.q.Limit && f.within(account.UUID) {
			wanted = append(wanted, id.UUID)
		}
		return nil
	})
	if err != nil {
		return 0, head, horizon, err
	}
	whole, err := f.whole(ctx, wanted)
	if err != nil {
		return 0, head, horizon, err
	}
	for _, id := range found {
		if e := whole[id]; e != nil {
			f.add(e, true)
		} else {
			f.add(&fanfare.Event{ID: id}, false)
		}
	}
	return len(found), head, horizon, nil
}

const readLogSQL = `
SELECT id, account_id, type, true, CASE WHEN sum(octet_length(data)) OVER (ORDER BY id) - octet_length(data) < $2 THEN data END,
	occurred_at, idempotency_key, expunged_at
FROM events WHERE id = ANY ($1)`

// whole reads whole events by id, those beyond the page's bytes without their data. What is gone since is missing.
func (f *follower) whole(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*fanfare.Event, error) {
	events := make(map[uuid.UUID]*fanfare.Event, len(ids))
	if len(ids) == 0 {
		return events, nil
	}
	rows, err := f.s.pool.Query(ctx, readLogSQL, ids, f.q.MaxBytes-f.bytes)
	if err != nil {
		return nil, err
	}
	var r logRow
	_, err = pgx.ForEachRow(rows, r.targets(), func() error {
		events[r.id.UUID] = r.event()
		return nil
	})
	return events, err
}

// logRow is an event as it is read for those who follow, or nothing.
type logRow struct {
	id, account        uuid.NullUUID
	typ, key           *string
	pass               *bool
	data               []byte
	occurred, expunged *time.Time
}

func (r *logRow) targets() []any {
	return []any{&r.id, &r.account, &r.typ, &r.pass, &r.data, &r.occurred, &r.key, &r.expunged}
}

func (r *logRow) event() *fanfare.Event {
	return &fanfare.Event{
		ID: r.id.UUID, AccountID: r.account.UUID, Type: deref(r.typ), Data: r.data,
		OccurredAt: deref(r.occurred), IdempotencyKey: deref(r.key), ExpungedAt: deref(r.expunged),
	}
}

const tailSQL = `
SELECT id, account_id, type, test, CASE WHEN before < $3 THEN data END, occurred_at, idempotency_key, expunged_at
FROM (
	SELECT e.*, sum(octet_length(data)) OVER (ORDER BY id) - octet_length(data) AS before
	FROM (
		SELECT id, account_id, type, test, data, occurred_at, idempotency_key, expunged_at FROM events
		WHERE id >= $1 ORDER BY id LIMIT $2
	) e
) e
ORDER BY id`

// Tail reads the log after a position, of all accounts and test events too: no more than limit events, and
// none that begins beyond maxBytes of data. end says that there were no more.
func (s *Store) Tail(ctx context.Context, after fanfare.Position, limit int, maxBytes int64) (events []fanfare.Event, end bool, err error) {
	rows, err := s.pool.Query(ctx, tailSQL, nextID(after), limit, maxBytes)
	if err != nil {
		return nil, false, fmt.Errorf("read the log's tail: %w", err)
	}
	var r logRow
	seen := 0
	_, err = pgx.ForEachRow(rows, r.targets(), func() error {
		seen++
		if r.data != nil {
			e := r.event()
			e.Test = deref(r.pass)
			events = append(events, *e)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read the log's tail: %w", err)
	}
	return events, len(events) == seen && seen < limit, nil
}
