package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// SigningSecrets lists the secrets that sign an account's one-off destinations now, by the database's clock,
// newest first. An account that never needed one has none, and one that is unknown or deleted.
func (s *Store) SigningSecrets(ctx context.Context, account uuid.UUID) ([]SealedSecret, error) {
	rows, err := s.pool.Query(ctx, `
SELECT id, sealed, created_at, expires_at FROM signing_secrets
WHERE account_id = $1 AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY created_at DESC`, account)
	list, err := collect(rows, err, scanSecret)
	if err != nil {
		return nil, fmt.Errorf("read an account's signing secrets: %w", err)
	}
	return list, nil
}

// The newest secret is the current one, whatever clocks do.
const insertSigningSecretSQL = `
INSERT INTO signing_secrets (account_id, id, sealed, created_at)
VALUES ($1, $2, $3, greatest(clock_timestamp(), (
	SELECT max(created_at) + interval '1 microsecond' FROM signing_secrets WHERE account_id = $1
)))`

// EnsureSigningSecret makes first the signing secret of an account that has none. The error is [ErrNotFound].
func (s *Store) EnsureSigningSecret(ctx context.Context, account uuid.UUID, first SealedSecret) error {
	spec := changeSpec{doing: "make a signing secret", accounts: []uuid.UUID{account}}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		var has bool
		err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM signing_secrets WHERE account_id = $1)`, account).Scan(&has)
		if err != nil || has {
			return err
		}
		if _, err := c.Exec(ctx, insertSigningSecretSQL, account, first.ID, first.Sealed); err != nil {
			return err
		}
		c.raise(ChangeAccount, account, account, "")
		return nil
	})
}

// RotateSigningSecret makes next the current signing secret of an account. The others sign too for overlap
// from now, but none longer than it would have. The error is [ErrNotFound], or [ErrTooMany] if too many
// secrets sign already.
func (s *Store) RotateSigningSecret(ctx context.Context, account uuid.UUID, next SealedSecret, overlap time.Duration, once *Once) error {
	spec := changeSpec{doing: "rotate a signing secret", accounts: []uuid.UUID{account}, once: once}
	return s.change(ctx, spec, func(ctx context.Context, c *change) error {
		var b pgx.Batch
		b.Queue(`UPDATE signing_secrets SET expires_at = least(expires_at, clock_timestamp() + $2::interval) WHERE account_id = $1`,
			account, overlap)
		b.Queue(`DELETE FROM signing_secrets WHERE account_id = $1 AND expires_at <= clock_timestamp()`, account)
		b.Queue(insertSigningSecretSQL, account, next.ID, next.Sealed)
		b.Queue(`SELECT count(*) FROM signing_secrets WHERE account_id = $1`, account).QueryRow(func(row pgx.Row) error {
			var n int
			err := row.Scan(&n)
			if err == nil && n > maxSecrets {
				err = ErrTooMany
			}
			return err
		})
		if err := c.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		c.raise(ChangeAccount, account, account, "")
		return nil
	})
}
