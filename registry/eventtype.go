package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
	"github.com/fanfare-webhooks/fanfare/internal/schema"
)

// EventType is what the registry knows of an entry of the catalog. It never changes.
type EventType struct {
	archived  bool
	modifiers []filter.Declared // by name
	places    []int32           // of modifiers, in paths
	paths     *filter.Paths     // nil: no modifiers
	closed    bool              // the modifiers cannot be read: no value that a webhook sets is there
	schema    *schema.Schema    // nil: any data is fine
	unchecked bool              // there is a schema that cannot be read
}

// newEventType makes what is known of an entry. With the first error it is closed, with the second one it is
// unchecked.
func newEventType(t *fanfare.EventType) (e *EventType, closed, unchecked error) {
	e = &EventType{archived: t.Archived}
	if len(t.Schema) > 0 {
		var faults []schema.Fault
		if e.schema, faults = schema.Parse(t.Schema); len(faults) > 0 {
			e.unchecked = true
			unchecked = fmt.Errorf("the schema cannot be read: %s", strings.TrimSpace(faults[0].String()))
		}
	}
	if len(t.Modifiers) == 0 {
		return e, nil, unchecked
	}
	declared, faults := filter.ParseDeclared(t.Modifiers)
	if len(faults) > 0 {
		e.closed = true
		return e, fmt.Errorf("the modifiers cannot be read: %s", strings.TrimSpace(faults[0].String())), unchecked
	}
	d := filter.NoPaths().Draft()
	for _, m := range declared {
		e.places = append(e.places, d.Add(m.Pointer))
	}
	e.modifiers, e.paths = declared, d.Done()
	return e, nil, unchecked
}

// Archived says whether the type takes no new webhooks.
func (e *EventType) Archived() bool { return e.archived }

// Check names what is wrong with the data of an event of this type, with pointers into the data. One without
// a schema finds nothing, and neither does one whose schema cannot be read: what was fine with the version
// that took it in is not refused by another.
func (e *EventType) Check(data []byte, b *schema.Budget) []schema.Fault {
	if e.schema == nil {
		return nil
	}
	return e.schema.Check(data, b)
}

// Sample makes data that satisfies the type's schema; nil if there is none, or none that is easily satisfied.
func (e *EventType) Sample() []byte {
	if e.schema == nil {
		return nil
	}
	return e.schema.Sample()
}

// Checked says whether the type has a schema to check data against.
func (e *EventType) Checked() bool { return e.schema != nil }

// place is where events of the type have the value of a modifier; below 0: that is not known.
func (e *EventType) place(name string) (place int32, declared bool) {
	if e == nil {
		return -1, false
	}
	if e.closed {
		return -1, true
	}
	i, found := slices.BinarySearchFunc(e.modifiers, name, func(d filter.Declared, name string) int { return cmp.Compare(d.Name, name) })
	if !found {
		return -1, false
	}
	return e.places[i], true
}

// Chosen lists the event types that patterns choose, by name, with what they declare.
func (s *Snapshot) Chosen(patterns []string) []filter.Chosen {
	var list []filter.Chosen
	for name, t := range s.types {
		exact := slices.Contains(patterns, name)
		if exact || chosen(patterns, name) {
			list = append(list, filter.Chosen{Name: name, Exact: exact, Modifiers: t.modifiers})
		}
	}
	slices.SortFunc(list, func(a, b filter.Chosen) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
