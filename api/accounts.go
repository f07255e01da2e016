package api

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const (
	maxName     = 200      // characters
	maxMetadata = 16 << 10 // bytes
)

// accountEdit is what a body asks to change. Nil members stay as they are.
type accountEdit struct {
	name     *string
	parent   *uuid.NullUUID
	metadata *[]byte
	settings *fanfare.Settings
	policy   bool // settings name a health policy
	emails   *[]string
}

// checkPolicy refuses settings with another health policy than had has, unless the call may write one. Settings
// of those who may not keep it if they do not name it.
func (e *accountEdit) checkPolicy(c *call, had *fanfare.Settings) error {
	var policy []byte
	if had != nil {
		policy = had.HealthPolicy
	}
	switch {
	case c.mayWritePolicy():
		return nil
	case !e.policy:
		e.settings.HealthPolicy = policy
	case !bytes.Equal(e.settings.HealthPolicy, policy):
		return errPolicy
	}
	return nil
}

func (e *accountEdit) fields(create bool) []field {
	return []field{
		{name: "name", required: create, take: func(v value) {
			if s, ok := v.text(maxName); ok {
				if e.name = &s; s == "" {
					v.fault(codeTooFew, "must not be empty")
				}
			}
		}},
		{name: "parent_id", take: func(v value) {
			e.parent = new(uuid.NullUUID)
			if v.null() {
				return
			}
			e.parent.UUID, e.parent.Valid = v.id()
		}},
		{name: "metadata", take: func(v value) { e.metadata = v.metadata() }},
		{name: "settings", take: func(v value) {
			e.settings = new(fanfare.Settings)
			if !v.null() {
				v.object(
					field{name: "signature", take: func(v value) { e.settings.Signature = v.schemes() }},
					field{name: "health_policy", take: func(v value) {
						e.settings.HealthPolicy = v.healthPolicy()
						e.policy = true
					}},
				)
			}
		}},
		{name: "notification_emails", take: func(v value) {
			emails := v.emails()
			e.emails = &emails
		}},
		{name: "id"},
		{name: "version"},
		{name: "created_at"},
		{name: "updated_at"},
	}
}

// metadata reads an object to keep, or null for an empty one.
func (v value) metadata() *[]byte {
	raw := []byte("{}")
	if !v.null() {
		raw, _ = v.json(maxMetadata)
	}
	return &raw
}

func (s *Server) createAccount(c *call) (answer, error) {
	var e accountEdit
	if err := c.decode(e.fields(true)...); err != nil {
		return answer{}, err
	}
	a := &fanfare.Account{ID: newID(), Name: *e.name, ParentID: c.key.AccountID}
	if e.parent != nil && e.parent.Valid {
		within, err := s.within(c, e.parent.UUID)
		if err != nil {
			return answer{}, err
		}
		if !within {
			return answer{}, errParent
		}
		a.ParentID = *e.parent
	}
	if e.metadata != nil {
		a.Metadata = *e.metadata
	}
	a.Settings = e.settings
	if e.emails != nil {
		a.Emails = *e.emails
	}
	build := func() answer {
		ans := accountAnswer(a)
		ans.status, ans.location = http.StatusCreated, "/v1/accounts/"+a.ID.String()
		return ans
	}
	err := s.store.CreateAccount(c.r.Context(), a, s.once(c, build))
	if errors.Is(err, store.ErrNoParent) {
		err = errParent
	}
	return s.done(c, err, build)
}

var errParent = refuse("/parent_id", codeUnknownAccount, "is not an account within reach of the key")

// within reports whether an account that a body names is in the key's tree.
func (s *Server) within(c *call, id uuid.UUID) (bool, error) {
	_, ok, err := s.account(c.r, c.key, id.String())
	return ok, err
}

