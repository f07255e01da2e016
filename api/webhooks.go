package api

import (
	"errors"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/retry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// SecretColumn is the place's column under which the secrets of webhooks are sealed: the bytes of
// [signature.Secret.Stored], with the webhook's account and id.
const SecretColumn = "webhook_secrets.sealed"

func (s *Server) createWebhook(c *call) (answer, error) {
	e := webhookEdit{s: s}
	if _, err := e.decode(c, true); err != nil {
		return answer{}, err
	}
	if err := e.checkPolicy(c, nil); err != nil {
		return answer{}, err
	}
	hook := &fanfare.Webhook{
		ID: newID(), AccountID: c.account,
		Timeout: defaultTimeout, RetrySchedule: slices.Clone(retry.Default), MaxInFlight: defaultMaxInFlight,
	}
	e.apply(hook)
	e.fit(hook, &c.faults)
	for _, check := range []func(*fanfare.Webhook) error{e.checkSecret, e.checkRoom} {
		if err := e.recheck(c, &c.faults, func() error { return check(hook) }); err != nil {
			return answer{}, err
		}
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	secret, sealed := s.newSecret(e.secret, hook.AccountID, hook.ID)
	build := func() answer {
		var w writer
		w.open()
		s.writeWebhook(&w, hook, new(store.Health))
		w.text("secret", secret.Text())
		w.close()
		return answer{status: http.StatusCreated, body: w.b, location: webhookPath(hook), version: hook.Version}
	}
	err := s.store.CreateWebhook(c.r.Context(), hook, sealed, s.maxWebhooks, s.once(c, build))
	switch {
	case errors.Is(err, store.ErrTooMany):
		err = refuse("", codeTooManyWebhooks, "the account holds as many webhooks as it may")
	default:
		err = e.typesChanged(err)
	}
	return s.done(c, err, build)
}

// errTypeGone is for an event type that was deleted while the request was on its way.
var errTypeGone = refuse("/event_types", codeUnknownType, "names a type that is not in the catalog")

// newSecret makes a secret if none is given, and seals it for a webhook.
func (s *Server) newSecret(given signature.Secret, account, webhook uuid.UUID) (signature.Secret, store.SealedSecret) {
	if given.Text() == "" {
		given = signature.GenerateSecret()
	}
	place := seal.Place{Account: account, Object: webhook, Column: SecretColumn}
	return given, store.SealedSecret{ID: newID(), Sealed: s.keyring.Seal(place, given.Stored())}
}

func webhookPath(w *fanfare.Webhook) string {
	return "/v1/accounts/" + w.AccountID.String() + "/webhooks/" + w.ID.String()
}

func (s *Server) listWebhooks(c *call) (answer, error) {
	p, err := s.page(c, 16, "webhooks")
	if err != nil {
		return answer{}, err
	}
	rows, err := s.store.Webhooks(c.r.Context(), c.account, store.Page{Limit: p.limit + 1, After: p.id(0)})
	if err != nil {
		return answer{}, err
	}
	rows, next := cut(p, rows, func(w *fanfare.Webhook) uuid.UUID { return w.ID })
	health, err := s.store.Health(c.r.Context(), c.account, rows)
	if err != nil {
		return answer{}, err
	}
	return p.answer(len(rows), func(w *writer, i int) { s.writeWebhook(w, &rows[i], &health[i]) }, next), nil
}

func (s *Server) getWebhook(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	hook, err := s.store.Webhook(c.r.Context(), c.account, id)
	if err != nil {
		return answer{}, err
	}
	health, err := s.health(c, hook)
	if err != nil {
		return answer{}, err
	}
	return s.webhookAnswer(hook, health), nil
}

func (s *Server) updateWebhook(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	e := webhookEdit{s: s}
	archived, err := e.decode(c, false)
	if err != nil {
		return answer{}, err
	}
	version, err := c.ifMatch()
	if err != nil {
		return answer{}, err
	}
	var hook *fanfare.Webhook
	err = e.recheck(c, &c.faults, func() (err error) {
		hook, err = s.store.UpdateWebhook(c.r.Context(), c.account, id, version, nil, func(w *fanfare.Webhook) error {
			if err := e.checkPolicy(c, w.Care); err != nil {
				return err
			}
			return e.edit(w, archived)
		})
		return err
	})
	switch {
	case err != nil:
		err = e.typesChanged(err)
	default:
		err = c.faults.err()
	}
	if err != nil {
		return answer{}, err
	}
	health, err := s.health(c, hook)
	if err != nil {
		return answer{}, err
	}
	return s.webhookAnswer(hook, health), nil
}

func (s *Server) deleteWebhook(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	version, err := c.ifMatch()
	if err != nil {
		return answer{}, err
	}
	if err := s.store.DeleteWebhook(c.r.Context(), c.account, id, version); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func (s *Server) webhookAnswer(hook *fanfare.Webhook, health *store.Health) answer {
	var w writer
	w.open()
	s.writeWebhook(&w, hook, health)
	w.close()
	return answer{status: http.StatusOK, body: w.b, version: hook.Version}
}

// writeWebhook writes a webhook as this node has it: with its account's signature, and as disabled if there is no
// room for what it wants of events.
func (s *Server) writeWebhook(w *writer, hook *fanfare.Webhook, health *store.Health) {
	shown := *hook
	if known := s.registry.Snapshot().Webhook(hook.ID); hook.Disabled == nil && known != nil && known.Version == hook.Version {
		shown.Disabled = known.Disabled
	}
	writeWebhook(w, &shown, s.signedBy(hook.Options, hook.AccountID), health)
}

// writeWebhook takes what signs for the webhook, whoever says so; nil: that is not known here, and null.
// Without health that member is left out.
func writeWebhook(w *writer, hook *fanfare.Webhook, signed []signature.Scheme, health *store.Health) {
	w.id("id", hook.ID)
	w.integer("version", hook.Version)
	w.id("account_id", hook.AccountID)
	w.text("name", hook.Name)
	w.text("url", hook.URL)
	w.texts("event_types", hook.EventTypes)
	var wishes fanfare.Wishes
	if hook.Wishes != nil {
		wishes = *hook.Wishes
	}
	w.raw("modifiers", wishes.Modifiers, "{}")
	w.raw("filter", wishes.Filter, "null")
	w.boolean("include_subaccounts", hook.IncludeSubaccounts)
	writeOptions(w, hook, signed)
	w.text("timeout", retry.FormatDuration(hook.Timeout))
	w.list("retry_schedule")
	for _, step := range hook.RetrySchedule {
		w.separate()
		w.quoted(retry.FormatDuration(step))
	}
	w.endList()
	w.integer("max_in_flight", int64(hook.MaxInFlight))
	if l := hook.RateLimit; l.Count == 0 {
		w.null("rate_limit")
	} else {
		w.object("rate_limit")
		w.integer("count", int64(l.Count))
		w.text("per", retry.FormatDuration(l.Per))
		w.close()
	}
	var care fanfare.Care
	if hook.Care != nil {
		care = *hook.Care
	}
	w.texts("notification_emails", care.Emails)
	w.raw("health_policy", care.Policy, "null")
	w.raw("metadata", hook.Metadata, "{}")
	d := hook.Disabled
	if d == nil {
		d = registry.Unusable(hook)
	}
	w.boolean("enabled", d == nil)
	if d == nil {
		w.null("disabled")
	} else {
		w.object("disabled")
		w.text("by", d.By)
		w.text("reason", d.Reason)
		w.time("at", d.At)
		w.raw("evidence", []byte(d.Evidence), "null")
		w.close()
	}
	if health != nil {
		writeHealth(w, d == nil, health)
	}
	w.time("created_at", hook.CreatedAt)
	w.time("updated_at", hook.UpdatedAt)
}
