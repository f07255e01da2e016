package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// Failing is a webhook with a failure in the last day, and what its attempts came to.
type Failing struct {
	WebhookID uuid.UUID
	AccountID uuid.UUID
	Gone      bool // it is disabled or deleted: there is nothing to decide. Nothing below is filled in
	Version   int64
	URL       string
	Policy    []byte     // its own health policy; nil: none
	From      time.Time  // as [fanfare.Care] has it
	FailedAt  time.Time  // the newest minute that is known to have a failure
	Since     time.Time  // as it was noted; zero: nothing was
	DayAt     time.Time  // likewise
	Mailed    []MailKind // of which there was one within a day
	Whole     bool       // the minutes are those since Begin of [HealthKept]; otherwise those of the last hours
	Begin     time.Time
	Minutes   []HealthMinute // oldest first
}

// HealthMinute is what became of a webhook's attempts of one minute, on all nodes together.
type HealthMinute struct {
	At                            time.Time
	Attempts, Failures, Exhausted int32
}

// maxWhole is how many webhooks of a lot come with their whole day: some 70,000 rows, each on a page of its own.
const maxWhole = 50

// The minutes come as three arrays of numbers, which are read quickly; times as minutes since 1970. What is
// not read whole begins with the hour before this one, so that this one and that one are.
const failingColumns = `
SELECT d.webhook_id, d.account_id, w.version, w.url, w.health_policy, w.health_from, d.failed_at, d.since, d.day_at, d.whole, d.begin, now(),
	(SELECT array_agg(k.kind) FROM webhook_mails k WHERE k.webhook_id = d.webhook_id AND k.at > now() - interval '1 day'),
	m.minutes, m.attempts, m.failures, m.exhausted
FROM due d
LEFT JOIN LATERAL (
	SELECT id, version, url, health_policy, health_from FROM webhooks
	WHERE account_id = d.account_id AND id = d.webhook_id AND deleted_at IS NULL AND disabled_by IS NULL LIMIT 1
) AS w ON true
LEFT JOIN LATERAL (
	SELECT array_agg(minute ORDER BY minute) AS minutes, array_agg(attempts ORDER BY minute) AS attempts,
		array_agg(failures ORDER BY minute) AS failures, array_agg(exhausted ORDER BY minute) AS exhausted
	FROM (
		SELECT (extract(epoch FROM h.minute) / 60)::integer AS minute, sum(h.attempts)::integer AS attempts,
			sum(h.failures)::integer AS failures, sum(h.exhausted)::integer AS exhausted
		FROM webhook_health h
		WHERE h.webhook_id = d.webhook_id AND h.minute >= d.begin AND h.minute >= now() - interval '26 hours'
		GROUP BY h.minute
	) AS sums
) AS m ON w.id IS NOT NULL
ORDER BY d.webhook_id`

// One process holds the loop's lease; whoever does not is given nothing.
const takeFailingSQL = `
WITH mine AS (
	INSERT INTO loop_leases AS l (name, holder, until) VALUES ('disabler', $1, clock_timestamp() + $2::interval)
	ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
	WHERE l.holder = EXCLUDED.holder OR l.until < clock_timestamp()
	RETURNING 1
), due AS MATERIALIZED (
	SELECT webhook_id, account_id, failed_at, since, day_at, whole,
		CASE WHEN whole THEN date_trunc('hour', now() - interval '25 hours') ELSE date_trunc('hour', now()) - interval '1 hour' END AS begin
	FROM (
		SELECT *, day_at <= now() AND row_number() OVER (PARTITION BY day_at <= now() ORDER BY look_at) <= $4 AS whole
		FROM webhook_failing WHERE look_at <= now() AND EXISTS (SELECT FROM mine) ORDER BY look_at LIMIT $3
	) AS f
)` + failingColumns

// TakeFailing reads up to limit webhooks that the disabler has to look at, for the process that holds its lease:
// nobody else gets any until term after the holder last asked. Until [Store.Settle] says when to look at them again,
// they come again.
func (s *Store) TakeFailing(ctx context.Context, holder uuid.UUID, term time.Duration, limit int) (list []Failing, now time.Time, err error) {
	rows, err := s.engine.Query(ctx, takeFailingSQL, holder, term, limit, maxWhole)
	if err == nil {
		list, now, err = collectFailing(rows)
	}
	if err != nil {
		return nil, now, fmt.Errorf("read which webhooks fail: %w", err)
	}
	return list, now, nil
}

