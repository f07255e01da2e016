package registry

import (
	"slices"
	"time"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// Webhook is a webhook as it is sent to. It never changes: an edit makes another one. Its Name, Metadata and
// Wishes are not held in memory as such.
type Webhook struct {
	fanfare.Webhook
	wishes     *wishes            // nil: none
	secrets    []signature.Secret // newest first
	expires    []time.Time        // when each of secrets does, zero for never, none after the one before it; nil: never
	unreadable bool               // a secret of it does not open, by our own fault
}

// Enabled says whether anything may be sent.
func (w *Webhook) Enabled() bool { return w.Disabled == nil }

// Unusable says why a webhook counts as disabled although nobody disabled it: what it wants of events
// cannot be read by this version, so nobody can tell which are its own. It is nil if all is well.
func Unusable(w *fanfare.Webhook) *fanfare.Disabled {
	_, err := readWishes(w)
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

// Secrets are what signs at now, newest first. They are not to be written to. If there are none, the
// current one cannot be opened with the keys that are here: nothing can be sent, and that is not the
// receiver's fault.
func (w *Webhook) Secrets(now time.Time) []signature.Secret {
	valid := len(w.secrets)
	for valid > 0 && w.expires != nil && !w.expires[valid-1].IsZero() && !w.expires[valid-1].After(now) {
		valid--
	}
	return w.secrets[:valid:valid]
}

// addSecret adds one that is older than those before it, and must not outlive them.
func (w *Webhook) addSecret(s signature.Secret, expires time.Time) {
	n := len(w.secrets)
	if w.expires == nil && !expires.IsZero() {
		w.expires = make([]time.Time, n, n+1)
	}
	if w.expires != nil {
		if n > 0 && !w.expires[n-1].IsZero() && (expires.IsZero() || expires.After(w.expires[n-1])) {
			expires = w.expires[n-1]
		}
		w.expires = append(w.expires, expires)
	}
	w.secrets = append(slices.Clip(w.secrets), s)
}
