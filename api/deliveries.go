package api

import (
	"bytes"
	"encoding/base64"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

var (
	everyState = []fanfare.State{fanfare.Pending, fanfare.Delivered, fanfare.Exhausted, fanfare.Discarded}
	troubled   = []fanfare.State{fanfare.Pending, fanfare.Exhausted, fanfare.Discarded}
)

func (s *Server) listDeliveries(c *call) (answer, error) {
	return s.deliveries(c, store.DeliveryQuery{States: c.statesParam(troubled...)}, "deliveries")
}

func (s *Server) listEventDeliveries(c *call) (answer, error) {
	states := c.statesParam(everyState...)
	e, err := s.event(c)
	if err != nil {
		return answer{}, err
	}
	return s.deliveries(c, store.DeliveryQuery{EventID: uuid.NullUUID{UUID: e.ID, Valid: true}, States: states},
		"event deliveries", e.ID.String())
}

func (s *Server) listWebhookDeliveries(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	q := store.DeliveryQuery{WebhookID: uuid.NullUUID{UUID: id, Valid: true}, States: c.statesParam(everyState...)}
	return s.deliveries(c, q, "webhook deliveries", id.String())
}

func (s *Server) deliveries(c *call, q store.DeliveryQuery, what ...string) (answer, error) {
	q.AccountID = c.account
	q.EventTypes = c.typesParam("event_type")
	q.Since, q.Until = c.timeParam("since"), c.timeParam("until")
	p, err := s.page(c, 32, what...)
	if err != nil {
		return answer{}, err
	}
	q.Limit = p.limit
	if p.place != nil {
		q.After = store.DeliveryCursor{EventID: p.id(0), WebhookID: p.id(1)}
	}
	rows, after, err := s.store.Deliveries(c.r.Context(), q)
	if err != nil {
		return answer{}, err
	}
	s.countUnaccounted(rows)
	if len(rows) == 0 && q.WebhookID.Valid {
		if err := s.mustHave(c, q.WebhookID.UUID); err != nil {
			return answer{}, err
		}
	}
	var next []byte
	if after != nil {
		next = slices.Concat(after.EventID[:], after.WebhookID[:])
	}
	return p.answer(len(rows), func(w *writer, i int) { writeDelivery(w, &rows[i]) }, next), nil
}

// countUnaccounted looks for deliveries without a state, which only a fault of ours can make.
func (s *Server) countUnaccounted(rows []fanfare.Delivery) {
	for i := range rows {
		if d := &rows[i]; d.State == "" {
			s.metrics.unaccounted.Inc()
			s.log.Error("a delivery has no state", "event", d.EventID, "webhook", d.WebhookID)
		}
	}
}

// mustHave answers an error if the path's account has no such webhook. It is for lists that came back
// empty: those of a deleted webhook stay, and it is found by them.
func (s *Server) mustHave(c *call, webhook uuid.UUID) error {
	_, err := s.store.Webhook(c.r.Context(), c.account, webhook)
	return err
}

func writeDelivery(w *writer, d *fanfare.Delivery) {
	w.id("event_id", d.EventID)
	w.text("event_type", d.EventType)
	w.receiver(d.WebhookID, d.Destination)
	w.id("account_id", d.AccountID)
	w.text("state", string(d.State))
	w.optional("reason", string(d.Reason))
	w.integer("attempts", int64(d.Attempts))
	if d.LastAttempt == nil {
		w.null("last_attempt")
	} else {
		w.object("last_attempt")
		writeAttempt(w, d.LastAttempt)
		w.close()
	}
	w.time("next_attempt_at", d.NextAttemptAt)
	w.time("created_at", fanfare.EventTime(d.EventID))
}

// receiver tells whom something was for: a webhook, or the one-off destination at a place counted from 1.
func (w *writer) receiver(webhook uuid.UUID, place int) {
	if place > 0 {
		w.null("webhook_id")
		w.integer("destination", int64(place-1))
	} else {
		w.id("webhook_id", webhook)
		w.null("destination")
	}
}

func (s *Server) listWebhookAttempts(c *call) (answer, error) {
	id, err := c.pathID("webhook")
	if err != nil {
		return answer{}, err
	}
	p, err := s.page(c, 32, "webhook attempts", id.String())
	if err != nil {
		return answer{}, err
	}
	rows, after, err := s.store.Attempts(c.r.Context(), c.account, id, attemptPlace(p), p.limit)
	if err != nil {
		return answer{}, err
	}
	if len(rows) == 0 {
		if err := s.mustHave(c, id); err != nil {
			return answer{}, err
		}
	}
	return attempts(p, rows, after), nil
}

func (s *Server) listEventAttempts(c *call) (answer, error) {
	e, err := s.event(c)
	if err != nil {
		return answer{}, err
	}
	p, err := s.page(c, 32, "event attempts", e.ID.String())
	if err != nil {
		return answer{}, err
	}
	rows, after, err := s.store.EventAttempts(c.r.Context(), c.account, e.ID, attemptPlace(p), p.limit)
	if err != nil {
		return answer{}, err
	}
	return attempts(p, rows, after), nil
}

func (s *Server) listErrors(c *call) (answer, error) {
	q := store.ErrorQuery{
		WebhookID: c.idParam("webhook_id"), Codes: c.codesParam(), Statuses: c.statusParam(), EventTypes: c.typesParam("event_type"),
	}
	p, err := s.page(c, 16, "errors")
	if err != nil {
		return answer{}, err
	}
	q.Page = store.Page{Limit: p.limit, After: p.id(0)}
	rows, after, err := s.store.Errors(c.r.Context(), c.account, q)
	if err != nil {
		return answer{}, err
	}
	var next []byte
	if after != uuid.Nil {
		next = after[:]
	}
	return p.answer(len(rows), func(w *writer, i int) { writeAttempt(w, &rows[i]) }, next), nil
}

func attemptPlace(p *page) store.AttemptCursor {
	if p.place == nil {
		return store.AttemptCursor{}
	}
	return store.AttemptCursor{EventID: p.id(0), ID: p.id(1)}
}

func attempts(p *page, rows []fanfare.Attempt, after *store.AttemptCursor) answer {
	var next []byte
	if after != nil {
		next = slices.Concat(after.EventID[:], after.ID[:])
	}
	return p.answer(len(rows), func(w *writer, i int) { writeAttempt(w, &rows[i]) }, next)
}

func writeAttempt(w *writer, a *fanfare.Attempt) {
	w.id("id", a.ID)
	w.id("event_id", a.EventID)
	w.receiver(a.WebhookID, a.Destination)
	if a.Destination > 0 {
		w.null("webhook_version")
	} else {
		w.integer("webhook_version", a.WebhookVersion)
	}
	w.integer("number", int64(a.Number))
	w.text("trigger", string(a.Trigger))
	w.time("started_at", a.StartedAt)
	w.milliseconds("duration_ms", a.Duration)
	w.text("url", a.URL)
	w.text("method", a.Method)
	if a.Status == 0 {
		w.null("status")
	} else {
		w.integer("status", int64(a.Status))
	}
	w.text("verdict", string(a.Verdict))
	w.text("state", string(a.State))
	w.optional("reason", string(a.Reason))
	if a.Error == "" {
		w.null("error")
	} else {
		w.object("error")
		w.text("code", string(a.Error))
		w.text("detail", a.ErrorDetail)
		w.text("hint", hint(a))
		w.close()
	}
	w.list("response_headers")
	for line := range bytes.Lines(a.ResponseHeaders) {
		name, text, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte{':'})
		w.open()
		w.text("name", string(name))
		w.text("value", string(bytes.TrimSpace(text)))
		w.close()
	}
	w.endList()
	if utf8.Valid(a.ResponseBody) {
		w.text("response_body", string(a.ResponseBody))
		w.text("response_body_encoding", "utf8")
	} else {
		w.text("response_body", base64.StdEncoding.EncodeToString(a.ResponseBody))
		w.text("response_body_encoding", "base64")
	}
	w.time("retry_at", a.RetryAt)
	w.id("node", a.Node)
}