func (s *Server) listAccounts(c *call) (answer, error) {
	p, err := s.page(c, 16, "accounts", c.key.AccountID.UUID.String())
	if err != nil {
		return answer{}, err
	}
	rows, err := s.store.Accounts(c.r.Context(), c.key.AccountID, store.Page{Limit: p.limit + 1, After: p.id(0)})
	if err != nil {
		return answer{}, err
	}
	rows, next := cut(p, rows, func(a *fanfare.Account) uuid.UUID { return a.ID })
	return p.answer(len(rows), func(w *writer, i int) { writeAccount(w, &rows[i]) }, next), nil
}

func (s *Server) getAccount(c *call) (answer, error) {
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	a, err := s.store.Account(c.r.Context(), c.account)
	if err != nil {
		return answer{}, err
	}
	return accountAnswer(a), nil
}

func (s *Server) updateAccount(c *call) (answer, error) {
	var e accountEdit
	if err := c.decode(e.fields(false)...); err != nil {
		return answer{}, err
	}
	version, err := c.ifMatch()
	if err != nil {
		return answer{}, err
	}
	// Asked before the transaction, which must not wait for the registry.
	var within bool
	if e.parent != nil && e.parent.Valid {
		if within, err = s.within(c, e.parent.UUID); err != nil {
			return answer{}, err
		}
	}
	a, err := s.store.UpdateAccount(c.r.Context(), c.account, version, func(a *fanfare.Account) error {
		if e.name != nil {
			a.Name = *e.name
		}
		if e.metadata != nil {
			a.Metadata = *e.metadata
		}
		if e.settings != nil {
			if err := e.checkPolicy(c, a.Settings); err != nil {
				return err
			}
			a.Settings = e.settings
		}
		if e.emails != nil {
			a.Emails = *e.emails
		}
		if e.parent == nil || *e.parent == a.ParentID {
			return nil
		}
		if err := s.mayMove(c, a, *e.parent, within); err != nil {
			return err
		}
		a.ParentID = *e.parent
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNoParent):
		err = errParent
	case errors.Is(err, store.ErrCycle):
		err = refuse("/parent_id", codeCycle, "is the account itself or below it")
	}
	if err != nil {
		return answer{}, err
	}
	if e.settings != nil {
		// Its webhooks show what signs for them. Where this fails they do so a moment later.
		_ = s.registry.CatchUp(c.r.Context())
	}
	return accountAnswer(a), nil
}

// mayMove wants authority over the account's old parent and its new one; the key reaches the account.
func (s *Server) mayMove(c *call, a *fanfare.Account, to uuid.NullUUID, within bool) error {
	if to.Valid && !within {
		return errParent
	}
	if isPlatform(c.key) {
		return nil
	}
	if !to.Valid {
		return errPlatform
	}
	if !a.ParentID.Valid || !s.reaches(c.key, a.ParentID.UUID) {
		return &problem{
			status: http.StatusForbidden, code: codeNotAllowed,
			detail: "Moving an account needs a key of its parent, or of one above.",
		}
	}
	return nil
}

func (s *Server) deleteAccount(c *call) (answer, error) {
	cascade := c.boolParam("cascade")
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	if err := s.store.DeleteAccount(c.r.Context(), c.account, cascade); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func accountAnswer(a *fanfare.Account) answer {
	var w writer
	w.open()
	writeAccount(&w, a)
	w.close()
	return answer{status: http.StatusOK, body: w.b, version: a.Version}
}

func writeAccount(w *writer, a *fanfare.Account) {
	w.id("id", a.ID)
	w.optionalID("parent_id", a.ParentID)
	w.text("name", a.Name)
	w.raw("metadata", a.Metadata, "{}")
	var settings fanfare.Settings
	if a.Settings != nil {
		settings = *a.Settings
	}
	w.object("settings")
	if settings.Signature == nil {
		w.null("signature")
	} else {
		w.schemes("signature", schemesOf(settings.Signature))
	}
	w.raw("health_policy", settings.HealthPolicy, "null")
	w.close()
	w.texts("notification_emails", a.Emails)
	w.integer("version", a.Version)
	w.time("created_at", a.CreatedAt)
	w.time("updated_at", a.UpdatedAt)
}

// newID makes the id of an account, a key, a webhook or a secret: newer ones are higher.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
