package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// DeliveryQuery says which deliveries of an account's webhooks to list.
type DeliveryQuery struct {
	AccountID  uuid.UUID
	WebhookID  uuid.NullUUID // not valid: of all its webhooks
	EventID    uuid.NullUUID // not valid: of all events
	States     []fanfare.State
	EventTypes []string  // names, "prefix.*" or "*"; empty: all
	Since      time.Time // when the event was committed; zero: no bound
	Until      time.Time // that time itself is not in it
	After      DeliveryCursor
	Limit      int
}

// DeliveryCursor is where a list of deliveries reads on; zero: from the newest.
type DeliveryCursor struct{ EventID, WebhookID uuid.UUID }

func (c DeliveryCursor) compare(d DeliveryCursor) int {
	return cmp.Or(bytes.Compare(c.EventID[:], d.EventID[:]), bytes.Compare(c.WebhookID[:], d.WebhookID[:]))
}

// wants says whether a delivery in one of these states is asked for.
func (q *DeliveryQuery) wants(states ...fanfare.State) bool {
	return len(q.States) == 0 || slices.ContainsFunc(states, func(s fanfare.State) bool { return slices.Contains(q.States, s) })
}

// Deliveries lists deliveries, newest event first and for one event by falling webhook id, in one state
// of the database. A webhook's and an event's list have all states unless q.States names some; the list
// of a whole account is not for delivered ones. Deliveries of test events are listed for that event
// only. One call looks at no more than some 10,000 deliveries and as many events of open groups: the list may
// be short and next set all the same; next is nil if that was all.
//
// A delivery is delivered for ever if any attempt says so; else pending if it has a row of retries;
// else what its newest row of attempts says; else pending while its event is in an open group. Its State
// is "" if nothing of that is so, which must not happen.
func (s *Store) Deliveries(ctx context.Context, q DeliveryQuery) (list []fanfare.Delivery, next *DeliveryCursor, err error) {
	if !q.WebhookID.Valid && !q.EventID.Valid && len(q.States) == 0 {
		q.States = []fanfare.State{fanfare.Pending, fanfare.Exhausted, fanfare.Discarded}
	}
	if len(q.States) == 0 {
		q.States = nil // which Postgres gets as null: any state
	}
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) (err error) {
		l := deliveryList{tx: tx, q: q}
		list, next, err = l.read(ctx)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, next, nil
}

// deliveryList is one call of [Store.Deliveries]. It takes candidates, pairs of event and webhook (or what stands
// for one of the event's one-off destinations), from
// several tables, each in the order of the list, and asks for the state of those.
type deliveryList struct {
	tx   pgx.Tx
	q    DeliveryQuery
	from uuid.UUID        // no event before it
	open []DeliveryCursor // candidates in open groups, in order
}

func (l *deliveryList) read(ctx context.Context) (list []fanfare.Delivery, next *DeliveryCursor, err error) {
	from, to := idRange(l.q.Since, l.q.Until)
	l.from = from
	at := DeliveryCursor{EventID: to} // read on below it
	if after := l.q.After; after != (DeliveryCursor{}) && after.compare(at) < 0 {
		at = after
	}
	var end *DeliveryCursor // where the list ends for this call; nil: it is all
	if !l.q.EventID.Valid && l.q.wants(fanfare.Pending) {
		if end, err = l.findOpen(ctx, at); err != nil {
			return nil, nil, err
		}
	}
	p := piecesFor(l.q.Limit)
	for size := p.next(); size > 0; size = p.next() {
		piece, err := l.candidates(ctx, at, size)
		if err != nil {
			return nil, nil, err
		}
		found, err := l.states(ctx, piece)
		if err != nil {
			return nil, nil, err
		}
		if room := l.q.Limit - len(list); len(found) > room {
			list = append(list, found[:room]...)
			last := list[len(list)-1]
			return list, &DeliveryCursor{EventID: last.EventID, WebhookID: last.WebhookID}, nil
		}
		list = append(list, found...)
		if len(piece) < size {
			return list, end, nil
		}
		if at = piece[len(piece)-1]; len(list) == l.q.Limit {
			break
		}
	}
	return list, &at, nil
}

