package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

const (
	keyPrefix = "ffk_"
	keyLength = len(keyPrefix) + 43 // of 32 bytes in base64url
	maxKey    = 512                 // of a fixed platform key, which may have any form
)

// NewKey makes the text of an API key, the hash that is kept of it (SHA-256; the text is 256 random
// bits), and its first characters, which tell it from others.
func NewKey() (text string, hash [32]byte, hint string) {
	var raw [32]byte
	rand.Read(raw[:])
	text = keyPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	return text, HashKey(text), text[:len(keyPrefix)+4]
}

// HashKey is what is kept of a key.
func HashKey(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// authenticate finds the key of a request. Before it refuses one that could be a key it asks Postgres:
// the key may have been made by another node just now.
func (s *Server) authenticate(r *http.Request) (*fanfare.Key, error) {
	text, ok := bearer(r.Header)
	if !ok {
		return nil, errUnauthorized
	}
	hash := HashKey(text)
	if s.platform != nil && subtle.ConstantTimeCompare(hash[:], s.platform[:]) == 1 {
		return s.platformKey, nil
	}
	if len(text) != keyLength || !strings.HasPrefix(text, keyPrefix) {
		return nil, errUnauthorized
	}
	if key := s.registry.Snapshot().Key(hash); key != nil {
		return key, nil
	}
	if err := s.registry.CatchUp(r.Context()); err != nil {
		return nil, err
	}
	if key := s.registry.Snapshot().Key(hash); key != nil {
		return key, nil
	}
	return nil, errUnauthorized
}

// bearer reads the token of RFC 6750, section 2.1.
func bearer(h http.Header) (string, bool) {
	values := h["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	const scheme = "Bearer "
	v := values[0]
	if len(v) <= len(scheme) || len(v) > len(scheme)+maxKey || !strings.EqualFold(v[:len(scheme)], scheme) {
		return "", false
	}
	return v[len(scheme):], true
}

func errScope(scope fanfare.Scope) error {
	return &problem{status: http.StatusForbidden, code: codeScope, detail: "The key lacks the scope " + string(scope) + "."}
}

func isPlatform(key *fanfare.Key) bool { return !key.AccountID.Valid }

func has(key *fanfare.Key, scope fanfare.Scope) bool { return slices.Contains(key.Scopes, scope) }

// account finds the account that text, an id or "me", names for the key. It reports false for what is
// outside of the key's tree, and asks Postgres before it does.
func (s *Server) account(r *http.Request, key *fanfare.Key, text string) (uuid.UUID, bool, error) {
	var id uuid.UUID
	if text == "me" {
		if isPlatform(key) {
			return uuid.Nil, false, nil
		}
		id = key.AccountID.UUID
	} else {
		var ok bool
		if id, ok = parseID(text); !ok {
			return uuid.Nil, false, nil
		}
	}
	if s.reaches(key, id) {
		return id, true, nil
	}
	if id == fanfare.PlatformAccount {
		return uuid.Nil, false, nil
	}
	if err := s.registry.CatchUp(r.Context()); err != nil {
		return uuid.Nil, false, err
	}
	return id, s.reaches(key, id), nil
}

// reaches reports whether an account is in the key's tree, as far as this node knows.
func (s *Server) reaches(key *fanfare.Key, account uuid.UUID) bool {
	if account == fanfare.PlatformAccount {
		return false
	}
	snapshot := s.registry.Snapshot()
	if isPlatform(key) {
		return snapshot.Account(account)
	}
	return snapshot.Within(key.AccountID.UUID, account)
}
