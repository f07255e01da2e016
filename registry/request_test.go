package registry

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/signature"
)

func (b *bed) sign(account uuid.UUID, schemes string) {
	b.Helper()
	_, err := b.store.UpdateAccount(b.Context(), account, 0, func(a *fanfare.Account) error {
		a.Settings = &fanfare.Settings{Signature: []byte(schemes)}
		return nil
	})
	b.must(err)
}

func TestAnAccountIsSignedForAsTheNearestAboveItSays(t *testing.T) {
	b := newBed(t)
	r := b.loaded()
	root := b.account(uuid.Nil)
	middle := b.account(root)
	leaf, other := b.account(middle), b.account(uuid.Nil)
	header := func(account uuid.UUID) string {
		b.must(r.CatchUp(t.Context()))
		schemes := r.Snapshot().Schemes(account)
		if schemes == nil {
			return "none"
		}
		return schemes[0].Header
	}
	if got := header(leaf); got != "none" {
		t.Errorf("nobody says: %s", got)
	}
	b.sign(root, `[{"scheme":"hmac-sha256","header":"X-Root"}]`)
	if leaf, other := header(leaf), header(other); leaf != "X-Root" || other != "none" {
		t.Errorf("the root says: %s, another's: %s", leaf, other)
	}
	b.sign(middle, `[{"scheme":"hmac-sha256","header":"X-Middle"}]`)
	if leaf, root := header(leaf), header(root); leaf != "X-Middle" || root != "X-Root" {
		t.Errorf("the parent says: %s, the root: %s", leaf, root)
	}
	b.sign(middle, ``)
	if got := header(leaf); got != "X-Root" {
		t.Errorf("the parent says nothing any more: %s", got)
	}
	_, err := b.store.UpdateAccount(t.Context(), leaf, 0, func(a *fanfare.Account) error {
		a.ParentID = uuid.NullUUID{UUID: other, Valid: true}
		return nil
	})
	b.must(err)
	if got := header(leaf); got != "none" {
		t.Errorf("moved away: %s", got)
	}
	b.must(b.store.DeleteAccount(t.Context(), root, true))
	if got := header(middle); got != "none" || r.Snapshot().schemed != 0 {
		t.Errorf("deleted: %s, %d say", got, r.Snapshot().schemed)
	}
}

func TestAnAccountKeepsItsHealthPolicyWhateverBecomesOfItsWebhooks(t *testing.T) {
	b := newBed(t)
	root := b.account(uuid.Nil)
	leaf := b.account(root)
	_, err := b.store.UpdateAccount(t.Context(), root, 0, func(a *fanfare.Account) error {
		a.Settings = &fanfare.Settings{HealthPolicy: []byte(`{"disable":false}`)}
		return nil
	})
	b.must(err)
	b.webhook(root, signature.GenerateSecret(), "*")
	r := b.loaded()
	for _, when := range []string{"after a load", "after a webhook was made"} {
		for _, account := range []uuid.UUID{root, leaf} {
			if r.Snapshot().HealthPolicy(account).Disable {
				t.Errorf("%s: the policy is forgotten", when)
			}
		}
		b.webhook(root, signature.GenerateSecret(), "*")
		b.must(r.CatchUp(t.Context()))
	}
}

