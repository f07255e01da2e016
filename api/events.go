package api

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func (s *Server) listEvents(c *call) (answer, error) {
	q := store.EventQuery{
		Types: c.typesParam("event_type"), Since: c.timeParam("since"), Until: c.timeParam("until"), WithData: c.boolParam("data"),
	}
	p, err := s.page(c, 16, "events")
	if err != nil {
		return answer{}, err
	}
	q.Page = store.Page{Limit: p.limit, After: p.id(0)}
	rows, after, err := s.store.Events(c.r.Context(), c.account, q)
	if err != nil {
		return answer{}, err
	}
	var next []byte
	if after != uuid.Nil {
		next = after[:]
	}
	return p.answer(len(rows), func(w *writer, i int) { writeEvent(w, &rows[i], q.WithData) }, next), nil
}

// event reads the event that the path names, as the path's account sees it.
func (s *Server) event(c *call) (*fanfare.Event, error) {
	id, err := c.pathID("event")
	if err != nil {
		return nil, err
	}
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	return s.store.Event(c.r.Context(), c.account, id)
}

func (s *Server) getEvent(c *call) (answer, error) {
	e, err := s.event(c)
	if err != nil {
		return answer{}, err
	}
	var w writer
	w.open()
	writeEvent(&w, e, true)
	w.close()
	return answer{status: http.StatusOK, body: w.b}, nil
}

func writeEvent(w *writer, e *fanfare.Event, data bool) {
	w.id("id", e.ID)
	w.id("account_id", e.AccountID)
	w.text("type", e.Type)
	if data {
		w.raw("data", e.Data, "{}")
	}
	w.optional("idempotency_key", e.IdempotencyKey)
	w.time("occurred_at", e.OccurredAt)
	w.time("created_at", e.CreatedAt())
	w.time("expunged_at", e.ExpungedAt)
}

func (s *Server) expungeEvent(c *call) (answer, error) {
	id, err := c.pathID("event")
	if err != nil {
		return answer{}, err
	}
	if err := c.decode(); err != nil {
		return answer{}, err
	}
	if err := s.store.Expunge(c.r.Context(), c.account, id); err != nil {
		return answer{}, err
	}
	a, err := s.getEvent(c)
	if err != nil {
		return answer{}, err
	}
	return s.keep(c, a)
}
