package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

// Retry is a delivery that is owed and waits in Postgres.
type Retry struct {
	WebhookID uuid.UUID
	EventID   uuid.UUID
	AccountID uuid.UUID // the webhook's
	Trigger   fanfare.Trigger
	Number    int       // requests made so far
	Tries     int       // those that count against the schedule
	FirstAt   time.Time // the first attempt's start, or the publish
	DueAt     time.Time // the database's clock
	Takeovers int       // nodes that died with it in hand

	Destination int // as an attempt's
}

// Outcome is one thing to put on record about one delivery.
type Outcome struct {
	Attempt *fanfare.Attempt // nil: nothing was tried, Retry only parks or hands back the delivery
	Retry   *Retry           // what is still owed; nil: the delivery has ended
	Group   uuid.UUID        // the open group that the delivery came from; nil: it came from a row of retries
	Owner   uuid.UUID        // the incarnation that had the delivery in hand
	Due     time.Time        // without Group: when the row was due that it came from, which tells this hold of it from others
	Told    string           // the event's type, if Attempt gave the delivery up and its account is told so; "": it is not
}

// Lot is what one transaction of the recorder writes.
type Lot struct {
	Owner    uuid.UUID // this node's incarnation
	Outcomes []Outcome
	Settled  []uuid.UUID // groups whose other outcomes are in this lot, or were in an earlier one of the same session
	Session  Session     // only this one may write the lot; 0: any
}

// Session is a connection of the recorder: each has another number. A crash of Postgres ends it, and may
// undo the last lots that it wrote.
type Session int64

// ErrSession says that a lot was not written, since the session that it was made for has ended.
var ErrSession = errors.New("the recorder's connection is another one by now")

// RecorderSession is the session that writes lots now.
func (s *Store) RecorderSession(ctx context.Context) (Session, error) {
	conn, err := s.recorder.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect the recorder: %w", err)
	}
	defer conn.Release()
	return sessionOf(conn.Conn()), nil
}

const (
	lockGroupsSQL = `SELECT FROM open_groups WHERE id = ANY ($1) AND owner = $2 ORDER BY id FOR UPDATE`
	settleSQL     = `DELETE FROM open_groups WHERE id = ANY ($1) AND owner = $2`
)

// Record writes a lot in one transaction. Attempts are facts and are always written, once: an attempt
// that is there already is left alone. Everything that changes a delivery's state is written only if
// lot.Owner still owns the delivery's group, or its row of retries by the claim that the outcome came from. So a lot
// may be repeated after an unknown outcome, and a lot that comes too late changes no state.
//
// It does not wait for the disk. If Postgres crashes and loses the lot, the groups and retries that it
// settled are back too, and the work is done again. A group whose outcomes come in several lots must be
// settled in the session that wrote all of them: else the earlier ones may be lost and the group gone.
func (s *Store) Record(ctx context.Context, lot *Lot) error {
	var b pgx.Batch
	if weaken.Off(weaken.Fence) {
		lot = seize(&b, lot)
	}
	queueGroups(&b, lot)
	told := s.queueExhaustions(&b, lot)
	queueAttempts(&b, lot)
	queueNewRetries(&b, lot)
	queueOldRetries(&b, lot)
	if len(lot.Settled) > 0 {
		b.Queue(settleSQL, lot.Settled, lot.Owner)
	}
	if b.Len() == 0 {
		return nil
	}
	conn, err := s.recorder.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("record %d outcomes: %w", len(lot.Outcomes), err)
	}
	defer conn.Release()
	if lot.Session != 0 && sessionOf(conn.Conn()) != lot.Session {
		return ErrSession
	}
	// Without a BEGIN the batch is one implicit transaction, ended by its only Sync.
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("record %d outcomes: %w", len(lot.Outcomes), err)
	}
	if told {
		s.bell.ring(OutboxEvent)
	}
	return nil
}