func TestTheOptionsOfAWebhookAreReadyForUse(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	w := b.webhook(account, signature.GenerateSecret(), "*")
	set := func(change func(*fanfare.Webhook)) *Webhook {
		t.Helper()
		_, err := b.store.UpdateWebhook(t.Context(), account, w.ID, 0, nil, func(w *fanfare.Webhook) error {
			change(w)
			return nil
		})
		b.must(err)
		return b.loaded().Snapshot().Webhook(w.ID)
	}
	if got := b.loaded().Snapshot().Webhook(w.ID); got.Request() != nil || got.Method() != "POST" {
		t.Errorf("without options: %+v", got.Request())
	}
	place := seal.Place{Account: account, Object: w.ID, Column: HeaderColumn("Authorization")}
	sealed := fanfare.Header{Name: "Authorization", Sealed: b.keyring.Seal(place, []byte("Bearer {attempt}"))}
	got := set(func(w *fanfare.Webhook) {
		w.Options = &fanfare.Options{
			Method: "GET", CustomData: []byte(`{"a":"b"}`), Headers: []fanfare.Header{{Name: "X-A", Value: "b"}, sealed},
			Signature: []byte(`[{"scheme":"hmac-sha256","header":"X-S"}]`),
		}
	})
	r := got.Request()
	if r == nil || got.Options != nil || got.Method() != "GET" || !r.Shape.Query || r.Shape.Custom == nil || r.Schemes[0].Header != "X-S" {
		t.Fatalf("%+v", r)
	}
	values := shape.Values{Attempt: "7"}
	if a, b := r.Headers[0], r.Headers[1]; a.Value.Fill(&values) != "b" || b.Value.Fill(&values) != "Bearer 7" || b.Name != "Authorization" {
		t.Errorf("%+v", r.Headers)
	}
	if len(got.Secrets(time.Now())) != 1 {
		t.Error("its secret is not there")
	}

	// Sealed for another header: as without a secret, nothing can be sent.
	sealed.Name = "X-Other"
	got = set(func(w *fanfare.Webhook) { w.Options.Headers = []fanfare.Header{sealed} })
	if !got.Enabled() || len(got.Secrets(time.Now())) != 0 || !got.unreadable {
		t.Errorf("with a header that does not open: %+v", got)
	}
}

func TestAWebhookWhoseOptionsCannotBeReadCountsAsDisabled(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	w := b.webhook(account, signature.GenerateSecret(), "*")
	b.sql(`UPDATE webhooks SET options = '{"signature":[{"scheme":"rot13"}]}', filter = '{"type":"a"}', filter_canonical = '{"type":"a"}'`)
	b.sign(account, `[{"scheme":"rot13"}]`)
	var log lines
	r := New(b.store, b.keyring, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.must(r.Load(t.Context()))
	b.must(r.Load(t.Context()))
	s := r.Snapshot()
	got := s.Webhook(w.ID)
	if got.Enabled() || !strings.Contains(got.Disabled.Reason, "rot13") {
		t.Errorf("disabled: %+v", got.Disabled)
	}
	if n, m := len(s.Match(nil, account, "a", []byte("{}"))), len(s.Match(nil, account, "b", []byte("{}"))); n != 1 || m != 0 {
		t.Errorf("%d match of what it wants, %d of what it does not", n, m)
	}
	if stored, err := b.store.Webhook(t.Context(), account, w.ID); err != nil || Unusable(stored) == nil {
		t.Errorf("the API does not say so: %v", err)
	}
	if n, m := log.count("webhook_id="+w.ID.String()), log.count("account_id="+account.String()); n != 1 || m != 1 {
		t.Errorf("the log names the webhook %d times, the account %d times", n, m)
	}
	if s.Schemes(account) != nil {
		t.Error("the account has schemes")
	}
}

func TestARequestOfOptionsThatCannotBeMade(t *testing.T) {
	closed := errors.New("closed")
	fails := func(*fanfare.Header) (string, error) { return "", closed }
	for _, o := range []*fanfare.Options{
		{CustomData: []byte(`{"a":null}`)},
		{Signature: []byte(`{}`)},
		{Headers: []fanfare.Header{{Name: "X-A", Sealed: []byte("x")}}},
	} {
		if r, err := NewRequest(o, fails); err == nil {
			t.Errorf("%+v gave %+v", o, r)
		}
	}
	if r, err := NewRequest(nil, fails); r != nil || err != nil {
		t.Errorf("no options gave %+v, %v", r, err)
	}
	r, err := NewRequest(&fanfare.Options{Headers: []fanfare.Header{{Name: "X-A", Value: "b"}}}, fails)
	if err != nil || r.Shape != nil || r.Method != "POST" || len(r.Headers) != 1 {
		t.Errorf("a header alone gave %+v, %v", r, err)
	}
}