// Ranges of groups never overlap, so the newest group has the newest events. What names no webhook that
// is asked for is counted and does not come, but for the last row, which says how far this looked.
const openCandidatesSQL = `
SELECT id, hooks, n FROM (
	SELECT id, ARRAY(
		SELECT u FROM unnest(webhook_ids) u
		WHERE CASE WHEN $5::uuid IS NULL THEN u IN (SELECT id FROM webhooks WHERE account_id = $1 AND deleted_at IS NULL)
			ELSE u = $5 AND EXISTS (SELECT FROM webhooks WHERE account_id = $1 AND id = $5) END
	) || CASE WHEN $5::uuid IS NULL AND account_id = $1 THEN destination_ids END AS hooks, row_number() OVER () AS n
	FROM (
		SELECT e.id, e.account_id, e.webhook_ids, e.destination_ids FROM (SELECT first, last FROM open_groups WHERE first <= $2 AND last >= $3 ORDER BY first DESC) g
		CROSS JOIN LATERAL (
			SELECT id, account_id, webhook_ids, destination_ids FROM events
			WHERE id BETWEEN g.first AND g.last AND id <= $2 AND id >= $3 ORDER BY id DESC
		) e
		LIMIT $4
	) e
) e
WHERE n = $4 OR cardinality(hooks) > 0`

// findOpen reads the candidates of open groups. If there are more events in them than it looks at, it
// answers where it stopped: what is older does not belong to this call.
func (l *deliveryList) findOpen(ctx context.Context, at DeliveryCursor) (end *DeliveryCursor, err error) {
	rows, err := l.tx.Query(ctx, openCandidatesSQL, l.q.AccountID, at.EventID, l.from, maxExamined, l.q.WebhookID)
	if err != nil {
		return nil, err
	}
	var event uuid.UUID
	var hooks []uuid.UUID
	var n int
	_, err = pgx.ForEachRow(rows, []any{&event, &hooks, &n}, func() error {
		for _, hook := range hooks {
			l.open = append(l.open, DeliveryCursor{EventID: event, WebhookID: hook})
		}
		if n == maxExamined {
			l.from, end = event, &DeliveryCursor{EventID: event}
		}
		return nil
	})
	slices.SortFunc(l.open, func(a, b DeliveryCursor) int { return b.compare(a) })
	return end, err
}

const (
	retryCandidatesSQL = `
SELECT event_id, webhook_id FROM retries
WHERE account_id = $1 AND event_id <= $2 AND (event_id, webhook_id) < ($2, $3) AND event_id >= $4
ORDER BY event_id DESC, webhook_id DESC LIMIT $5`
	webhookRetryCandidatesSQL = `
SELECT event_id, webhook_id FROM retries
WHERE account_id = $1 AND webhook_id = $6 AND event_id <= $2 AND (event_id, webhook_id) < ($2, $3) AND event_id >= $4
ORDER BY event_id DESC LIMIT $5`
	endedCandidatesSQL = `
SELECT DISTINCT event_id, webhook_id FROM attempts
WHERE account_id = $1 AND state IN ('exhausted', 'discarded') AND event_id <= $2 AND (event_id, webhook_id) < ($2, $3) AND event_id >= $4
	AND ($6::text[] IS NULL OR state = ANY ($6))
ORDER BY event_id DESC, webhook_id DESC LIMIT $5`
	attemptedCandidatesSQL = `
SELECT DISTINCT event_id, webhook_id FROM attempts
WHERE account_id = $1 AND webhook_id = $6 AND event_id <= $2 AND (event_id, webhook_id) < ($2, $3) AND event_id >= $4
ORDER BY event_id DESC LIMIT $5`
	eventCandidatesSQL = `
SELECT e.id, p.id FROM events e CROSS JOIN LATERAL (
	SELECT w.id FROM unnest(e.webhook_ids) AS u (id) JOIN webhooks w ON w.id = u.id AND w.account_id = $1
	UNION ALL
	SELECT u FROM unnest(e.destination_ids) u WHERE e.account_id = $1
) p
WHERE e.id = $6 AND (e.id, p.id) < ($2, $3) AND e.id >= $4 AND ($7::uuid IS NULL OR p.id = $7)
ORDER BY p.id DESC LIMIT $5`
)

