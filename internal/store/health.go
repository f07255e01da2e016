package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// HealthKept is how long rows of health are wanted. Rules look back a day, and ask whether the first
// failure is a day old: that one must still be there.
const HealthKept = 25 * time.Hour

// healthEdges are the ends of the ranges of durations: the preferred numbers of ISO 3's series R5, five
// to a factor of ten, so that a percentile read from them is off by a quarter at the most. A range holds
// its end; the last one has none.
//
// Rows name ranges by their index. Other ranges need another column.
var healthEdges = [...]time.Duration{
	1000 * time.Microsecond, 1600 * time.Microsecond, 2500 * time.Microsecond, 4 * time.Millisecond, 6300 * time.Microsecond,
	10 * time.Millisecond, 16 * time.Millisecond, 25 * time.Millisecond, 40 * time.Millisecond, 63 * time.Millisecond,
	100 * time.Millisecond, 160 * time.Millisecond, 250 * time.Millisecond, 400 * time.Millisecond, 630 * time.Millisecond,
	1000 * time.Millisecond, 1600 * time.Millisecond, 2500 * time.Millisecond, 4 * time.Second, 6300 * time.Millisecond,
	10 * time.Second, 16 * time.Second, 25 * time.Second, 40 * time.Second,
}

// HealthRanges is how many ranges of durations there are.
const HealthRanges = len(healthEdges) + 1

// HealthRange is the index of the range that a duration is in.
func HealthRange(took time.Duration) int {
	at, _ := slices.BinarySearch(healthEdges[:], took)
	return at
}

// HealthRow is what became of the attempts of one webhook that ended within one minute, as one
// incarnation counted them. Its numbers are absolute and only rise.
type HealthRow struct {
	WebhookID uuid.UUID
	AccountID uuid.UUID // the webhook's
	Minute    time.Time // its beginning, by the database's clock
	Node      uuid.UUID // the incarnation that made the attempts; nobody else writes the row
	Attempts  int32
	Failures  int32               // of them
	Exhausted int32               // of the failures: those with which their delivery was given up
	Durations [HealthRanges]int32 // of all of them, by [HealthRange]
}

// The condition keeps a statement that arrives late, after a newer one, from taking anything back, and
// one that is repeated from writing anything.
const writeHealthSQL = `
INSERT INTO webhook_health AS h (webhook_id, minute, node, account_id, attempts, failures, exhausted, durations)
SELECT webhook_id, minute, node, account_id, attempts, failures, exhausted, durations::integer[]
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::integer[], $6::integer[], $7::integer[], $8::text[])
	AS u (webhook_id, minute, node, account_id, attempts, failures, exhausted, durations)
ON CONFLICT (webhook_id, minute, node) DO UPDATE
SET attempts = EXCLUDED.attempts, failures = EXCLUDED.failures, exhausted = EXCLUDED.exhausted, durations = EXCLUDED.durations
WHERE EXCLUDED.attempts > h.attempts`

// Who fails is noted for the disabler, once: it keeps the row from then on.
const noteFailingSQL = `
INSERT INTO webhook_failing (webhook_id, account_id, failed_at)
SELECT DISTINCT ON (webhook_id) webhook_id, account_id, minute
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS u (webhook_id, account_id, minute)
ORDER BY webhook_id, minute DESC
ON CONFLICT (webhook_id) DO NOTHING`

// WriteHealth puts rows in place of those of the same webhook, minute and node, unless these say as much
// or more, and notes which webhooks fail. After an error that can be repeated, or left to the next time with higher numbers. rows are
// one statement: not more than some thousand, none twice. A crash of Postgres may lose the last of them.
func (s *Store) WriteHealth(ctx context.Context, rows []HealthRow) error {
	if len(rows) == 0 {
		return nil
	}
	if err := s.ensureHealthPartitions(ctx, rows); err != nil {
		return err
	}
	var (
		webhooks  = make([]uuid.UUID, len(rows))
		minutes   = make([]time.Time, len(rows))
		nodes     = make([]uuid.UUID, len(rows))
		accounts  = make([]uuid.UUID, len(rows))
		attempts  = make([]int32, len(rows))
		failures  = make([]int32, len(rows))
		exhausted = make([]int32, len(rows))
		durations = make([]string, len(rows))

		failing, failingAccounts []uuid.UUID
		failed                   []time.Time
	)
	for i := range rows {
		r := &rows[i]
		webhooks[i], minutes[i], nodes[i], accounts[i] = r.WebhookID, r.Minute, r.Node, r.AccountID
		attempts[i], failures[i], exhausted[i], durations[i] = r.Attempts, r.Failures, r.Exhausted, r.durations()
		if r.Failures > 0 {
			failing, failingAccounts, failed = append(failing, r.WebhookID), append(failingAccounts, r.AccountID), append(failed, r.Minute)
		}
	}
	// All are one transaction: they are sent together.
	var b pgx.Batch
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	b.Queue(writeHealthSQL, webhooks, minutes, nodes, accounts, attempts, failures, exhausted, durations)
	if len(failing) > 0 {
		b.Queue(noteFailingSQL, failing, failingAccounts, failed)
	}
	if err := s.engine.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("write %d rows of health: %w", len(rows), err)
	}
	return nil
}

