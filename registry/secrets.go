package registry

import (
	"slices"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// secrets are what signs for a webhook, or for an account's one-off destinations.
type secrets struct {
	open       []signature.Secret // newest first
	expires    []time.Time        // when each of them does, zero for never, none after the one before it; nil: never
	unreadable bool               // one, or the value of a header, does not open, by our own fault
}

// Secrets are what signs at now, newest first. They are not to be written to. If there are none, the
// current one, or the value of a header, cannot be opened with the keys that are here: nothing can be sent,
// and that is not the receiver's fault.
func (s *secrets) Secrets(now time.Time) []signature.Secret {
	valid := len(s.open)
	for valid > 0 && s.expires != nil && !s.expires[valid-1].IsZero() && !s.expires[valid-1].After(now) {
		valid--
	}
	return s.open[:valid:valid]
}

// add adds one that is older than those before it, and must not outlive them.
func (s *secrets) add(secret signature.Secret, expires time.Time) {
	n := len(s.open)
	if s.expires == nil && !expires.IsZero() {
		s.expires = make([]time.Time, n, n+1)
	}
	if s.expires != nil {
		if n > 0 && !s.expires[n-1].IsZero() && (expires.IsZero() || expires.After(s.expires[n-1])) {
			expires = s.expires[n-1]
		}
		s.expires = append(s.expires, expires)
	}
	s.open = append(slices.Clip(s.open), secret)
}
