package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

const (
	maxReason      = 500 // characters
	maxOverlap     = 7 * 24 * time.Hour
	defaultOverlap = 24 * time.Hour
	// testType is the event type of a test send to a webhook that matches nothing in the catalog.
	testType = "fanfare.test"
	// sendMargin is what a test send may take beyond the webhook's timeout.
	sendMargin = 15 * time.Second
)

// errUnchanged ends an edit that has nothing to do.
var errUnchanged = errors.New("nothing to change")

func (s *Server) enableWebhook(c *call) (answer, error) {
	return s.switchWebhook(c, func(w *fanfare.Webhook) error {
		if w.Disabled == nil {
			return errUnchanged
		}
		w.Disabled = nil
		return nil
	})
}

func (s *Server) disableWebhook(c *call) (answer, error) {
	var reason string
	return s.switchWebhook(c, func(w *fanfare.Webhook) error {
		if w.Disabled != nil {
			return errUnchanged
		}
		w.Disabled = &fanfare.Disabled{By: fanfare.DisabledByUser, Reason: reason}
		return nil
	}, field{name: "reason", take: func(v value) {
		if !v.null() {
			reason, _ = v.text(maxReason)
		}
	}})
}

func (s *Server) switchWebhook(c *call, edit func(*fanfare.Webhook) error, fields ...field) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	if err := c.decode(fields...); err != nil {
		return answer{}, err
	}
	version, err := c.ifMatch()
	if err != nil {
		return answer{}, err
	}
	was, err := s.store.Webhook(c.r.Context(), c.account, id)
	if err != nil {
		return answer{}, err
	}
	health, err := s.health(c, was)
	if err != nil {
		return answer{}, err
	}
	var hook *fanfare.Webhook // what the store edits and completes
	build := func() answer {
		if was.Disabled != nil && hook.Disabled == nil {
			health = new(store.Health) // counters begin anew
		}
		return s.webhookAnswer(hook, health)
	}
	_, err = s.store.UpdateWebhook(c.r.Context(), c.account, id, version, s.once(c, build), func(w *fanfare.Webhook) error {
		hook = w
		return edit(w)
	})
	if errors.Is(err, errUnchanged) {
		return build(), nil
	}
	return s.done(c, err, build)
}

func (s *Server) testWebhook(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	var name string
	err = c.decode(field{name: "event_type", take: func(v value) {
		if v.null() {
			return
		}
		var ok bool
		if name, ok = v.text(maxTypeName); ok && !validName(name) {
			v.fault(codeInvalidFormat, detailType)
		}
	}})
	if err != nil {
		return answer{}, err
	}
	lookup, cancel := context.WithTimeout(c.r.Context(), callTimeout)
	defer cancel()
	hook, err := s.store.Webhook(lookup, c.account, id)
	if err != nil {
		return answer{}, err
	}
	eventType, err := s.testEventType(lookup, hook, name)
	if errors.Is(err, store.ErrNotFound) {
		err = refuse("/event_type", codeUnknownType, "is not in the catalog")
	}
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), hook.Timeout+sendMargin)
	defer cancel()
	// The server's deadline for reading a request would end ctx before a slow receiver's time is up.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	sample, ok := firstOf(s.samples(lookup, eventType))
	if !ok {
		sample = []byte("{}")
	}
	attempt, err := s.publisher.Test(ctx, c.account, id, eventType.Name, sample)
	if err != nil {
		return answer{}, err
	}
	var w writer
	w.open()
	writeAttempt(&w, attempt)
	w.close()
	return s.keep(c, answer{status: http.StatusOK, body: w.b})
}

// testEventType is the named event type, or else the first that the webhook chooses: by name, or by
// what in the catalog its patterns match. The error is [store.ErrNotFound] for a name.
func (s *Server) testEventType(ctx context.Context, hook *fanfare.Webhook, name string) (*fanfare.EventType, error) {
	if name != "" {
		return s.store.EventType(ctx, name)
	}
	for _, p := range hook.EventTypes {
		if !validName(p) {
			continue
		}
		if t, err := s.store.EventType(ctx, p); !errors.Is(err, store.ErrNotFound) {
			return t, err
		}
	}
	for _, p := range hook.EventTypes {
		// Names under a prefix stand together in the catalog's order: the first one after it, if any, that is
		// chosen.
		prefix := strings.TrimSuffix(p, "*")
		types, err := s.store.EventTypes(ctx, nil, prefix, 1+len(fanfare.OperationalTypes()))
		if err != nil {
			return nil, err
		}
		for i := range types {
			if strings.HasPrefix(types[i].Name, prefix) && registry.Chooses(p, types[i].Name) {
				return &types[i], nil
			}
		}
	}
	return &fanfare.EventType{Name: testType}, nil
}

// firstOf is the first element of an array.
func firstOf(list []byte) (first []byte, ok bool) {
	i := skipSpace(list, 0)
	if i == len(list) {
		return nil, false
	}
	e := elements{b: list, i: i, depth: maxDepth}
	return e.next()
}

func (s *Server) listSecrets(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	sealed, err := s.store.WebhookSecrets(c.r.Context(), c.account, id)
	if err != nil {
		return answer{}, err
	}
	return s.secretsAnswer(sealed, func(*store.SealedSecret) seal.Place {
		return seal.Place{Account: c.account, Object: id, Column: SecretColumn}
	})
}

func (s *Server) rotateSecret(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	overlap, err := c.overlap()
	if err != nil {
		return answer{}, err
	}
	secret, sealed := s.newSecret(signature.Secret{}, c.account, id)
	build := func() answer { return newSecretAnswer(sealed.ID, secret) }
	err = s.store.RotateWebhookSecret(c.r.Context(), c.account, id, sealed, overlap, s.once(c, build))
	if errors.Is(err, store.ErrTooMany) {
		err = errManySecrets
	}
	return s.done(c, err, build)
}
