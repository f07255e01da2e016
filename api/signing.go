package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// SigningColumn is the place's column under which an account's own signing secrets are sealed, with the account
// and the secret's id.
const SigningColumn = "signing_secrets.sealed"

// errManySecrets is for a rotation after which too many secrets would sign.
var errManySecrets = refuse("/overlap", codeTooMany, "leaves too many secrets: choose a shorter one")

// listSigningSecrets lists the account's own. Whoever asks for the first time gets the first one.
func (s *Server) listSigningSecrets(c *call) (answer, error) {
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	sealed, err := s.store.SigningSecrets(c.r.Context(), c.account)
	if err == nil && len(sealed) == 0 {
		if err = s.ensureSigningSecret(c.r.Context(), c.account); err == nil {
			sealed, err = s.store.SigningSecrets(c.r.Context(), c.account)
		}
	}
	if err != nil {
		return answer{}, err
	}
	return s.secretsAnswer(sealed, func(secret *store.SealedSecret) seal.Place {
		return seal.Place{Account: c.account, Object: secret.ID, Column: SigningColumn}
	})
}

func (s *Server) rotateSigningSecret(c *call) (answer, error) {
	overlap, err := c.overlap()
	if err != nil {
		return answer{}, err
	}
	secret, sealed := s.newSigningSecret(c.account)
	build := func() answer { return newSecretAnswer(sealed.ID, secret) }
	err = s.store.RotateSigningSecret(c.r.Context(), c.account, sealed, overlap, s.once(c, build))
	if errors.Is(err, store.ErrTooMany) {
		err = errManySecrets
	}
	return s.done(c, err, build)
}

// ensureSigningSecret gives an account that has none its first signing secret.
func (s *Server) ensureSigningSecret(ctx context.Context, account uuid.UUID) error {
	_, sealed := s.newSigningSecret(account)
	return s.store.EnsureSigningSecret(ctx, account, sealed)
}

func (s *Server) newSigningSecret(account uuid.UUID) (signature.Secret, store.SealedSecret) {
	secret, id := signature.GenerateSecret(), newID()
	place := seal.Place{Account: account, Object: id, Column: SigningColumn}
	return secret, store.SealedSecret{ID: id, Sealed: s.keyring.Seal(place, secret.Stored())}
}

// overlap reads the body of a rotation.
func (c *call) overlap() (overlap time.Duration, err error) {
	overlap = defaultOverlap
	err = c.decode(field{name: "overlap", take: func(v value) {
		if !v.null() {
			overlap, _ = v.duration(0, maxOverlap)
		}
	}})
	return overlap, err
}

// secretsAnswer shows secrets to whoever may see them.
func (s *Server) secretsAnswer(sealed []store.SealedSecret, place func(*store.SealedSecret) seal.Place) (answer, error) {
	var w writer
	w.open()
	w.list("data")
	for i := range sealed {
		secret := &sealed[i]
		key, err := s.keyring.Open(place(secret), secret.Sealed)
		if err != nil {
			return answer{}, fmt.Errorf("open a signing secret: %w", err)
		}
		w.open()
		w.id("id", secret.ID)
		w.text("secret", signature.SecretFromStored(key).Text())
		w.time("created_at", secret.CreatedAt)
		w.time("expires_at", secret.ExpiresAt)
		w.close()
	}
	w.endList()
	w.close()
	return answer{status: http.StatusOK, body: w.b}, nil
}

func newSecretAnswer(id uuid.UUID, secret signature.Secret) answer {
	var w writer
	w.open()
	w.id("id", id)
	w.text("secret", secret.Text())
	w.close()
	return answer{status: http.StatusOK, body: w.b}
}
