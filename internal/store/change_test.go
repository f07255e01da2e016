package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
)

// adminStore is a store on a migrated database of t's own, which gives up durability.
func adminStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{URL: pgtest.URL(t) + "&fanfare.forgetful=on"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func some(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: true} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("the error is %v, not %v", got, want)
	}
}

// newAccount stores an account below parent, or a root if parent is nil.
func newAccount(t testing.TB, s *Store, parent uuid.UUID) uuid.UUID {
	t.Helper()
	a := fanfare.Account{ID: newID(), ParentID: uuid.NullUUID{UUID: parent, Valid: parent != uuid.Nil}, Name: "acme"}
	must(t, s.CreateAccount(t.Context(), &a, nil))
	return a.ID
}

// newWebhook stores a webhook that wants patterns.
func newWebhook(t testing.TB, s *Store, account uuid.UUID, patterns ...string) *fanfare.Webhook {
	t.Helper()
	w := &fanfare.Webhook{
		ID: newID(), AccountID: account, URL: "https://example.com/hooks", EventTypes: patterns,
		Timeout: 30 * time.Second, RetrySchedule: []time.Duration{time.Minute}, MaxInFlight: 32,
	}
	must(t, s.CreateWebhook(t.Context(), w, SealedSecret{ID: newID(), Sealed: []byte("sealed")}, 100, nil))
	return w
}

func newEventTypes(t testing.TB, s *Store, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := s.PutEventType(t.Context(), &fanfare.EventType{Name: name})
		must(t, err)
	}
}

func registryVersion(t testing.TB, s *Store, account uuid.UUID) (v int64) {
	t.Helper()
	must(t, s.pool.QueryRow(t.Context(), `SELECT registry_version FROM accounts WHERE id = $1`, account).Scan(&v))
	return v
}

func headVersion(t testing.TB, s *Store) (v int64) {
	t.Helper()
	must(t, s.pool.QueryRow(t.Context(), `SELECT version FROM registry_head`).Scan(&v))
	return v
}

// loggedChanges lists what was changed after version, as "kind account object name".
func loggedChanges(t testing.TB, s *Store, after int64) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `
SELECT version, kind, account_id, object_id, coalesce(name, '') FROM registry_changes WHERE version > $1 ORDER BY version`, after)
	must(t, err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var (
			version         int64
			kind, name      string
			account, object uuid.UUID
			maybe           *uuid.UUID
		)
		must(t, rows.Scan(&version, &kind, &account, &maybe, &name))
		if object = deref(maybe); version != after+int64(len(all))+1 {
			t.Errorf("change %d follows %d", version, after+int64(len(all)))
		}
		all = append(all, fmt.Sprint(kind, " ", account, " ", object, " ", name))
	}
	must(t, rows.Err())
	return all
}

func TestAChangeRaisesTheVersionOfWhatItIsAbout(t *testing.T) {
	s := adminStore(t)
	parent := newAccount(t, s, uuid.Nil)
	account := newAccount(t, s, parent)
	newEventTypes(t, s, "call.ended")
	w := newWebhook(t, s, account, "call.ended")
	k := fanfare.Key{ID: newID(), AccountID: some(account), Scopes: fanfare.Scopes()}
	platformKey := fanfare.Key{ID: newID(), Scopes: fanfare.Scopes()}
	ctx := t.Context()
	keep := func(*fanfare.Webhook) error { return nil }

	steps := []struct {
		name    string
		account uuid.UUID
		change  string
		do      func() error
	}{
		{"rename an account", account, fmt.Sprint("account ", account, " ", account, " "), func() error {
			_, err := s.UpdateAccount(ctx, account, 0, func(a *fanfare.Account) error { a.Name = "new"; return nil })
			return err
		}},
		{"edit a webhook", account, fmt.Sprint("webhook ", account, " ", w.ID, " "), func() error {
			_, err := s.UpdateWebhook(ctx, account, w.ID, 0, nil, keep)
			return err
		}},
		{"rotate a secret", account, fmt.Sprint("webhook ", account, " ", w.ID, " "), func() error {
			return s.RotateWebhookSecret(ctx, account, w.ID, SealedSecret{ID: newID(), Sealed: []byte("s")}, time.Hour, nil)
		}},
		{"disable a webhook", account, fmt.Sprint("webhook ", account, " ", w.ID, " "), func() error {
			_, err := s.DisableWebhook(ctx, w.ID, w.URL, fanfare.Disabled{By: fanfare.DisabledByGone})
			return err
		}},
		{"delete a webhook", account, fmt.Sprint("webhook ", account, " ", w.ID, " "), func() error {
			return s.DeleteWebhook(ctx, account, w.ID, 0)
		}},
		{"create a key", account, fmt.Sprint("key ", account, " ", k.ID, " "), func() error {
			return s.CreateKey(ctx, &k, [32]byte{1}, nil)
		}},
		{"delete a key", account, fmt.Sprint("key ", account, " ", k.ID, " "), func() error {
			return s.DeleteKey(ctx, some(account), k.ID)
		}},
		{"create a platform key", uuid.Nil, fmt.Sprint("key ", uuid.Nil, " ", platformKey.ID, " "), func() error {
			return s.CreateKey(ctx, &platformKey, [32]byte{2}, nil)
		}},
		{"put an event type", uuid.Nil, fmt.Sprint("event_type ", uuid.Nil, " ", uuid.Nil, " call.ended"), func() error {
			_, err := s.PutEventType(ctx, &fanfare.EventType{Name: "call.ended"})
			return err
		}},
		{"delete an event type", uuid.Nil, fmt.Sprint("event_type ", uuid.Nil, " ", uuid.Nil, " call.ended"), func() error {
			return s.DeleteEventType(ctx, "call.ended")
		}},
		{"delete an account", account, fmt.Sprint("account ", account, " ", account, " "), func() error {
			return s.DeleteAccount(ctx, account, false)
		}},
	}
	for _, step := range steps {
		before, others := headVersion(t, s), registryVersion(t, s, parent)
		must(t, step.do())
		if diff := cmp.Diff([]string{step.change}, loggedChanges(t, s, before)); diff != "" {
			t.Errorf("%s: the log of changes: %s", step.name, diff)
		}
		if v := registryVersion(t, s, step.account); v != before+1 {
			t.Errorf("%s: the account's version is %d after %d", step.name, v, before)
		}
		if v := registryVersion(t, s, parent); v != others {
			t.Errorf("%s: another account's version rose", step.name)
		}
	}
}

