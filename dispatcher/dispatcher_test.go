package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

func TestAPublishedEventArrivesOnceAndIsOnRecord(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(204))
	w := r.webhook(rc.URL)
	d := r.node(Options{})
	id := r.publish(d, `{"b":1, "a": "\u00e9"}`)
	got := r.next(rc)
	if got.header.Get("webhook-id") != id.String() || got.header.Get("X-Fanfare-Attempt") != "1" ||
		got.header.Get("X-Fanfare-Webhook-Id") != w.ID.String() || got.header.Get("X-Fanfare-Event-Type") != "call.ended" {
		t.Errorf("headers: %v", got.header)
	}
	if !bytes.HasSuffix(got.body, []byte(`,"data":{"b":1, "a": "\u00e9"}}`)) || !json.Valid(got.body) {
		t.Errorf("body: %s", got.body)
	}
	r.settled()
	attempts := r.attempts(id)
	if len(attempts) != 1 || attempts[0].State != fanfare.Delivered || attempts[0].Status != 204 || attempts[0].Number != 1 {
		t.Errorf("attempts: %+v", attempts)
	}
}

// attempts reads an event's rows of the log, newest first.
func (r *rig) attempts(event uuid.UUID) []fanfare.Attempt {
	r.Helper()
	rows, err := r.sql.Query(r.Context(), `
		SELECT webhook_id, number, trigger, state, coalesce(reason, ''), status FROM attempts WHERE event_id = $1 ORDER BY id DESC`, event)
	r.ok(err)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a fanfare.Attempt, err error) {
		err = row.Scan(&a.WebhookID, &a.Number, &a.Trigger, &a.State, &a.Reason, &a.Status)
		return a, err
	})
	r.ok(err)
	return list
}

func TestAFailureIsRepeatedWithTheSameIDAndBytes(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(func(n int, w http.ResponseWriter) {
		if n < 3 {
			w.WriteHeader(500)
		}
	})
	r.webhook(rc.URL, quick...)
	d := r.node(Options{})
	id := r.publish(d, `{"n":1}`)
	first := r.next(rc)
	for n := 2; n <= 3; n++ {
		again := r.next(rc)
		if again.header.Get("webhook-id") != id.String() || !bytes.Equal(first.body, again.body) {
			t.Errorf("attempt %d: id %s, body %s", n, again.header.Get("webhook-id"), again.body)
		}
	}
	r.until("three attempts are on record", func() bool { return len(r.attempts(id)) == 3 })
	if a := r.attempts(id)[0]; a.State != fanfare.Delivered || a.Number != 3 || a.Trigger != fanfare.TriggerRetry {
		t.Errorf("the last attempt: %+v", a)
	}
	r.until("the retry is gone", func() bool {
		due, err := r.store.DueWebhooks(t.Context())
		return err == nil && len(due) == 0
	})
}

func TestAScheduleThatIsOverExhausts(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(500))
	r.webhook(rc.URL, time.Second)
	d := r.node(Options{})
	id := r.publish(d, `{}`)
	r.until("two attempts are on record", func() bool { return len(r.attempts(id)) == 2 })
	if a := r.attempts(id)[0]; a.State != fanfare.Exhausted || a.Reason != fanfare.ReasonSchedule {
		t.Errorf("the last attempt: %+v", a)
	}
}

