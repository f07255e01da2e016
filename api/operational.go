package api

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// EventBodies make the data of operational events: a webhook and an attempt look there as they do in answers,
// but for the health of the moment.
func EventBodies() *store.EventBodies {
	return &store.EventBodies{Webhook: webhookBody, Exhausted: exhaustedBody, Last: lastBody}
}

func webhookBody(hook *fanfare.Webhook) []byte {
	var w writer
	w.open()
	w.object("webhook")
	writeOwn(&w, hook)
	w.close()
	w.close()
	return w.b
}

// writeOwn writes a webhook where its account is not at hand: a signature that it has from there is null.
func writeOwn(w *writer, hook *fanfare.Webhook) {
	var signed []signature.Scheme
	if hook.Options != nil && hook.Options.Signature != nil {
		signed = schemesOf(hook.Options.Signature)
	}
	writeWebhook(w, hook, signed, nil)
}

func exhaustedBody(hook *fanfare.Webhook, count int, since time.Time, last []byte) []byte {
	var w writer
	w.open()
	w.object("webhook")
	writeOwn(&w, hook)
	w.close()
	w.integer("count", int64(count))
	w.time("since", since)
	w.raw("last", last, "null")
	w.close()
	return w.b
}

func lastBody(a *fanfare.Attempt, eventType string) []byte {
	var w writer
	w.open()
	w.id("event_id", a.EventID)
	w.text("event_type", eventType)
	w.text("reason", string(a.Reason))
	if a.Number == 0 { // it was given up without a request
		w.null("attempt")
	} else {
		w.object("attempt")
		writeAttempt(&w, a)
		w.close()
	}
	w.close()
	return w.b
}

// operationalGroup is the group of the catalog that the types of operational events are in.
const operationalGroup = "Fanfare"

// What receivers of operational events may build on. It says little, since events that another version of a node
// has made must satisfy it, too.
const (
	webhookSchema = `{"type": "object", "required": ["webhook"], "properties": {` + webhookMember + `}}`

	exhaustedSchema = `{"type": "object", "required": ["webhook", "count", "since", "last"], "properties": {` + webhookMember + `,
		"count": {"type": "integer", "minimum": 1, "description": "How many deliveries were given up"},
		"since": {"type": "string", "format": "date-time", "description": "When the first of them was"},
		"last": {"type": "object", "required": ["event_id", "event_type", "reason", "attempt"], "description": "The last of them",
			"properties": {"attempt": {"type": ["object", "null"], "description": "As the API shows it; null if there was no request"}}}}}`

	webhookMember = `"webhook": {"type": "object", "required": ["id", "account_id", "version"], "description": "As the API shows it, without secrets"}`
)

// OperationalTypes are the entries of the catalog for operational events. Their samples are made like the data of
// real ones.
func OperationalTypes() []fanfare.EventType {
	at := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	hook := fanfare.Webhook{
		ID: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000002"), AccountID: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000001"),
		Version: 1, Name: "CRM", URL: "https://example.com/hooks", EventTypes: []string{"call.*", "invoice.paid"},
		Timeout: defaultTimeout, RetrySchedule: retry.Default, MaxInFlight: defaultMaxInFlight, CreatedAt: at, UpdatedAt: at,
	}
	edited, off := hook, hook
	edited.Version, edited.UpdatedAt = 2, at.Add(time.Hour)
	off.Version, off.UpdatedAt = 3, at.Add(2*time.Hour)
	off.Disabled = &fanfare.Disabled{By: fanfare.DisabledByGone, Reason: "the receiver answered 410 Gone", At: off.UpdatedAt}
	given := fanfare.Attempt{
		ID: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000005"), EventID: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000004"),
		WebhookID: hook.ID, AccountID: hook.AccountID, WebhookVersion: 2, Number: 6, Trigger: fanfare.TriggerRetry,
		StartedAt: at.Add(8 * time.Hour), Duration: 21 * time.Millisecond, URL: hook.URL, Method: "POST", Status: 503,
		Verdict: fanfare.VerdictRetry, State: fanfare.Exhausted, Reason: fanfare.ReasonSchedule,
		Error: fanfare.ErrStatus, ErrorDetail: "the receiver answered 503", ResponseBody: []byte("try later"),
		Node: uuid.MustParse("019ca8b2-5c00-7000-8000-000000000003"),
	}
	sample := func(data []byte) []byte { return slices.Concat([]byte("["), data, []byte("]")) }
	return []fanfare.EventType{
		{
			Name: fanfare.EventDeliveryExhausted, Group: operationalGroup, Schema: []byte(exhaustedSchema),
			Samples:     sample(exhaustedBody(&edited, 3, at.Add(8*time.Hour), lastBody(&given, "call.ended"))),
			Description: "Deliveries of a webhook were given up. At most one event a webhook and minute, which says how many and what became of the last of them.",
		},
		{
			Name: fanfare.EventWebhookCreated, Group: operationalGroup, Schema: []byte(webhookSchema), Samples: sample(webhookBody(&hook)),
			Description: "A webhook was created.",
		},
		{
			Name: fanfare.EventWebhookDeleted, Group: operationalGroup, Schema: []byte(webhookSchema), Samples: sample(webhookBody(&edited)),
			Description: "A webhook was deleted; this is what it was.",
		},
		{
			Name: fanfare.EventWebhookDisabled, Group: operationalGroup, Schema: []byte(webhookSchema), Samples: sample(webhookBody(&off)),
			Description: "A webhook was switched off: its member disabled says who did so and why.",
			Modifiers: []byte(`{"by": {"path": "/webhook/disabled/by", "description": "Who switched it off", "values": ` +
				`{"user": "Somebody, through the API", "health": "Fanfare, since it failed for too long", "gone": "Its receiver, by answering 410 Gone"}}}`),
		},
		{
			Name: fanfare.EventWebhookEnabled, Group: operationalGroup, Schema: []byte(webhookSchema), Samples: sample(webhookBody(&edited)),
			Description: "A webhook was switched on again.",
		},
		{
			Name: fanfare.EventWebhookUpdated, Group: operationalGroup, Schema: []byte(webhookSchema), Samples: sample(webhookBody(&edited)),
			Description: "A webhook was changed, or its signing secret was rotated.",
		},
	}
}