func TestVersionsFollowCommitOrderWhateverChangesAtOnce(t *testing.T) {
	s := adminStore(t)
	newEventTypes(t, s, "a.b")
	root := newAccount(t, s, uuid.Nil)
	var accounts []uuid.UUID
	for range 3 {
		accounts = append(accounts, newAccount(t, s, root))
	}
	w := newWebhook(t, s, accounts[0], "a.b")
	before := headVersion(t, s)

	// Every kind of writer at once, on the same rows: none may deadlock, no version may be missing.
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for worker := range 6 {
		wg.Go(func() {
			for i := range 8 {
				ctx := context.WithoutCancel(t.Context())
				account := accounts[(worker+i)%len(accounts)]
				var err error
				switch worker {
				case 0:
					_, err = s.UpdateWebhook(ctx, accounts[0], w.ID, 0, nil, func(w *fanfare.Webhook) error { w.Name = "x"; return nil })
				case 1:
					_, err = s.UpdateAccount(ctx, account, 0, func(a *fanfare.Account) error {
						a.ParentID = some([]uuid.UUID{root, accounts[(worker+i+1)%len(accounts)]}[i%2])
						return nil
					})
					if errors.Is(err, ErrCycle) {
						err = nil
					}
				case 2:
					a := fanfare.Account{ID: newID(), ParentID: some(account)}
					if err = s.CreateAccount(ctx, &a, nil); err == nil {
						err = s.DeleteAccount(ctx, a.ID, true)
					}
				case 3:
					err = s.CreateKey(ctx, &fanfare.Key{ID: newID(), AccountID: some(account), Scopes: fanfare.Scopes()}, [32]byte{byte(i + 1)}, nil)
				case 4:
					_, err = s.PutEventType(ctx, &fanfare.EventType{Name: "a.b"})
				case 5:
					err = s.CreateWebhook(ctx, &fanfare.Webhook{ID: newID(), AccountID: account, URL: "https://x", EventTypes: []string{"a.b"}},
						SealedSecret{ID: newID(), Sealed: []byte("s")}, 100, nil)
				}
				if err != nil {
					errs <- fmt.Errorf("writer %d: %w", worker, err)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}

	all := loggedChanges(t, s, before) // which checks that there is no gap
	if v := headVersion(t, s); v != before+int64(len(all)) {
		t.Errorf("the head is at %d, %d changes after %d", v, len(all), before)
	}
	var wrong int
	must(t, s.pool.QueryRow(t.Context(), `
SELECT count(*) FROM accounts a WHERE registry_version <> coalesce((SELECT max(version) FROM registry_changes c WHERE c.account_id = a.id), 0)`).Scan(&wrong))
	if wrong > 0 {
		t.Errorf("%d accounts do not carry the version of their newest change", wrong)
	}
}

func TestARepeatUnderAKeyStoresNothing(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	create := func(name string) error {
		w := &fanfare.Webhook{ID: newID(), AccountID: account, Name: name, URL: "https://example.com", EventTypes: []string{"*"}}
		return s.CreateWebhook(t.Context(), w, SealedSecret{ID: newID(), Sealed: []byte("s")}, 1, &Once{
			Account: account, Key: "k1", Hash: [32]byte{7},
			Answer: func() (int, []byte) { return 201, fmt.Append(nil, w.Name, " ", w.Version) },
		})
	}
	must(t, create("first"))
	before := headVersion(t, s)

	wantErr(t, create("second"), ErrReplayed) // and not ErrTooMany, which would be the answer without the key

	if v := headVersion(t, s); v != before {
		t.Errorf("the repeat moved the registry from %d to %d", before, v)
	}
	got, err := s.Reply(t.Context(), account, "k1")
	must(t, err)
	if diff := cmp.Diff(&Reply{Hash: [32]byte{7}, Status: 201, Sealed: []byte("first 1")}, got); diff != "" {
		t.Error(diff)
	}
	_, err = s.Reply(t.Context(), newID(), "k1")
	wantErr(t, err, ErrNotFound)
}

func TestEqualKeysAtOnceGiveOneObject(t *testing.T) {
	s := adminStore(t)
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			results <- s.CreateAccount(context.WithoutCancel(t.Context()), &fanfare.Account{ID: newID()}, &Once{
				Key: "same", Answer: func() (int, []byte) { return 201, []byte("x") },
			})
		}()
	}
	created := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			created++
		case !errors.Is(err, ErrReplayed):
			t.Error(err)
		}
	}
	list, err := s.Accounts(t.Context(), uuid.NullUUID{}, Page{Limit: 100})
	must(t, err)
	if created != 1 || len(list) != 1 {
		t.Errorf("%d calls created something and %d accounts exist", created, len(list))
	}
}

