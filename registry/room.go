package registry

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
)

// What the webhooks of one account that look into events may cost each of its events: memory for the places
// that their filters name, and time for those that no value leads to.
const (
	maxPlaces  = 20_000
	maxAsked   = 500
	hardPlaces = 2 * maxPlaces // for those that came at the same time; beyond it a webhook counts as disabled
)

// Full says why an account has no room for a webhook that is new or was edited, for people; "" if it has.
// What it answers is only as new as the snapshot.
func (s *Snapshot) Full(w *fanfare.Webhook) string {
	a, ok := s.accounts.get(w.AccountID)
	if !ok || a.selection == nil {
		return ""
	}
	wishes, err := readWishes(w)
	if err != nil || wishes == nil {
		return ""
	}
	had := a.selection.chooser(w.ID)
	if a.selection.asked >= maxAsked && (had == nil || had.asked() == 0) && wishes.demanding() && !wishes.findable(w.EventTypes) {
		return fmt.Sprintf("has no equality to be found by, so that it costs every event, and the account has %d such webhooks already", maxAsked)
	}
	if !a.selection.holds(wishes, w.ID) {
		return fmt.Sprintf("makes the filters of the account look at more than %d places", maxPlaces)
	}
	return ""
}

// holds says whether there is room for the places of a webhook, with which another version of it goes.
func (s *selection) holds(w *wishes, id uuid.UUID) bool {
	d := s.paths.Draft()
	if w.fits(d, maxPlaces) {
		return true
	}
	places := d.Bind(w.filter) // and now without what nobody looks at any more
	return d.Done().Count(func(yield func([]int32) bool) {
		for c := range s.choosers {
			if c.webhook.ID != id && !yield(c.places) {
				return
			}
		}
		yield(places)
	}) <= maxPlaces
}

// roomy says whether the places of webhooks surely fit beside all that paths has.
func (s *selection) roomy(added []*Webhook) bool {
	n, d := s.paths.Len(), s.paths.Draft()
	for _, w := range added {
		if f := w.wishes.filter; f != nil {
			n += d.Grown(f) - s.paths.Len()
		}
	}
	return n <= hardPlaces
}

// fits says whether there are at most so many places with those of w, or none that are new.
func (w *wishes) fits(d *filter.Draft, most int) bool {
	if w.filter == nil {
		return true
	}
	n := d.Grown(w.filter)
	return n <= most || n == d.Len()
}

// demanding says whether there are events that are not wanted.
func (w *wishes) demanding() bool {
	return w.filter != nil && !w.filter.Empty() || len(w.modifiers) > 0
}

// findable says whether a value leads to a webhook with these patterns.
func (w *wishes) findable(patterns []string) bool {
	if w.filter != nil {
		for _, e := range w.filter.Equalities() {
			if findable(e.Values, patterns) {
				return true
			}
		}
	}
	for _, m := range w.modifiers {
		if findable(m.Values, patterns) {
			return true
		}
	}
	return false
}
