package dispatcher

import (
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

func TestOnlyDeliveriesOfAnAccountsOwnEventsToWebhooksAreToldOf(t *testing.T) {
	for name, c := range map[string]struct {
		delivery delivery
		state    fanfare.State
		told     bool
	}{
		"given up":                      {delivery{event: &event{typ: "call.ended"}}, fanfare.Exhausted, true},
		"delivered":                     {delivery{event: &event{typ: "call.ended"}}, fanfare.Delivered, false},
		"still owed":                    {delivery{event: &event{typ: "call.ended"}}, fanfare.Pending, false},
		"not wanted any more":           {delivery{event: &event{typ: "call.ended"}}, fanfare.Discarded, false},
		"a test send":                   {delivery{event: &event{typ: "call.ended", test: true}}, fanfare.Exhausted, false},
		"a one-off destination":         {delivery{event: &event{typ: "call.ended"}, destination: 1}, fanfare.Exhausted, false},
		"an event that tells of others": {delivery{event: &event{typ: fanfare.EventDeliveryExhausted}}, fanfare.Exhausted, false},
		"an event that tells of a webhook": {
			delivery{event: &event{typ: fanfare.EventWebhookDisabled}}, fanfare.Exhausted, false,
		},
	} {
		if got := c.delivery.told(c.state); (got == "call.ended") != c.told || got != "" && !c.told {
			t.Errorf("%s: told of as %q", name, got)
		}
	}
}
