package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// bodies say of a webhook its version and who disabled it, and of an attempt its number.
var bodies = &store.EventBodies{
	Webhook: func(w *fanfare.Webhook) []byte {
		if w.Disabled != nil {
			return fmt.Appendf(nil, `"v%d by %s"`, w.Version, w.Disabled.By)
		}
		return fmt.Appendf(nil, `"v%d"`, w.Version)
	},
	Exhausted: func(w *fanfare.Webhook, count int, since time.Time, last []byte) []byte {
		return fmt.Appendf(nil, `{"webhook":"%s","count":%d,"since":%d,"last":%s}`, w.ID, count, since.UnixMilli(), last)
	},
	Last: func(a *fanfare.Attempt, eventType string) []byte {
		return fmt.Appendf(nil, `"%s %d"`, eventType, a.Number)
	},
}

// openTelling is a log whose store tells of changes.
func openTelling(t *testing.T) *logFixture {
	t.Helper()
	f := openLog(t)
	f.Store = f.telling(t)
	return f
}

// telling opens the same database once more, with a store that tells.
func (f *logFixture) telling(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: f.url, Events: bodies})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// webhook makes one the way that the API does.
func (f *logFixture) webhook(t *testing.T) *fanfare.Webhook {
	t.Helper()
	w := &fanfare.Webhook{
		ID: uuid.Must(uuid.NewV7()), AccountID: f.account, URL: "https://example.com/", EventTypes: []string{"*"},
		Timeout: time.Second, RetrySchedule: []time.Duration{time.Minute}, MaxInFlight: 1,
	}
	if err := f.CreateWebhook(t.Context(), w, store.SealedSecret{ID: uuid.New(), Sealed: []byte("s")}, 100, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// taken takes all events that are due, as "type body", and removes them.
func (f *logFixture) taken(t *testing.T) (events []string) {
	t.Helper()
	rows := must(f.ClaimOutbox(t.Context(), store.OutboxEvent, 1000, time.Hour))(t)
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		if r.AccountID != f.account || r.Tries != 1 || r.CreatedAt.IsZero() {
			t.Errorf("the row is %+v", r)
		}
		ids[i] = r.ID
		events = append(events, r.Name+" "+string(r.Body))
	}
	if err := f.FinishOutbox(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	return events
}

func TestEveryChangeOfAWebhookIsTold(t *testing.T) {
	f := openTelling(t)
	ctx := t.Context()
	w := f.webhook(t)
	edit := func(edit func(*fanfare.Webhook)) {
		t.Helper()
		must(f.UpdateWebhook(ctx, f.account, w.ID, 0, nil, func(w *fanfare.Webhook) error { edit(w); return nil }))(t)
	}
	edit(func(w *fanfare.Webhook) { w.Name = "CRM" })
	edit(func(w *fanfare.Webhook) { w.Disabled = &fanfare.Disabled{By: fanfare.DisabledByUser} })
	edit(func(w *fanfare.Webhook) { w.Name = "off" })
	edit(func(w *fanfare.Webhook) { w.Disabled = nil })
	if err := f.RotateWebhookSecret(ctx, f.account, w.ID, store.SealedSecret{ID: uuid.New(), Sealed: []byte("s")}, 0, nil); err != nil {
		t.Fatal(err)
	}
	gone := fanfare.Disabled{By: fanfare.DisabledByGone, Reason: "410"}
	for _, changes := range []bool{true, false} { // told once, not each time that it is said
		if changed := must(f.DisableWebhook(ctx, w.ID, w.URL, gone))(t); changed != changes {
			t.Errorf("disabling changed it: %v", changed)
		}
	}
	if err := f.DeleteWebhook(ctx, f.account, w.ID, 0); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`webhook.created "v1"`, `webhook.updated "v2"`, `webhook.disabled "v3 by user"`, `webhook.updated "v4 by user"`,
		`webhook.enabled "v5"`, `webhook.updated "v6"`, `webhook.disabled "v7 by gone"`, `webhook.deleted "v8 by gone"`,
	}
	if diff := cmp.Diff(want, f.taken(t)); diff != "" {
		t.Error(diff)
	}
	if mails := must(f.ClaimOutbox(ctx, store.OutboxMail, 10, time.Minute))(t); len(mails) != 1 || mails[0].Name != string(store.MailDisabled) {
		t.Errorf("mails %+v", mails)
	}
	f.wantRows(t, "outbox", 1)
}

func TestAChangeThatIsNotStoredTellsNothing(t *testing.T) {
	f := openTelling(t)
	w := f.webhook(t)
	f.taken(t)
	refusal := errors.New("422")
	for name, change := range map[string]func() error{
		"an edit that is refused": func() error {
			_, err := f.UpdateWebhook(t.Context(), f.account, w.ID, 0, nil, func(*fanfare.Webhook) error { return refusal })
			return err
		},
		"another version": func() error { return f.DeleteWebhook(t.Context(), f.account, w.ID, 9) },
		"too many secrets": func() (err error) {
			for range 20 {
				err = f.RotateWebhookSecret(t.Context(), f.account, w.ID, store.SealedSecret{ID: uuid.New(), Sealed: []byte("s")}, time.Hour, nil)
				f.taken(t)
			}
			return err
		},
	} {
		if change() == nil {
			t.Errorf("%s was stored", name)
		}
		if told := f.taken(t); len(told) > 0 {
			t.Errorf("%s told %q", name, told)
		}
	}
}

func TestARowOfTheOutboxIsInOneHandUntilItsTermIsOver(t *testing.T) {
	f := openTelling(t)
	other := f.telling(t)
	for range 3 {
		f.webhook(t)
	}
	claim := func(s *store.Store, kind store.OutboxKind, limit int, term time.Duration) []store.OutboxRow {
		t.Helper()
		return must(s.ClaimOutbox(t.Context(), kind, limit, term))(t)
	}
	if rows := claim(f.Store, store.OutboxMail, 9, time.Hour); len(rows) > 0 {
		t.Fatalf("events are taken for mails: %+v", rows)
	}
	first := claim(f.Store, store.OutboxEvent, 2, time.Hour)
	second := claim(other, store.OutboxEvent, 9, 0)
	if len(first) != 2 || len(second) != 1 || first[0].ID.String() > first[1].ID.String() {
		t.Fatalf("taken: %+v, and by another %+v", first, second)
	}
	again := claim(f.Store, store.OutboxEvent, 9, 0) // the other's term is over
	if len(again) != 1 || again[0].ID != second[0].ID || again[0].Tries != 2 {
		t.Fatalf("taken again: %+v", again)
	}
	if err := f.PostponeOutbox(t.Context(), []uuid.UUID{again[0].ID, first[0].ID}, []time.Duration{time.Hour, 0}); err != nil {
		t.Fatal(err)
	}
	if rows := claim(other, store.OutboxEvent, 9, 0); len(rows) != 1 || rows[0].ID != first[0].ID {
		t.Errorf("what was put off: %+v", rows)
	}
	if err := f.FinishOutbox(t.Context(), []uuid.UUID{first[0].ID, first[1].ID, uuid.New()}); err != nil {
		t.Fatal(err)
	}
	f.wantRows(t, "outbox", 1)
}

func TestAProcessHearsOfTheRowsThatItWrote(t *testing.T) {
	f := openTelling(t)
	f.webhook(t)
	f.webhook(t)
	select {
	case <-f.OutboxWritten(store.OutboxEvent):
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
	select {
	case <-f.OutboxWritten(store.OutboxEvent):
		t.Error("two rows ring twice")
	case <-f.OutboxWritten(store.OutboxMail):
		t.Error("an event is no mail")
	default:
	}
}

// giveUp records that the deliveries of events were given up after that many requests.
func (f *logFixture) giveUp(t *testing.T, hook uuid.UUID, number int, events ...uuid.UUID) *store.Lot {
	t.Helper()
	lot := &store.Lot{Owner: f.node}
	for _, e := range events {
		a := f.attempt(e, hook, number, fanfare.Exhausted)
		lot.Outcomes = append(lot.Outcomes, store.Outcome{Attempt: a, Owner: f.node, Told: "call.ended"})
	}
	f.record(t, lot)
	return lot
}

// tell does what one minute does: what is due is told. It returns the counts by webhook.
func (f *logFixture) tell(t *testing.T) map[uuid.UUID]int {
	t.Helper()
	if err := f.TellExhaustions(t.Context()); err != nil {
		t.Fatal(err)
	}
	counts := make(map[uuid.UUID]int)
	rows := must(f.ClaimOutbox(t.Context(), store.OutboxEvent, 1000, time.Hour))(t)
	for _, r := range rows {
		var told struct {
			Webhook uuid.UUID
			Count   int
			Last    string
		}
		if r.Name != fanfare.EventDeliveryExhausted {
			continue
		}
		if err := json.Unmarshal(r.Body, &told); err != nil {
			t.Fatal(err)
		}
		if _, twice := counts[told.Webhook]; twice || told.Last == "" {
			t.Errorf("told: %s", r.Body)
		}
		counts[told.Webhook] = told.Count
	}
	return counts
}

func (f *logFixture) minutePasses(t *testing.T) {
	t.Helper()
	f.exec(t, `UPDATE exhaustions SET due_at = due_at - interval '1 minute'`)
}

func TestDeliveriesThatWereGivenUpAreToldOnceAMinute(t *testing.T) {
	f := openTelling(t)
	one, two, deleted := f.webhook(t), f.webhook(t), f.webhook(t)
	_, events := f.publish(t, 6, one.ID, two.ID, deleted.ID)
	f.taken(t)
	step := func(what string, want map[uuid.UUID]int) {
		t.Helper()
		if diff := cmp.Diff(want, f.tell(t)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	none := map[uuid.UUID]int{}
	step("nothing happened", none)

	f.giveUp(t, one.ID, 6, events[:3]...)
	f.giveUp(t, two.ID, 6, events[0])
	f.giveUp(t, deleted.ID, 6, events[0])
	if err := f.DeleteWebhook(t.Context(), f.account, deleted.ID, 0); err != nil {
		t.Fatal(err)
	}
	step("the first are told at once", map[uuid.UUID]int{one.ID: 3, two.ID: 1})

	f.giveUp(t, one.ID, 6, events[3])
	f.giveUp(t, one.ID, 6, events[4])
	step("the next wait", none)
	f.minutePasses(t)
	step("a minute later", map[uuid.UUID]int{one.ID: 2})
	f.wantRows(t, "exhaustions", 1) // the other webhook was quiet for a minute
	f.minutePasses(t)
	step("nothing more", none)
	f.wantRows(t, "exhaustions", 0)
}

// The answer to a lot may be lost, and it is written again.
func TestALotThatIsRepeatedIsCountedOnce(t *testing.T) {
	f := openTelling(t)
	w := f.webhook(t)
	_, events := f.publish(t, 3, w.ID)
	lot := f.giveUp(t, w.ID, 6, events[:2]...)
	f.record(t, lot)
	f.record(t, &store.Lot{Owner: f.node, Outcomes: append(slices.Clone(lot.Outcomes),
		store.Outcome{Attempt: f.attempt(events[2], w.ID, 6, fanfare.Exhausted), Owner: f.node, Told: "call.ended"})})
	if diff := cmp.Diff(map[uuid.UUID]int{w.ID: 3}, f.tell(t)); diff != "" {
		t.Error(diff)
	}
}

// Several nodes count the same webhooks', and tell of them.
func TestNodesCountTogetherAndTellOnce(t *testing.T) {
	f := openTelling(t)
	hooks := []uuid.UUID{f.webhook(t).ID, f.webhook(t).ID, f.webhook(t).ID}
	const nodes, each = 3, 20
	_, events := f.publish(t, nodes*each, hooks...)
	var work sync.WaitGroup
	for n := range nodes {
		s := f.telling(t)
		work.Go(func() {
			for i := range each {
				lot := &store.Lot{Owner: f.node}
				for _, h := range []int{i, i + 1, i + 2} { // in another order each time
					a := f.attempt(events[n*each+i], hooks[h%3], 6, fanfare.Exhausted)
					lot.Outcomes = append(lot.Outcomes, store.Outcome{Attempt: a, Owner: f.node, Told: "call.ended"})
				}
				if err := s.Record(t.Context(), lot); err != nil {
					t.Error(err)
				}
				if err := s.TellExhaustions(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	first := f.tell(t)
	f.minutePasses(t)
	for hook, n := range f.tell(t) {
		first[hook] += n
	}
	for _, h := range hooks {
		if first[h] != nodes*each {
			t.Errorf("%d of %d were told", first[h], nodes*each)
		}
	}
}

// What is being counted is told when it is: neither waits for the other, and nothing falls between them.
func TestWhatIsBeingCountedIsToldLater(t *testing.T) {
	f := openTelling(t)
	w := f.webhook(t)
	_, events := f.publish(t, 3, w.ID)
	f.giveUp(t, w.ID, 6, events...)
	counting := must(f.connect(t).Begin(t.Context()))(t)
	must(counting.Exec(t.Context(), `UPDATE exhaustions SET count = count + 1`))(t)
	if got := f.tell(t); len(got) > 0 {
		t.Errorf("told meanwhile: %v", got)
	}
	if err := counting.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uuid.UUID]int{w.ID: 4}, f.tell(t)); diff != "" {
		t.Error(diff)
	}
}

// Between reading what is to be told and telling it, everything may happen.
func TestWhatHappensWhileItIsToldIsNotLostOrToldTwice(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(f *logFixture, other *store.Store, hook uuid.UUID, event uuid.UUID)
		later     int // that the next minute tells of
	}{
		"another delivery is given up": {func(f *logFixture, _ *store.Store, hook, event uuid.UUID) {
			f.giveUp(t, hook, 6, event)
		}, 1},
		"another node tells of it": {func(_ *logFixture, other *store.Store, _, _ uuid.UUID) {
			if err := other.TellExhaustions(t.Context()); err != nil {
				t.Error(err)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := openTelling(t)
			other := f.Store
			w := f.webhook(t)
			_, events := f.publish(t, 4, w.ID)
			f.giveUp(t, w.ID, 6, events[:3]...)
			once := sync.OnceFunc(func() { c.meanwhile(f, other, w.ID, events[3]) })
			slow := *bodies
			slow.Exhausted = func(w *fanfare.Webhook, count int, since time.Time, last []byte) []byte {
				once()
				return bodies.Exhausted(w, count, since, last)
			}
			s, err := store.Open(t.Context(), store.Options{URL: f.url, Events: &slow})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			if err := s.TellExhaustions(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[uuid.UUID]int{w.ID: 3}, f.tell(t)); diff != "" {
				t.Errorf("told: %s", diff)
			}
			f.minutePasses(t)
			if later := f.tell(t)[w.ID]; later != c.later {
				t.Errorf("%d told a minute later", later)
			}
		})
	}
}