// seize makes everything that a lot is about its writer's, whoever has it: there is no fence then.
func seize(b *pgx.Batch, lot *Lot) *Lot {
	mine := &Lot{Owner: lot.Owner, Outcomes: slices.Clone(lot.Outcomes), Settled: lot.Settled, Session: lot.Session}
	for i := range mine.Outcomes {
		o := &mine.Outcomes[i]
		o.Owner = lot.Owner
		ref := o.Ref()
		b.Queue(`UPDATE open_groups SET owner = $2 WHERE id = $1`, o.Group, lot.Owner)
		b.Queue(`UPDATE retries SET owner = $3, due_at = $4 WHERE webhook_id = $1 AND event_id = $2`,
			ref.WebhookID, ref.EventID, lot.Owner, o.Due)
	}
	return mine
}

// queueGroups locks the groups whose ownership the rows of this lot depend on, so that nobody takes
// one over between the check and the end of the transaction.
func queueGroups(b *pgx.Batch, lot *Lot) {
	var groups []uuid.UUID
	for i := range lot.Outcomes {
		if o := &lot.Outcomes[i]; o.Retry != nil && o.Group != uuid.Nil {
			groups = append(groups, o.Group)
		}
	}
	if len(groups) > 0 {
		b.Queue(lockGroupsSQL, groups, lot.Owner)
	}
}

const insertAttemptsSQL = `
INSERT INTO attempts (webhook_id, event_id, id, account_id, webhook_version, number, trigger, started_at, duration_us, method, url,
	status, verdict, state, reason, error, error_detail, response_headers, response_body, retry_at, node, destination)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::int[], $7::text[], $8::timestamptz[],
	$9::bigint[], $10::text[], $11::text[], $12::smallint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
	$18::bytea[], $19::bytea[], $20::timestamptz[], $21::uuid[], $22::smallint[]) AS u (webhook_id, event_id)
WHERE u.event_id >= (SELECT event_id FROM log_horizon)
ON CONFLICT DO NOTHING`

func queueAttempts(b *pgx.Batch, lot *Lot) {
	n := len(lot.Outcomes)
	var (
		webhooks, events, ids = make([]uuid.UUID, 0, n), make([]uuid.UUID, 0, n), make([]uuid.UUID, 0, n)
		accounts, nodes       = make([]uuid.UUID, 0, n), make([]uuid.UUID, 0, n)
		versions, durations   = make([]int64, 0, n), make([]int64, 0, n)
		numbers               = make([]int32, 0, n)
		statuses              = make([]int16, 0, n)
		triggers, methods     = make([]string, 0, n), make([]string, 0, n)
		urls, states          = make([]string, 0, n), make([]string, 0, n)
		started               = make([]time.Time, 0, n)
		verdicts              = make([]*fanfare.Verdict, 0, n)
		reasons               = make([]*fanfare.Reason, 0, n)
		errs                  = make([]*fanfare.ErrorCode, 0, n)
		details               = make([]*string, 0, n)
		headers, bodies       = make([][]byte, 0, n), make([][]byte, 0, n)
		retryAts              = make([]*time.Time, 0, n)
		places                places
	)
	for i := range lot.Outcomes {
		a := lot.Outcomes[i].Attempt
		if a == nil {
			continue
		}
		webhooks, events, ids = append(webhooks, a.WebhookID), append(events, a.EventID), append(ids, a.ID)
		accounts, nodes = append(accounts, a.AccountID), append(nodes, a.Node)
		versions, durations = append(versions, a.WebhookVersion), append(durations, a.Duration.Microseconds())
		numbers, statuses = append(numbers, int32(a.Number)), append(statuses, int16(a.Status))
		triggers, methods = append(triggers, string(a.Trigger)), append(methods, a.Method)
		urls, states = append(urls, a.URL), append(states, string(a.State))
		started, retryAts = append(started, a.StartedAt), append(retryAts, nullTime(a.RetryAt))
		verdicts, reasons = append(verdicts, nullText(a.Verdict)), append(reasons, nullText(a.Reason))
		errs, details = append(errs, nullText(a.Error)), append(details, nullText(a.ErrorDetail))
		headers, bodies = append(headers, a.ResponseHeaders), append(bodies, a.ResponseBody)
		places.put(len(ids)-1, a.Destination)
	}
	if len(ids) > 0 {
		b.Queue(insertAttemptsSQL, webhooks, events, ids, accounts, versions, numbers, triggers, started, durations, methods, urls,
			statuses, verdicts, states, reasons, errs, details, headers, bodies, retryAts, nodes, places)
	}
}

