package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
)

const keyColumns = `id, account_id, name, hint, scopes, created_at`

func scanKey(row pgx.Row, k *fanfare.Key) error {
	return row.Scan(&k.ID, &k.AccountID, &k.Name, &k.Hint, &k.Scopes, &k.CreatedAt)
}

// CreateKey stores k under the id it has, with the SHA-256 of its text, and fills in CreatedAt. The
// error is [ErrNotFound] if its account does not exist.
func (s *Store) CreateKey(ctx context.Context, k *fanfare.Key, hash [32]byte, once *Once) error {
	owner := k.AccountID.UUID // nil for a platform key
	spec := changeSpec{doing: "create a key", accounts: []uuid.UUID{owner}, once: once}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		row := c.QueryRow(ctx, `
INSERT INTO api_keys (id, account_id, name, hint, hash, scopes) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING `+keyColumns, k.ID, k.AccountID, k.Name, k.Hint, hash[:], k.Scopes)
		if err := scanKey(row, k); err != nil {
			return err
		}
		c.raise(ChangeKey, owner, k.ID, "")
		return nil
	})
}

// Keys lists the keys of an account, or the platform's if account is not valid, newest first.
func (s *Store) Keys(ctx context.Context, account uuid.NullUUID, p Page) ([]fanfare.Key, error) {
	owner := `account_id = $1`
	if !account.Valid {
		owner = `account_id IS NULL AND $1::uuid IS NULL`
	}
	rows, err := s.pool.Query(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE `+owner+` AND id < $2 ORDER BY id DESC LIMIT $3`,
		account, p.before(), p.Limit)
	list, err := collect(rows, err, scanKey)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return list, nil
}

// DeleteKey deletes a key of an account, or of the platform if account is not valid. The error is
// [ErrNotFound].
func (s *Store) DeleteKey(ctx context.Context, account uuid.NullUUID, id uuid.UUID) error {
	spec := changeSpec{doing: "delete a key", accounts: []uuid.UUID{account.UUID}}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		tag, err := c.Exec(ctx, `DELETE FROM api_keys WHERE account_id IS NOT DISTINCT FROM $1 AND id = $2`, account, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		c.raise(ChangeKey, account.UUID, id, "")
		return nil
	})
}

// HasKey tells whether there is a key whose text has that SHA-256.
func (s *Store) HasKey(ctx context.Context, hash [32]byte) (has bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM api_keys WHERE hash = $1)`, hash[:]).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look a key up: %w", err)
	}
	return has, nil
}
