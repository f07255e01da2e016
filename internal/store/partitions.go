package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fanfare-webhooks/fanfare"
)

// The two tables of the log are partitioned by the day of the event.
var partitioned = []string{"events", "attempts"}

const day = 24 * time.Hour

// partition is one day of one table.
type partition struct {
	name  string
	table string
	from  time.Time // its first moment
	stage stage
}

// stage is how far the removal of a partition got.
type stage int

const (
	attached stage = iota
	pending        // its detachment was interrupted
	detached       // a table of its own, to be dropped
)

func partitionName(table string, from time.Time) string {
	return table + "_p" + from.Format("20060102")
}

// EnsurePartitions makes the log's partitions from yesterday to ahead of the database's clock, and, if
// the log's position is later than the clock, from its day to ahead of it, and returns the position at
// which the newest one ends. Publishing beyond it is refused. It never waits behind a reader for more
// than a second, nor makes a publish wait: a partition is made as a table of its own and attached,
// which does not conflict with readers.
func (s *Store) EnsurePartitions(ctx context.Context, ahead time.Duration) (fanfare.Position, error) {
	var now time.Time
	var last int64
	err := s.engine.QueryRow(ctx, `SELECT clock_timestamp(), last_value FROM log_pos`).Scan(&now, &last)
	if err != nil {
		return 0, fmt.Errorf("read the log's position: %w", err)
	}
	all, err := s.listPartitions(ctx)
	if err != nil {
		return 0, err
	}
	have := make(map[string]bool, len(all))
	for _, p := range all {
		have[p.name] = p.stage == attached
	}
	today := now.UTC().Truncate(day)
	end := now.UTC().Add(ahead).Truncate(day)
	if err := s.makePartitions(ctx, today.Add(-day), end, have); err != nil {
		return 0, err
	}
	// The log does not go back: a clock that was ahead for a while left its position there.
	if p := fanfare.Position(last).Time(); p.After(now) {
		end = p.Add(ahead).Truncate(day)
		if err := s.makePartitions(ctx, p.Truncate(day), end, have); err != nil {
			return 0, err
		}
	}
	return fanfare.PositionAt(end.Add(day)), nil
}

// makePartitions makes those of the days from first to last that are missing.
func (s *Store) makePartitions(ctx context.Context, first, last time.Time, have map[string]bool) error {
	for from := first; !from.After(last); from = from.Add(day) {
		for _, table := range partitioned {
			name := partitionName(table, from)
			if have[name] {
				continue
			}
			if err := s.makePartition(ctx, table, from); err != nil {
				return err
			}
			have[name] = true
		}
	}
	return nil
}

// Half-removed ones come first: while one is pending no other of its table can be detached.
const partitionsSQL = `
SELECT c.relname, m[1], to_date(m[2], 'YYYYMMDD'),
	CASE WHEN i.inhrelid IS NULL THEN 2 WHEN i.inhdetachpending THEN 1 ELSE 0 END AS stage
FROM pg_class c
CROSS JOIN LATERAL regexp_match(c.relname, '^(events|attempts)_p([0-9]{8})$') m
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'events'::regclass) AND c.relkind = 'r' AND m IS NOT NULL
ORDER BY i.inhrelid IS NOT NULL AND NOT i.inhdetachpending, m[2], m[1]`

func (s *Store) listPartitions(ctx context.Context) ([]partition, error) {
	rows, err := s.engine.Query(ctx, partitionsSQL)
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p partition, err error) {
		err = row.Scan(&p.name, &p.table, &p.from, &p.stage)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	return all, nil
}

// lockPartitions is held by whoever adds or removes partitions.
const lockPartitions = `SELECT pg_advisory_xact_lock(20566, 2)`

func (s *Store) makePartition(ctx context.Context, table string, from time.Time) error {
	var (
		name   = partitionName(table, from)
		column = map[string]string{"events": "id", "attempts": "event_id"}[table]
		lo     = fanfare.EventID(fanfare.PositionAt(from), 0)
		hi     = fanfare.EventID(fanfare.PositionAt(from.Add(day)), 0)
	)
	return s.attachPartition(ctx, name, makePartitionSQL(table, name, column, lo, hi))
}

