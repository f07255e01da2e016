package dispatcher

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// target is who is sent an event and how: a webhook, or a one-off destination.
type target struct {
	webhook uuid.UUID // nil: none
	account uuid.UUID
	url     string
	timeout time.Duration
	how     *registry.Request  // nil: as by default
	schemes []signature.Scheme // what signs if how does not say; nil: Standard
	secrets []signature.Secret // newest first, at least one
}

// request makes the request of an attempt, the number counted from 1. Its body, and a GET's URL, depend on
// the event and the target alone, so that every try sends the same. An error says, for the owner of the
// target, why the event cannot be sent to it, now or ever.
func (t *target) request(e *fanfare.Event, number int, now time.Time) (*egress.Request, error) {
	how := t.how
	if how == nil {
		how = &asByDefault
	}
	body, err := how.Shape.Write(e)
	if err != nil {
		return nil, err
	}
	id, attempt := e.ID.String(), strconv.Itoa(number)
	h := make([]egress.Field, 0, 8+len(how.Headers))
	h = append(
		h,
		egress.Field{Name: signature.HeaderID, Value: id},
		egress.Field{Name: signature.HeaderTimestamp, Value: strconv.FormatInt(now.Unix(), 10)},
	)
	schemes := how.Schemes
	if schemes == nil {
		schemes = t.schemes
	}
	if schemes == nil {
		schemes = standard
	}
	for i := range schemes {
		if schemes[i].Algorithm == signature.Standard {
			h = append(h, egress.Field{Name: signature.HeaderSignature, Value: signature.Sign(id, now, body, t.secrets...)})
			continue
		}
		for name, value := range schemes[i].Headers(id, now, body, t.secrets...) {
			h = append(h, egress.Field{Name: name, Value: value})
		}
	}
	signed := len(h)
	if kind := how.Shape.ContentType(); kind != "" {
		h = append(h, egress.Field{Name: "Content-Type", Value: kind})
	}
	account := t.account.String()
	var webhook string
	if t.webhook != uuid.Nil {
		webhook = t.webhook.String()
		h = append(h, egress.Field{Name: "X-Fanfare-Webhook-Id", Value: webhook})
	}
	h = append(
		h,
		egress.Field{Name: "X-Fanfare-Account-Id", Value: account},
		egress.Field{Name: "X-Fanfare-Event-Type", Value: e.Type},
		egress.Field{Name: "X-Fanfare-Attempt", Value: attempt},
	)
	if len(how.Headers) > 0 {
		values := shape.Values{WebhookID: webhook, AccountID: account, EventID: id, EventType: e.Type, Attempt: attempt}
		for i := range how.Headers {
			// An account's default may have taken the name since: receivers check the signature.
			if name := how.Headers[i].Name; slices.ContainsFunc(h[:signed], func(f egress.Field) bool { return strings.EqualFold(f.Name, name) }) {
				continue
			}
			h = append(h, egress.Field{Name: how.Headers[i].Name, Value: how.Headers[i].Value.Fill(&values)})
		}
	}
	r := &egress.Request{Method: how.Method, URL: t.url, Header: h, Body: body, Timeout: t.timeout}
	if how.Method == http.MethodGet {
		r.URL, r.Body = shape.Query(t.url, body), nil
	}
	return r, nil
}

var (
	asByDefault = registry.Request{Method: http.MethodPost}
	standard    = []signature.Scheme{{Algorithm: signature.Standard}}
)

// request makes the request of a delivery, or says why there is none. What stands for a one-off destination
// learns by it where it goes.
func (d *Dispatcher) request(dl *delivery, w *registry.Webhook) (*egress.Request, *egress.Result) {
	now := time.Now()
	own := func(detail string) (*egress.Request, *egress.Result) {
		return nil, &egress.Result{StartedAt: now, Error: fanfare.ErrOwn, Detail: detail, OwnFault: true}
	}
	reject := func(detail string) (*egress.Request, *egress.Result) {
		return nil, &egress.Result{StartedAt: now, Error: fanfare.ErrRequest, Detail: detail}
	}
	data, destinations := dl.event.data, dl.event.destinations
	if data == nil {
		ctx, cancel := context.WithTimeout(d.sendCtx, engineDeadline)
		defer cancel()
		events, err := d.store.EventsByID(ctx, []uuid.UUID{dl.event.id}, math.MaxInt64)
		if err != nil {
			return own("the event could not be read")
		}
		e := events[dl.event.id]
		if e == nil {
			return reject("the event is no longer kept")
		}
		data, destinations = e.Data, e.Destinations
	}
	if dl.destination > 0 {
		to, err := d.openDestination(dl, destinations)
		if err != nil {
			d.log.Error("a one-off destination cannot be opened", "event", dl.event.id, "error", err)
			return own("the one-off destination could not be opened")
		}
		if err := w.SendTo(to); err != nil {
			return reject(err.Error())
		}
	}
	now = time.Now()
	t := target{
		webhook: w.ID, account: w.AccountID, url: w.URL, timeout: w.Timeout,
		how: w.Request(), schemes: d.registry.Snapshot().Schemes(w.AccountID), secrets: w.Secrets(now),
	}
	if len(t.secrets) == 0 {
		return own("a secret that signs it could not be opened")
	}
	e := fanfare.Event{
		ID: dl.event.id, AccountID: dl.event.account, Type: dl.event.typ, Data: data, OccurredAt: dl.event.occurredAt,
	}
	r, err := t.request(&e, dl.number+1, now)
	if err != nil {
		return reject(err.Error())
	}
	return r, nil
}
