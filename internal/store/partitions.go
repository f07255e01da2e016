package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// The two tables of the log are partitioned by the day of the event.
var partitioned = []string{"events", "attempts"}

const day = 24 * time.Hour

// Partition is one day of one table.
type partition struct {
	name    string
	from    time.Time // its first moment
	pending bool      // a detachment that was interrupted
}

func partitionName(table string, from time.Time) string {
	return table + "_p" + from.Format("20060102")
}

// EnsurePartitions makes the log's partitions from yesterday to ahead of the later of the database's
// clock and the log's position, and returns the position at which the newest one ends. Publishing
// beyond it is refused. It never waits behind a reader for more than a second, nor makes a publish wait:
// a partition is made as a table of its own and attached, which does not conflict with readers.
func (s *Store) EnsurePartitions(ctx context.Context, ahead time.Duration) (fanfare.Position, error) {
	var now time.Time
	var last int64
	err := s.engine.QueryRow(ctx, `SELECT clock_timestamp(), last_value FROM log_pos`).Scan(&now, &last)
	if err != nil {
		return 0, fmt.Errorf("read the log's position: %w", err)
	}
	have, err := s.partitions(ctx)
	if err != nil {
		return 0, err
	}
	first := now.UTC().Truncate(day).Add(-day)
	until := now
	if p := fanfare.Position(last).Time(); p.After(until) && p.Sub(now) < 30*day {
		until = p
	}
	end := until.UTC().Add(ahead).Truncate(day)
	for from := first; !from.After(end); from = from.Add(day) {
		for _, table := range partitioned {
			if have[partitionName(table, from)] {
				continue
			}
			if err := s.makePartition(ctx, table, from); err != nil {
				return 0, err
			}
		}
	}
	return fanfare.PositionAt(end.Add(day)), nil
}

func (s *Store) partitions(ctx context.Context) (map[string]bool, error) {
	all, err := s.listPartitions(ctx)
	have := make(map[string]bool, len(all))
	for _, p := range all {
		have[p.name] = !p.pending
	}
	return have, err
}

func (s *Store) listPartitions(ctx context.Context) ([]partition, error) {
	rows, err := s.engine.Query(ctx, `
		SELECT c.relname, i.inhdetachpending FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = ANY (SELECT to_regclass(t)::oid FROM unnest($1::text[]) t)`, partitioned)
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p partition, err error) {
		if err = row.Scan(&p.name, &p.pending); err != nil {
			return p, err
		}
		_, date, _ := strings.Cut(p.name, "_p")
		p.from, err = time.Parse("20060102", date)
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
	err := pgx.BeginFunc(ctx, s.engine, func(tx pgx.Tx) error {
		for _, sql := range []string{`SET LOCAL lock_timeout = '1s'`, lockPartitions} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil || there {
			return err
		}
		// The check spares ATTACH its scan; it says what the partition's bounds say, so it goes again.
		for _, sql := range []string{
			fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING ALL)`, name, table),
			fmt.Sprintf(`ALTER TABLE %s ADD CONSTRAINT bounds CHECK (%s >= '%s' AND %s < '%s')`, name, column, lo, column, hi),
			fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`, table, name, lo, hi),
			fmt.Sprintf(`ALTER TABLE %s DROP CONSTRAINT bounds`, name),
		} {
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
		if tag, err = tx.Exec(ctx, `DELETE FROM retries WHERE event_id < $1`, horizon); err != nil {
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

// DropPartitions removes the partitions that lie wholly below a horizon raised at least an hour ago.
// It takes no lock that a publish or a long reader would wait behind. One node does it at a time.
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
		table, _, _ := strings.Cut(p.name, "_p")
		if !p.pending && (!ripe || fanfare.PositionAt(p.from.Add(day)) > fanfare.PositionOf(horizon)) {
			continue
		}
		// Neither form may run in a transaction; the first waits for readers without blocking anybody.
		detach := fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY`, table, p.name)
		if p.pending {
			detach = fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s FINALIZE`, table, p.name)
		}
		for _, sql := range []string{`SET statement_timeout = 0`, detach, `DROP TABLE ` + p.name, `RESET statement_timeout`} {
			if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return dropped, fmt.Errorf("drop partition %s: %w", p.name, err)
			}
		}
		dropped++
	}
	return dropped, nil
}
