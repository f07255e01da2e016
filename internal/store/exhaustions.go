package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// exhaustionsEvery is how often a webhook's account is told of deliveries that were given up.
const exhaustionsEvery = time.Minute

// It stands before the statement that writes the attempts: those that are there already were counted by an
// earlier writing of the lot. The rows are locked in one order, for several nodes may count the same
// webhook's.
const countExhaustionsSQL = `
INSERT INTO exhaustions AS e (webhook_id, account_id, count, since, last, due_at)
SELECT l.webhook_id, l.account_id, n.count, n.since, l.last, clock_timestamp()
FROM (
	SELECT u.webhook_id, count(*) AS count, min(u.at) AS since
	FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[]) AS u (webhook_id, event_id, id, at)
	WHERE NOT EXISTS (
		SELECT FROM attempts a
		WHERE a.webhook_id = u.webhook_id AND a.event_id = u.event_id AND a.id = u.id
			AND a.event_id BETWEEN $5 AND $6 -- opens the lot's days only
	)
	GROUP BY u.webhook_id
) n JOIN unnest($7::uuid[], $8::uuid[], $9::bytea[]) AS l (webhook_id, account_id, last) ON l.webhook_id = n.webhook_id
ORDER BY l.webhook_id
ON CONFLICT (webhook_id) DO UPDATE SET count = e.count + EXCLUDED.count, last = EXCLUDED.last,
	since = CASE WHEN e.count = 0 THEN EXCLUDED.since ELSE e.since END`

// queueExhaustions counts the deliveries of a lot that were given up and are told, and says whether there
// are any.
func (s *Store) queueExhaustions(b *pgx.Batch, lot *Lot) bool {
	var (
		hooks, events, ids []uuid.UUID
		ats                []time.Time
		last               map[uuid.UUID]*Outcome // by webhook
	)
	for i := range lot.Outcomes {
		o := &lot.Outcomes[i]
		if o.Told == "" || s.describe == nil {
			continue
		}
		a := o.Attempt
		hooks, events, ids, ats = append(hooks, a.WebhookID), append(events, a.EventID), append(ids, a.ID), append(ats, a.StartedAt)
		if last == nil {
			last = make(map[uuid.UUID]*Outcome)
		}
		last[a.WebhookID] = o
	}
	if len(ids) == 0 {
		return false
	}
	var lasts struct {
		hooks, accounts []uuid.UUID
		bodies          [][]byte
	}
	for hook, o := range last {
		lasts.hooks, lasts.accounts = append(lasts.hooks, hook), append(lasts.accounts, o.Attempt.AccountID)
		lasts.bodies = append(lasts.bodies, s.describe.Last(o.Attempt, o.Told))
	}
	compare := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	b.Queue(countExhaustionsSQL, hooks, events, ids, ats, slices.MinFunc(events, compare), slices.MaxFunc(events, compare),
		lasts.hooks, lasts.accounts, lasts.bodies)
	return true
}

const (
	anyExhaustionsSQL = `SELECT EXISTS (SELECT FROM exhaustions WHERE due_at <= clock_timestamp())`

	dueExhaustionsSQL = `
SELECT e.count, e.since, e.last, e.due_at, w.* FROM exhaustions e JOIN LATERAL (
	SELECT ` + webhookColumns + ` FROM webhooks WHERE id = e.webhook_id AND deleted_at IS NULL
) w ON true
WHERE e.count > 0 AND e.due_at <= clock_timestamp() ORDER BY e.due_at LIMIT $1`

	// What was counted since the row was read stays. Nobody is waited for: a row that somebody else tells of, or is
	// counting in, is left for the next time.
	tellExhaustionsSQL = `
WITH mine AS (
	SELECT e.webhook_id, u.count FROM unnest($1::uuid[], $2::int[], $3::timestamptz[]) AS u (webhook_id, count, due_at)
	JOIN exhaustions e ON e.webhook_id = u.webhook_id AND e.due_at = u.due_at
	ORDER BY e.webhook_id FOR UPDATE OF e SKIP LOCKED
), told AS (
	UPDATE exhaustions e SET count = e.count - mine.count, since = clock_timestamp(), due_at = clock_timestamp() + $4::interval
	FROM mine WHERE e.webhook_id = mine.webhook_id
	RETURNING e.webhook_id
)
INSERT INTO outbox (id, kind, account_id, name, body)
SELECT u.id, 'event', u.account_id, $5, u.body
FROM unnest($1::uuid[], $6::uuid[], $7::uuid[], $8::bytea[]) AS u (webhook_id, id, account_id, body)
JOIN told ON told.webhook_id = u.webhook_id`

	// It waits for nobody either: a lot that counts one of these rows may be waiting for one that is being told.
	forgetExhaustionsSQL = `
DELETE FROM exhaustions WHERE ctid = ANY (ARRAY(
	SELECT ctid FROM exhaustions e WHERE due_at <= clock_timestamp()
		AND (count = 0 OR NOT EXISTS (SELECT FROM webhooks w WHERE w.id = e.webhook_id AND w.deleted_at IS NULL))
	FOR UPDATE SKIP LOCKED))`
)

// exhaustion is what one event will tell.
type exhaustion struct {
	count   int
	since   time.Time
	last    []byte
	due     time.Time // no two events tell of a webhook with the same
	webhook fanfare.Webhook
}

func scanExhaustion(row pgx.Row, x *exhaustion) error {
	return scanWebhook(after{row, []any{&x.count, &x.since, &x.last, &x.due}}, &x.webhook)
}

// TellExhaustions puts into the outbox what has to be told of deliveries that were given up: for each webhook
// one event, at once if the last one was a minute ago, or else when it was. Counting is part of the record
// of what became of deliveries, and every count goes into one event, whatever crashes.
func (s *Store) TellExhaustions(ctx context.Context) error {
	if s.describe == nil {
		return nil
	}
	var due bool
	err := s.engine.QueryRow(ctx, anyExhaustionsSQL).Scan(&due)
	for due && err == nil {
		due, err = s.tellExhaustions(ctx)
	}
	if err != nil {
		return fmt.Errorf("tell of deliveries that were given up: %w", err)
	}
	return nil
}

// tellExhaustions tells of some webhooks, and says whether there may be more.
func (s *Store) tellExhaustions(ctx context.Context) (more bool, err error) {
	const lot = 200
	rows, err := s.engine.Query(ctx, dueExhaustionsSQL, lot)
	list, err := collect(rows, err, scanExhaustion)
	if err != nil {
		return false, err
	}
	var (
		n      = len(list)
		hooks  = make([]uuid.UUID, n)
		counts = make([]int32, n)
		dues   = make([]time.Time, n)
		out    owed
	)
	for i := range list {
		x := &list[i]
		hooks[i], counts[i], dues[i] = x.webhook.ID, int32(x.count), x.due
		out.add(OutboxEvent, x.webhook.AccountID, fanfare.EventDeliveryExhausted, s.describe.Exhausted(&x.webhook, x.count, x.since, x.last))
	}
	var b pgx.Batch
	if n > 0 {
		b.Queue(tellExhaustionsSQL, hooks, counts, dues, exhaustionsEvery, fanfare.EventDeliveryExhausted, out.ids, out.accounts, out.bodies)
	}
	b.Queue(forgetExhaustionsSQL)
	return n == lot, s.engine.SendBatch(ctx, &b).Close()
}

// after is a row that begins with columns of its own.
type after struct {
	pgx.Row
	first []any
}

// Scan implements [pgx.Row]: it fills the first columns, and then to.
func (r after) Scan(to ...any) error { return r.Row.Scan(append(r.first, to...)...) }
