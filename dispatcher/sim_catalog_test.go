package dispatcher

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func (db *database) hook(id uuid.UUID) *hookRow {
	i := slices.IndexFunc(db.hooks, func(h *hookRow) bool { return h.ID == id })
	return db.hooks[i]
}

// edit changes a webhook and raises the version of its account.
func (db *database) edit(h *hookRow) {
	c := hookChange{version: int64(len(db.changes)) + 1, at: db.now(), hook: h.ID}
	db.changes = append(db.changes, c)
	db.raised[h.AccountID] = c.version
	h.changedAt = time.Now()
	h.Version++
	db.flush()
}

// disable is what a 410 does.
func (db *database) disable(id uuid.UUID, url string, d fanfare.Disabled) (changed bool, err error) {
	h := db.hook(id)
	switch {
	case h.deleted || h.Disabled != nil:
		return false, nil
	case h.URL != url:
		return false, store.ErrVersion
	}
	h.Disabled = &d
	db.edit(h)
	return true, nil
}

// match is whom an event goes to.
func (db *database) match(account uuid.UUID, eventType string) (hooks []uuid.UUID) {
	for _, h := range db.hooks {
		wants := slices.Contains(h.EventTypes, eventType) || slices.Contains(h.EventTypes, "*")
		within := h.AccountID == account || h.IncludeSubaccounts && h.AccountID == db.parents[account]
		if wants && within && !h.deleted {
			hooks = append(hooks, h.ID)
		}
	}
	return hooks
}

func (db *database) registryHead() (m store.RegistryMark) {
	if n := len(db.changes); n > 0 {
		m.Version, m.At = db.changes[n-1].version, db.changes[n-1].at
	}
	return m
}

// registry tells a sink everything, or what changed since a version. It answers a function for that, which
// reads nothing of the database any more.
func (db *database) registry(all bool, since int64) func(store.RegistrySink) {
	var changed store.Changed
	for _, c := range db.changes {
		if c.version > since {
			changed.Webhooks = append(changed.Webhooks, c.hook)
		}
	}
	slices.SortFunc(changed.Webhooks, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	changed.Webhooks = slices.Compact(changed.Webhooks)
	var hooks []fanfare.Webhook
	var secrets []store.RegistrySecret
	for _, h := range db.hooks {
		if !h.deleted && (all || slices.Contains(changed.Webhooks, h.ID)) {
			hooks = append(hooks, h.Webhook)
			secrets = append(secrets, store.RegistrySecret{WebhookID: h.ID, SealedSecret: store.SealedSecret{Sealed: h.sealed}})
		}
	}
	var accounts []store.RegistryAccount
	var signing []store.RegistrySigningSecret
	for id, parent := range db.parents {
		accounts = append(accounts, store.RegistryAccount{ID: id, ParentID: parent})
		place := seal.Place{Account: id, Object: id, Column: "signing_secrets.sealed"}
		signing = append(signing, store.RegistrySigningSecret{AccountID: id, SealedSecret: store.SealedSecret{
			ID: id, Sealed: db.rules.w.keyring.Seal(place, []byte("another secret of 24 bytes")),
		}})
	}
	return func(sink store.RegistrySink) {
		if all {
			for _, a := range accounts {
				sink.Account(a)
			}
			for _, t := range eventTypes {
				sink.EventType(fanfare.EventType{Name: t})
			}
		} else {
			sink.Changed(changed)
		}
		for _, w := range hooks {
			sink.Webhook(w)
		}
		for _, s := range secrets {
			sink.Secret(s)
		}
		if all {
			for _, s := range signing {
				sink.SigningSecret(s)
			}
		}
	}
}
