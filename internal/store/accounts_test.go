package store

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func accountIDs(list []fanfare.Account) []uuid.UUID {
	ids := make([]uuid.UUID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}

func TestAnAccountIsReadAsItWasWritten(t *testing.T) {
	s := adminStore(t)
	a := fanfare.Account{
		ID: newID(), Name: "Ümläut", Metadata: []byte(`{"b":1,  "a":"\u0000"}`),
		Settings: &fanfare.Settings{Signature: []byte(`[{"scheme":"standard"}]`)},
	}
	given := a.Settings
	must(t, s.CreateAccount(t.Context(), &a, nil))
	if diff := cmp.Diff(given, a.Settings); diff != "" {
		t.Error(diff)
	}
	if a.Version != 1 || a.CreatedAt.IsZero() || a.UpdatedAt.IsZero() {
		t.Errorf("what Postgres decides was not filled in: %+v", a)
	}
	got, err := s.Account(t.Context(), a.ID)
	must(t, err)
	if diff := cmp.Diff(&a, got); diff != "" {
		t.Error(diff)
	}

	edited, err := s.UpdateAccount(t.Context(), a.ID, a.Version, func(a *fanfare.Account) error {
		a.Name, a.Metadata, a.Settings = "new", nil, &fanfare.Settings{}
		return nil
	})
	must(t, err)
	if edited.Name != "new" || string(edited.Metadata) != "{}" || edited.Version != 2 || edited.Settings != nil || edited.UpdatedAt.Before(a.UpdatedAt) {
		t.Errorf("the edit gave %+v", edited)
	}
}

func TestAnAccountThatIsNotThereIsNotFound(t *testing.T) {
	s := adminStore(t)
	gone := newAccount(t, s, uuid.Nil)
	must(t, s.DeleteAccount(t.Context(), gone, false))
	for name, id := range map[string]uuid.UUID{"unknown": newID(), "deleted": gone, "the platform's": fanfare.PlatformAccount} {
		_, err := s.Account(t.Context(), id)
		wantErr(t, err, ErrNotFound)
		_, err = s.UpdateAccount(t.Context(), id, 0, func(*fanfare.Account) error { return nil })
		wantErr(t, err, ErrNotFound)
		wantErr(t, s.DeleteAccount(t.Context(), id, true), ErrNotFound)
		err = s.CreateAccount(t.Context(), &fanfare.Account{ID: newID(), ParentID: some(id)}, nil)
		wantErr(t, err, ErrNoParent)
		wantErr(t, err, ErrNotFound)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestAnEditThatIsRefusedStoresNothing(t *testing.T) {
	s := adminStore(t)
	id := newAccount(t, s, uuid.Nil)
	refusal := errors.New("422")
	_, err := s.UpdateAccount(t.Context(), id, 0, func(a *fanfare.Account) error { a.Name = "new"; return refusal })
	if err != refusal {
		t.Errorf("the edit's error came back as %v", err)
	}
	_, err = s.UpdateAccount(t.Context(), id, 7, func(a *fanfare.Account) error { a.Name = "new"; return nil })
	wantErr(t, err, ErrVersion)

	if a, err := s.Account(t.Context(), id); err != nil || a.Name != "acme" || a.Version != 1 {
		t.Errorf("the account is %+v, %v", a, err)
	}
}

func TestAnAccountCannotBeBelowItself(t *testing.T) {
	s := adminStore(t)
	top := newAccount(t, s, uuid.Nil)
	middle := newAccount(t, s, top)
	bottom := newAccount(t, s, middle)
	move := func(id, to uuid.UUID) error {
		_, err := s.UpdateAccount(t.Context(), id, 0, func(a *fanfare.Account) error { a.ParentID = some(to); return nil })
		return err
	}
	wantErr(t, move(top, bottom), ErrCycle)
	wantErr(t, move(top, top), ErrCycle)
	wantErr(t, move(top, newID()), ErrNoParent)

	must(t, move(bottom, top))
	must(t, move(middle, bottom)) // fine now
	wantErr(t, move(bottom, middle), ErrCycle)
}

func TestTwoMovesAtOnceMakeNoCycle(t *testing.T) {
	s := adminStore(t)
	a, b := newAccount(t, s, uuid.Nil), newAccount(t, s, uuid.Nil)
	second := make(chan error, 1)
	_, err := s.UpdateAccount(t.Context(), a, 0, func(account *fanfare.Account) error {
		go func() {
			_, err := s.UpdateAccount(context.WithoutCancel(t.Context()), b, 0, func(account *fanfare.Account) error {
				account.ParentID = some(a)
				return nil
			})
			second <- err
		}()
		waitForLock(t, s)
		account.ParentID = some(b)
		return nil
	})
	must(t, err)
	wantErr(t, <-second, ErrCycle)
}

func TestDeletingAnAccountTakesTheSubtreeOnlyWhenAsked(t *testing.T) {
	s := adminStore(t)
	top, beside := newAccount(t, s, uuid.Nil), newAccount(t, s, uuid.Nil)
	below := newAccount(t, s, newAccount(t, s, top))
	kept, gone := newWebhook(t, s, beside, "*"), newWebhook(t, s, below, "*")
	for i, account := range []uuid.UUID{below, beside} {
		must(t, s.CreateKey(t.Context(), &fanfare.Key{ID: newID(), AccountID: some(account), Scopes: fanfare.Scopes()}, [32]byte{byte(i)}, nil))
	}
	wantErr(t, s.DeleteAccount(t.Context(), top, false), ErrHasChildren)
	before := headVersion(t, s)

	must(t, s.DeleteAccount(t.Context(), top, true))

	if n := len(loggedChanges(t, s, before)); n != 3 {
		t.Errorf("%d changes were logged for 3 accounts", n)
	}
	list, err := s.Accounts(t.Context(), uuid.NullUUID{}, Page{Limit: 10})
	must(t, err)
	if diff := cmp.Diff([]uuid.UUID{beside}, accountIDs(list)); diff != "" {
		t.Error(diff)
	}
	_, err = s.Webhook(t.Context(), below, gone.ID)
	wantErr(t, err, ErrNotFound)
	_, err = s.Webhook(t.Context(), beside, kept.ID)
	must(t, err)
	var keys, secrets []uuid.UUID
	must(t, s.pool.QueryRow(t.Context(), `SELECT array_agg(account_id) FROM api_keys`).Scan(&keys))
	must(t, s.pool.QueryRow(t.Context(), `SELECT array_agg(webhook_id) FROM webhook_secrets`).Scan(&secrets))
	if !slices.Equal(keys, []uuid.UUID{beside}) || !slices.Equal(secrets, []uuid.UUID{kept.ID}) {
		t.Errorf("keys of %v and secrets of %v are left", keys, secrets)
	}
	wantErr(t, s.CreateWebhook(t.Context(), &fanfare.Webhook{ID: newID(), AccountID: below}, SealedSecret{}, 1, nil), ErrNotFound)
	wantErr(t, s.CreateKey(t.Context(), &fanfare.Key{ID: newID(), AccountID: some(below)}, [32]byte{9}, nil), ErrNotFound)
}

func TestAccountsAreListedNewestFirstAndOnlyBelowTheRoot(t *testing.T) {
	s := adminStore(t)
	top := newAccount(t, s, uuid.Nil)
	child := newAccount(t, s, top)
	grandchild := newAccount(t, s, child)
	beside := newAccount(t, s, uuid.Nil)

	for _, c := range []struct {
		root uuid.NullUUID
		want []uuid.UUID
	}{
		{uuid.NullUUID{}, []uuid.UUID{beside, grandchild, child, top}},
		{some(top), []uuid.UUID{grandchild, child, top}},
		{some(grandchild), []uuid.UUID{grandchild}},
		{some(newID()), nil},
	} {
		var got []uuid.UUID
		page := Page{Limit: 2}
		for {
			list, err := s.Accounts(t.Context(), c.root, page)
			must(t, err)
			got = append(got, accountIDs(list)...)
			if len(list) < page.Limit {
				break
			}
			page.After = got[len(got)-1]
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
	}
}
