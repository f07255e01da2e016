package store

import (
	"context"
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
		list, err := s.EventTypes(t.Context(), c.after, c.limit)
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
