package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
)

// eventType is what the registry knows of an entry of the catalog. It never changes.
type eventType struct {
	archived  bool
	modifiers []filter.Declared // by name
	places    []int32           // of modifiers, in paths
	paths     *filter.Paths     // nil: no modifiers
	closed    bool              // the modifiers cannot be read: no value that a webhook sets is there
}

// newEventType makes what is known of an entry. With an error it is closed.
func newEventType(t *fanfare.EventType) (*eventType, error) {
	e := &eventType{archived: t.Archived}
	if len(t.Modifiers) == 0 {
		return e, nil
	}
	declared, faults := filter.ParseDeclared(t.Modifiers)
	if len(faults) > 0 {
		e.closed = true
		return e, fmt.Errorf("the modifiers cannot be read: %s", strings.TrimSpace(faults[0].String()))
	}
	d := filter.NoPaths().Draft()
	for _, m := range declared {
		e.places = append(e.places, d.Add(m.Pointer))
	}
	e.modifiers, e.paths = declared, d.Done()
	return e, nil
}

// place is where events of the type have the value of a modifier; below 0: that is not known.
func (e *eventType) place(name string) (place int32, declared bool) {
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
