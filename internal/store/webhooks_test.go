package store

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// waitForLock returns when a statement on s's database waits for a lock.
func waitForLock(t testing.TB, s *Store) {
	t.Helper()
	eventually(t, func() bool {
		var waiting bool
		must(t, s.pool.QueryRow(t.Context(), `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting))
		return waiting
	})
}

// eventually returns when is does, and fails the test if that takes too long.
func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

func TestAWebhookIsReadAsItWasWritten(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	newEventTypes(t, s, "invoice.paid")
	w := fanfare.Webhook{
		ID: newID(), AccountID: account, Name: "CRM", URL: "https://example.com/hooks?a=b", EventTypes: []string{"call.*", "invoice.paid"},
		IncludeSubaccounts: true, Timeout: 1500 * time.Millisecond, RetrySchedule: []time.Duration{time.Minute, 24 * time.Hour},
		MaxInFlight: 7, RateLimit: fanfare.RateLimit{Count: 100_000, Per: 24 * time.Hour}, Metadata: []byte(`{"z":1, "a":2}`),
		Disabled: &fanfare.Disabled{By: fanfare.DisabledByUser, Reason: "not yet"},
		Wishes: &fanfare.Wishes{
			Modifiers: []byte(`{ "kind": ["a"] }`), Filter: []byte(`{ "type": {"$eq": "\u0000"} }`), Canonical: []byte(`{"type":"\u0000"}`),
		},
		Options: &fanfare.Options{
			Method: "PUT", Form: true, Raw: true, ECMAScript: true, CustomData: []byte(`{"b":"<&>","a":"\u0000"}`),
			Headers:   []fanfare.Header{{Name: "X-B", Value: "<b>"}, {Name: "X-A", Sealed: []byte{0, 255}}, {Name: "X-C"}},
			Signature: []byte(`[{"scheme":"standard"}]`),
		},
		Care: &fanfare.Care{Emails: []string{"a@example.com"}, Policy: []byte(`{"disable":false}`)},
	}
	given := w
	must(t, s.CreateWebhook(t.Context(), &w, SealedSecret{ID: newID(), Sealed: []byte("s")}, 10, nil))
	if diff := cmp.Diff([]any{given.Options, given.Wishes}, []any{w.Options, w.Wishes}); diff != "" {
		t.Error(diff)
	}
	if w.Version != 1 || w.CreatedAt.IsZero() || w.Disabled.At.IsZero() {
		t.Errorf("what Postgres decides was not filled in: %+v", w)
	}
	got, err := s.Webhook(t.Context(), account, w.ID)
	must(t, err)
	if diff := cmp.Diff(&w, got); diff != "" {
		t.Error(diff)
	}

	var within *fanfare.Webhook
	edited, err := s.UpdateWebhook(t.Context(), account, w.ID, 1, nil, func(w *fanfare.Webhook) error {
		within = w
		w.Disabled, w.RetrySchedule, w.EventTypes, w.URL = nil, nil, []string{"*"}, "https://example.org"
		w.Timeout, w.IncludeSubaccounts, w.MaxInFlight, w.RateLimit, w.Metadata, w.Name = time.Second, false, 1, fanfare.RateLimit{}, nil, ""
		w.Wishes, w.Options = nil, &fanfare.Options{}
		w.Care.Emails, w.Care.Policy = nil, nil
		return nil
	})
	must(t, err)
	if edited != within {
		t.Error("what edit was given is not what was answered")
	}
	want := &fanfare.Webhook{
		ID: w.ID, AccountID: account, Version: 2, URL: "https://example.org", EventTypes: []string{"*"}, Timeout: time.Second,
		RetrySchedule: []time.Duration{}, MaxInFlight: 1, Metadata: []byte("{}"), CreatedAt: w.CreatedAt, UpdatedAt: edited.UpdatedAt,
		Care: &fanfare.Care{}, // from when on it counts
	}
	if edited.Care != nil && edited.Care.From.After(w.CreatedAt) {
		want.Care.From = edited.Care.From
	}
	if diff := cmp.Diff(want, edited); diff != "" {
		t.Error(diff)
	}
	if got, err = s.Webhook(t.Context(), account, w.ID); err != nil || !cmp.Equal(want, got) {
		t.Errorf("stored: %s, %v", cmp.Diff(want, got), err)
	}
}

func TestAWebhookIsFoundOnlyUnderItsAccount(t *testing.T) {
	s := adminStore(t)
	parent := newAccount(t, s, uuid.Nil)
	account := newAccount(t, s, parent)
	w := newWebhook(t, s, account, "*")
	keep := func(*fanfare.Webhook) error { return nil }

	for _, other := range []uuid.UUID{parent, newID(), uuid.Nil} {
		_, err := s.Webhook(t.Context(), other, w.ID)
		wantErr(t, err, ErrNotFound)
		_, err = s.UpdateWebhook(t.Context(), other, w.ID, 0, nil, keep)
		wantErr(t, err, ErrNotFound)
		wantErr(t, s.DeleteWebhook(t.Context(), other, w.ID, 0), ErrNotFound)
		_, err = s.WebhookSecrets(t.Context(), other, w.ID)
		wantErr(t, err, ErrNotFound)
		err = s.RotateWebhookSecret(t.Context(), other, w.ID, SealedSecret{ID: newID(), Sealed: []byte("s")}, 0, nil)
		wantErr(t, err, ErrNotFound)
		list, err := s.Webhooks(t.Context(), other, Page{Limit: 10})
		must(t, err)
		if len(list) != 0 {
			t.Errorf("another account lists %d webhooks", len(list))
		}
	}
	must(t, s.DeleteWebhook(t.Context(), account, w.ID, 0))
	_, err := s.Webhook(t.Context(), account, w.ID)
	wantErr(t, err, ErrNotFound)
	wantErr(t, s.DeleteWebhook(t.Context(), account, w.ID, 0), ErrNotFound)
	_, err = s.WebhookSecrets(t.Context(), account, w.ID)
	wantErr(t, err, ErrNotFound)
}

func TestAWebhookIsWrittenOnlyAtTheVersionThatWasNamed(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	w := newWebhook(t, s, account, "*")
	rename := func(w *fanfare.Webhook) error { w.Name = "new"; return nil }
	_, err := s.UpdateWebhook(t.Context(), account, w.ID, 2, nil, rename)
	wantErr(t, err, ErrVersion)
	wantErr(t, s.DeleteWebhook(t.Context(), account, w.ID, 2), ErrVersion)

	_, err = s.UpdateWebhook(t.Context(), account, w.ID, 1, nil, rename)
	must(t, err)
	must(t, s.DeleteWebhook(t.Context(), account, w.ID, 2))
}

func TestAWebhookEditThatIsRefusedStoresNothing(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	w := newWebhook(t, s, account, "*")
	refusal := errors.New("422")
	_, err := s.UpdateWebhook(t.Context(), account, w.ID, 0, nil, func(w *fanfare.Webhook) error { w.Name = "new"; return refusal })
	if err != refusal {
		t.Errorf("the edit's error came back as %v", err)
	}
	_, err = s.UpdateWebhook(t.Context(), account, w.ID, 0, nil, func(w *fanfare.Webhook) error {
		w.EventTypes = []string{"no.such"}
		return nil
	})
	wantErr(t, err, ErrNoEventType)
	got, err := s.Webhook(t.Context(), account, w.ID)
	must(t, err)
	if diff := cmp.Diff(w, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnAccountHoldsNoMoreWebhooksThanItMay(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	first := newWebhook(t, s, account, "*")
	newWebhook(t, s, account, "*")
	create := func() error {
		w := &fanfare.Webhook{ID: newID(), AccountID: account, URL: "https://x", EventTypes: []string{"*"}}
		return s.CreateWebhook(t.Context(), w, SealedSecret{ID: newID(), Sealed: []byte("s")}, 2, nil)
	}
	wantErr(t, create(), ErrTooMany)

	must(t, s.DeleteWebhook(t.Context(), account, first.ID, 0))
	must(t, create())
}

func TestWebhooksAreListedNewestFirst(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	a, b, c := newWebhook(t, s, account, "*"), newWebhook(t, s, account, "*"), newWebhook(t, s, account, "*")

	page, err := s.Webhooks(t.Context(), account, Page{Limit: 2})
	must(t, err)
	rest, err := s.Webhooks(t.Context(), account, Page{Limit: 2, After: b.ID})
	must(t, err)

	if diff := cmp.Diff([]fanfare.Webhook{*c, *b, *a}, append(page, rest...)); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyAnEnabledWebhookIsDisabled(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	w, gone := newWebhook(t, s, account, "*"), newWebhook(t, s, account, "*")
	must(t, s.DeleteWebhook(t.Context(), account, gone.ID, 0))

	if _, err := s.DisableWebhook(t.Context(), w.ID, "https://elsewhere.example/", fanfare.Disabled{By: fanfare.DisabledByGone}); !errors.Is(err, ErrVersion) {
		t.Errorf("disabled for what happened at another URL: %v", err)
	}
	for _, c := range []struct {
		name string
		id   uuid.UUID
		want bool
	}{{"enabled", w.ID, true}, {"disabled", w.ID, false}, {"deleted", gone.ID, false}, {"unknown", newID(), false}} {
		before := headVersion(t, s)
		changed, err := s.DisableWebhook(t.Context(), c.id, w.URL, fanfare.Disabled{By: fanfare.DisabledByGone, Reason: c.name})
		must(t, err)
		if moved := headVersion(t, s) > before; changed != c.want || moved != c.want {
			t.Errorf("%s: changed %v, the registry moved %v", c.name, changed, moved)
		}
	}
	got, err := s.Webhook(t.Context(), account, w.ID)
	must(t, err)
	if d := got.Disabled; d == nil || d.By != fanfare.DisabledByGone || d.Reason != "enabled" || d.At.IsZero() || got.Version != 2 {
		t.Errorf("the webhook is %+v, disabled %+v", got, d)
	}
}

func TestOlderSecretsSignForTheOverlapAndNoLonger(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	w := newWebhook(t, s, account, "*")
	rotate := func(text string, overlap time.Duration) error {
		return s.RotateWebhookSecret(t.Context(), account, w.ID, SealedSecret{ID: newID(), Sealed: []byte(text)}, overlap, nil)
	}
	valid := func() (texts []string, expiries []time.Time) {
		list, err := s.WebhookSecrets(t.Context(), account, w.ID)
		must(t, err)
		for _, sec := range list {
			texts, expiries = append(texts, string(sec.Sealed)), append(expiries, sec.ExpiresAt)
		}
		return texts, expiries
	}

	must(t, rotate("second", time.Hour))
	texts, first := valid()
	if diff := cmp.Diff([]string{"second", "sealed"}, texts); diff != "" {
		t.Error(diff)
	}
	must(t, rotate("third", 24*time.Hour))
	texts, then := valid()
	if diff := cmp.Diff([]string{"third", "second", "sealed"}, texts); diff != "" {
		t.Error(diff)
	}
	if !then[0].IsZero() || !then[1].After(then[2]) || !then[2].Equal(first[1]) {
		t.Errorf("the secrets expire at %v, before the second rotation at %v", then, first)
	}
	must(t, rotate("fourth", 0))
	if texts, _ = valid(); !cmp.Equal(texts, []string{"fourth"}) {
		t.Errorf("after a rotation without overlap %v sign", texts)
	}
	if got, err := s.Webhook(t.Context(), account, w.ID); err != nil || got.Version != 4 {
		t.Errorf("three rotations gave version %d, %v", got.Version, err)
	}

	for range maxSecrets - 1 {
		must(t, rotate("more", time.Hour))
	}
	wantErr(t, rotate("too many", time.Hour), ErrTooMany)
	if texts, _ = valid(); len(texts) != maxSecrets || texts[0] != "more" {
		t.Errorf("after the refused rotation %v sign", texts)
	}
}
