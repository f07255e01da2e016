package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrDead says that another node marked this incarnation dead, and may have taken over its work.
var ErrDead = errors.New("this incarnation was marked dead")

// Lease is a node's standing in the database.
type Lease struct {
	Now  time.Time // the database's clock
	Live int       // nodes that hold a lease, this one included
}

// Join makes a new incarnation with a lease of term.
func (s *Store) Join(ctx context.Context, id uuid.UUID, name string, term time.Duration) error {
	_, err := s.lease.Exec(ctx, `INSERT INTO nodes (id, name, lease_until) VALUES ($1, $2, clock_timestamp() + $3)`, id, name, term)
	if err != nil {
		return fmt.Errorf("join as a node: %w", err)
	}
	return nil
}

// Renew extends the lease to term from now. It answers [ErrDead] to an incarnation that was marked
// dead; one that merely came late goes on.
func (s *Store) Renew(ctx context.Context, id uuid.UUID, term time.Duration) (Lease, error) {
	var l Lease
	err := s.lease.QueryRow(ctx, `
		UPDATE nodes SET lease_until = clock_timestamp() + $2 WHERE id = $1 AND NOT dead
		RETURNING clock_timestamp(), (SELECT count(*) FROM nodes WHERE NOT dead AND (lease_until > clock_timestamp() OR id = $1))`,
		id, term).Scan(&l.Now, &l.Live)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return l, ErrDead
	case err != nil:
		return l, fmt.Errorf("renew the lease: %w", err)
	}
	return l, nil
}

// MarkDead marks every other node whose lease has run out, or seems to last for more than two terms: it was
// renewed by a clock that was ahead and was set right since, and not after that. It marks nobody unless me's
// own lease ends in about a term: otherwise the clock was set since me renewed it, or that is long ago. Only a
// node that held its own lease for a full term, and saw the clock jump in none of it, may call it, so that
// neither an outage of Postgres nor its clock makes anybody a ghost.
func (s *Store) MarkDead(ctx context.Context, me uuid.UUID, term time.Duration) (dead []uuid.UUID, err error) {
	rows, err := s.lease.Query(ctx, `
		UPDATE nodes SET dead = true
		WHERE NOT dead AND lease_until NOT BETWEEN clock_timestamp() AND clock_timestamp() + $2 AND id <> $1
			AND (SELECT lease_until - clock_timestamp() BETWEEN $3 AND $4 FROM nodes WHERE id = $1)
		RETURNING id`, me, 2*term, term-term/5, term+term/5)
	if err == nil {
		dead, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	}
	if err != nil {
		return nil, fmt.Errorf("mark dead nodes: %w", err)
	}
	return dead, nil
}

// Leave gives the lease back. Nothing may be owned by the incarnation any more; what is, is taken over.
func (s *Store) Leave(ctx context.Context, id uuid.UUID) error {
	if _, err := s.lease.Exec(ctx, `DELETE FROM nodes WHERE id = $1`, id); err != nil {
		return fmt.Errorf("give the lease back: %w", err)
	}
	return nil
}

// PurgeNodes forgets incarnations that have been dead for a day.
func (s *Store) PurgeNodes(ctx context.Context) error {
	_, err := s.engine.Exec(ctx, `DELETE FROM nodes WHERE dead AND lease_until < now() - interval '1 day'`)
	if err != nil {
		return fmt.Errorf("forget dead nodes: %w", err)
	}
	return nil
}
