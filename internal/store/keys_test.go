package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func TestKeysBelongToTheirAccountOrToThePlatform(t *testing.T) {
	s := adminStore(t)
	account, other := newAccount(t, s, uuid.Nil), newAccount(t, s, uuid.Nil)
	var keys []fanfare.Key
	for i, owner := range []uuid.NullUUID{some(account), some(account), {}} {
		k := fanfare.Key{ID: newID(), AccountID: owner, Name: "ci", Hint: "ffk_abcd", Scopes: []fanfare.Scope{fanfare.ScopeRead, fanfare.ScopePublish}}
		must(t, s.CreateKey(t.Context(), &k, [32]byte{byte(i)}, nil))
		if k.CreatedAt.IsZero() {
			t.Error("the time was not filled in")
		}
		keys = append(keys, k)
	}

	for _, c := range []struct {
		owner uuid.NullUUID
		page  Page
		want  []fanfare.Key
	}{
		{some(account), Page{Limit: 10}, []fanfare.Key{keys[1], keys[0]}},
		{some(account), Page{Limit: 1}, keys[1:2]},
		{some(account), Page{Limit: 1, After: keys[1].ID}, keys[:1]},
		{some(other), Page{Limit: 10}, nil},
		{uuid.NullUUID{}, Page{Limit: 10}, keys[2:]},
	} {
		got, err := s.Keys(t.Context(), c.owner, c.page)
		must(t, err)
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}

	wantErr(t, s.DeleteKey(t.Context(), some(other), keys[0].ID), ErrNotFound)
	wantErr(t, s.DeleteKey(t.Context(), uuid.NullUUID{}, keys[0].ID), ErrNotFound)
	wantErr(t, s.DeleteKey(t.Context(), some(account), keys[2].ID), ErrNotFound)
	must(t, s.DeleteKey(t.Context(), some(account), keys[0].ID))
	must(t, s.DeleteKey(t.Context(), uuid.NullUUID{}, keys[2].ID))
	wantErr(t, s.DeleteKey(t.Context(), some(account), keys[0].ID), ErrNotFound)
}
