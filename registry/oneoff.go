package registry

import (
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// Signs says whether an account has a secret of its own, which signs one-off destinations.
func (s *Snapshot) Signs(account uuid.UUID) bool {
	a, ok := s.accounts.get(account)
	return ok && a.signing != nil
}

// OneOff makes of what is known of a one-off destination a webhook that can be sent to: with its account's
// own secrets. It is nil if the account is unknown or deleted. Nobody else has it: it may be written to.
func (s *Snapshot) OneOff(w fanfare.Webhook) *Webhook {
	a, ok := s.accounts.get(w.AccountID)
	if !ok {
		return nil
	}
	made := &Webhook{Webhook: w}
	if a.signing != nil {
		made.secrets = *a.signing
	}
	return made
}

// SendTo says where something goes that [Snapshot.OneOff] made, and how.
func (w *Webhook) SendTo(d *fanfare.Destination) (err error) {
	w.URL = d.URL
	w.request, err = NewRequest(d.Options, nil) // nothing of it is sealed alone
	return err
}
