package api

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
)

// A cursor is a place in one list, sealed: nobody can make one, or use one in another list or with
// other filters. It holds A–Z a–z 0–9 - _ only.

const cursorColumn = "api.cursor"

// maxCursor is far above any cursor's length.
const maxCursor = 1024

// listID names a list with its filters.
func listID(parts ...string) uuid.UUID {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte{byte(len(p) >> 24), byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p))})
		h.Write([]byte(p))
	}
	return uuid.UUID(h.Sum(nil)[:16])
}

func (s *Server) sealCursor(account, list uuid.UUID, place []byte) string {
	sealed := s.keyring.Seal(seal.Place{Account: account, Object: list, Column: cursorColumn}, place)
	return base64.RawURLEncoding.EncodeToString(sealed)
}

func (s *Server) openCursor(account, list uuid.UUID, cursor string) ([]byte, bool) {
	if len(cursor) > maxCursor {
		return nil, false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return nil, false
	}
	place, err := s.keyring.Open(seal.Place{Account: account, Object: list, Column: cursorColumn}, sealed)
	return place, err == nil
}
