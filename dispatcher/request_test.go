package dispatcher

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

func header(r *egress.Request) http.Header {
	h := http.Header{}
	for _, f := range r.Header {
		h.Add(f.Name, f.Value)
	}
	return h
}

// names are those of a request's header, in its order.
func names(r *egress.Request) (all []string) {
	for _, f := range r.Header {
		all = append(all, f.Name)
	}
	return all
}

func someTarget() (*target, *fanfare.Event, time.Time) {
	now := time.Now()
	t := &target{
		webhook: uuid.Must(uuid.NewV7()), account: uuid.Must(uuid.NewV7()), url: "https://example.com/hooks", timeout: time.Second,
		secrets: []signature.Secret{signature.GenerateSecret(), signature.GenerateSecret()},
	}
	e := &fanfare.Event{
		ID: fanfare.EventID(fanfare.PositionAt(now), 1), AccountID: uuid.Must(uuid.NewV7()), Type: "call.ended", Data: []byte(`{"a": 1.0}`),
	}
	return t, e, now
}

var usual = []string{
	"webhook-id", "webhook-timestamp", "webhook-signature", "Content-Type", "X-Fanfare-Webhook-Id", "X-Fanfare-Account-Id",
	"X-Fanfare-Event-Type", "X-Fanfare-Attempt",
}

func TestARequestWithoutOptions(t *testing.T) {
	to, e, now := someTarget()
	r, err := to.request(e, 3, now)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(names(r), usual) || r.Method != "POST" || r.URL != to.url || r.Timeout != time.Second {
		t.Errorf("%+v", r)
	}
	h := header(r)
	for _, secret := range to.secrets {
		if err := signature.Verify(h, r.Body, now, secret); err != nil {
			t.Error(err)
		}
	}
	if h.Get("X-Fanfare-Account-Id") != to.account.String() || h.Get("X-Fanfare-Attempt") != "3" || h.Get("webhook-id") != e.ID.String() {
		t.Errorf("%v", h)
	}
	// Options that are those by default change nothing, and an account's default only if they say nothing.
	to.how = &registry.Request{Method: "POST", Schemes: standard}
	to.schemes = []signature.Scheme{signature.GitHub()}
	if again, err := to.request(e, 3, now); err != nil || !slices.Equal(r.Header, again.Header) || string(r.Body) != string(again.Body) {
		t.Errorf("%+v, %v", again, err)
	}
	to.how = nil
	if r, err := to.request(e, 3, now); err != nil || header(r).Get("webhook-signature") != "" || header(r).Get("X-Hub-Signature-256") == "" {
		t.Errorf("as the account has it: %+v, %v", r, err)
	}
}

