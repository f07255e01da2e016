package disabler_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/disabler"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// policies are the same for all accounts.
type policies retry.HealthPolicy

func (p policies) HealthPolicy(uuid.UUID) retry.HealthPolicy { return retry.HealthPolicy(p) }

type fixture struct {
	*store.Store
	t       testing.TB
	url     string
	account uuid.UUID
	policy  retry.HealthPolicy
}

func open(t testing.TB) *fixture {
	t.Helper()
	describe := func(w *fanfare.Webhook) []byte { return []byte(`{}`) }
	url := pgtest.URL(t)
	s, err := store.Open(t.Context(), store.Options{URL: url, Events: &store.EventBodies{Webhook: describe}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	f := &fixture{Store: s, t: t, url: url, account: uuid.Must(uuid.NewV7()), policy: retry.DefaultHealth}
	if err := s.CreateAccount(t.Context(), &fanfare.Account{ID: f.account, Name: "a"}, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) webhook() *fanfare.Webhook {
	f.t.Helper()
	w := &fanfare.Webhook{
		ID: uuid.Must(uuid.NewV7()), AccountID: f.account, URL: "https://example.com", EventTypes: []string{"*"}, Timeout: time.Second, MaxInFlight: 1,
	}
	if err := f.CreateWebhook(f.t.Context(), w, store.SealedSecret{ID: uuid.New(), Sealed: []byte("s")}, 100, nil); err != nil {
		f.t.Fatal(err)
	}
	return w
}

// attempted adds attempts of a webhook every so often, from so long ago on.
func (f *fixture) attempted(w *fanfare.Webhook, from, to, every time.Duration, attempts, failures int32) {
	f.t.Helper()
	var rows []store.HealthRow
	node := uuid.New()
	for ago := from; ago > to; ago -= every {
		rows = append(rows, store.HealthRow{
			WebhookID: w.ID, AccountID: w.AccountID, Node: node, Minute: time.Now().Add(-ago).UTC().Truncate(time.Minute),
			Attempts: attempts, Failures: failures,
		})
	}
	if err := f.WriteHealth(f.t.Context(), rows); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) new() *disabler.Disabler {
	return disabler.New(f.Store, func() disabler.Policies { return policies(f.policy) }, disabler.Options{})
}

func (f *fixture) round(d *disabler.Disabler) {
	f.t.Helper()
	if err := d.Round(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// outbox takes what is owed: the names of operational events and the kinds of mails.
func (f *fixture) outbox() (names []string) {
	f.t.Helper()
	for _, kind := range []store.OutboxKind{store.OutboxEvent, store.OutboxMail} {
		rows, err := f.ClaimOutbox(f.t.Context(), kind, 100, time.Hour)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, r := range rows {
			if r.Name != fanfare.EventWebhookCreated {
				names = append(names, fmt.Sprint(kind, " ", r.Name))
			}
		}
	}
	return names
}

func (f *fixture) want(w *fanfare.Webhook, disabled string) *fanfare.Webhook {
	f.t.Helper()
	got, err := f.Webhook(f.t.Context(), f.account, w.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	by := ""
	if got.Disabled != nil {
		by = got.Disabled.By
	}
	if by != disabled {
		f.t.Fatalf("disabled by %q, want %q", by, disabled)
	}
	return got
}

func (f *fixture) wantOwed(want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.outbox()); diff != "" {
		f.t.Error(diff)
	}
}

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

func TestAnEndpointThatFailedForADayIsDisabledOnceWithItsEvidence(t *testing.T) {
	f := open(t)
	dead, well := f.webhook(), f.webhook()
	f.attempted(dead, day+20*time.Minute, 0, 10*time.Minute, 2, 2)
	f.attempted(well, day+20*time.Minute, 0, 10*time.Minute, 10, 1)
	d := f.new()

	f.round(d)

	got := f.want(dead, fanfare.DisabledByHealth)
	f.want(well, "")
	e, err := retry.ParseEvidence([]byte(got.Disabled.Evidence))
	if err != nil || e.Rule != retry.RuleRatio || e.FailureRatio != 1 || e.Attempts < 280 || e.Attempts > 292 ||
		e.FailingSince == nil || time.Since(e.FailingSince.Time) < day {
		t.Errorf("evidence %+v, %v", e, err)
	}
	if got.Version != dead.Version+1 || got.Disabled.Reason == "" {
		t.Errorf("%+v", got)
	}
	f.wantOwed("event webhook.disabled", "mail disabled")
	f.lookNow()
	f.round(d)
	f.wantOwed()
}

func TestAWarningComesBeforeAndOnceADay(t *testing.T) {
	f := open(t)
	w := f.webhook()
	f.attempted(w, 2*hour, 0, 10*time.Minute, 3, 3)
	d := f.new()
	f.round(d)
	f.wantOwed("mail warning")
	f.lookNow()
	f.round(d)
	f.wantOwed()
	f.want(w, "")
}

func TestDeliveriesGivenUpAreMailedOnceADay(t *testing.T) {
	f := open(t)
	w := f.webhook()
	if err := f.WriteHealth(t.Context(), []store.HealthRow{{
		WebhookID: w.ID, AccountID: f.account, Node: uuid.New(), Minute: time.Now().UTC().Truncate(time.Minute), Attempts: 2, Failures: 2, Exhausted: 1,
	}}); err != nil {
		t.Fatal(err)
	}
	d := f.new()
	f.round(d)
	f.wantOwed("mail exhausted")
	f.lookNow()
	f.round(d)
	f.wantOwed()
}

func TestOneProcessLooksAtATime(t *testing.T) {
	f := open(t)
	first := f.new()
	f.round(first)
	w := f.webhook()
	f.attempted(w, day+20*time.Minute, 0, 10*time.Minute, 2, 2)
	f.round(f.new())
	f.want(w, "")
	f.round(first)
	f.want(w, fanfare.DisabledByHealth)
}

func TestAWebhookThatChangedMeanwhileIsLeftAlone(t *testing.T) {
	f := open(t)
	w := f.webhook()
	settle := func(version int64) int {
		t.Helper()
		disabled, err := f.Settle(t.Context(), []store.Looked{{
			WebhookID: w.ID, AccountID: f.account, DayAt: time.Now(), FailedAt: time.Now(),
			Disable: &store.Verdict{Version: version, Reason: "r", Evidence: []byte(`{}`), Mail: []byte(`{}`)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return len(disabled)
	}
	if settle(w.Version+1) != 0 {
		t.Error("disabled")
	}
	f.want(w, "")
	f.wantOwed()
	if settle(w.Version) != 1 || settle(w.Version) != 0 || settle(w.Version+1) != 0 {
		t.Error("not disabled, or again")
	}
	f.wantOwed("event webhook.disabled", "mail disabled")
}

func TestPoliciesDecide(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *fixture, *fanfare.Webhook){
		"the account switched it off": func(_ *testing.T, f *fixture, _ *fanfare.Webhook) { f.policy.Disable = false },
		"the webhook has it off": func(t *testing.T, f *fixture, w *fanfare.Webhook) {
			f.edit(t, w, func(w *fanfare.Webhook) { w.Care = &fanfare.Care{Policy: []byte(`{"disable":false}`)} })
		},
		"it got another URL": func(t *testing.T, f *fixture, w *fanfare.Webhook) {
			f.edit(t, w, func(w *fanfare.Webhook) { w.URL = "https://example.org" })
		},
		"it was enabled": func(t *testing.T, f *fixture, w *fanfare.Webhook) {
			f.edit(t, w, func(w *fanfare.Webhook) { w.Disabled = &fanfare.Disabled{By: fanfare.DisabledByUser} })
			f.edit(t, w, func(w *fanfare.Webhook) { w.Disabled = nil })
		},
		"somebody disabled it": func(t *testing.T, f *fixture, w *fanfare.Webhook) {
			f.edit(t, w, func(w *fanfare.Webhook) { w.Disabled = &fanfare.Disabled{By: fanfare.DisabledByUser} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			w := f.webhook()
			f.attempted(w, day+20*time.Minute, 0, 10*time.Minute, 2, 2)
			change(t, f, w)
			f.round(f.new())
			if got, err := f.Webhook(t.Context(), f.account, w.ID); err != nil || got.Disabled != nil && got.Disabled.By != fanfare.DisabledByUser {
				t.Errorf("%+v, %v", got.Disabled, err)
			}
		})
	}
}

func TestSeveralAreDisabledAtOnce(t *testing.T) {
	f := open(t)
	var all []*fanfare.Webhook
	for range 3 {
		w := f.webhook()
		f.attempted(w, day+20*time.Minute, 0, hour, 2, 2)
		all = append(all, w)
	}
	d := f.new()
	f.round(d)
	for _, w := range all {
		f.want(w, fanfare.DisabledByHealth)
	}
}

func (f *fixture) edit(t *testing.T, w *fanfare.Webhook, change func(*fanfare.Webhook)) {
	t.Helper()
	if _, err := f.UpdateWebhook(t.Context(), f.account, w.ID, 0, nil, func(w *fanfare.Webhook) error { change(w); return nil }); err != nil {
		t.Fatal(err)
	}
}

// lookNow makes it every webhook's turn.
func (f *fixture) lookNow() {
	f.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `UPDATE webhook_failing SET look_at = now(), day_at = now()`); err != nil {
		f.t.Fatal(err)
	}
}
