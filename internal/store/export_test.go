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

// HotStatements are those that run all the time, or over much; of the append to the log the part that
// reads.
var HotStatements = map[string]string{
	"accounts of an ingest": ingestSQL[strings.Index(ingestSQL, "SELECT"):strings.Index(ingestSQL, "\n), alive")],
	"claim":                 claimSQL,
	"next due":              nextDueSQL,
	"due webhooks":          dueWebhooksSQL,
	"backlog":               backlogSQL,
	"events by id":          eventsByIDSQL,
	"owed":                  owedSQL,
	"first answers":         firstAnswersSQL,
	"purge keys":            purgeKeysSQL,
	"take groups":           takeGroupsSQL,
	"free orphans":          freeOrphansSQL,
	"free retries":          freeRetriesSQL,
	"my groups":             myGroupsSQL,
	"my retries":            myRetriesSQL,
	"lock groups":           lockGroupsSQL,
	"settle":                settleSQL,
	"new retries":           insertRetriesSQL,
	"retries that go back":  updateRetriesSQL,
	"retries that end":      deleteRetriesSQL,
}

// GenericPlans are those of them that run on a connection that may plan once for all arguments.
var GenericPlans = []string{
	"accounts of an ingest", "lock groups", "settle", "new retries", "retries that go back", "retries that end",
}