const failingOfSQL = `
WITH due AS MATERIALIZED (
	SELECT f.webhook_id, f.account_id, f.failed_at, f.since, f.day_at, true AS whole, date_trunc('hour', now() - interval '25 hours') AS begin
	FROM webhook_failing f JOIN webhooks w ON w.account_id = f.account_id AND w.id = f.webhook_id
	WHERE f.account_id = ANY (CASE WHEN $4 THEN ARRAY(` + subtreeSQL + `) ELSE ARRAY[$1] END)
		AND f.webhook_id > $2 AND w.deleted_at IS NULL AND w.disabled_by IS NULL
	ORDER BY f.webhook_id LIMIT $3
)` + failingColumns

// FailingOf reads up to limit webhooks with failures of an account, and with descendants of those below it, in the
// order of their ids after after, with their whole day.
func (s *Store) FailingOf(ctx context.Context, account uuid.UUID, descendants bool, after uuid.UUID, limit int) (list []Failing, now time.Time, err error) {
	rows, err := s.pool.Query(ctx, failingOfSQL, account, after, limit, descendants)
	if err == nil {
		list, now, err = collectFailing(rows)
	}
	if err != nil {
		return nil, now, fmt.Errorf("read which webhooks of an account fail: %w", err)
	}
	return list, now, nil
}

func collectFailing(rows pgx.Rows) (list []Failing, now time.Time, err error) {
	list, err = collect(rows, nil, func(row pgx.Row, f *Failing) error {
		var version *int64
		var url *string
		var from, since *time.Time
		var minutes, attempts, failures, exhausted []int32
		err := row.Scan(&f.WebhookID, &f.AccountID, &version, &url, &f.Policy, &from, &f.FailedAt, &since, &f.DayAt, &f.Whole, &f.Begin, &now, &f.Mailed,
			&minutes, &attempts, &failures, &exhausted)
		f.Gone = version == nil
		f.Version, f.URL, f.From, f.Since = deref(version), deref(url), deref(from), deref(since)
		f.Minutes = make([]HealthMinute, len(minutes))
		for i, m := range minutes {
			f.Minutes[i] = HealthMinute{time.Unix(int64(m)*60, 0).UTC(), attempts[i], failures[i], exhausted[i]}
		}
		return err
	})
	return list, now, err
}

// Sample is an attempt that failed, as evidence.
type Sample struct {
	WebhookID    uuid.UUID
	EventID      uuid.UUID
	AttemptID    uuid.UUID
	StartedAt    time.Time
	Status       int
	Error        fanfare.ErrorCode
	ResponseBody []byte // its first 256 bytes
}

// maxSamples is how many attempts are evidence.
const maxSamples = 3

const samplesSQL = `
SELECT u.id, a.event_id, a.id, a.started_at, a.status, coalesce(a.error, ''), a.body
FROM unnest($1::uuid[]) AS u (id) CROSS JOIN LATERAL (
	SELECT event_id, id, started_at, status, error, substring(response_body FOR 256) AS body
	FROM attempts WHERE webhook_id = u.id AND event_id >= $2 AND number > 0 AND verdict <> 'delivered' AND trigger <> 'test'
	ORDER BY event_id DESC, id DESC LIMIT $3
) AS a`

// Samples reads some of the last attempts of webhooks that failed, the newest event's first, of events since a time.
func (s *Store) Samples(ctx context.Context, hooks []uuid.UUID, since time.Time) (map[uuid.UUID][]Sample, error) {
	rows, err := s.engine.Query(ctx, samplesSQL, hooks, fanfare.EventID(fanfare.PositionAt(since), 0), maxSamples)
	list, err := collect(rows, err, func(row pgx.Row, a *Sample) error {
		return row.Scan(&a.WebhookID, &a.EventID, &a.AttemptID, &a.StartedAt, &a.Status, &a.Error, &a.ResponseBody)
	})
	if err != nil {
		return nil, fmt.Errorf("read attempts that failed: %w", err)
	}
	found := make(map[uuid.UUID][]Sample, len(hooks))
	for _, a := range list {
		found[a.WebhookID] = append(found[a.WebhookID], a)
	}
	return found, nil
}
