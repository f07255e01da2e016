package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// HealthSum is what became of attempts over some time, and how long they took.
type HealthSum struct {
	Attempts  int
	Failures  int // of them
	Durations [HealthRanges]int64
}

// Add counts other in.
func (s *HealthSum) Add(other HealthSum) {
	s.Attempts += other.Attempts
	s.Failures += other.Failures
	for i, n := range other.Durations {
		s.Durations[i] += n
	}
}

// slowest is the end of the last range: no attempt may take longer than the longest timeout.
const slowest = 60 * time.Second

// Percentile is the duration that a share q of the attempts did not exceed, read from ranges: it is off by
// a quarter at the most. It is not ok without attempts.
func (s *HealthSum) Percentile(q float64) (d time.Duration, ok bool) {
	var total, below int64
	for _, n := range s.Durations {
		total += n
	}
	if total == 0 {
		return 0, false
	}
	rank := max(int64(math.Ceil(q*float64(total))), 1)
	for i, n := range s.Durations {
		if below+n < rank {
			below += n
			continue
		}
		low, high := time.Duration(0), slowest
		if i > 0 {
			low = healthEdges[i-1]
		}
		if i < len(healthEdges) {
			high = healthEdges[i]
		}
		return low + time.Duration(float64(high-low)*float64(rank-below)/float64(n)), true
	}
	return slowest, true
}

// addRanges adds counts of durations to the ranges that are named.
func (s *HealthSum) addRanges(ranges []int32, counts []int64) {
	for i, r := range ranges {
		if r >= 0 && int(r) < HealthRanges {
			s.Durations[r] += counts[i]
		}
	}
}

// Health is how a webhook's endpoint does. What was before it was last enabled, or got another URL, does
// not count.
type Health struct {
	Hour HealthSum // the last hour, to the minute
	Day  HealthSum // the last 24 hours; without durations
}

// The bound of the minute is one for all, so that only partitions of the day are opened.
const healthOfSQL = `
WITH minutes AS (
	SELECT w.n, h.minute > now() - interval '1 hour' AS recent, h.attempts, h.failures, h.durations
	FROM unnest($2::uuid[], $3::timestamptz[]) WITH ORDINALITY AS w (id, since, n)
	JOIN webhook_health h ON h.webhook_id = w.id AND h.minute >= w.since
	WHERE h.account_id = $1 AND h.minute > now() - interval '1 day'
), ranges AS (
	SELECT n, array_agg(range) AS ranges, array_agg(count) AS counts
	FROM (SELECT n, range, sum(durations[range]) AS count FROM minutes, generate_subscripts(durations, 1) AS range
		WHERE recent GROUP BY n, range) AS r
	GROUP BY n
)
SELECT n, sum(attempts), sum(failures), coalesce(sum(attempts) FILTER (WHERE recent), 0), coalesce(sum(failures) FILTER (WHERE recent), 0),
	max(ranges), max(counts)
FROM minutes LEFT JOIN ranges USING (n) GROUP BY n`

// Health reads how an account's webhooks do, for each in turn, in one statement.
func (s *Store) Health(ctx context.Context, account uuid.UUID, hooks []fanfare.Webhook) ([]Health, error) {
	if len(hooks) == 0 {
		return nil, nil
	}
	ids, since := make([]uuid.UUID, len(hooks)), make([]time.Time, len(hooks))
	for i := range hooks {
		ids[i] = hooks[i].ID
		since[i] = deref(hooks[i].Care).From
	}
	all := make([]Health, len(hooks))
	rows, err := s.pool.Query(ctx, healthOfSQL, account, ids, since)
	if err == nil {
		var (
			n                int
			day, hour        HealthSum
			ranges           []int32
			counts           []int64
			dayA, dayF, a, f int64
		)
		_, err = pgx.ForEachRow(rows, []any{&n, &dayA, &dayF, &a, &f, &ranges, &counts}, func() error {
			day, hour = HealthSum{Attempts: int(dayA), Failures: int(dayF)}, HealthSum{Attempts: int(a), Failures: int(f)}
			hour.addRanges(ranges, counts)
			all[n-1] = Health{Hour: hour, Day: day}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the health of webhooks: %w", err)
	}
	return all, nil
}

const healthBucketsSQL = `
WITH minutes AS (
	SELECT date_bin($4::interval, minute, timestamptz 'epoch') AS at, attempts, failures, durations
	FROM webhook_health WHERE account_id = $1 AND webhook_id = $2 AND minute >= $3
), ranges AS (
	SELECT at, array_agg(range) AS ranges, array_agg(count) AS counts
	FROM (SELECT at, range, sum(durations[range]) AS count FROM minutes, generate_subscripts(durations, 1) AS range GROUP BY at, range) AS r
	GROUP BY at
)
SELECT at, sum(attempts), sum(failures), max(ranges), max(counts) FROM minutes LEFT JOIN ranges USING (at) GROUP BY at`

// HealthBuckets sums up a webhook's attempts since from, which is a multiple of bucket, by stretches of
// bucket: n of them, those without attempts among them.
func (s *Store) HealthBuckets(ctx context.Context, account, webhook uuid.UUID, from time.Time, bucket time.Duration, n int) ([]HealthSum, error) {
	buckets := make([]HealthSum, n)
	rows, err := s.pool.Query(ctx, healthBucketsSQL, account, webhook, from, bucket)
	if err == nil {
		var (
			at                 time.Time
			attempts, failures int64
			ranges             []int32
			counts             []int64
		)
		_, err = pgx.ForEachRow(rows, []any{&at, &attempts, &failures, &ranges, &counts}, func() error {
			if i := int(at.Sub(from) / bucket); i >= 0 && i < n {
				b := &buckets[i]
				b.Attempts, b.Failures = int(attempts), int(failures)
				b.addRanges(ranges, counts)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the stats of a webhook: %w", err)
	}
	return buckets, nil
}
