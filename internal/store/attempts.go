package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

const attemptColumns = `webhook_id, event_id, id, account_id, webhook_version, number, trigger, started_at, duration_us, method, url,
	status, verdict, state, reason, error, error_detail, response_headers, response_body, retry_at, node, destination`

// attemptRow is a row of attempts, or of a join in which all of it may be null.
type attemptRow struct {
	webhook, event, id, account, node       uuid.NullUUID
	version, duration                       *int64
	number, status                          *int
	trigger, method, url, state             *string
	verdict, reason, errorCode, errorDetail *string
	started, retryAt                        *time.Time
	headers, body                           []byte
	index                                   *int16
}

func (r *attemptRow) targets() []any {
	return []any{
		&r.webhook, &r.event, &r.id, &r.account, &r.version, &r.number, &r.trigger, &r.started, &r.duration, &r.method, &r.url,
		&r.status, &r.verdict, &r.state, &r.reason, &r.errorCode, &r.errorDetail, &r.headers, &r.body, &r.retryAt, &r.node,
		&r.index,
	}
}

// attempt is nil if there was none.
func (r *attemptRow) attempt() *fanfare.Attempt {
	if !r.id.Valid {
		return nil
	}
	return &fanfare.Attempt{
		ID: r.id.UUID, EventID: r.event.UUID, WebhookID: r.webhook.UUID, AccountID: r.account.UUID,
		WebhookVersion: deref(r.version), Number: deref(r.number), Trigger: fanfare.Trigger(deref(r.trigger)),
		StartedAt: deref(r.started), Duration: time.Duration(deref(r.duration)) * time.Microsecond,
		URL: deref(r.url), Method: deref(r.method), Status: deref(r.status),
		Verdict: fanfare.Verdict(deref(r.verdict)), State: fanfare.State(deref(r.state)), Reason: fanfare.Reason(deref(r.reason)),
		Error: fanfare.ErrorCode(deref(r.errorCode)), ErrorDetail: deref(r.errorDetail),
		ResponseHeaders: r.headers, ResponseBody: r.body, RetryAt: deref(r.retryAt), Node: r.node.UUID, Destination: placeOf(r.index),
	}
}

func scanAttempt(row pgx.Row, a *fanfare.Attempt) error {
	var r attemptRow
	err := row.Scan(r.targets()...)
	if err == nil {
		*a = *r.attempt()
	}
	return err
}

// AttemptCursor is where a list of attempts reads on; zero: from the newest.
type AttemptCursor struct{ EventID, ID uuid.UUID }

func (c AttemptCursor) orNewest() AttemptCursor {
	if c == (AttemptCursor{}) {
		return AttemptCursor{EventID: uuid.Max, ID: uuid.Max}
	}
	return c
}

// The bound on event_id alone is what finds the partitions.
const listAttemptsSQL = `
SELECT ` + attemptColumns + ` FROM attempts
WHERE account_id = $1 AND webhook_id = $2 AND event_id <= $3 AND (event_id, id) < ($3, $4)
ORDER BY event_id DESC, id DESC LIMIT $5`

// Attempts lists the requests to a webhook, newest event first and for one event newest request first.
// It looks at no more than 10,000 rows; next is nil if that was all.
func (s *Store) Attempts(ctx context.Context, account, webhook uuid.UUID, after AttemptCursor, limit int) (list []fanfare.Attempt, next *AttemptCursor, err error) {
	c := after.orNewest()
	return requests(limit, func(last *fanfare.Attempt, size int) ([]fanfare.Attempt, error) {
		if last != nil {
			c = AttemptCursor{EventID: last.EventID, ID: last.ID}
		}
		rows, err := s.pool.Query(ctx, listAttemptsSQL, account, webhook, c.EventID, c.ID, size)
		list, err := collect(rows, err, scanAttempt)
		if err != nil {
			return nil, fmt.Errorf("list a webhook's attempts: %w", err)
		}
		return list, nil
	})
}

// The event's fan-out names all its deliveries, at most 10,010.
const listEventAttemptsSQL = `
SELECT a.* FROM events e CROSS JOIN LATERAL unnest(e.webhook_ids || e.destination_ids) AS u (webhook_id)
CROSS JOIN LATERAL (
	SELECT ` + attemptColumns + ` FROM attempts a
	WHERE a.webhook_id = u.webhook_id AND a.event_id = $2 AND a.account_id = $1 AND a.number > 0 AND a.id < $3
	ORDER BY a.id DESC LIMIT $4
) a
WHERE e.id = $2
ORDER BY a.id DESC LIMIT $4`

