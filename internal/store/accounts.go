package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

// What can be wrong with an account's parent.
var (
	ErrNoParent = fmt.Errorf("the parent account: %w", ErrNotFound)
	ErrCycle    = errors.New("an account cannot be below itself")
)

// Page is a piece of a list that is ordered newest first.
type Page struct {
	Limit int
	After uuid.UUID // the last id of the page before; nil: from the newest
}

// before is the id that a page's ids are below.
func (p Page) before() uuid.UUID {
	if p.After == uuid.Nil {
		return uuid.Max
	}
	return p.After
}

const accountColumns = `id, parent_id, name, metadata, version, created_at, updated_at, settings, notification_emails`

func scanAccount(row pgx.Row, a *fanfare.Account) error {
	var settings []byte
	err := row.Scan(&a.ID, &a.ParentID, &a.Name, &a.Metadata, &a.Version, &a.CreatedAt, &a.UpdatedAt, &settings, &a.Emails)
	if err == nil {
		a.Settings, err = readSettings(settings)
	}
	return err
}

// CreateAccount stores a under the id it has and fills in its version and times. The error is
// [ErrNoParent] if its parent does not exist.
func (s *Store) CreateAccount(ctx context.Context, a *fanfare.Account, once *Once) error {
	spec := changeSpec{doing: "create an account", tree: treeShared, once: once}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		if a.ParentID.Valid {
			if err := c.mustHaveParent(ctx, a.ParentID.UUID); err != nil {
				return err
			}
		}
		row := c.QueryRow(ctx, `
INSERT INTO accounts (id, parent_id, name, metadata, settings, notification_emails) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING `+accountColumns, a.ID, a.ParentID, a.Name, jsonObject(a.Metadata), writeSettings(a.Settings), nullTexts(a.Emails))
		if err := scanAccount(row, a); err != nil {
			return err
		}
		c.raise(ChangeAccount, a.ID, a.ID, "")
		return nil
	})
}

// mustHaveParent answers [ErrNoParent] unless account is alive. The tree must be locked.
func (c *change) mustHaveParent(ctx context.Context, account uuid.UUID) error {
	var alive bool
	err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM accounts WHERE id = $1 AND deleted_at IS NULL)`, account).Scan(&alive)
	if err != nil {
		return err
	}
	if !alive || account == fanfare.PlatformAccount {
		return ErrNoParent
	}
	return nil
}

// Account reads an account. The error is [ErrNotFound] for one that was deleted and for the platform's.
func (s *Store) Account(ctx context.Context, id uuid.UUID) (*fanfare.Account, error) {
	var a fanfare.Account
	err := scanAccount(s.pool.QueryRow(ctx, `SELECT `+accountColumns+` FROM accounts WHERE id = $1 AND deleted_at IS NULL`, id), &a)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && id == fanfare.PlatformAccount {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read an account: %w", err)
	}
	return &a, nil
}

const (
	listAccountsSQL = `
SELECT ` + accountColumns + ` FROM accounts
WHERE deleted_at IS NULL AND id < $1 AND id <> '00000000-0000-0000-0000-000000000000'
ORDER BY id DESC LIMIT $2`
	// The whole subtree is walked for each page: nothing tells where in it the newest are.
	listSubtreeSQL = `
SELECT ` + accountColumns + ` FROM accounts
WHERE deleted_at IS NULL AND id < $2 AND id = ANY (ARRAY(` + subtreeSQL + `))
ORDER BY id DESC LIMIT $3`
	lockSubtreeSQL = `SELECT id FROM accounts WHERE id = ANY (ARRAY(` + subtreeSQL + `)) ORDER BY id FOR NO KEY UPDATE`
	subtreeSQL     = `
WITH RECURSIVE tree (id) AS (
	SELECT id FROM accounts WHERE id = $1 AND deleted_at IS NULL
	UNION ALL
	SELECT a.id FROM tree JOIN accounts a ON a.parent_id = tree.id AND a.deleted_at IS NULL
)
SELECT id FROM tree`
)

// Accounts lists root and its descendants, or every account if root is not valid, newest first.
func (s *Store) Accounts(ctx context.Context, root uuid.NullUUID, p Page) ([]fanfare.Account, error) {
	var rows pgx.Rows
	var err error
	if root.Valid {
		rows, err = s.pool.Query(ctx, listSubtreeSQL, root.UUID, p.before(), p.Limit)
	} else {
		rows, err = s.pool.Query(ctx, listAccountsSQL, p.before(), p.Limit)
	}
	list, err := collect(rows, err, scanAccount)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list, nil
}

// UpdateAccount lets edit change an account's name, metadata, settings and parent, and stores that as a new
// version. edit's error is answered as it is and nothing is stored. The error is [ErrNotFound],
// [ErrVersion] if ifMatch is not 0 and not the account's version, [ErrNoParent] or [ErrCycle].
func (s *Store) UpdateAccount(ctx context.Context, id uuid.UUID, ifMatch int64, edit func(*fanfare.Account) error) (*fanfare.Account, error) {
	var a fanfare.Account
	// Only edit tells whether the account moves, so the tree is locked in any case.
	spec := changeSpec{doing: "change an account", tree: treeMine, accounts: []uuid.UUID{id}}
	err := s.change(ctx, spec, func(ctx context.Context, c *change) error {
		row := c.QueryRow(ctx, `SELECT `+accountColumns+` FROM accounts WHERE id = $1`, id)
		if err := scanAccount(row, &a); err != nil {
			return err
		}
		if id == fanfare.PlatformAccount {
			return ErrNotFound
		}
		if ifMatch != 0 && a.Version != ifMatch {
			return ErrVersion
		}
		parent := a.ParentID
		if err := edit(&a); err != nil {
			return refused{err}
		}
		if a.ParentID.Valid && a.ParentID != parent {
			if err := c.mustNotCycle(ctx, id, a.ParentID.UUID); err != nil {
				return err
			}
		}
		row = c.QueryRow(ctx, `