func TestARequestIsSignedBySeveralSchemes(t *testing.T) {
	to, e, now := someTarget()
	schemes := []signature.Scheme{
		signature.GitHub(),
		{Algorithm: signature.Standard},
		{Algorithm: signature.HMACSHA512, Header: "X-S", Encoding: signature.Base64, Timestamp: &signature.Timestamp{Header: "X-T"}},
	}
	to.how = &registry.Request{Method: "PUT", Schemes: schemes}
	r, err := to.request(e, 1, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range schemes {
		if err := schemes[i].Verify(header(r), r.Body, now, to.secrets[1]); err != nil {
			t.Errorf("%+v: %v", schemes[i], err)
		}
	}
	all := names(r)
	slices.Sort(all)
	if r.Method != "PUT" || len(slices.Compact(all)) != len(usual)+3 || len(r.Header) != len(usual)+3 {
		t.Errorf("%+v", r)
	}
}

func TestAGETCarriesThePayloadInItsQueryWhichIsSigned(t *testing.T) {
	to, e, now := someTarget()
	to.url += "?key=1"
	to.how = &registry.Request{Method: "GET", Shape: &shape.Shape{Query: true, Raw: true}}
	r, err := to.request(e, 1, now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Method != "GET" || r.URL != "https://example.com/hooks?key=1&a=1.0" || r.Body != nil || slices.Contains(names(r), "Content-Type") {
		t.Errorf("%+v", r)
	}
	if err := signature.Verify(header(r), []byte("a=1.0"), now, to.secrets[0]); err != nil {
		t.Error(err)
	}
}

func TestThePayloadOfAGETIsNotInTheLog(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	hook := r.webhook(rc.URL + "/?key=1")
	_, err := r.store.UpdateWebhook(t.Context(), r.account, hook.ID, 0, nil, func(w *fanfare.Webhook) error {
		w.Options = &fanfare.Options{Method: "GET"}
		return nil
	})
	r.ok(err)
	id := r.publish(r.node(Options{}), `{"a":"b"}`)
	r.next(rc)
	r.settled()
	var url, method string
	r.ok(r.sql.QueryRow(t.Context(), `SELECT url, method FROM attempts WHERE event_id = $1`, id).Scan(&url, &method))
	if url != hook.URL || method != "GET" {
		t.Errorf("%s %s", method, url)
	}
}

func TestHeadersOfItsOwnAreFilledIn(t *testing.T) {
	to, e, now := someTarget()
	to.how = &registry.Request{Method: "POST", Headers: []registry.Header{
		{Name: "X-Hook-ID", Value: shape.Compile("{webhook_id}/{account_id}")},
		{Name: "X-Event", Value: shape.Compile("{event_type} {event_id} no. {attempt}")},
	}}
	r, err := to.request(e, 2, now)
	if err != nil {
		t.Fatal(err)
	}
	h := header(r)
	if h.Get("X-Hook-Id") != to.webhook.String()+"/"+to.account.String() || h.Get("X-Event") != "call.ended "+e.ID.String()+" no. 2" {
		t.Errorf("%v", h)
	}

	// The account's default came later, and signs in a header that has the name of one of them.
	to.schemes = []signature.Scheme{{Algorithm: signature.HMACSHA256, Header: "x-event", Encoding: signature.Hex}}
	if r, err := to.request(e, 2, now); err != nil || len(header(r)["X-Event"]) != 1 || to.schemes[0].Verify(header(r), r.Body, now, to.secrets...) != nil {
		t.Errorf("%v, %v", r, err)
	}
	to.schemes = nil

	// A one-off destination has no webhook.
	to.webhook = uuid.Nil
	r, err = to.request(e, 2, now)
	if err != nil {
		t.Fatal(err)
	}
	if h := header(r); h.Get("X-Hook-Id") != "/"+to.account.String() || len(h["X-Fanfare-Webhook-Id"]) != 0 {
		t.Errorf("%v", h)
	}
}

func TestWhatCannotBeShapedIsRejectedWithTheReason(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	hook := r.webhook(rc.URL)
	_, err := r.store.UpdateWebhook(t.Context(), r.account, hook.ID, 0, nil, func(w *fanfare.Webhook) error {
		w.Options = &fanfare.Options{Method: "PUT", Form: true}
		return nil
	})
	r.ok(err)
	d := r.node(Options{})
	bad := r.publish(d, `{"a":"\ud800"}`)
	good := r.publish(d, `{"a":"b"}`)
	if got := r.next(rc); got.header.Get("webhook-id") != good.String() || got.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("%v", got.header)
	}
	r.settled()
	var state, reason, code, detail, method string
	r.ok(r.sql.QueryRow(t.Context(), `SELECT state, reason, error, error_detail, method FROM attempts WHERE event_id = $1`, bad).
		Scan(&state, &reason, &code, &detail, &method))
	if state != "exhausted" || reason != "reject" || code != "request" || detail == "" || method != "PUT" {
		t.Errorf("%s %s %s %q %s", state, reason, code, detail, method)
	}
	if n := len(rc.got); n != 0 {
		t.Errorf("%d more requests came", n)
	}
}
