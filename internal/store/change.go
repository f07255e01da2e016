package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ChangeKind says what a change of the registry is about.
type ChangeKind string

// The kinds of change.
const (
	ChangeAccount   ChangeKind = "account"
	ChangeEventType ChangeKind = "event_type"
	ChangeKey       ChangeKind = "key"
	ChangeWebhook   ChangeKind = "webhook"
)

// Once makes a call that creates something repeatable: whoever comes second under the same key gets
// [ErrReplayed], nothing is stored, and [Store.Reply] has the first answer.
type Once struct {
	Account uuid.UUID // whose keys; nil: the platform's
	Key     string
	Hash    [32]byte // of the whole request; tells a repeat from another request under the same key
	// Answer is what the first call is answered with, sealed. It is called in the transaction, when the
	// object that the call creates or edits is complete.
	Answer func() (status int, sealed []byte)
}

// change is the transaction of one edit of what nodes hold in memory.
//
// Locks are taken in one order, so that no two changes wait for each other: the tree, rows of
// accounts by id, everything below them, and registry_head last of all. An account whose
// registry_version will be raised is locked from the start, because the last statement holds
// registry_head, for which everybody waits, and must itself wait for nobody.
type change struct {
	*pgxpool.Conn
	kinds    []ChangeKind
	accounts []uuid.UUID
	objects  []*uuid.UUID
	names    []*string

	describe *EventBodies // nil: nothing is told
	owed     owed         // to the outside, once this is committed
}

// raise notes what the transaction changes. account must be locked, unless the transaction made it.
func (c *change) raise(kind ChangeKind, account, object uuid.UUID, name string) {
	c.kinds = append(c.kinds, kind)
	c.accounts = append(c.accounts, account)
	c.names = append(c.names, nullText(name))
	if object == uuid.Nil {
		c.objects = append(c.objects, nil)
	} else {
		c.objects = append(c.objects, &object)
	}
}

// treeLock says how a change depends on the shape of the tree of accounts.
type treeLock int

const (
	treeFree   treeLock = iota // not at all
	treeShared                 // adds a leaf
	treeMine                   // moves or removes
)

// changeSpec is what a change locks before it begins.
type changeSpec struct {
	doing    string // for errors: "create a webhook"
	tree     treeLock
	accounts []uuid.UUID // ErrNotFound unless each of them is alive
	once     *Once
}

const (
	lockTreeSQL       = `SELECT pg_advisory_xact_lock(20566, 4)`
	lockTreeSharedSQL = `SELECT pg_advisory_xact_lock_shared(20566, 4)`
	lockAccountsSQL   = `SELECT id FROM accounts WHERE id = ANY ($1) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE`
	replyKnownSQL     = `SELECT FROM api_replies WHERE account_id = $1 AND key = $2`
	insertReplySQL    = `
INSERT INTO api_replies (account_id, key, request_hash, status, sealed) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING`
)

// The last statement of a change. Whoever holds the row of registry_head is the next to commit, so the
// order of commits is the order of versions; sent in one write with COMMIT, the row is never held
// across a round trip.
const raiseSQL = `
WITH head AS (
	UPDATE registry_head SET version = version + cardinality($1::text[]) RETURNING version - cardinality($1::text[]) AS base
), changes AS (
	SELECT base + n AS version, kind, account_id, object_id, name
	FROM head, unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[]) WITH ORDINALITY AS u (kind, account_id, object_id, name, n)
), stamped AS (
	UPDATE accounts a SET registry_version = c.version
	FROM (SELECT account_id, max(version) AS version FROM changes GROUP BY account_id) c
	WHERE a.id = c.account_id
), logged AS (
	INSERT INTO registry_changes (version, kind, account_id, object_id, name)
	SELECT version, kind, account_id, object_id, name FROM changes
)
SELECT pg_notify('` + RegistryChannel + `', '')`

// refused is an error of a caller's own function, which goes back as it is.
type refused struct{ error }

// change runs do in a transaction and commits it together with the versions of what it raised. After an
// error of do nothing is stored; another one leaves the outcome unknown.
func (s *Store) change(ctx context.Context, spec changeSpec, do func(context.Context, *change) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", spec.doing, err)
	}
	defer conn.Release() // a connection that is still in a transaction is closed by this, not reused
	c := &change{Conn: conn, describe: s.describe}
	if err := c.begin(ctx, spec); err != nil {
		c.rollback(ctx)
		return fmt.Errorf("%s: %w", spec.doing, err)
	}
	if err := do(ctx, c); err != nil {
		c.rollback(ctx)
		if r, ok := err.(refused); ok {
			return r.error
		}
		return fmt.Errorf("%s: %w", spec.doing, err)
	}
	if err := c.commit(ctx, spec.once); err != nil {
		c.rollback(ctx)
		return fmt.Errorf("%s: %w", spec.doing, err)
	}
	s.bell.ring(c.owed.kinds...)
	return nil
}

// begin takes all locks in one round trip.
func (c *change) begin(ctx context.Context, spec changeSpec) error {
	var b pgx.Batch
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	switch spec.tree {
	case treeShared:
		b.Queue(lockTreeSharedSQL)
	case treeMine:
		b.Queue(lockTreeSQL)
	}
	if len(spec.accounts) > 0 {
		b.Queue(lockAccountsSQL, spec.accounts).Query(func(rows pgx.Rows) error {
			found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err == nil && len(found) != len(spec.accounts) {
				err = ErrNotFound
			}
			return err
		})
	}
	if spec.once != nil {
		b.Queue(replyKnownSQL, spec.once.Account, spec.once.Key).Query(func(rows pgx.Rows) error {
			known := rows.Next()
			rows.Close()
			if err := rows.Err(); err != nil || !known {
				return err
			}
			return ErrReplayed
		})
	}
	return c.SendBatch(ctx, &b).Close()
}

func (c *change) commit(ctx context.Context, once *Once) error {
	if once != nil {
		status, sealed := once.Answer()
		tag, err := c.Exec(ctx, insertReplySQL, once.Account, once.Key, once.Hash[:], status, sealed)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrReplayed
		}
	}
	var b pgx.Batch
	c.owed.queue(&b)
	if len(c.kinds) > 0 {
		b.Queue(raiseSQL, c.kinds, c.accounts, c.objects, c.names)
	}
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
	return c.SendBatch(ctx, &b).Close()
}

// rollback makes the connection usable again. If it cannot, releasing the connection closes it.
func (c *change) rollback(ctx context.Context) {
	if status := c.Conn.Conn().PgConn().TxStatus(); status == 'I' || c.Conn.Conn().IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = c.Exec(ctx, `ROLLBACK`)
}
