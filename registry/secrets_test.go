package registry

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// oneOff is a one-off destination of an account.
func oneOff(account uuid.UUID) fanfare.Webhook {
	return fanfare.Webhook{AccountID: account, URL: "https://example.com/job"}
}

func TestAnAccountsOwnSecretsSignItsOneOffDestinations(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	r := b.loaded()
	if r.Snapshot().Signs(account) || len(r.Snapshot().OneOff(oneOff(account)).Secrets(time.Now())) != 0 {
		t.Fatal("an account that never needed a secret has one")
	}
	all := []signature.Secret{signature.GenerateSecret(), signature.GenerateSecret(), signature.GenerateSecret()}
	b.must(b.store.EnsureSigningSecret(t.Context(), account, b.signing(account, all[0])))
	b.must(b.store.EnsureSigningSecret(t.Context(), account, b.signing(account, signature.GenerateSecret())))
	b.must(b.store.RotateSigningSecret(t.Context(), account, b.signing(account, all[1]), time.Hour, nil))

	b.must(r.CatchUp(t.Context()))

	snap := r.Snapshot()
	w := snap.OneOff(oneOff(account))
	if !snap.Signs(account) || w.URL != "https://example.com/job" || !w.Enabled() {
		t.Errorf("it is sent to as %+v", w)
	}
	if diff := cmp.Diff([]string{all[1].Text(), all[0].Text()}, texts(w.Secrets(time.Now()))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{all[1].Text()}, texts(w.Secrets(time.Now().Add(2*time.Hour)))); diff != "" {
		t.Errorf("after the overlap: %s", diff)
	}
	b.must(b.store.RotateSigningSecret(t.Context(), account, b.signing(account, all[2]), 0, nil))
	b.must(r.CatchUp(t.Context()))
	if diff := cmp.Diff([]string{all[2].Text()}, texts(r.Snapshot().OneOff(oneOff(account)).Secrets(time.Now()))); diff != "" {
		t.Errorf("without an overlap: %s", diff)
	}
	b.must(b.store.DeleteAccount(t.Context(), account, false))
	b.must(r.CatchUp(t.Context()))
	if snap := r.Snapshot(); snap.Signs(account) || snap.OneOff(oneOff(account)) != nil {
		t.Error("a deleted account signs")
	}
}

func TestASigningSecretThatDoesNotOpenSignsNothingAndIsReportedOnce(t *testing.T) {
	b := newBed(t)
	account, other := b.account(uuid.Nil), b.account(uuid.Nil)
	b.must(b.store.EnsureSigningSecret(t.Context(), account, b.signing(account, signature.GenerateSecret())))
	b.must(b.store.RotateSigningSecret(t.Context(), account, b.signing(other, signature.GenerateSecret()), time.Hour, nil))
	var log lines
	r := New(b.store, b.keyring, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.must(r.Load(t.Context()))
	b.must(r.Load(t.Context()))

	snap := r.Snapshot()

	if n := len(snap.OneOff(oneOff(account)).Secrets(time.Now())); n != 0 || !snap.Signs(account) {
		t.Errorf("%d secrets sign beside a current one that is another account's", n)
	}
	if n := log.count("account_id=" + account.String()); n != 1 {
		t.Errorf("the log names the account %d times", n)
	}
}
