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

// OutboxKind says who hands a row of the outbox over.
type OutboxKind string

// The kinds of rows.
const (
	OutboxEvent OutboxKind = "event" // published in the row's account
	OutboxMail  OutboxKind = "mail"
)

// OutboxRow is something that a change owes to the outside. It is written in the change's own
// transaction, so that there is one exactly if the change is.
type OutboxRow struct {
	ID        uuid.UUID // the same at every try: what is handed over twice can be told by it
	AccountID uuid.UUID
	Name      string // what it is: of an event, its type
	Body      []byte
	Tries     int // to hand it over, this one included
	CreatedAt time.Time
}

// EventBodies make the data of operational events: JSON objects.
type EventBodies struct {
	// Webhook is for what happened to a webhook.
	Webhook func(*fanfare.Webhook) []byte
	// Exhausted is for deliveries that were given up. last is what Last said of the last of them.
	Exhausted func(w *fanfare.Webhook, count int, since time.Time, last []byte) []byte
	// Last is a delivery of an event of that type that the attempt gave up.
	Last func(a *fanfare.Attempt, eventType string) []byte
}

// owed is what a change puts into the outbox, one column each.
type owed struct {
	ids, accounts []uuid.UUID
	kinds         []OutboxKind
	names         []string
	bodies        [][]byte
}

func (o *owed) add(kind OutboxKind, account uuid.UUID, name string, body []byte) {
	o.ids, o.accounts = append(o.ids, uuid.Must(uuid.NewV7())), append(o.accounts, account)
	o.kinds, o.names, o.bodies = append(o.kinds, kind), append(o.names, name), append(o.bodies, body)
}

const insertOutboxSQL = `
INSERT INTO outbox (id, kind, account_id, name, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bytea[])`

// queue adds the rows to a transaction, if there are any.
func (o *owed) queue(b *pgx.Batch) {
	if len(o.ids) > 0 {
		b.Queue(insertOutboxSQL, o.ids, o.kinds, o.accounts, o.names, o.bodies)
	}
}

// tell has the change publish what it did to a webhook, which is complete by now.
func (c *change) tell(eventType string, w *fanfare.Webhook) {
	if c.describe != nil {
		c.owed.add(OutboxEvent, w.AccountID, eventType, c.describe.Webhook(w))
	}
}

// outboxBell is rung for rows that this process has written.
type outboxBell map[OutboxKind]chan struct{}

func newOutboxBell() outboxBell {
	return outboxBell{OutboxEvent: make(chan struct{}, 1), OutboxMail: make(chan struct{}, 1)}
}

func (b outboxBell) ring(kinds ...OutboxKind) {
	for _, kind := range kinds {
		select {
		case b[kind] <- struct{}{}:
		default: // it rings already
		}
	}
}

// OutboxWritten receives when this process has written rows of a kind since the last time. Rows of other
// processes, and those whose time comes later, are found by asking. It is for one receiver.
func (s *Store) OutboxWritten(kind OutboxKind) <-chan struct{} { return s.bell[kind] }

// The clock is read once, by a subquery: only then is it a bound of the index.
const claimOutboxSQL = `
UPDATE outbox SET due_at = clock_timestamp() + $3::interval, tries = tries + 1
WHERE ctid = ANY (ARRAY(
	SELECT ctid FROM outbox WHERE kind = $1 AND due_at <= (SELECT clock_timestamp())
	ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING id, account_id, name, body, tries, created_at`

// ClaimOutbox takes up to limit rows of a kind that are due, in the order of their making, and counts a try of
// each. Nobody else gets them for term; then they are due again, unless [Store.FinishOutbox] or
// [Store.PostponeOutbox] was called.
func (s *Store) ClaimOutbox(ctx context.Context, kind OutboxKind, limit int, term time.Duration) ([]OutboxRow, error) {
	rows, err := s.engine.Query(ctx, claimOutboxSQL, kind, limit, term)
	list, err := collect(rows, err, func(row pgx.Row, o *OutboxRow) error {
		var name *string
		err := row.Scan(&o.ID, &o.AccountID, &name, &o.Body, &o.Tries, &o.CreatedAt)
		o.Name = deref(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim rows of the outbox: %w", err)
	}
	slices.SortFunc(list, func(a, b OutboxRow) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return list, nil
}

const (
	finishOutboxSQL   = `DELETE FROM outbox WHERE id = ANY ($1)`
	postponeOutboxSQL = `
UPDATE outbox o SET due_at = clock_timestamp() + u.wait
FROM unnest($1::uuid[], $2::interval[]) AS u (id, wait) WHERE o.id = u.id`
)

// FinishOutbox removes rows that were handed over.
func (s *Store) FinishOutbox(ctx context.Context, ids []uuid.UUID) error {
	if _, err := s.engine.Exec(ctx, finishOutboxSQL, ids); err != nil {
		return fmt.Errorf("finish %d rows of the outbox: %w", len(ids), err)
	}
	return nil
}

// PostponeOutbox makes rows due again after waits, one for each.
func (s *Store) PostponeOutbox(ctx context.Context, ids []uuid.UUID, waits []time.Duration) error {
	if _, err := s.engine.Exec(ctx, postponeOutboxSQL, ids, waits); err != nil {
		return fmt.Errorf("postpone %d rows of the outbox: %w", len(ids), err)
	}
	return nil
}
