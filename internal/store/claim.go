package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// Want asks for due retries of one webhook.
type Want struct {
	WebhookID uuid.UUID
	Room      int       // how many at most
	DueBy     time.Time // only what is due by then; zero: now, by the database's clock
}

// Each webhook's due rows are found by its own part of the index, so that a million rows of one dead
// endpoint cost the others nothing. The clock is read once, by a subquery: only then is it a bound of
// the index, and rows that are not due are never looked at. By their place (ctid) the locked rows are
// updated without a search, whatever the planner believes about how many they are; a row that moved
// between this statement's snapshot and its lock is left for the next claim. A claim of the dead that comes
// late takes nothing: it would only be taken back, and count as a death.
const claimSQL = `
UPDATE retries SET owner = $3
WHERE ctid = ANY (ARRAY(
	SELECT r.place
	FROM unnest($1::uuid[], $2::int[], $4::timestamptz[]) AS w (webhook_id, room, due_by),
		LATERAL (
			SELECT ctid AS place FROM retries
			WHERE webhook_id = w.webhook_id AND owner IS NULL AND due_at <= coalesce(w.due_by, (SELECT clock_timestamp()))
				AND event_id >= (SELECT event_id FROM log_horizon)
			ORDER BY due_at LIMIT w.room
			FOR UPDATE SKIP LOCKED
		) r
	WHERE EXISTS (SELECT FROM nodes WHERE id = $3 AND NOT dead)))
RETURNING webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, takeovers, destination`

const nextDueSQL = `
SELECT w.webhook_id, r.due_at
FROM unnest($1::uuid[]) AS w (webhook_id),
	LATERAL (
		SELECT due_at FROM retries
		WHERE webhook_id = w.webhook_id AND owner IS NULL AND event_id >= (SELECT event_id FROM log_horizon)
		ORDER BY due_at LIMIT 1
	) r`

// Claim takes due retries for node, in the order of their due times, and says when each of the webhooks
// has its next one; a webhook that is missing in next has none left. A dead node gets none.
func (s *Store) Claim(ctx context.Context, node uuid.UUID, wants []Want) (claimed []Retry, next map[uuid.UUID]time.Time, err error) {
	webhooks, rooms, dues := make([]uuid.UUID, len(wants)), make([]int32, len(wants)), make([]*time.Time, len(wants))
	for i, w := range wants {
		webhooks[i], rooms[i], dues[i] = w.WebhookID, int32(w.Room), nullTime(w.DueBy)
	}
	next = make(map[uuid.UUID]time.Time, len(wants))
	var b pgx.Batch
	b.Queue(claimSQL, webhooks, rooms, node, dues).Query(func(rows pgx.Rows) (err error) {
		claimed, err = pgx.CollectRows(rows, scanRetry)
		return err
	})
	b.Queue(nextDueSQL, webhooks).Query(func(rows pgx.Rows) error {
		return scanDue(rows, next)
	})
	if err := s.engine.SendBatch(ctx, &b).Close(); err != nil {
		return nil, nil, fmt.Errorf("claim retries of %d webhooks: %w", len(wants), err)
	}
	slices.SortFunc(claimed, func(a, b Retry) int { return a.DueAt.Compare(b.DueAt) })
	return claimed, next, nil
}

func scanRetry(row pgx.CollectableRow) (r Retry, err error) {
	var index *int16
	err = row.Scan(&r.WebhookID, &r.EventID, &r.AccountID, &r.Trigger, &r.Number, &r.Tries, &r.FirstAt, &r.DueAt, &r.Takeovers, &index)
	r.Destination = placeOf(index)
	return r, err
}

func scanDue(rows pgx.Rows, into map[uuid.UUID]time.Time) error {
	var id uuid.UUID
	var due time.Time
	_, err := pgx.ForEachRow(rows, []any{&id, &due}, func() error {
		into[id] = due
		return nil
	})
	return err
}

// A loose index scan: one probe a webhook that has rows, however many rows it has.
const dueWebhooks = `
WITH RECURSIVE w AS (
	(
		SELECT webhook_id, due_at FROM retries
		WHERE owner IS NULL AND event_id >= (SELECT event_id FROM log_horizon)
		ORDER BY webhook_id, due_at LIMIT 1
	)
	UNION ALL
	SELECT n.webhook_id, n.due_at FROM w, LATERAL (
		SELECT webhook_id, due_at FROM retries
		WHERE owner IS NULL AND webhook_id > w.webhook_id AND event_id >= (SELECT event_id FROM log_horizon)
		ORDER BY webhook_id, due_at LIMIT 1
	) n
)`

const dueWebhooksSQL = dueWebhooks + ` SELECT webhook_id, due_at FROM w`

// DueWebhooks lists every webhook with free retries and when its earliest is due.
func (s *Store) DueWebhooks(ctx context.Context) (map[uuid.UUID]time.Time, error) {
	due := make(map[uuid.UUID]time.Time)
	rows, err := s.engine.Query(ctx, dueWebhooksSQL)
	if err == nil {
		err = scanDue(rows, due)
	}
	if err != nil {
		return nil, fmt.Errorf("list webhooks with retries: %w", err)
	}
	return due, nil
}

const eventsByIDSQL = `
SELECT id, account_id, type, CASE WHEN upto <= $2 THEN data END, occurred_at, test, CASE WHEN upto <= $2 THEN destinations END
FROM (
	SELECT id, account_id, type, data, occurred_at, test, destinations,
		sum(length(data) + coalesce(length(destinations), 0)) OVER (ORDER BY id) AS upto
	FROM events WHERE id = ANY ($1) AND expunged_at IS NULL
) e`

// EventsByID reads events for sending. One that is unknown or expunged is missing in the result. Beyond maxBytes of
// data, oldest first, an event comes without, and without its one-off destinations.
func (s *Store) EventsByID(ctx context.Context, ids []uuid.UUID, maxBytes int64) (map[uuid.UUID]*fanfare.Event, error) {
	events := make(map[uuid.UUID]*fanfare.Event, len(ids))
	rows, err := s.engine.Query(ctx, eventsByIDSQL, ids, maxBytes)
	if err == nil {
		for rows.Next() {
			var e fanfare.Event
			var occurred *time.Time
			if err := rows.Scan(&e.ID, &e.AccountID, &e.Type, &e.Data, &occurred, &e.Test, &e.Destinations); err != nil {
				rows.Close()
				return nil, fmt.Errorf("read events: %w", err)
			}
			if occurred != nil {
				e.OccurredAt = *occurred
			}
			events[e.ID] = &e
		}
		err = rows.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}
