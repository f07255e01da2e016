package api

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func (s *Server) createKey(c *call) (answer, error) {
	k := &fanfare.Key{ID: newID(), AccountID: uuid.NullUUID{UUID: c.account, Valid: true}, Scopes: c.key.Scopes}
	var lacking faults
	err := c.decode(
		field{name: "name", take: func(v value) {
			if !v.null() {
				k.Name, _ = v.text(maxName)
			}
		}},
		field{name: "scopes", take: func(v value) {
			if v.null() {
				return
			}
			k.Scopes = nil
			if v.list(len(fanfare.Scopes()), func(v value) {
				if scope, ok := v.scope(); ok {
					if !has(c.key, scope) {
						lacking.at(v.at, codeScope, "the key that asks lacks this scope")
					}
					if slices.Contains(k.Scopes, scope) {
						v.fault(codeInvalidValue, "stands here twice")
					}
					k.Scopes = append(k.Scopes, scope)
				}
			}) && string(v.raw[1:len(v.raw)-1]) == "" {
				v.fault(codeTooFew, "must have at least one scope")
			}
		}},
		field{name: "id"}, field{name: "account_id"}, field{name: "hint"}, field{name: "created_at"},
	)
	if err != nil {
		return answer{}, err
	}
	if len(lacking.list) > 0 {
		return answer{}, &problem{
			status: http.StatusForbidden, code: codeScope, faults: lacking.list,
			detail: "A key gives no scope that it lacks.",
		}
	}
	text, hash, hint := NewKey()
	k.Hint = hint
	build := func() answer {
		var w writer
		w.open()
		writeKey(&w, k)
		w.text("key", text)
		w.close()
		location := "/v1/accounts/" + c.account.String() + "/keys/" + k.ID.String()
		return answer{status: http.StatusCreated, body: w.b, location: location}
	}
	err = s.store.CreateKey(c.r.Context(), k, hash, s.once(c, build))
	return s.done(c, err, build)
}

func (v value) scope() (fanfare.Scope, bool) {
	text, ok := v.text(100)
	scope := fanfare.Scope(text)
	if ok && !slices.Contains(fanfare.Scopes(), scope) {
		v.fault(codeInvalidValue, "is not one of publish, read, write, secrets, admin")
		ok = false
	}
	return scope, ok
}

func (s *Server) listKeys(c *call) (answer, error) {
	p, err := s.page(c, 16, "keys")
	if err != nil {
		return answer{}, err
	}
	owner := uuid.NullUUID{UUID: c.account, Valid: true}
	rows, err := s.store.Keys(c.r.Context(), owner, store.Page{Limit: p.limit + 1, After: p.id(0)})
	if err != nil {
		return answer{}, err
	}
	rows, next := cut(p, rows, func(k *fanfare.Key) uuid.UUID { return k.ID })
	return p.answer(len(rows), func(w *writer, i int) { writeKey(w, &rows[i]) }, next), nil
}

func (s *Server) deleteKey(c *call) (answer, error) {
	id, err := c.pathID("key")
	if err != nil {
		return answer{}, err
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	if err := s.store.DeleteKey(c.r.Context(), uuid.NullUUID{UUID: c.account, Valid: true}, id); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func writeKey(w *writer, k *fanfare.Key) {
	w.id("id", k.ID)
	w.optionalID("account_id", k.AccountID)
	w.text("name", k.Name)
	w.text("hint", k.Hint)
	w.list("scopes")
	for _, scope := range k.Scopes {
		w.separate()
		w.b = strconv.AppendQuote(w.b, string(scope))
	}
	w.endList()
	w.time("created_at", k.CreatedAt)
}