// candidates are the next pairs below at that may be on the list: the newest of the newest of each
// source.
func (l *deliveryList) candidates(ctx context.Context, at DeliveryCursor, size int) ([]DeliveryCursor, error) {
	q := &l.q
	var b pgx.Batch
	var all []DeliveryCursor
	ask := func(sql string, more ...any) {
		args := append([]any{q.AccountID, at.EventID, at.WebhookID, l.from, size}, more...)
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			some, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DeliveryCursor])
			all = append(all, some...)
			return err
		})
	}
	switch {
	case q.EventID.Valid:
		ask(eventCandidatesSQL, q.EventID.UUID, q.WebhookID)
	case q.WebhookID.Valid:
		if q.wants(fanfare.Pending) {
			ask(webhookRetryCandidatesSQL, q.WebhookID.UUID)
		}
		if q.wants(fanfare.Delivered, fanfare.Exhausted, fanfare.Discarded) {
			ask(attemptedCandidatesSQL, q.WebhookID.UUID)
		}
	default:
		if q.wants(fanfare.Pending) {
			ask(retryCandidatesSQL)
		}
		if q.wants(fanfare.Exhausted, fanfare.Discarded) {
			ask(endedCandidatesSQL, q.States)
		}
	}
	if b.Len() > 0 {
		if err := l.tx.SendBatch(ctx, &b).Close(); err != nil {
			return nil, err
		}
	}
	below, _ := slices.BinarySearchFunc(l.open, at, func(c, at DeliveryCursor) int { return at.compare(c) })
	if below < len(l.open) && l.open[below] == at {
		below++
	}
	all = append(all, l.open[below:min(len(l.open), below+size)]...)
	slices.SortFunc(all, func(a, b DeliveryCursor) int { return b.compare(a) })
	all = slices.Compact(all)
	return all[:min(len(all), size)], nil
}

// The bounds $3 and $4 are those of the events in $1: only with them are few partitions looked at.
//
// An attempt that ended a delivery comes before one that did not, whatever their ids say of the time: the
// clock may have been set back between them.
var deliveryStatesSQL = `
SELECT p.event_id, p.webhook_id, e.type, coalesce(s.state, ''), s.reason, a.requests, r.due_at, e.destination, l.*
FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS p (event_id, webhook_id, n)
CROSS JOIN LATERAL (
	SELECT type, (array_position(destination_ids, p.webhook_id) - 1)::smallint AS destination FROM events WHERE id = p.event_id AND id BETWEEN $3 AND $4 AND (NOT test OR $6) AND ` + typeFilter("$7", "$8") + `
	LIMIT 1
) e
LEFT JOIN LATERAL (
	SELECT due_at FROM retries WHERE webhook_id = p.webhook_id AND event_id = p.event_id LIMIT 1
) r ON true
CROSS JOIN LATERAL (
	SELECT bool_or(state = 'delivered') AS delivered, count(*) FILTER (WHERE number > 0) AS requests,
		(array_agg(state ORDER BY state = 'pending', id DESC))[1] AS state,
		(array_agg(reason ORDER BY state = 'pending', id DESC))[1] AS reason
	FROM attempts WHERE webhook_id = p.webhook_id AND event_id = p.event_id AND event_id BETWEEN $3 AND $4 AND account_id = $5
) a
CROSS JOIN LATERAL (
	SELECT CASE
		WHEN a.delivered THEN 'delivered'
		WHEN r.due_at IS NOT NULL THEN 'pending'
		WHEN a.state IS NOT NULL THEN a.state
		WHEN EXISTS (SELECT FROM open_groups WHERE p.event_id BETWEEN first AND last) THEN 'pending'
	END AS state, CASE WHEN NOT a.delivered AND r.due_at IS NULL THEN a.reason END AS reason
	OFFSET 0
) s
LEFT JOIN LATERAL (
	SELECT ` + attemptColumns + ` FROM attempts
	WHERE webhook_id = p.webhook_id AND event_id = p.event_id AND event_id BETWEEN $3 AND $4 AND account_id = $5 AND number > 0
	ORDER BY id DESC LIMIT 1
) l ON true
WHERE $9::text[] IS NULL OR s.state = ANY ($9)
ORDER BY p.n`

// states are the deliveries of those pairs that are asked for, in their order.
func (l *deliveryList) states(ctx context.Context, pairs []DeliveryCursor) ([]fanfare.Delivery, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	events, hooks := make([]uuid.UUID, len(pairs)), make([]uuid.UUID, len(pairs))
	for i, p := range pairs {
		events[i], hooks[i] = p.EventID, p.WebhookID
	}
	names, prefixes := splitPatterns(l.q.EventTypes)
	rows, err := l.tx.Query(ctx, deliveryStatesSQL, events, hooks, events[len(events)-1], events[0], l.q.AccountID, l.q.EventID.Valid,
		names, prefixes, l.q.States)
	return collect(rows, err, func(row pgx.Row, d *fanfare.Delivery) error {
		var (
			reason *string
			due    *time.Time
			index  *int16
			last   attemptRow
		)
		err := row.Scan(append([]any{&d.EventID, &d.WebhookID, &d.EventType, &d.State, &reason, &d.Attempts, &due, &index}, last.targets()...)...)
		d.Destination = placeOf(index)
		d.AccountID, d.Reason, d.LastAttempt = l.q.AccountID, fanfare.Reason(deref(reason)), last.attempt()
		if d.State == fanfare.Pending {
			d.NextAttemptAt = deref(due)
		}
		return err
	})
}
