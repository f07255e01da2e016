package fanfare

// The types of operational events: what happens to webhooks and their deliveries is an event of the
// webhook's account, and is subscribed to by its name or by a prefix of it.
const (
	EventWebhookCreated    = "webhook.created"
	EventWebhookUpdated    = "webhook.updated"
	EventWebhookDeleted    = "webhook.deleted"
	EventWebhookEnabled    = "webhook.enabled"
	EventWebhookDisabled   = "webhook.disabled"
	EventDeliveryExhausted = "delivery.exhausted"
)

// OperationalTypes lists the types of operational events.
func OperationalTypes() []string {
	return []string{
		EventWebhookCreated, EventWebhookUpdated, EventWebhookDeleted, EventWebhookEnabled, EventWebhookDisabled, EventDeliveryExhausted,
	}
}

// Operational says whether events of a type are the service's own. Nobody else publishes them, "*" does
// not choose them, and what becomes of their deliveries is told in no other event.
func Operational(eventType string) bool {
	switch eventType {
	case EventWebhookCreated, EventWebhookUpdated, EventWebhookDeleted, EventWebhookEnabled, EventWebhookDisabled, EventDeliveryExhausted:
		return true
	}
	return false
}
