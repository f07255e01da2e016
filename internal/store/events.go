package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// maxExamined is how many rows one call of a list looks at, so that a filter that lets nothing pass
// costs no more than that.
const maxExamined = 10_000

// pieces are the sizes in which a list reads rows until it has enough: small when most rows pass.
type pieces struct{ size, left int }

func piecesFor(limit int) pieces { return pieces{size: limit + 1, left: maxExamined} }

// next is the size of the next piece, 0 if enough was examined.
func (p *pieces) next() int {
	size := min(p.size, p.left)
	p.size, p.left = 4*p.size, p.left-size
	return size
}

// typeFilter is a condition on a column "type": its first parameter are names, its second prefixes.
// Both are null for no condition.
func typeFilter(names, prefixes string) string {
	return `(` + names + `::text[] IS NULL OR type = ANY (` + names + `)
		OR EXISTS (SELECT FROM unnest(` + prefixes + `::text[]) AS u (prefix) WHERE starts_with(type, u.prefix)))`
}

// splitPatterns sorts "name", "prefix.*" and "*" into what a typeFilter wants.
func splitPatterns(patterns []string) (names, prefixes []string) {
	if len(patterns) == 0 {
		return nil, nil
	}
	names, prefixes = []string{}, []string{}
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			prefixes = append(prefixes, prefix)
		} else {
			names = append(names, p)
		}
	}
	return names, prefixes
}

// idRange turns times into bounds of event ids, which is what finds the partitions: from is the first
// id that may be in it, to the first one that may not.
func idRange(since, until time.Time) (from, to uuid.UUID) {
	from, to = uuid.Nil, uuid.Max
	if !since.IsZero() {
		from = idBound(since)
	}
	if !until.IsZero() {
		to = idBound(until)
	}
	return from, to
}

func idBound(t time.Time) uuid.UUID {
	switch ms := t.UnixMilli(); {
	case ms < 0:
		return uuid.Nil
	case ms >= 1<<47: // beyond what a position holds
		return uuid.Max
	}
	return fanfare.EventID(fanfare.PositionAt(t), 0)
}

func lesser(a, b uuid.UUID) uuid.UUID {
	if strings.Compare(string(a[:]), string(b[:])) < 0 {
		return a
	}
	return b
}

// An event is also found under an account that one of its webhooks belongs to, deleted or not.
const eventSQL = `
SELECT id, account_id, type, data, occurred_at, idempotency_key, webhook_ids, matched, test, expunged_at FROM events e
WHERE id = $2 AND (account_id = $1 OR EXISTS (
	SELECT FROM webhooks w WHERE w.id = ANY (e.webhook_ids) AND w.account_id = $1))`

// Event reads an event that happened in an account or was matched by one of its webhooks. The error is
// [ErrNotFound].
func (s *Store) Event(ctx context.Context, account, id uuid.UUID) (*fanfare.Event, error) {
	var (
		e        fanfare.Event
		occurred *time.Time
		key      *string
		expunged *time.Time
	)
	err := s.pool.QueryRow(ctx, eventSQL, account, id).
		Scan(&e.ID, &e.AccountID, &e.Type, &e.Data, &occurred, &key, &e.WebhookIDs, &e.Matched, &e.Test, &expunged)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	e.OccurredAt, e.IdempotencyKey, e.ExpungedAt = deref(occurred), deref(key), deref(expunged)
	return &e, nil
}

// EventQuery says which of an account's own events to list.
type EventQuery struct {
	Types        []string  // names, "prefix.*" or "*"; empty: all
	Since, Until time.Time // when they were committed, from Since to before Until; zero: no bound
	Page
	WithData bool
}

// What does not pass comes with its id only.
var listEventsSQL = `
SELECT id, pass, type, CASE WHEN pass AND $7 THEN data END, occurred_at, idempotency_key, matched, expunged_at
FROM (
	SELECT id, type, data, occurred_at, idempotency_key, matched, expunged_at, NOT test AND ` + typeFilter("$4", "$5") + ` AS pass
	FROM events WHERE account_id = $1 AND id < $2 AND id >= $3 ORDER BY id DESC LIMIT $6
) e
ORDER BY id DESC`

// Events lists an account's own events, newest first, without test events and without the webhooks
// that matched. It looks at no more than 10,000 events: the list may be short and next set all the
// same. next is the After of the call that reads on; nil: that was all.
func (s *Store) Events(ctx context.Context, account uuid.UUID, q EventQuery) (list []fanfare.Event, next uuid.UUID, err error) {
	names, prefixes := splitPatterns(q.Types)
	from, to := idRange(q.Since, q.Until)
	to = lesser(to, q.before())
	p := piecesFor(q.Limit)
	for size := p.next(); size > 0; size = p.next() {
		rows, err := s.pool.Query(ctx, listEventsSQL, account, to, from, names, prefixes, size, q.WithData)
		if err != nil {
			return nil, uuid.Nil, fmt.Errorf("list events: %w", err)
		}
		var (
			e        fanfare.Event
			pass     bool
			occurred *time.Time
			key      *string
			expunged *time.Time
			seen     int
			full     bool
		)
		_, err = pgx.ForEachRow(rows, []any{&e.ID, &pass, &e.Type, &e.Data, &occurred, &key, &e.Matched, &expunged}, func() error {
			if full = full || len(list) == q.Limit; full {
				return nil
			}
			seen, to = seen+1, e.ID
			if pass {
				e.AccountID, e.OccurredAt, e.IdempotencyKey, e.ExpungedAt = account, deref(occurred), deref(key), deref(expunged)
				list = append(list, e)
			}
			return nil
		})
		switch {
		case err != nil:
			return nil, uuid.Nil, fmt.Errorf("list events: %w", err)
		case full:
			return list, to, nil
		case seen < size:
			return list, uuid.Nil, nil
		}
	}
	return list, to, nil
}
