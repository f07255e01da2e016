package api

import (
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
)

// oneOff is a one-off destination of a publication on its way in.
type oneOff struct {
	fanfare.Destination
	at     string // pointer
	hasURL bool   // it is a string
}

// takeDestinations reads them, but for what depends on the installation and the account.
func (it *item) takeDestinations(v value) {
	var list []oneOff
	v.list(dispatcher.MaxDestinations, func(v value) {
		o := oneOff{at: v.at}
		v.object(field{name: "url", required: true, take: func(v value) { o.URL, o.hasURL = v.text(egress.MaxURL) }})
		list = append(list, o)
	})
	it.targets, it.rawTargets = list, v.raw
}

// checkDestinations names what is wrong with the one-off destinations of publications whose accounts are known,
// and completes the publications.
func (s *Server) checkDestinations(items []item, f *faults) {
	for i := range items {
		it := &items[i]
		if it.targets == nil {
			continue
		}
		it.Destinations = make([]fanfare.Destination, len(it.targets))
		for j := range it.targets {
			o := &it.targets[j]
			if o.hasURL {
				s.checkURL(value{at: o.at + "/url", f: f}, o.URL)
			}
			it.Destinations[j] = o.Destination
		}
	}
}

// signDestinations gives the accounts that publish to their first one-off destination a signing secret.
func (s *Server) signDestinations(c *call, items []item) error {
	var made map[uuid.UUID]bool
	for i := range items {
		it := &items[i]
		if it.targets == nil || made[it.AccountID] || s.registry.Snapshot().Signs(it.AccountID) {
			continue
		}
		if err := s.ensureSigningSecret(c.r.Context(), it.AccountID); err != nil {
			return err
		}
		if made == nil {
			made = make(map[uuid.UUID]bool)
		}
		made[it.AccountID] = true
	}
	if made == nil {
		return nil
	}
	return s.registry.CatchUp(c.r.Context())
}