// durations is the array as Postgres reads it, without the empty ranges at both ends.
func (r *HealthRow) durations() string {
	first, last := 0, HealthRanges-1
	for first < last && r.Durations[first] == 0 {
		first++
	}
	for first < last && r.Durations[last] == 0 {
		last--
	}
	b := make([]byte, 0, 64)
	b = strconv.AppendInt(append(b, '['), int64(first), 10)
	b = strconv.AppendInt(append(b, ':'), int64(last), 10)
	b = append(b, "]={"...)
	for i := first; i <= last; i++ {
		if i > first {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(r.Durations[i]), 10)
	}
	return string(append(b, '}'))
}

// healthPartition is how much time a partition of health holds: with HealthKept, up to 31 hours are on
// disk, in at most 7 partitions.
const healthPartition = 6 * time.Hour

const (
	healthPrefix = "webhook_health_p"
	healthLayout = "2006010215" // of a partition's first hour, in its name
)

func healthPartitionName(from time.Time) string { return healthPrefix + from.Format(healthLayout) }

// ensureHealthPartitions makes the partitions that rows need. Six hours pass between two that are made;
// asking is one cheap statement.
func (s *Store) ensureHealthPartitions(ctx context.Context, rows []HealthRow) error {
	from := make(map[string]time.Time, 2)
	var names []string
	for i := range rows {
		at := rows[i].Minute.UTC().Truncate(healthPartition)
		if name := healthPartitionName(at); !slices.Contains(names, name) {
			names, from[name] = append(names, name), at
		}
	}
	missing, err := s.engine.Query(ctx, `SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL`, names)
	if err != nil {
		return fmt.Errorf("look for partitions of health: %w", err)
	}
	names, err = pgx.CollectRows(missing, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for partitions of health: %w", err)
	}
	for _, name := range names {
		if err := s.attachPartition(ctx, name, makeHealthPartitionSQL(name, from[name])); err != nil {
			return err
		}
	}
	return nil
}

// A row is updated up to six times, all rows of a page together: room for a second version of each lets
// the updates touch no index.
func makeHealthPartitionSQL(name string, from time.Time) []string {
	bound := func(t time.Time) string { return t.Format(time.RFC3339) }
	return append(makePartitionSQL("webhook_health", name, "minute", bound(from), bound(from.Add(healthPartition))),
		fmt.Sprintf(`ALTER TABLE %s SET (fillfactor = 50)`, name))
}

const healthPartitionsSQL = `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'webhook_health'::regclass ORDER BY c.relname`

// PurgeHealth forgets rows of minutes before before, in whole partitions, and says how many of these:
// what shares one with a later minute stays until that goes. Nobody waits for it longer than a moment;
// behind a long reader it gives up without an error, and the next call goes on.
func (s *Store) PurgeHealth(ctx context.Context, before time.Time) (dropped int, err error) {
	rows, err := s.engine.Query(ctx, healthPartitionsSQL)
	if err != nil {
		return 0, fmt.Errorf("list partitions of health: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, fmt.Errorf("list partitions of health: %w", err)
	}
	for _, name := range names {
		from, err := time.Parse(healthPrefix+healthLayout, name)
		if err != nil || from.Add(healthPartition).After(before) {
			continue // somebody else's, or wanted
		}
		err = pgx.BeginFunc(ctx, s.engine, func(tx pgx.Tx) error {
			// Who reads or writes any partition waits behind a drop that waits.
			for _, sql := range []string{`SET LOCAL lock_timeout = '200ms'`, lockPartitions, `DROP TABLE IF EXISTS ` + name} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
		if isTimeout(err) {
			s.log.Info("a partition of health stays until a long reader has ended", "partition", name)
			return dropped, nil
		}
		if err != nil {
			return dropped, fmt.Errorf("drop partition %s: %w", name, err)
		}
		dropped++
	}
	return dropped, nil
}
