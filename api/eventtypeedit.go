package api

import (
	"errors"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
	"github.com/fanfare-webhooks/fanfare/internal/schema"
)

const (
	maxDescription = 4000 // characters
	maxSamples     = 20
	maxSample      = maxData // bytes: a sample is data
)

// eventTypeEdit reads an entry of the catalog, member by member.
type eventTypeEdit struct {
	eventType fanfare.EventType
	schema    *schema.Schema // nil: none, or not sound
	samples   []value
}

func (e *eventTypeEdit) fields() []field {
	t := &e.eventType
	text := func(to *string, most int) func(value) {
		return func(v value) {
			if !v.null() {
				*to, _ = v.text(most)
			}
		}
	}
	return []field{
		{name: "description", take: text(&t.Description, maxDescription)},
		{name: "group", take: text(&t.Group, maxName)},
		{name: "modifiers", take: func(v value) {
			if !v.null() {
				_, wrong := filter.ParseDeclared(v.raw)
				v.filterFaults(wrong)
				t.Modifiers = v.raw
			}
		}},
		{name: "schema", take: e.takeSchema},
		{name: "samples", take: func(v value) {
			if !v.null() && v.list(maxSamples, e.takeSample) {
				t.Samples = v.raw
			}
		}},
		{name: "archived", take: func(v value) {
			if !v.null() {
				t.Archived, _ = v.boolean()
			}
		}},
	}
}

func (e *eventTypeEdit) takeSchema(v value) {
	if v.null() {
		return
	}
	if _, sound := v.json(schema.MaxSize); sound {
		var wrong []schema.Fault
		e.schema, wrong = schema.Parse(v.raw)
		v.schemaFaults(wrong)
	}
	e.eventType.Schema = v.raw
}

func (e *eventTypeEdit) takeSample(v value) {
	if _, sound := v.json(maxSample); sound {
		e.samples = append(e.samples, v)
	}
}

// checkSamples adds what is wrong with samples by the schema, when both were read.
func (e *eventTypeEdit) checkSamples(f *faults) {
	if e.schema == nil {
		return
	}
	budget := schema.NewBudget()
	for _, v := range e.samples {
		value{at: v.at, f: f}.schemaFaults(e.schema.Check(v.raw, budget))
	}
}

// schemaFaults adds faults of what v is, at their places below it.
func (v value) schemaFaults(wrong []schema.Fault) {
	for _, f := range wrong {
		v.f.at(v.at+f.Pointer, code(f.Code), f.Detail)
	}
}

// Fault is one thing that is wrong with JSON.
type Fault struct {
	Pointer string // RFC 6901; "": the whole
	Detail  string // for people: "must be an object"
}

// ParseEventType reads an entry of the catalog as PUT does, with the same faults, all of them. The entry
// refers to body, which must not be written to any more.
func ParseEventType(name string, body []byte) (fanfare.EventType, []Fault) {
	e := eventTypeEdit{eventType: fanfare.EventType{Name: name}}
	var f faults
	if !validName(name) {
		f.at("", codeInvalidFormat, "has a name that is none: "+detailType)
	}
	var p *problem
	if err := decode(body, e.fields()...); errors.As(err, &p) {
		if len(p.faults) == 0 { // no JSON
			return e.eventType, []Fault{{Detail: p.detail}}
		}
		f.list = append(f.list, p.faults...)
	}
	e.checkSamples(&f)
	var list []Fault
	for _, x := range f.list {
		list = append(list, Fault{x.pointer, x.detail})
	}
	return e.eventType, list
}
