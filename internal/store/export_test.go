package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// QueryRow lets tests look where no caller may.
func (s *Store) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return s.pool.QueryRow(ctx, sql, args...)
}

// Exec lets tests do what no caller may.
func (s *Store) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return s.pool.Exec(ctx, sql, args...)
}

// What tests look at without running it as it is.
const (
	TakeGroupsSQL  = takeGroupsSQL
	FreeOrphansSQL = freeOrphansSQL
)

// Gated is a statement that takes orphans and calls gate() for each, before it locks any.
func Gated(sql string) string {
	before, after, found := strings.Cut(sql, orphansEnd)
	if !found {
		panic("this statement takes no orphans")
	}
	return before + orphansEnd + " AND gate()" + after
}