func TestADisabledOrDeletedWebhookIsSentNothingAndTheReasonIsKept(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	off, gone := r.webhook(rc.URL), r.webhook(rc.URL)
	if _, err := r.store.DisableWebhook(t.Context(), off.ID, off.URL, fanfare.Disabled{By: fanfare.DisabledByUser, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	d := r.node(Options{})
	// The event matches both; one is deleted before its turn.
	d.queue.slots = 0
	id := r.publish(d, `{}`)
	r.ok(r.store.DeleteWebhook(t.Context(), r.account, gone.ID, 0))
	r.ok(d.reg.CatchUp(t.Context()))
	d.queue.mu.Lock()
	d.queue.slots = 10
	d.queue.mu.Unlock()
	d.startSenders(d.queue.wake())
	r.settled()
	for _, want := range []struct {
		hook   uuid.UUID
		reason fanfare.Reason
	}{{off.ID, fanfare.ReasonWebhookDisabled}, {gone.ID, fanfare.ReasonWebhookDeleted}} {
		state, reason := r.state(want.hook, id)
		if state != fanfare.Discarded || reason != want.reason {
			t.Errorf("%s: %s %s", want.reason, state, reason)
		}
	}
	if n := len(rc.got); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// state reads the last row of a delivery.
func (r *rig) state(webhook, event uuid.UUID) (fanfare.State, fanfare.Reason) {
	r.Helper()
	for _, a := range r.attempts(event) {
		if a.WebhookID == webhook {
			return a.State, a.Reason
		}
	}
	return "", ""
}

func TestAGoneReceiverDisablesItsWebhook(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(410))
	w := r.webhook(rc.URL)
	d := r.node(Options{})
	id := r.publish(d, `{}`)
	r.settled()
	if state, reason := r.state(w.ID, id); state != fanfare.Discarded || reason != fanfare.ReasonGone {
		t.Errorf("the delivery is %s %s", state, reason)
	}
	now, err := r.store.Webhook(t.Context(), r.account, w.ID)
	r.ok(err)
	if now.Disabled == nil || now.Disabled.By != fanfare.DisabledByGone {
		t.Fatalf("the webhook is %+v", now.Disabled)
	}
	e, err := retry.ParseEvidence([]byte(now.Disabled.Evidence))
	if err != nil || e.Rule != retry.RuleGone || len(e.Samples) != 1 || e.Samples[0].EventID != id.String() || *e.Samples[0].Status != 410 {
		t.Errorf("the evidence is %s, %v", now.Disabled.Evidence, err)
	}
	mails, err := r.store.ClaimOutbox(t.Context(), store.OutboxMail, 10, time.Minute)
	if err != nil || len(mails) != 1 || mails[0].Name != string(store.MailDisabled) {
		t.Errorf("the mails are %+v, %v", mails, err)
	}
}

func TestAQueueThatIsFullParksAndLosesNothing(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	rc := r.receiver(func(int, http.ResponseWriter) { <-release })
	r.webhook(rc.URL)
	d := r.node(Options{HookDepth: 5})
	const n = 60
	for range n {
		r.publish(d, `{}`)
	}
	r.until("deliveries are parked", func() bool {
		due, err := r.store.DueWebhooks(t.Context())
		return err == nil && len(due) == 1
	})
	close(release)
	ids := map[string]int{}
	for range n {
		ids[r.next(rc).header.Get("webhook-id")]++
	}
	if len(ids) != n {
		t.Errorf("%d of %d events arrived", len(ids), n)
	}
	r.settled()
}

func TestAStopHandsOverAndRepeatsNothing(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(func(_ int, w http.ResponseWriter) { pause(context.Background(), 5*time.Millisecond) })
	r.webhook(rc.URL)
	const n = 300
	first := r.node(Options{Slots: 4})
	for range n {
		r.publish(first, `{}`)
	}
	r.ok(first.stop())
	if d, err := r.store.DueWebhooks(t.Context()); err != nil || len(d) != 1 {
		t.Fatalf("nothing was handed over: %v %v", d, err)
	}
	r.node(Options{})
	ids := map[string]int{}
	for range n {
		ids[r.next(rc).header.Get("webhook-id")]++
	}
	r.settled()
	if len(ids) != n || len(rc.got) != 0 {
		t.Errorf("%d of %d events arrived, %d too often", len(ids), n, len(rc.got))
	}
}

func TestANodeThatDiesIsTakenOver(t *testing.T) {
	r := newRig(t)
	hang := make(chan struct{})
	rc := r.receiver(func(n int, w http.ResponseWriter) {
		if n <= 4 {
			<-hang
		}
	})
	r.webhook(rc.URL)
	first := r.node(Options{Slots: 8}) // alone, an account gets half of them
	const n = 50
	want := map[string]bool{}
	for range n {
		want[r.publish(first, `{}`).String()] = true
	}
	for range 4 {
		r.next(rc)
	}
	first.kill()
	close(hang) // not before: what is answered might be recorded
	r.node(Options{})
	for len(want) > 0 {
		delete(want, r.next(rc).header.Get("webhook-id"))
	}
	r.settled()
}

func TestAGroupThatIsForgottenIsTakenUpAgain(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	r.webhook(rc.URL)
	d := r.node(Options{})
	d.queue.mu.Lock()
	d.queue.slots = 0
	d.queue.mu.Unlock()
	id := r.publish(d, `{}`)
	d.recorder.forgetAll() // as if the commit had seemed to fail
	d.queue.clear()
	d.queue.mu.Lock()
	d.queue.slots = 10
	d.queue.mu.Unlock()
	r.ok(d.recoverForgotten(t.Context()))
	if got := r.next(rc).header.Get("webhook-id"); got != id.String() {
		t.Errorf("got %s, want %s", got, id)
	}
	r.settled()
}

func TestAGroupIsNotSettledByALotAfterACrashThatLostAnEarlierOne(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	soon, late := r.receiver(answering(200)), r.receiver(func(int, http.ResponseWriter) { <-release })
	first := r.webhook(soon.URL)
	second := r.webhook(late.URL)
	d := r.node(Options{})
	id := r.publish(d, `{}`)
	r.next(soon)
	r.next(late)
	r.until("the first outcome is on record", func() bool { s, _ := r.state(first.ID, id); return s == fanfare.Delivered })
	_, err := r.sql.Exec(t.Context(), `DELETE FROM attempts`) // as a crash does to what was not flushed
	r.ok(err)
	_, err = r.sql.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	r.ok(err)
	close(release)
	r.until("the second outcome is on record", func() bool { s, _ := r.state(second.ID, id); return s == fanfare.Delivered })
	r.until("the first delivery is made again", func() bool {
		err := d.recoverForgotten(t.Context()) // its connections were cut as well
		return err == nil && len(soon.got) > 0
	})
	r.settled()
	if s, _ := r.state(first.ID, id); s != fanfare.Delivered {
		t.Errorf("the first delivery is %q", s)
	}
	if len(late.got) != 0 {
		t.Error("what is on record was made again")
	}
}

func TestAnIdempotencyKeyMakesOneEvent(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	r.webhook(rc.URL)
	d := r.node(Options{})
	pub := Publication{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`), IdempotencyKey: "k", RequestHash: [32]byte{1}}
	type result struct {
		receipt Receipt
		err     error
	}
	results := make(chan result, 20)
	for range cap(results) {
		go func() {
			receipts, err := d.Publish(t.Context(), []Publication{pub})
			if err != nil {
				results <- result{err: err}
				return
			}
			results <- result{receipt: receipts[0]}
		}()
	}
	ids, fresh := map[uuid.UUID]bool{}, 0
	for range cap(results) {
		res := <-results
		r.ok(res.err)
		ids[res.receipt.ID] = true
		if !res.receipt.Replayed {
			fresh++
		}
		if res.receipt.Matched != 1 {
			t.Errorf("matched %d", res.receipt.Matched)
		}
	}
	if len(ids) != 1 || fresh != 1 {
		t.Errorf("%d ids, %d of them not replayed", len(ids), fresh)
	}
	pub.RequestHash = [32]byte{2}
	_, err := d.Publish(t.Context(), []Publication{{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`)}, pub})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != KeyReused || refused.Index != 1 {
		t.Errorf("another request under the key: %v", err)
	}
	r.settled()
	if r.next(rc); len(rc.got) != 0 {
		t.Errorf("%d more requests than events", len(rc.got))
	}
}

