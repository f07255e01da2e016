package registry

import (
	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
)

// Webhook is a webhook as it is sent to. It never changes: an edit makes another one. Its Name, Metadata,
// Wishes and Options are not held in memory as such.
type Webhook struct {
	fanfare.Webhook
	wishes  *wishes  // nil: none
	request *Request // nil: as by default
	secrets
}

// Enabled says whether anything may be sent.
func (w *Webhook) Enabled() bool { return w.Disabled == nil }

// Unusable says why a webhook counts as disabled although nobody disabled it: what it wants of events, or how
// it wants them sent, cannot be read by this version. It is nil if all is well.
func Unusable(w *fanfare.Webhook) *fanfare.Disabled {
	_, err := readWishes(w)
	if err == nil {
		_, err = NewRequest(w.Options, func(*fanfare.Header) (string, error) { return "", nil })
	}
	if err == nil || w.Disabled != nil {
		return nil
	}
	return unusable(w, err)
}

func unusable(w *fanfare.Webhook, err error) *fanfare.Disabled {
	return &fanfare.Disabled{By: fanfare.DisabledByFilter, Reason: err.Error(), At: w.UpdatedAt}
}

// wishes is what webhooks want of events beyond their types, in the form that is matched. It never changes.
type wishes struct {
	filter    *filter.Filter  // nil: none
	modifiers []filter.Choice // by name
}

// readWishes answers nil if a webhook has none.
func readWishes(w *fanfare.Webhook) (read *wishes, err error) {
	if w.Wishes == nil {
		return nil, nil
	}
	read = &wishes{}
	if len(w.Wishes.Canonical) > 0 {
		if read.filter, err = filter.ParseStored(w.Wishes.Canonical); err != nil {
			return nil, err
		}
	}
	if len(w.Wishes.Modifiers) > 0 {
		if read.modifiers, err = filter.ParseStoredChoices(w.Wishes.Modifiers); err != nil {
			return nil, err
		}
	}
	return read, nil
}
