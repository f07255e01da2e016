package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
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

// MakePartitionSQL is how a partition is made.
var MakePartitionSQL = makePartitionSQL

// Gated is a statement that takes orphans and calls gate() for each, before it locks any.
func Gated(sql string) string {
	before, after, found := strings.Cut(sql, orphansEnd)
	if !found {
		panic("this statement takes no orphans")
	}
	return before + orphansEnd + " AND gate()" + after
}

// Hot is a statement and the pool that runs it.
type Hot struct {
	SQL  string
	Pool func(*Store) *pgxpool.Pool
}

// HotStatements are those that run all the time, or over much; of the append to the log the part that
// reads.
func HotStatements() map[string]Hot {
	var (
		pool     = func(s *Store) *pgxpool.Pool { return s.pool }
		ingest   = func(s *Store) *pgxpool.Pool { return s.ingest }
		recorder = func(s *Store) *pgxpool.Pool { return s.recorder }
		engine   = func(s *Store) *pgxpool.Pool { return s.engine }
	)
	accounts := ingestSQL[strings.Index(ingestSQL, "SELECT"):strings.Index(ingestSQL, "\n), alive")]
	return map[string]Hot{
		"accounts of an ingest": {accounts, ingest},
		"claim":                 {claimSQL, engine},
		"next due":              {nextDueSQL, engine},
		"due webhooks":          {dueWebhooksSQL, engine},
		"backlog":               {backlogSQL, engine},
		"events by id":          {eventsByIDSQL, engine},
		"owed":                  {owedSQL, engine},
		"first answers":         {firstAnswersSQL, pool},
		"purge keys":            {purgeKeysSQL, engine},
		"take groups":           {takeGroupsSQL, engine},
		"free orphans":          {freeOrphansSQL, engine},
		"free retries":          {freeRetriesSQL, engine},
		"my groups":             {myGroupsSQL, engine},
		"my retries":            {myRetriesSQL, engine},
		"lock groups":           {lockGroupsSQL, recorder},
		"settle":                {settleSQL, recorder},
		"new retries":           {insertRetriesSQL, recorder},
		"retries that go back":  {updateRetriesSQL, recorder},
		"retries that end":      {deleteRetriesSQL, recorder},
		"write health":          {writeHealthSQL, engine},
		"claim of the outbox":   {claimOutboxSQL, engine},
		"finish the outbox":     {finishOutboxSQL, engine},
		"postpone the outbox":   {postponeOutboxSQL, engine},
		"count exhaustions":     {countExhaustionsSQL, recorder},
		"follow accounts":       {mergeLogSQL, pool},
		"follow all":            {scanLogSQL, pool},
		"read followed":         {readLogSQL, pool},
		"tail":                  {tailSQL, pool},
		"ends of the log":       {logEndsSQL, pool},
		"note failing":          {noteFailingSQL, engine},
		"take failing":          {takeFailingSQL, engine},
		"health of webhooks":    {healthOfSQL, pool},
	}
}