func TestAFailedCallLeavesNothingAndGivesItsConnectionBack(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	before := headVersion(t, s)
	once := &Once{Account: account, Key: "k", Answer: func() (int, []byte) { return 201, nil }} // a column that must not be null

	for range int(s.pool.Config().MaxConns) + 1 {
		w := &fanfare.Webhook{ID: newID(), AccountID: account, URL: "https://example.com", EventTypes: []string{"*"}}
		if err := s.CreateWebhook(t.Context(), w, SealedSecret{ID: newID(), Sealed: []byte("s")}, 10, once); err == nil {
			t.Fatal("an answer that cannot be kept was accepted")
		}
	}

	if list, err := s.Webhooks(t.Context(), account, Page{Limit: 10}); err != nil || len(list) != 0 {
		t.Errorf("%d webhooks were stored, %v", len(list), err)
	}
	if v := headVersion(t, s); v != before {
		t.Errorf("the registry moved from %d to %d", before, v)
	}
	_, err := s.Reply(t.Context(), account, "k")
	wantErr(t, err, ErrNotFound)
	if n := s.pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still taken", n)
	}
	if n := s.pool.Stat().TotalConns(); n == 0 {
		t.Error("no connection survived a failure that was not its own")
	}
}

func TestNobodyWaitsForTheHeadWhileAChangeIsPrepared(t *testing.T) {
	s := adminStore(t)
	slow, other := newAccount(t, s, uuid.Nil), newAccount(t, s, uuid.Nil)
	w := newWebhook(t, s, slow, "*")
	editing, finish := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := s.UpdateWebhook(context.WithoutCancel(t.Context()), slow, w.ID, 0, nil, func(*fanfare.Webhook) error {
			close(editing)
			<-finish
			return nil
		})
		done <- err
	}()
	<-editing

	newWebhook(t, s, other, "*") // would hang

	close(finish)
	must(t, <-done)
	if a, b := registryVersion(t, s, slow), registryVersion(t, s, other); a <= b {
		t.Errorf("the change that committed last has version %d, the other %d", a, b)
	}
}

func TestRepliesAreKeptOnceAndPurged(t *testing.T) {
	s := adminStore(t)
	account := newID()
	must(t, s.SaveReply(t.Context(), account, "k", Reply{Status: 200, Sealed: []byte("one")}))
	wantErr(t, s.SaveReply(t.Context(), account, "k", Reply{Status: 200, Sealed: []byte("two")}), ErrReplayed)
	r, err := s.Reply(t.Context(), account, "k")
	must(t, err)
	if string(r.Sealed) != "one" {
		t.Errorf("the kept answer became %q", r.Sealed)
	}

	n, err := s.PurgeReplies(t.Context(), time.Hour)
	must(t, err)
	if n != 0 {
		t.Errorf("%d young answers were purged", n)
	}
	if n, err = s.PurgeReplies(t.Context(), 0); err != nil || n != 1 {
		t.Errorf("%d answers were purged, %v", n, err)
	}
}
