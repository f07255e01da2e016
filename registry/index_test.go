package registry

import (
	"slices"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Whoever wants everything wants what happens in its account, not what happens to its webhooks: that is chosen
// by name.
func TestAStarDoesNotChooseOperationalEvents(t *testing.T) {
	for _, c := range []struct {
		patterns  []string
		eventType string
		chosen    bool
	}{
		{[]string{"*"}, "invoice.paid", true},
		{[]string{"*"}, "webhook.received", true}, // a platform's own type of that prefix
		{[]string{"*"}, fanfare.EventWebhookDisabled, false},
		{[]string{"webhook.*"}, fanfare.EventWebhookDisabled, true},
		{[]string{"webhook.disabled"}, fanfare.EventWebhookDisabled, true},
		{[]string{"webhook.disabled"}, fanfare.EventWebhookEnabled, false},
		{[]string{"*", "webhook.*"}, fanfare.EventWebhookDisabled, true},
		{[]string{"*", "webhook.*"}, "webhook.received", true},
		{[]string{"webhook.*", "webhook.disabled", "*", "invoice.paid"}, fanfare.EventWebhookDisabled, true},
		{[]string{"*", "webhook.disabled"}, "invoice.paid", true},
		{[]string{"delivery.*"}, fanfare.EventDeliveryExhausted, true},
		{[]string{"delivery.*"}, fanfare.EventWebhookCreated, false},
	} {
		for name, wishes := range map[string]*fanfare.Wishes{"every event": nil, "events with a value": {Canonical: []byte(`{"data":{"id":1}}`)}} {
			u := newUpdate(new(Snapshot), nil, noSecrets)
			u.Account(store.RegistryAccount{ID: benchID(1, 0)})
			w := benchWebhook(1, 1, 1)
			w.EventTypes, w.Wishes = c.patterns, wishes
			u.Webhook(w)
			matched := u.done(1).Match(nil, benchID(1, 0), c.eventType, []byte(`{"id":1}`))
			if (len(matched) == 1) != c.chosen || len(matched) > 1 {
				t.Errorf("a webhook that wants %s of %q gets %s %d times", name, c.patterns, c.eventType, len(matched))
			}
		}
		if slices.ContainsFunc(c.patterns, func(p string) bool { return Chooses(p, c.eventType) }) != c.chosen {
			t.Errorf("%q are said to choose %s: %v", c.patterns, c.eventType, !c.chosen)
		}
	}
}
