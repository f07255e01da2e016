package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// ErrNoEventType says that a webhook names an event type that the catalog lacks.
var ErrNoEventType = errors.New("the catalog has no such event type")

// ErrPlatformType says that an event type is the platform's own, which nobody else may write.
var ErrPlatformType = errors.New("the event type is the platform's own")

const eventTypeColumns = `name, description, group_name, modifiers, schema, samples, archived, coalesce(origin, ''), created_at, updated_at`

func scanEventType(row pgx.Row, t *fanfare.EventType) error {
	return row.Scan(&t.Name, &t.Description, &t.Group, &t.Modifiers, &t.Schema, &t.Samples, &t.Archived, &t.Origin, &t.CreatedAt, &t.UpdatedAt)
}

// catalogSpec locks the whole catalog, which belongs to the platform's account.
func catalogSpec(doing string) changeSpec {
	return changeSpec{doing: doing, accounts: []uuid.UUID{fanfare.PlatformAccount}}
}

// Whether a row was there before, it tells by whether somebody has updated it.
const putEventTypeSQL = `
INSERT INTO event_types (name, description, group_name, samples, archived, modifiers, origin, schema) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO UPDATE SET description = excluded.description, group_name = excluded.group_name,
	samples = excluded.samples, archived = excluded.archived, modifiers = excluded.modifiers, origin = excluded.origin,
	schema = excluded.schema, updated_at = clock_timestamp()
WHERE event_types.origin IS DISTINCT FROM 'platform' OR excluded.origin = 'platform'
RETURNING xmax = 0, created_at, updated_at`

func putEventTypeArgs(t *fanfare.EventType) []any {
	return []any{t.Name, t.Description, t.Group, samplesOf(t), t.Archived, t.Modifiers, nullText(t.Origin), t.Schema}
}

// samplesOf are those of an event type as they are stored.
func samplesOf(t *fanfare.EventType) []byte {
	if len(t.Samples) == 0 {
		return []byte("[]")
	}
	return t.Samples
}

// PutEventType stores t in place of the event type of that name, if there is one, and fills in its
// times. The error is [ErrPlatformType] if the name is the platform's and t is not.
func (s *Store) PutEventType(ctx context.Context, t *fanfare.EventType) (created bool, err error) {
	err = s.change(ctx, catalogSpec("put an event type"), func(ctx context.Context, c *change) error {
		row := c.QueryRow(ctx, putEventTypeSQL, putEventTypeArgs(t)...)
		err := row.Scan(&created, &t.CreatedAt, &t.UpdatedAt)
		if errors.Is(err, pgx.ErrNoRows) {
			err = ErrPlatformType
		}
		if err != nil {
			return err
		}
		c.raise(ChangeEventType, fanfare.PlatformAccount, uuid.Nil, t.Name)
		return nil
	})
	return created, err
}

// DeleteEventType takes an event type out of the catalog. The error is [ErrNotFound], [ErrPlatformType], or
// [ErrInUse] while a webhook names it exactly.
func (s *Store) DeleteEventType(ctx context.Context, name string) error {
	return s.change(ctx, catalogSpec("delete an event type"), func(ctx context.Context, c *change) error {
		// Webhooks that are being written and name it hold its row: they are seen after this.
		var origin fanfare.Origin
		err := c.QueryRow(ctx, `DELETE FROM event_types WHERE name = $1 RETURNING coalesce(origin, '')`, name).Scan(&origin)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case origin == fanfare.OriginPlatform:
			return ErrPlatformType
		}
		var used bool
		err = c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM webhooks WHERE deleted_at IS NULL AND event_types @> ARRAY[$1])`,
			name).Scan(&used)
		if err == nil && used {
			err = ErrInUse
		}
		if err != nil {
			return err
		}
		c.raise(ChangeEventType, fanfare.PlatformAccount, uuid.Nil, name)
		return nil
	})
}

// EventType reads an event type. The error is [ErrNotFound].
func (s *Store) EventType(ctx context.Context, name string) (*fanfare.EventType, error) {
	var t fanfare.EventType
	err := scanEventType(s.pool.QueryRow(ctx, `SELECT `+eventTypeColumns+` FROM event_types WHERE name = $1`, name), &t)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read an event type: %w", err)
	}
	return &t, nil
}

// EventTypes lists the catalog in the order of names, from the first name after after; with a group only
// what is in it.
func (s *Store) EventTypes(ctx context.Context, group *string, after string, limit int) ([]fanfare.EventType, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+eventTypeColumns+` FROM event_types
WHERE name > $1 AND ($2::text IS NULL OR group_name = $2) ORDER BY name LIMIT $3`, after, group, limit)
	list, err := collect(rows, err, scanEventType)
	if err != nil {
		return nil, fmt.Errorf("list event types: %w", err)
	}
	return list, nil
}