// EventAttempts lists the requests that carried an event to webhooks of an account, and to one-off destinations
// if it is the event's own, newest first. next
// is nil if that was all.
func (s *Store) EventAttempts(ctx context.Context, account, event uuid.UUID, after AttemptCursor, limit int) (list []fanfare.Attempt, next *AttemptCursor, err error) {
	c := after.orNewest()
	return requests(limit, func(last *fanfare.Attempt, size int) ([]fanfare.Attempt, error) {
		if last != nil {
			c = AttemptCursor{EventID: last.EventID, ID: last.ID}
		}
		rows, err := s.pool.Query(ctx, listEventAttemptsSQL, account, event, c.ID, size)
		list, err := collect(rows, err, scanAttempt)
		if err != nil {
			return nil, fmt.Errorf("list an event's attempts: %w", err)
		}
		return list, nil
	})
}

// ErrorQuery says which failed requests of all webhooks of an account to list.
type ErrorQuery struct {
	WebhookID  uuid.NullUUID       // not valid: any
	Codes      []fanfare.ErrorCode // empty: any
	Statuses   []StatusRange       // empty: any, also none
	EventTypes []string            // names, "prefix.*" or "*"; empty: any
	Page
}

// StatusRange is HTTP statuses from Low to High.
type StatusRange struct{ Low, High int }

// What does not pass comes with its id only. The event's type is asked for as a value: of an EXISTS the
// planner may make a hash of all events.
var listErrorsSQL = `
SELECT k.id, a.* FROM (
	SELECT webhook_id, event_id, id, number > 0
		AND ($4::uuid IS NULL OR webhook_id = $4)
		AND ($5::text[] IS NULL OR error = ANY ($5))
		AND ($6::int[] IS NULL OR EXISTS (SELECT FROM unnest($6, $7::int[]) AS r (low, high) WHERE status BETWEEN low AND high))
		AND ($8::text[] IS NULL OR coalesce((SELECT ` + typeFilter("$8", "$9") + ` FROM events e WHERE e.id = event_id), false)) AS pass
	FROM attempts WHERE account_id = $1 AND state <> 'delivered' AND id < $2 ORDER BY id DESC LIMIT $3
) k
LEFT JOIN LATERAL (
	SELECT ` + attemptColumns + ` FROM attempts
	WHERE k.pass AND webhook_id = k.webhook_id AND event_id = k.event_id AND id = k.id
) a ON true
ORDER BY k.id DESC`

// Errors lists failed requests, newest first. It looks at no more than 10,000 rows; next is the After of
// the call that reads on, nil if that was all.
func (s *Store) Errors(ctx context.Context, account uuid.UUID, q ErrorQuery) (list []fanfare.Attempt, next uuid.UUID, err error) {
	var webhook *uuid.UUID
	var codes []string
	var low, high []int32
	if q.WebhookID.Valid {
		webhook = &q.WebhookID.UUID
	}
	for _, c := range q.Codes {
		codes = append(codes, string(c))
	}
	for _, r := range q.Statuses {
		low, high = append(low, int32(r.Low)), append(high, int32(r.High))
	}
	names, prefixes := splitPatterns(q.EventTypes)
	before := q.before()
	p := piecesFor(q.Limit)
	for size := p.next(); size > 0; size = p.next() {
		rows, err := s.pool.Query(ctx, listErrorsSQL, account, before, size, webhook, codes, low, high, names, prefixes)
		if err != nil {
			return nil, uuid.Nil, fmt.Errorf("list an account's errors: %w", err)
		}
		var (
			id   uuid.UUID
			r    attemptRow
			seen int
			full bool
		)
		_, err = pgx.ForEachRow(rows, append([]any{&id}, r.targets()...), func() error {
			if full = full || len(list) == q.Limit; full {
				return nil
			}
			seen, before = seen+1, id
			if a := r.attempt(); a != nil {
				list = append(list, *a)
			}
			return nil
		})
		switch {
		case err != nil:
			return nil, uuid.Nil, fmt.Errorf("list an account's errors: %w", err)
		case full:
			return list, before, nil
		case seen < size:
			return list, uuid.Nil, nil
		}
	}
	return list, before, nil
}

// requests reads rows of attempts in pieces and leaves out those that are no requests. read is given
// the last row of the piece before.
func requests(limit int, read func(last *fanfare.Attempt, size int) ([]fanfare.Attempt, error)) ([]fanfare.Attempt, *AttemptCursor, error) {
	var list []fanfare.Attempt
	var last *fanfare.Attempt
	p := piecesFor(limit)
	for size := p.next(); size > 0; size = p.next() {
		piece, err := read(last, size)
		if err != nil {
			return nil, nil, err
		}
		for i := range piece {
			if len(list) == limit {
				return list, &AttemptCursor{EventID: last.EventID, ID: last.ID}, nil
			}
			last = &piece[i]
			if last.Number > 0 {
				list = append(list, *last)
			}
		}
		if len(piece) < size {
			return list, nil, nil
		}
	}
	return list, &AttemptCursor{EventID: last.EventID, ID: last.ID}, nil
}