func TestWhatIsUnknownIsRefusedWithItsPlace(t *testing.T) {
	r := newRig(t)
	d := r.node(Options{})
	good := Publication{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`)}
	for _, c := range []struct {
		bad  Publication
		want Refusal
	}{
		{Publication{AccountID: uuid.New(), Type: "call.ended", Data: []byte(`{}`)}, UnknownAccount},
		{Publication{AccountID: r.account, Type: "no.such", Data: []byte(`{}`)}, UnknownEventType},
	} {
		_, err := d.Publish(t.Context(), []Publication{good, c.bad})
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != c.want || refused.Index != 1 {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

// Whatever the node knows of a schema that was just changed: data that satisfied the old one does not go in,
// and what satisfies the new one does.
func TestASchemaHoldsFromTheMomentItsChangeWasAnswered(t *testing.T) {
	r := newRig(t)
	d := r.node(Options{})
	for n := range 10 {
		old := d.reg.Snapshot().EventType("call.ended")
		name := fmt.Sprintf("a%d", n)
		_, err := r.store.PutEventType(t.Context(), &fanfare.EventType{Name: "call.ended", Schema: fmt.Appendf(nil, `{"required":[%q]}`, name)})
		r.ok(err)
		pub := Publication{AccountID: r.account, Type: "call.ended", Data: fmt.Appendf(nil, `{"a%d":1}`, n-1), CheckedBy: old}
		_, err = d.Publish(t.Context(), []Publication{pub})
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != InvalidData || len(refused.Faults) != 1 || refused.Faults[0].Pointer != "/"+name {
			t.Fatalf("change %d: %v", n, err)
		}
		r.publish(d, fmt.Sprintf(`{%q:1}`, name))
	}
}

// A filter and metadata may have numbers that no schema bears. The change is told all the same.
func TestAnOperationalEventIsNotRefusedForItsData(t *testing.T) {
	r := newRig(t)
	d := r.node(Options{})
	_, err := r.store.ApplyCatalog(t.Context(), fanfare.OriginPlatform, []fanfare.EventType{
		{Name: fanfare.EventWebhookCreated, Schema: []byte(`{"type":"object"}`)},
	})
	r.ok(err)
	for _, number := range []string{"1e999999999", strings.Repeat("9", 300)} {
		_, err := d.Publish(t.Context(), []Publication{{
			AccountID: r.account, Type: fanfare.EventWebhookCreated, Data: []byte(`{"webhook":{"filter":{"data":{"a":` + number + `}}}}`),
		}})
		if err != nil {
			t.Errorf("%.20s: %v", number, err)
		}
	}
}

func TestAWebhookIsMatchedFromTheMomentItsCreationWasAnswered(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	d := r.node(Options{})
	for n := range 20 {
		w := r.webhook(rc.URL)
		id := r.publish(d, `{}`)
		var matched bool
		r.ok(r.sql.QueryRow(t.Context(), `SELECT $1 = ANY (webhook_ids) FROM events WHERE id = $2`, w.ID, id).Scan(&matched))
		if !matched {
			t.Fatalf("event %d did not match the webhook that was just made", n)
		}
	}
	r.settled()
}

func TestATestSendAnswersTheAttemptAndIsNotRepeated(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(500))
	w := r.webhook(rc.URL, quick...)
	d := r.node(Options{})
	a, err := d.Test(t.Context(), r.account, w.ID, "call.ended", []byte(`{"test":true}`))
	r.ok(err)
	if a.Status != 500 || a.Trigger != fanfare.TriggerTest || a.State != fanfare.Exhausted {
		t.Errorf("the attempt: %+v", a)
	}
	r.settled()
	if due, err := r.store.DueWebhooks(t.Context()); err != nil || len(due) != 0 {
		t.Errorf("a test left a retry: %v %v", due, err)
	}
	if _, err := d.Test(t.Context(), r.account, uuid.New(), "call.ended", []byte(`{}`)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown webhook: %v", err)
	}
}

func TestADeadIncarnationStartsAnew(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	r.webhook(rc.URL)
	d := r.node(Options{})
	before := d.node.id()
	_, err := r.sql.Exec(t.Context(), `UPDATE nodes SET dead = true WHERE id = $1`, before)
	r.ok(err)
	d.node.suspect()
	r.until("the node has another incarnation", func() bool { return d.node.id() != before })
	r.until("it publishes again", func() bool {
		_, err := d.Publish(t.Context(), []Publication{{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`)}})
		return err == nil
	})
	r.next(rc)
	r.settled()
}

func TestAConnectionThatIsClosedAsWeWriteCostsNoTry(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(func(n int, w http.ResponseWriter) {
		if n == 2 {
			conn, _, err := http.NewResponseController(w).Hijack()
			r.ok(err)
			conn.Close()
		}
	})
	r.webhook(rc.URL) // whose first retry is a minute away
	d := r.node(Options{})
	r.publish(d, `{}`)
	r.next(rc)
	r.settled()
	id := r.publish(d, `{}`)
	r.next(rc)
	if again := r.next(rc); again.header.Get("webhook-id") != id.String() || again.header.Get("X-Fanfare-Attempt") != "2" {
		t.Errorf("the next request: %v", again.header)
	}
	r.until("both attempts are on record", func() bool { return len(r.attempts(id)) == 2 })
	if a := r.attempts(id); a[0].State != fanfare.Delivered || a[1].State != fanfare.Pending {
		t.Errorf("attempts: %+v", a)
	}
}
