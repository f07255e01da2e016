package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Reply is the first answer of a call that was made with an idempotency key.
type Reply struct {
	Hash   [32]byte // of the request
	Status int
	Sealed []byte // the body, sealed because it may hold a secret
}

// Reply reads the first answer under an account's key; the nil account holds the platform's. The error
// is [ErrNotFound] if there is none.
func (s *Store) Reply(ctx context.Context, account uuid.UUID, key string) (*Reply, error) {
	var r Reply
	var hash []byte
	err := s.pool.QueryRow(ctx, `SELECT request_hash, status, sealed FROM api_replies WHERE account_id = $1 AND key = $2`,
		account, key).Scan(&hash, &r.Status, &r.Sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read a kept answer: %w", err)
	}
	copy(r.Hash[:], hash)
	return &r, nil
}

// SaveReply keeps the answer of a call whose work is not one transaction. The error is [ErrReplayed] if
// another answer is kept under the key, which stays.
func (s *Store) SaveReply(ctx context.Context, account uuid.UUID, key string, r Reply) error {
	tag, err := s.pool.Exec(ctx, insertReplySQL, account, key, r.Hash[:], r.Status, r.Sealed)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrReplayed
	}
	if err != nil {
		return fmt.Errorf("keep an answer: %w", err)
	}
	return nil
}

// PurgeReplies forgets answers that are older than that and says how many.
func (s *Store) PurgeReplies(ctx context.Context, olderThan time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM api_replies WHERE created_at < clock_timestamp() - $1::interval`, olderThan)
	if err != nil {
		return 0, fmt.Errorf("purge kept answers: %w", err)
	}
	return tag.RowsAffected(), nil
}
