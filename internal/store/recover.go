package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// OpenGroup is a commit some of whose deliveries may have no outcome yet.
type OpenGroup struct {
	ID          uuid.UUID
	First, Last uuid.UUID // event ids
	Takeovers   int
}

// Owed is a delivery of an open group that has neither ended nor a row of retries.
type Owed struct {
	Event     *fanfare.Event
	WebhookID uuid.UUID
	AccountID uuid.UUID // the webhook's
	Number    int       // requests on record, made by an owner that could not record what follows from them

	Destination int // as an attempt's
}

// A row is an orphan if its owner is marked dead or has left: a commit may come through after its node
// gave up. The table's name goes in the middle. The dead owners are listed first: if each row asked for
// its own, one that another node takes between this statement's snapshot and its lock would be judged
// anew against no nodes at all, found to be an orphan, and taken from the living.
const (
	orphansOf  = `owner = ANY (ARRAY(SELECT DISTINCT o.owner FROM `
	orphansEnd = ` o WHERE o.owner IS NOT NULL AND NOT EXISTS (SELECT FROM nodes n WHERE n.id = o.owner AND NOT n.dead)))`
)

const takeGroupsSQL = `
UPDATE open_groups SET owner = $1, takeovers = takeovers + 1
WHERE id IN (
	SELECT id FROM open_groups WHERE ` + orphansOf + `open_groups` + orphansEnd + ` ORDER BY first LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, first, last, takeovers`

const retakeGroupsSQL = `
UPDATE open_groups SET takeovers = takeovers + 1 WHERE id = ANY ($2) AND owner = $1
RETURNING id, first, last, takeovers`

// TakeGroups makes up to limit groups of dead nodes me's, oldest first.
func (s *Store) TakeGroups(ctx context.Context, me uuid.UUID, limit int) ([]OpenGroup, error) {
	return s.groups(ctx, takeGroupsSQL, me, limit)
}

// RetakeGroups counts a takeover of groups that are me's already, but that me does not remember.
func (s *Store) RetakeGroups(ctx context.Context, me uuid.UUID, ids []uuid.UUID) ([]OpenGroup, error) {
	return s.groups(ctx, retakeGroupsSQL, me, ids)
}

func (s *Store) groups(ctx context.Context, sql string, args ...any) ([]OpenGroup, error) {
	rows, err := s.engine.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("take over groups: %w", err)
	}
	groups, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g OpenGroup, err error) {
		err = row.Scan(&g.ID, &g.First, &g.Last, &g.Takeovers)
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("take over groups: %w", err)
	}
	return groups, nil
}

// An attempt that left its delivery pending counts only together with a row of retries: without one it
// was recorded by an owner that had lost the group. Each pair is looked up alone: the aggregate and the
// OFFSET keep the planner from joining with all attempts and all retries, and the range, said again of
// attempts, leaves it their one partition.
const owedSQL = `
SELECT e.id, e.account_id, e.type, CASE WHEN e.expunged_at IS NULL THEN e.data END, e.occurred_at, e.test, p.webhook_id, p.account_id, coalesce(a.number, 0),
	e.destinations, p.destination
FROM events e CROSS JOIN LATERAL (
	SELECT w.id AS webhook_id, w.account_id, NULL::smallint AS destination
	FROM unnest(e.webhook_ids) AS u (webhook_id) JOIN webhooks w ON w.id = u.webhook_id
	UNION ALL
	SELECT u.id, e.account_id, (u.n - 1)::smallint FROM unnest(e.destination_ids) WITH ORDINALITY AS u (id, n)
) p
CROSS JOIN LATERAL (
	SELECT max(number) AS number, bool_or(state <> 'pending') AS ended FROM attempts
	WHERE webhook_id = p.webhook_id AND event_id = e.id AND event_id BETWEEN $1 AND $2
) a
WHERE e.id BETWEEN $1 AND $2 AND a.ended IS NOT TRUE
	AND NOT EXISTS (SELECT FROM retries r WHERE r.webhook_id = p.webhook_id AND r.event_id = e.id OFFSET 0)
ORDER BY e.id`

