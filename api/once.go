package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// A call with an Idempotency-Key keeps its answer, sealed, in the transaction that does its work. A
// repeat gets it again; a call that failed keeps nothing and may be repeated with another body.

const (
	idempotencyHeader = "Idempotency-Key"
	maxIdempotencyKey = 255
	replyColumn       = "api_replies.sealed"
)

// idempotencyKey reads the header; "" if there is none, or a fault.
func (c *call) idempotencyKey() string {
	values, ok := c.r.Header[idempotencyHeader]
	if !ok {
		return ""
	}
	if len(values) != 1 || !validKey(values[0]) {
		c.faults.header(idempotencyHeader, codeInvalidFormat, "must be once, and 1 to 255 printable ASCII characters")
		return ""
	}
	return values[0]
}

func validKey(key string) bool {
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return false
		}
	}
	return len(key) >= 1 && len(key) <= maxIdempotencyKey
}

// replyAccount says whose keys the call's is one of: the path's account's, or else the caller's own.
func (c *call) replyAccount() uuid.UUID {
	if c.account != uuid.Nil {
		return c.account
	}
	return c.key.AccountID.UUID
}

// requestHash tells a repeat from another request: by who asks for what of which object with which body.
func (c *call) requestHash() [32]byte {
	h := sha256.New()
	part := func(b []byte) {
		_ = binary.Write(h, binary.BigEndian, uint32(len(b)))
		h.Write(b)
	}
	part([]byte(c.route.String()))
	part(c.key.ID[:])
	part(c.account[:])
	part([]byte(mux.Vars(c.r)["webhook"]))
	part(c.body)
	return [32]byte(h.Sum(nil))
}

func (c *call) replyPlace() seal.Place {
	hash := sha256.Sum256([]byte(c.onceKey))
	return seal.Place{Account: c.replyAccount(), Object: uuid.UUID(hash[:16]), Column: replyColumn}
}

// first looks for the answer that was given before under the call's key.
func (s *Server) first(c *call) (a answer, found bool, err error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), callTimeout) // a patient route has no bound of its own
	defer cancel()
	reply, err := s.store.Reply(ctx, c.replyAccount(), c.onceKey)
	if errors.Is(err, store.ErrNotFound) {
		return answer{}, false, nil
	}
	if err != nil {
		return answer{}, false, err
	}
	if reply.Hash != c.requestHash() {
		return answer{}, false, errKeyReused
	}
	plain, err := s.keyring.Open(c.replyPlace(), reply.Sealed)
	if err != nil {
		return answer{}, false, fmt.Errorf("open a kept answer: %w", err)
	}
	location, rest, _ := bytes.Cut(plain, []byte{'\n'})
	version, body, ok := bytes.Cut(rest, []byte{'\n'})
	n, err := strconv.ParseInt(string(version), 10, 64)
	if !ok || err != nil {
		return answer{}, false, errors.New("a kept answer is not one")
	}
	return answer{status: reply.Status, body: body, location: string(location), version: n, replayed: true}, true, nil
}

func (s *Server) sealAnswer(c *call, a answer) []byte {
	plain := append([]byte(a.location), '\n')
	plain = append(strconv.AppendInt(plain, a.version, 10), '\n')
	return s.keyring.Seal(c.replyPlace(), append(plain, a.body...))
}

// once is what the store needs to keep the call's answer, which build makes when the work is done; nil
// without a key.
func (s *Server) once(c *call, build func() answer) *store.Once {
	if c.onceKey == "" {
		return nil
	}
	return &store.Once{
		Account: c.replyAccount(), Key: c.onceKey, Hash: c.requestHash(),
		Answer: func() (int, []byte) {
			a := build()
			return a.status, s.sealAnswer(c, a)
		},
	}
}

// done is the end of a call that used once: its own answer, or the first one if another call with its
// key was faster.
func (s *Server) done(c *call, err error, build func() answer) (answer, error) {
	if errors.Is(err, store.ErrReplayed) {
		a, found, err := s.first(c)
		if err == nil && !found {
			err = errUnavailable // its 24 hours ended in between
		}
		return a, err
	}
	if err != nil {
		return answer{}, err
	}
	return build(), nil
}

// keep is once for work that is not one transaction: it keeps an answer that is already made.
func (s *Server) keep(c *call, a answer) (answer, error) {
	if c.onceKey == "" {
		return a, nil
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), callTimeout)
	defer cancel()
	reply := store.Reply{Hash: c.requestHash(), Status: a.status, Sealed: s.sealAnswer(c, a)}
	err := s.store.SaveReply(ctx, c.replyAccount(), c.onceKey, reply)
	return s.done(c, err, func() answer { return a })
}
