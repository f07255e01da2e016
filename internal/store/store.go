// Package store keeps everything that outlives a process: all SQL of Fanfare is here, beside the Go
// that runs it.
//
// It hides Postgres: the shape of the log, the one statement that appends to it, the fence that lets
// only a delivery's owner change its state, partitions and their bounds, and which connection may
// wait for what. Rows of a tenant are always asked for with the tenant's id first.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

// What a caller can do something about.
var (
	ErrNotFound    = errors.New("not found")
	ErrVersion     = errors.New("the object has another version")
	ErrHasChildren = errors.New("the account has sub-accounts")
	ErrTooMany     = errors.New("the account holds as many as it may")
	ErrInUse       = errors.New("still in use")
	ErrReplayed    = errors.New("answered before under this key")
)

// Options says which database, and how many connections calls of the API may use at once.
type Options struct {
	URL      string
	MaxConns int32        // of the general pool; 0: 10
	Events   *EventBodies // nil: no change is told in an operational event
	Log      *slog.Logger
}

// Store is one database. Each of its pools exists so that its users never wait for another's.
type Store struct {
	pool     *pgxpool.Pool // the API: anything that a client waits for
	ingest   *pgxpool.Pool // one connection: commits to the log
	recorder *pgxpool.Pool // one connection: outcomes, with synchronous_commit off
	lease    *pgxpool.Pool // one connection: nothing may delay a renewal
	sync     *pgxpool.Pool // the registry: no list of a client's may delay what was disabled
	engine   *pgxpool.Pool // claims, takeovers, partitions, the outbox
	log      *slog.Logger

	describe *EventBodies // nil: changes tell nothing
	bell     outboxBell

	statements statements
	sessions   atomic.Int64 // how many connections were made
}

// forEver is longer than any process lives.
const forEver = 100 * 365 * 24 * time.Hour

// sessionKey is where a connection keeps its [Session].
const sessionKey = "session"

func sessionOf(c *pgx.Conn) Session { return c.PgConn().CustomData()[sessionKey].(Session) }

// Open connects. It answers an error if Postgres cannot be reached now.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.MaxConns == 0 {
		o.MaxConns = 10
	}
	s := &Store{log: o.Log, describe: o.Events, bell: newOutboxBell()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	pools := []struct {
		pool     **pgxpool.Pool
		conns    int32
		settings map[string]string
	}{
		{&s.pool, o.MaxConns, map[string]string{
			"plan_cache_mode":   "force_custom_plan", // a generic plan locks every partition
			"statement_timeout": "10s",
		}},
		{&s.ingest, 1, map[string]string{
			"default_transaction_isolation": "read committed",
			"synchronous_commit":            ingestCommit(),
			"lock_timeout":                  "5s",
			"statement_timeout":             "10s",
		}},
		{&s.recorder, 1, map[string]string{
			"synchronous_commit": "off",
			"statement_timeout":  "30s",
			// Each row is found by its key, however few rows the planner believes a table to have:
			// reading all retries for a lot of outcomes is never right.
			"enable_seqscan":   "off",
			"enable_hashjoin":  "off",
			"enable_mergejoin": "off",
		}},
		{&s.sync, 2, map[string]string{"statement_timeout": "5min"}},
		{&s.lease, 1, map[string]string{"statement_timeout": "2s"}},
		{&s.engine, 4, map[string]string{"plan_cache_mode": "force_custom_plan", "statement_timeout": "30s", "lock_timeout": "5s"}},
	}
	for _, p := range pools {
		pool, err := s.connect(ctx, o.URL, p.conns, p.settings)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
		*p.pool = pool
	}
	return s, nil
}

// ingestCommit is what the log's commits wait for: the primary's disk, and a synchronous standby's if
// the server names one.
func ingestCommit() string {
	if weaken.Off(weaken.SyncCommit) {
		return "off"
	}
	return "on"
}

// CheckURL answers an error if url is not one that Open could connect to. It quotes no password.
func CheckURL(url string) error {
	_, err := pgxpool.ParseConfig(url)
	return err
}

// Close waits until every connection is given back, and closes them.
func (s *Store) Close() {
	for _, p := range []*pgxpool.Pool{s.pool, s.ingest, s.recorder, s.sync, s.lease, s.engine} {
		if p != nil {
			p.Close()
		}
	}
}

// Ping says whether Postgres answers.
func (s *Store) Ping(ctx context.Context) error { return s.lease.Ping(ctx) }

// Statements is how many statements were sent to Postgres.
func (s *Store) Statements() int64 { return s.statements.n.Load() }

// statements counts them, as a tracer of pgx.
type statements struct{ n atomic.Int64 }

func (c *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	c.n.Add(int64(b.Batch.Len()))
	return ctx
}

func (c *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (c *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (s *Store) connect(ctx context.Context, url string, conns int32, settings map[string]string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c.MaxConns = conns
	c.MinConns = 0
	c.MaxConnIdleTime = 5 * time.Minute
	c.ConnConfig.ConnectTimeout = 5 * time.Second
	dialer := &net.Dialer{Timeout: c.ConnConfig.ConnectTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	c.ConnConfig.DialFunc = dialer.DialContext
	c.ConnConfig.StatementCacheCapacity = 128
	c.ConnConfig.Tracer = &s.statements
	params := c.ConnConfig.RuntimeParams
	maps.Copy(params, map[string]string{
		"timezone":                            "UTC",
		"jit":                                 "off",
		"tcp_keepalives_idle":                 "5",
		"tcp_keepalives_interval":             "2",
		"tcp_keepalives_count":                "3",
		"idle_in_transaction_session_timeout": "10s",
	})
	if params["application_name"] == "" {
		params["application_name"] = "fanfare"
	}
	maps.Copy(params, settings)
	if conns == 1 { // it is somebody's own, who notices when it is another one
		c.MaxConnLifetime, c.MaxConnIdleTime = forEver, forEver
	}
	c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.PgConn().CustomData()[sessionKey] = Session(s.sessions.Add(1))
		registerUUID(conn.TypeMap())
		return nil
	}
	p, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := p.Ping(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// CheckDurable answers an error if this Postgres may forget what it has confirmed, and a warning if
// only the loss of the primary could make it.
func (s *Store) CheckDurable(ctx context.Context) (warning string, err error) {
	var fsync, asynchronous bool
	err = s.pool.QueryRow(ctx, `SELECT current_setting('fsync')::bool,
		current_setting('synchronous_standby_names') = '' AND EXISTS (SELECT FROM pg_stat_replication)`).Scan(&fsync, &asynchronous)
	switch {
	case err != nil:
		return "", fmt.Errorf("ask Postgres for its settings: %w", err)
	case !fsync:
		return "", errors.New("this Postgres runs with fsync=off and forgets in a crash what it has confirmed: turn fsync on")
	case asynchronous:
		return "the standby is asynchronous: a failover to it may lose the last commits (see synchronous_standby_names)", nil
	}
	return "", nil
}

// Unreachable tells whether err means that Postgres could not be asked or could not do anything now
// (no connection, shutting down, out of disk or memory, a timeout), rather than that it refused what
// was asked. The statement may have been applied all the same.
func Unreachable(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrSession):
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		var network net.Error
		var connect *pgconn.ConnectError
		return errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err) ||
			errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, puddle.ErrClosedPool) ||
			errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	}
	switch pg.Code[:2] {
	case "08", "53", "57", "58", "40": // connection, resources, operator, system, serialization
		return true
	}
	return pg.Code == "55P03" || // lock not available: a lock_timeout
		pg.Code == "25006" // read-only: a standby, or a primary that is being replaced
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func nullTexts(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

func nullText[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}
