package api

import (
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
)

// oneOff is a one-off destination of a publication on its way in.
type oneOff struct {
	at   string // pointer
	f    *faults
	url  value // the zero value if it is not there
	edit webhookEdit
}

// takeDestinations reads them, but for what depends on the installation and the account.
func (it *item) takeDestinations(v value) {
	var list []oneOff
	v.list(dispatcher.MaxDestinations, func(v value) {
		o := oneOff{at: v.at, f: v.f}
		v.object(append(o.edit.options(), field{name: "url", required: true, take: func(v value) { o.url = v }})...)
		list = append(list, o)
	})
	it.targets, it.rawTargets = list, v.raw
}

// checkDestinations names what is wrong with the one-off destinations of publications whose accounts are known,
// and completes the publications.
func (s *Server) checkDestinations(items []item) {
	for i := range items {
		it := &items[i]
		if it.targets == nil {
			continue
		}
		it.Destinations = make([]fanfare.Destination, len(it.targets))
		for j := range it.targets {
			w := it.targets[j].webhook(s, it.AccountID)
			it.Destinations[j] = fanfare.Destination{URL: w.URL, Options: w.Options}
		}
	}
}

// webhook is the webhook that a one-off destination would be. Unlike a webhook's the values of its headers are
// not sealed: all of a destination is.
func (o *oneOff) webhook(s *Server, account uuid.UUID) *fanfare.Webhook {
	w := &fanfare.Webhook{AccountID: account}
	o.edit.s = s
	if o.url.given() {
		o.edit.takeURL(o.url)
	}
	o.edit.apply(w)
	if w.Options == nil && o.edit.headers == nil {
		return w
	}
	options := optionsOf(w)
	for _, h := range o.edit.headers {
		options.Headers = append(options.Headers, fanfare.Header{Name: h.Name, Value: h.Value})
		if h.Kept {
			o.f.at(o.at+"/headers/"+escapePointer(h.Name)+"/secret", codeInvalidValue, "is null, and there is no secret to keep")
		}
	}
	o.edit.clashes(w, o.at, o.f)
	return w
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