// A lot that is written again may find that a delivery it parked has ended since. An end that an earlier owner
// records late, of an attempt before this one, is none.
const insertRetriesSQL = `
INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, destination)
SELECT u.webhook_id, u.event_id, u.account_id, u.trigger, u.number, u.tries, u.first_at, u.due_at, u.destination
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::int[], $7::timestamptz[], $8::timestamptz[], $9::uuid[], $13::uuid[],
		$14::smallint[])
	AS u (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, group_id, attempt, destination)
WHERE EXISTS (SELECT FROM open_groups g WHERE g.id = u.group_id AND g.owner = $10)
	AND u.event_id >= (SELECT event_id FROM log_horizon)
	AND NOT EXISTS (
		SELECT FROM attempts a
		WHERE a.webhook_id = u.webhook_id AND a.event_id = u.event_id
			AND (a.state = 'delivered' OR a.state <> 'pending' AND a.id > u.attempt)
			AND a.event_id BETWEEN $11 AND $12 -- opens the lot's days only
	)
ON CONFLICT DO NOTHING`

// The two statements below say of the owner IS NOT DISTINCT FROM, which no index serves: searched by
// owner, everything that the node has in hand would be compared with every outcome of the lot.

// A row that goes back is free again, whoever finds it due. One with another due time than it was claimed with is
// back already, by an earlier writing of this lot, and was claimed again since, perhaps by the same node.
const updateRetriesSQL = `
UPDATE retries r SET owner = NULL, takeovers = u.takeovers, trigger = u.trigger, number = u.number, tries = u.tries,
	first_at = u.first_at, due_at = u.due_at
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::int[], $6::timestamptz[], $7::timestamptz[], $8::int[], $10::timestamptz[])
	AS u (webhook_id, event_id, trigger, number, tries, first_at, due_at, takeovers, was_due)
WHERE r.webhook_id = u.webhook_id AND r.event_id = u.event_id AND r.owner IS NOT DISTINCT FROM $9 AND r.due_at = u.was_due`

const deleteRetriesSQL = `
DELETE FROM retries r USING unnest($1::uuid[], $2::uuid[], $4::timestamptz[]) AS u (webhook_id, event_id, was_due)
WHERE r.webhook_id = u.webhook_id AND r.event_id = u.event_id AND r.owner IS NOT DISTINCT FROM $3 AND r.due_at = u.was_due`

// retryColumns is a list of retries as arrays, one a column.
type retryColumns struct {
	webhooks, events, accounts, groups []uuid.UUID
	attempts                           []uuid.UUID // that put them off; nil: none did
	triggers                           []string
	numbers, tries, takeovers          []int32
	firsts, dues, wereDue              []time.Time
	places                             places
}

func (c *retryColumns) add(o *Outcome) {
	r, attempt := o.Retry, uuid.Nil
	if o.Attempt != nil {
		attempt = o.Attempt.ID
	}
	c.webhooks, c.events = append(c.webhooks, r.WebhookID), append(c.events, r.EventID)
	c.accounts, c.groups = append(c.accounts, r.AccountID), append(c.groups, o.Group)
	c.attempts = append(c.attempts, attempt)
	c.triggers = append(c.triggers, string(r.Trigger))
	c.numbers, c.tries = append(c.numbers, int32(r.Number)), append(c.tries, int32(r.Tries))
	c.takeovers = append(c.takeovers, int32(r.Takeovers))
	c.firsts, c.dues = append(c.firsts, r.FirstAt), append(c.dues, r.DueAt)
	c.wereDue = append(c.wereDue, o.Due)
	c.places.put(len(c.webhooks)-1, r.Destination)
}

// queueNewRetries inserts rows for deliveries of groups that the node still owns.
func queueNewRetries(b *pgx.Batch, lot *Lot) {
	var c retryColumns
	for i := range lot.Outcomes {
		if o := &lot.Outcomes[i]; o.Retry != nil && o.Group != uuid.Nil && o.Owner == lot.Owner {
			c.add(o)
		}
	}
	if len(c.webhooks) > 0 {
		compare := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
		b.Queue(insertRetriesSQL, c.webhooks, c.events, c.accounts, c.triggers, c.numbers, c.tries, c.firsts, c.dues, c.groups, lot.Owner,
			slices.MinFunc(c.events, compare), slices.MaxFunc(c.events, compare), c.attempts, c.places)
	}
}

