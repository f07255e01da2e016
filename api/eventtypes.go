package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gorilla/mux"

	"github.com/fanfare-webhooks/fanfare"
)

const maxTypeName = 128

// validName reports whether a name is [a-z0-9_]+(\.[a-z0-9_]+)* of at most 128 bytes.
func validName(name string) bool {
	if len(name) == 0 || len(name) > maxTypeName {
		return false
	}
	dot := true // a part must begin
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_':
			dot = false
		case c == '.' && !dot:
			dot = true
		default:
			return false
		}
	}
	return !dot
}

// validPattern reports whether a pattern is a name, "prefix.*" or "*".
func validPattern(pattern string) bool {
	return pattern == "*" || validName(strings.TrimSuffix(pattern, ".*"))
}

func (s *Server) listEventTypes(c *call) (answer, error) {
	var group *string
	if text, ok := c.param("group"); ok {
		group = &text
		if strings.Contains(text, "\x00") || utf8.RuneCountInString(text) > maxName || !utf8.ValidString(text) {
			c.faults.param("group", codeInvalidText, fmt.Sprintf("is not a text of at most %d characters", maxName))
		}
	}
	p, err := s.page(c, 0, "event-types")
	if err != nil {
		return answer{}, err
	}
	rows, err := s.store.EventTypes(c.r.Context(), group, string(p.place), p.limit+1)
	if err != nil {
		return answer{}, err
	}
	var next []byte
	if len(rows) > p.limit {
		rows = rows[:p.limit]
		next = []byte(rows[p.limit-1].Name)
	}
	return p.answer(len(rows), func(w *writer, i int) { writeEventType(w, &rows[i]) }, next), nil
}

// eventType reads the event type that the path names.
func (s *Server) eventType(c *call) (*fanfare.EventType, error) {
	name := mux.Vars(c.r)["name"]
	if !validName(name) {
		return nil, errNotFound
	}
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	return s.store.EventType(c.r.Context(), name)
}

func (s *Server) getEventType(c *call) (answer, error) {
	t, err := s.eventType(c)
	if err != nil {
		return answer{}, err
	}
	return eventTypeAnswer(t), nil
}

func (s *Server) listSamples(c *call) (answer, error) {
	t, err := s.eventType(c)
	if err != nil {
		return answer{}, err
	}
	var w writer
	w.open()
	w.raw("data", s.samples(c.r.Context(), t), "[]")
	w.close()
	return answer{status: http.StatusOK, body: w.b}, nil
}

// samples are those of an event type, an array of objects. If it has none, there is one that is made from its schema, if
// that is possible.
func (s *Server) samples(ctx context.Context, t *fanfare.EventType) []byte {
	if _, given := firstOf(t.Samples); given || len(t.Schema) == 0 {
		return t.Samples
	}
	// Reading a schema costs much more than using one that was read.
	known := s.registry.Snapshot().EventType(t.Name)
	if known == nil && s.registry.CatchUp(ctx) == nil {
		known = s.registry.Snapshot().EventType(t.Name)
	}
	if known == nil {
		return nil
	}
	made := known.Sample()
	if made == nil {
		return nil
	}
	return slices.Concat([]byte("["), made, []byte("]"))
}

func (s *Server) putEventType(c *call) (answer, error) {
	e := eventTypeEdit{eventType: fanfare.EventType{Name: mux.Vars(c.r)["name"]}}
	if !validName(e.eventType.Name) {
		c.faults.param("name", codeInvalidFormat, detailType)
	}
	readOnly := []field{{name: "name"}, {name: "origin"}, {name: "created_at"}, {name: "updated_at"}}
	if err := c.decode(append(e.fields(), readOnly...)...); err != nil && len(c.faults.list) == 0 { // no JSON
		return answer{}, err
	}
	e.checkSamples(&c.faults)
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	created, err := s.store.PutEventType(c.r.Context(), &e.eventType)
	if err != nil {
		return answer{}, err
	}
	a := eventTypeAnswer(&e.eventType)
	if created {
		a.status, a.location = http.StatusCreated, "/v1/event-types/"+e.eventType.Name
	}
	return a, nil
}

func (s *Server) deleteEventType(c *call) (answer, error) {
	name := mux.Vars(c.r)["name"]
	if !validName(name) {
		return answer{}, errNotFound
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	if err := s.store.DeleteEventType(c.r.Context(), name); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}

func eventTypeAnswer(t *fanfare.EventType) answer {
	var w writer
	w.open()
	writeEventType(&w, t)
	w.close()
	return answer{status: http.StatusOK, body: w.b}
}

func writeEventType(w *writer, t *fanfare.EventType) {
	w.text("name", t.Name)
	w.text("description", t.Description)
	w.text("group", t.Group)
	w.raw("modifiers", t.Modifiers, "{}")
	w.raw("schema", t.Schema, "null")
	w.raw("samples", t.Samples, "[]")
	w.boolean("archived", t.Archived)
	origin := string(t.Origin)
	if t.Origin == fanfare.OriginAPI {
		origin = "api"
	}
	w.text("origin", origin)
	w.time("created_at", t.CreatedAt)
	w.time("updated_at", t.UpdatedAt)
}
