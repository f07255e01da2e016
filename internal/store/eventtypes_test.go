package store

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func TestAnEventTypeIsPutListedAndDeleted(t *testing.T) {
	s := adminStore(t)
	want := fanfare.EventType{Name: "call.ended", Description: "A call ended", Group: "calls", Modifiers: []byte(`{ "m": {"path": "/a"} }`), Samples: []byte(`[ {"a": 1} ]`), Archived: true}
	created, err := s.PutEventType(t.Context(), &want)
	must(t, err)
	if !created {
		t.Error("a new event type was not reported as new")
	}
	newEventTypes(t, s, "call.began", "user.left")

	got, err := s.EventType(t.Context(), "call.ended")
	must(t, err)
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	again := fanfare.EventType{Name: "call.ended"}
	created, err = s.PutEventType(t.Context(), &again)
	must(t, err)
	if created || !again.CreatedAt.Equal(want.CreatedAt) || !again.UpdatedAt.After(want.UpdatedAt) {
		t.Errorf("put again: created %v, %+v", created, again)
	}
	if got, err = s.EventType(t.Context(), "call.ended"); err != nil || got.Archived || got.Modifiers != nil || string(got.Samples) != "[]" {
		t.Errorf("put again: it is %+v, %v", got, err)
	}

	for _, c := range []struct {
		after string
		limit int
		want  []string
	}{
		{"", 2, []string{"call.began", "call.ended"}},
		{"call.ended", 2, []string{"user.left"}},
	} {
		list, err := s.EventTypes(t.Context(), nil, c.after, c.limit)
		must(t, err)
		var names []string
		for _, e := range list {
			names = append(names, e.Name)
		}
		if diff := cmp.Diff(c.want, names); diff != "" {
			t.Error(diff)
		}
	}

	must(t, s.DeleteEventType(t.Context(), "call.ended"))
	wantErr(t, s.DeleteEventType(t.Context(), "call.ended"), ErrNotFound)
	_, err = s.EventType(t.Context(), "call.ended")
	wantErr(t, err, ErrNotFound)
}

func TestAnEventTypeInUseStays(t *testing.T) {
	s := adminStore(t)
	newEventTypes(t, s, "call.ended")
	account := newAccount(t, s, uuid.Nil)
	newWebhook(t, s, account, "call.*", "*")
	w := newWebhook(t, s, account, "call.ended")
	wantErr(t, s.DeleteEventType(t.Context(), "call.ended"), ErrInUse)

	must(t, s.DeleteWebhook(t.Context(), account, w.ID, 0))
	must(t, s.DeleteEventType(t.Context(), "call.ended"))

	w.ID = newID()
	wantErr(t, s.CreateWebhook(t.Context(), w, SealedSecret{ID: newID(), Sealed: []byte("s")}, 9, nil), ErrNoEventType)
}

func TestAnEventTypeIsNotDeletedUnderAWebhookThatIsBeingWritten(t *testing.T) {
	s := adminStore(t)
	newEventTypes(t, s, "call.ended")
	account := newAccount(t, s, uuid.Nil)
	deleted := make(chan error, 1)
	w := &fanfare.Webhook{ID: newID(), AccountID: account, URL: "https://x", EventTypes: []string{"call.ended"}}
	must(t, s.CreateWebhook(t.Context(), w, SealedSecret{ID: newID(), Sealed: []byte("s")}, 9, &Once{
		Account: account, Key: "k", Answer: func() (int, []byte) {
			go func() { deleted <- s.DeleteEventType(context.WithoutCancel(t.Context()), "call.ended") }()
			waitForLock(t, s)
			return 201, []byte{}
		},
	}))
	wantErr(t, <-deleted, ErrInUse)
}

func TestAnArchivedEventTypeIsNamedByNoNewWebhook(t *testing.T) {
	s := adminStore(t)
	account := newAccount(t, s, uuid.Nil)
	newEventTypes(t, s, "a.kept", "a.new")
	w := newWebhook(t, s, account, "a.kept")
	for _, name := range []string{"a.kept", "a.new"} {
		_, err := s.PutEventType(t.Context(), &fanfare.EventType{Name: name, Archived: true})
		must(t, err)
	}
	refused := func(err error) {
		t.Helper()
		var archived *ArchivedError
		if !errors.As(err, &archived) || len(archived.Names) != 1 || archived.Names[0] != "a.new" {
			t.Errorf("the error is %v", err)
		}
	}
	next := fanfare.Webhook{ID: newID(), AccountID: account, URL: "https://example.com", EventTypes: []string{"a.new", "a.*"}}
	refused(s.CreateWebhook(t.Context(), &next, SealedSecret{ID: newID(), Sealed: []byte("s")}, 9, nil))
	edit := func(types ...string) error {
		_, err := s.UpdateWebhook(t.Context(), account, w.ID, 0, nil, func(w *fanfare.Webhook) error { w.EventTypes = types; return nil })
		return err
	}
	refused(edit("a.kept", "a.new"))
	must(t, edit("a.kept", "a.*")) // it had the name
}