// queueOldRetries gives back or deletes the rows of deliveries that came from retries.
func queueOldRetries(b *pgx.Batch, lot *Lot) {
	var back, ended retryColumns
	for i := range lot.Outcomes {
		o := &lot.Outcomes[i]
		switch {
		case o.Group != uuid.Nil || o.Owner != lot.Owner:
		case o.Retry != nil:
			back.add(o)
		case o.Attempt != nil:
			ended.webhooks = append(ended.webhooks, o.Attempt.WebhookID)
			ended.events = append(ended.events, o.Attempt.EventID)
			ended.wereDue = append(ended.wereDue, o.Due)
		}
	}
	if len(back.webhooks) > 0 {
		b.Queue(updateRetriesSQL, back.webhooks, back.events, back.triggers, back.numbers, back.tries, back.firsts, back.dues,
			back.takeovers, lot.Owner, back.wereDue)
	}
	if len(ended.webhooks) > 0 {
		b.Queue(deleteRetriesSQL, ended.webhooks, ended.events, lot.Owner, ended.wereDue)
	}
}

// RecordOrHalve writes a lot whatever single rows it holds: an error that is not the connection's
// halves the lot until the culprit stands alone. It is given to reject, and as much of it is written as
// Postgres takes: its delivery stays owed, or ends. RecordOrHalve answers an error only when Postgres
// cannot be reached or the lot's session has ended; what was written by then may be written again, and reject called again.
func (s *Store) RecordOrHalve(ctx context.Context, lot *Lot, reject func(*Outcome, error)) error {
	err := s.Record(ctx, lot)
	if err == nil || Unreachable(err) {
		return err
	}
	switch n := len(lot.Outcomes); n {
	case 0:
		return errors.Join(errors.New("groups cannot be settled"), err)
	case 1:
		// Only a row that Postgres refuses while it answers otherwise is given up.
		if err := s.recorder.Ping(ctx); err != nil {
			return err
		}
		if err = s.Record(ctx, lot); err == nil || Unreachable(err) {
			return err
		}
		reject(&lot.Outcomes[0], err)
		for _, less := range reduced(&lot.Outcomes[0]) {
			err = s.Record(ctx, &Lot{Owner: lot.Owner, Outcomes: less, Settled: lot.Settled, Session: lot.Session})
			if err == nil || Unreachable(err) {
				break
			}
		}
		return err
	default:
		// The groups are settled with the second half, when every outcome of theirs is on record.
		if err := s.RecordOrHalve(ctx, &Lot{Owner: lot.Owner, Outcomes: lot.Outcomes[:n/2], Session: lot.Session}, reject); err != nil {
			return err
		}
		return s.RecordOrHalve(ctx, &Lot{Owner: lot.Owner, Outcomes: lot.Outcomes[n/2:], Settled: lot.Settled, Session: lot.Session}, reject)
	}
}

// reduced lists what may be written in place of an outcome that Postgres refuses, best first: the attempt
// without the text that came from outside, what is still owed without the attempt, nothing.
func reduced(o *Outcome) [][]Outcome {
	var less [][]Outcome
	if o.Attempt != nil {
		a := *o.Attempt
		a.Method, a.URL, a.ErrorDetail, a.ResponseHeaders, a.ResponseBody = "", "", "", nil, nil
		less = append(less, []Outcome{{Attempt: &a, Retry: o.Retry, Group: o.Group, Owner: o.Owner, Due: o.Due}})
		if o.Retry != nil {
			less = append(less, []Outcome{{Retry: o.Retry, Group: o.Group, Owner: o.Owner, Due: o.Due}})
		}
	}
	return append(less, nil)
}

// Ref names the delivery that the outcome is about.
func (o *Outcome) Ref() RetryRef {
	if o.Attempt != nil {
		return RetryRef{o.Attempt.WebhookID, o.Attempt.EventID}
	}
	return RetryRef{o.Retry.WebhookID, o.Retry.EventID}
}