// Owed lists what is left to do of a group. An event that is expunged comes without its data.
func (s *Store) Owed(ctx context.Context, g OpenGroup) ([]Owed, error) {
	rows, err := s.engine.Query(ctx, owedSQL, g.First, g.Last)
	if err != nil {
		return nil, fmt.Errorf("read what a group owes: %w", err)
	}
	defer rows.Close()
	var owed []Owed
	for rows.Next() {
		var e fanfare.Event
		var o Owed
		var occurred *time.Time
		var index *int16
		err := rows.Scan(&e.ID, &e.AccountID, &e.Type, &e.Data, &occurred, &e.Test, &o.WebhookID, &o.AccountID, &o.Number,
			&e.Destinations, &index)
		if err != nil {
			return nil, fmt.Errorf("read what a group owes: %w", err)
		}
		o.Destination = placeOf(index)
		if occurred != nil {
			e.OccurredAt = *occurred
		}
		o.Event = &e
		if n := len(owed); n > 0 && owed[n-1].Event.ID == e.ID {
			o.Event = owed[n-1].Event // one copy of the data an event
		}
		owed = append(owed, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read what a group owes: %w", err)
	}
	return owed, nil
}

// Mine is what the database holds me responsible for.
type Mine struct {
	Groups  []uuid.UUID
	Retries []RetryRef
}

// RetryRef names a row of retries.
type RetryRef struct{ WebhookID, EventID uuid.UUID }

const (
	myGroupsSQL  = `SELECT id FROM open_groups WHERE owner = $1`
	myRetriesSQL = `SELECT webhook_id, event_id FROM retries WHERE owner = $1`
)

// Mine lists the groups and retries that name me as their owner.
func (s *Store) Mine(ctx context.Context, me uuid.UUID) (m Mine, err error) {
	var b pgx.Batch
	b.Queue(myGroupsSQL, me).Query(func(rows pgx.Rows) (err error) {
		m.Groups, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	b.Queue(myRetriesSQL, me).Query(func(rows pgx.Rows) (err error) {
		m.Retries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RetryRef])
		return err
	})
	if err := s.engine.SendBatch(ctx, &b).Close(); err != nil {
		return m, fmt.Errorf("read what this node owns: %w", err)
	}
	return m, nil
}

const freeOrphansSQL = `
UPDATE retries SET owner = NULL, takeovers = takeovers + 1
WHERE ctid = ANY (ARRAY(
	SELECT ctid FROM retries WHERE ` + orphansOf + `retries` + orphansEnd + ` LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING webhook_id, due_at`

// FreeOrphans gives up to limit retries of dead nodes free again and says which webhooks they belong
// to and when they are due. done is false while more may be left.
func (s *Store) FreeOrphans(ctx context.Context, limit int) (due map[uuid.UUID]time.Time, done bool, err error) {
	rows, err := s.engine.Query(ctx, freeOrphansSQL, limit)
	if err != nil {
		return nil, false, fmt.Errorf("free retries of dead nodes: %w", err)
	}
	due = make(map[uuid.UUID]time.Time)
	n := 0
	var id uuid.UUID
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		if n++; due[id].IsZero() || at.Before(due[id]) {
			due[id] = at
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("free retries of dead nodes: %w", err)
	}
	return due, n < limit, nil
}

const freeRetriesSQL = `
UPDATE retries r SET owner = NULL
FROM unnest($1::uuid[], $2::uuid[]) AS u (webhook_id, event_id)
WHERE r.webhook_id = u.webhook_id AND r.event_id = u.event_id AND r.owner = $3`

// FreeRetries gives rows that me owns but does not remember free again. Nobody died of them, so it counts
// no takeover.
func (s *Store) FreeRetries(ctx context.Context, me uuid.UUID, refs []RetryRef) error {
	webhooks, events := make([]uuid.UUID, len(refs)), make([]uuid.UUID, len(refs))
	for i, r := range refs {
		webhooks[i], events[i] = r.WebhookID, r.EventID
	}
	_, err := s.engine.Exec(ctx, freeRetriesSQL, webhooks, events, me)
	if err != nil {
		return fmt.Errorf("free %d forgotten retries: %w", len(refs), err)
	}
	return nil
}

// Backlog is what waits in Postgres, for metrics.
type Backlog struct {
	OpenGroups int64
	Due        int64         // free retries that are due, counted up to 10,000
	OldestDue  time.Duration // how long the longest-due has waited
	OutboxAge  time.Duration // how long the oldest row of the outbox has waited
}

const backlogSQL = dueWebhooks + `
SELECT (SELECT count(*) FROM open_groups),
	(
		SELECT count(*) FROM (
			SELECT FROM w, LATERAL (
				SELECT FROM retries r
				WHERE r.webhook_id = w.webhook_id AND r.owner IS NULL AND r.due_at <= (SELECT clock_timestamp())
				LIMIT 10000
			) r LIMIT 10000
		) due
	),
	greatest(coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(due_at) FROM w)), 0), 0)::float8,
	greatest(coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(created_at) FROM outbox)), 0), 0)::float8`

// Backlog counts what waits. It looks at no row that is not due, however many there are.
func (s *Store) Backlog(ctx context.Context) (b Backlog, err error) {
	var oldest, outbox float64
	err = s.engine.QueryRow(ctx, backlogSQL).Scan(&b.OpenGroups, &b.Due, &oldest, &outbox)
	if err != nil {
		return b, fmt.Errorf("count what waits: %w", err)
	}
	b.OldestDue = time.Duration(oldest * float64(time.Second))
	b.OutboxAge = time.Duration(outbox * float64(time.Second))
	return b, nil
}
