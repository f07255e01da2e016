package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// The first time counts.
	expungeSQL = `
UPDATE events SET data = '{}', destinations = NULL, expunged_at = coalesce(expunged_at, clock_timestamp())
WHERE account_id = $1 AND id = $2
RETURNING webhook_ids || coalesce(destination_ids, '{}')`

	// A receiver's reply may repeat what it was sent.
	expungeRepliesSQL = `
UPDATE attempts SET response_headers = NULL, response_body = NULL
WHERE webhook_id = ANY ($1) AND event_id = $2 AND (response_headers IS NOT NULL OR response_body IS NOT NULL)`

	// What waits ends when its turn comes: now, unless a node has it in hand.
	expungeRetriesSQL = `
UPDATE retries SET due_at = least(due_at, clock_timestamp()) WHERE webhook_id = ANY ($1) AND event_id = $2 AND owner IS NULL`
)

// Expunge removes the data and the one-off destinations of one of an account's own events, and what receivers
// replied to it, for good. The facts stay: that there was the event, to whom it went, and what became of that.
// Deliveries that are still owed end as what cannot be sent. It may be repeated. The error is [ErrNotFound].
func (s *Store) Expunge(ctx context.Context, account, id uuid.UUID) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var hooks []uuid.UUID
		err := tx.QueryRow(ctx, expungeSQL, account, id).Scan(&hooks)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || len(hooks) == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, expungeRepliesSQL, hooks, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, expungeRetriesSQL, hooks, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("expunge an event: %w", err)
	}
	return nil
}