// attachPartition makes a partition by statements, unless it is there. It waits for nobody for more than
// a second.
func (s *Store) attachPartition(ctx context.Context, name string, statements []string) error {
	err := pgx.BeginFunc(ctx, s.engine, func(tx pgx.Tx) error {
		for _, sql := range []string{lockPartitions, `SET LOCAL lock_timeout = '1s'`} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var there bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1) AND NOT inhdetachpending)`, name).
			Scan(&there)
		if err != nil || there {
			return err
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make partition %s: %w", name, err)
	}
	s.log.Debug("partition made", "partition", name)
	return nil
}

// makePartitionSQL makes a table and attaches it. The check spares ATTACH its scan; it says what the
// partition's bounds say, so it goes again.
func makePartitionSQL(table, name, column string, lo, hi any) []string {
	return []string{
		fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING ALL)`, name, table),
		fmt.Sprintf(`ALTER TABLE %s ADD CONSTRAINT bounds CHECK (%s >= '%s' AND %s < '%s')`, name, column, lo, column, hi),
		fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`, table, name, lo, hi),
		fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT bounds`, name),
	}
}

const endRetriesSQL = `DELETE FROM retries WHERE event_id < $1`

// Ended counts what a raised horizon took away unfinished.
type Ended struct{ Retries, Groups int64 }

// RaiseHorizon begins the removal of everything older than before: from now on nothing below is
// claimed or recorded, and what was still owed there has ended.
func (s *Store) RaiseHorizon(ctx context.Context, before time.Time) (e Ended, err error) {
	horizon := fanfare.EventID(fanfare.PositionAt(before.UTC().Truncate(day)), 0)
	err = pgx.BeginFunc(ctx, s.engine, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE log_horizon SET event_id = $1, raised_at = clock_timestamp() WHERE event_id < $1`, horizon)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if tag, err = tx.Exec(ctx, endRetriesSQL, horizon); err != nil {
			return err
		}
		e.Retries = tag.RowsAffected()
		tag, err = tx.Exec(ctx, `DELETE FROM open_groups WHERE last < $1`, horizon)
		e.Groups = tag.RowsAffected()
		return err
	})
	if err != nil {
		return e, fmt.Errorf("raise the log's horizon: %w", err)
	}
	return e, nil
}

// dropDelay is how long after the horizon was raised the partitions below it go: whoever read the old
// horizon has finished by then.
const dropDelay = time.Hour

// DropPartitions removes the partitions that lie wholly below a horizon raised at least an hour ago, and
// finishes removals that were interrupted. No publish waits for it. Behind a long reader it gives up
// after some seconds, without an error: the next call goes on. One node does it at a time.
func (s *Store) DropPartitions(ctx context.Context) (dropped int, err error) {
	conn, err := s.engine.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("drop partitions: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(20566, 3)`).Scan(&mine); err != nil || !mine {
		return 0, err
	}
	defer func() {
		_, uerr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(20566, 3)`)
		err = errors.Join(err, uerr)
	}()
	var horizon uuid.UUID
	var ripe bool
	err = conn.QueryRow(ctx, `SELECT event_id, raised_at < clock_timestamp() - $1::interval FROM log_horizon`, dropDelay).
		Scan(&horizon, &ripe)
	if err != nil {
		return 0, fmt.Errorf("read the log's horizon: %w", err)
	}
	all, err := s.listPartitions(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		above := fanfare.PositionAt(p.from.Add(day)) > fanfare.PositionOf(horizon)
		if above || p.stage == attached && !ripe {
			continue
		}
		err := dropPartition(ctx, conn, p)
		if isTimeout(err) {
			s.log.Info("a partition stays until a long reader has ended", "partition", p.name)
			break
		}
		if err != nil {
			return dropped, fmt.Errorf("drop partition %s: %w", p.name, err)
		}
		dropped++
	}
	if dropped == 0 {
		return 0, nil
	}
	// A lot that was being recorded while the horizon was raised may have left some behind.
	if _, err := conn.Exec(ctx, endRetriesSQL, horizon); err != nil {
		return dropped, fmt.Errorf("end retries of dropped partitions: %w", err)
	}
	return dropped, nil
}

// dropPartition takes the steps that are left. Neither form of DETACH may run in a transaction. The
// first waits until every transaction that has touched the table ends, without making anybody wait, and
// leaves the partition pending if it may not wait for so long; FINALIZE goes on from there.
func dropPartition(ctx context.Context, conn *pgxpool.Conn, p partition) error {
	steps := [...]string{
		attached: fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY`, p.table, p.name),
		pending:  fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s FINALIZE`, p.table, p.name),
		detached: `DROP TABLE ` + p.name,
	}
	todo := steps[p.stage:]
	if p.stage == attached {
		todo = []string{steps[attached], steps[detached]}
	}
	for _, sql := range todo {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

// isTimeout tells whether a statement ended because it would have had to wait for longer than it may.
func isTimeout(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "57014")
}
