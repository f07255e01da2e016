package registry

import (
	"slices"
	"time"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// Webhook is a webhook as it is sent to. It never changes: an edit makes another one. Its Name and
// Metadata are not held in memory.
type Webhook struct {
	fanfare.Webhook
	secrets    []signature.Secret // newest first
	expires    []time.Time        // when each of secrets does, zero for never, none after the one before it; nil: never
	unreadable bool               // a secret of it does not open, by our own fault
}

// Enabled says whether anything may be sent.
func (w *Webhook) Enabled() bool { return w.Disabled == nil }

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