UPDATE accounts SET parent_id = $2, name = $3, metadata = $4, settings = $5, notification_emails = $6,
	version = version + 1, updated_at = clock_timestamp()
WHERE id = $1 RETURNING `+accountColumns, id, a.ParentID, a.Name, jsonObject(a.Metadata), writeSettings(a.Settings), nullTexts(a.Emails))
		if err := scanAccount(row, &a); err != nil {
			return err
		}
		c.raise(ChangeAccount, id, id, "")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// mustNotCycle answers [ErrNoParent] unless parent is alive and [ErrCycle] if it is account or below it.
func (c *change) mustNotCycle(ctx context.Context, account, parent uuid.UUID) error {
	if err := c.mustHaveParent(ctx, parent); err != nil {
		return err
	}
	var below bool
	err := c.QueryRow(ctx, `
WITH RECURSIVE up (id, parent_id) AS (
	SELECT id, parent_id FROM accounts WHERE id = $1
	UNION ALL
	SELECT a.id, a.parent_id FROM up JOIN accounts a ON a.id = up.parent_id
)
SELECT EXISTS (SELECT FROM up WHERE id = $2)`, parent, account).Scan(&below)
	if err == nil && below {
		err = ErrCycle
	}
	return err
}

// DeleteAccount deletes an account and, with cascade, everything below it: webhooks and what signs for
// them, keys, sub-accounts. The error is [ErrNotFound], or [ErrHasChildren] without cascade. Rows of
// accounts and webhooks stay, marked as deleted.
func (s *Store) DeleteAccount(ctx context.Context, id uuid.UUID, cascade bool) error {
	spec := changeSpec{doing: "delete an account", tree: treeMine}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		return c.deleteSubtree(ctx, id, cascade)
	})
}

func (c *change) deleteSubtree(ctx context.Context, root uuid.UUID, cascade bool) error {
	if root == fanfare.PlatformAccount {
		return ErrNotFound
	}
	rows, err := c.Query(ctx, lockSubtreeSQL, root)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	switch {
	case err != nil:
		return err
	case len(ids) == 0:
		return ErrNotFound
	case len(ids) > 1 && !cascade:
		return ErrHasChildren
	}
	var b pgx.Batch
	// First what belongs to webhooks: the index that finds them by account leaves deleted ones out.
	b.Queue(`DELETE FROM webhook_secrets s USING webhooks w
WHERE s.webhook_id = w.id AND w.account_id = ANY ($1) AND w.deleted_at IS NULL`, ids)
	b.Queue(`DELETE FROM webhook_mails m USING webhooks w
WHERE m.webhook_id = w.id AND w.account_id = ANY ($1) AND w.deleted_at IS NULL`, ids)
	b.Queue(`UPDATE accounts SET deleted_at = now(), updated_at = now(), version = version + 1 WHERE id = ANY ($1)`, ids)
	b.Queue(`UPDATE webhooks SET deleted_at = now(), updated_at = now(), version = version + 1
WHERE account_id = ANY ($1) AND deleted_at IS NULL`, ids)
	b.Queue(`DELETE FROM signing_secrets WHERE account_id = ANY ($1)`, ids)
	b.Queue(`DELETE FROM api_keys WHERE account_id = ANY ($1)`, ids)
	if err := c.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	for _, id := range ids {
		c.raise(ChangeAccount, id, id, "")
	}
	return nil
}

// jsonObject is what a column of type json gets for a metadata that may not have been given.
func jsonObject(b []byte) []byte {
	if len(b) == 0 {
		return []byte("{}")
	}
	return b
}

// collect reads all rows with scan.
func collect[T any](rows pgx.Rows, err error, scan func(pgx.Row, *T) error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) {
		var v T
		err := scan(row, &v)
		return v, err
	})
}
