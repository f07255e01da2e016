package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// lapse lets the lease run out and senders see it.
func (d *testNode) lapse() { d.node.leaseEnd.Store(0) }

func TestSendersGoOnWhenTheLeaseLapsedBetweenTwoRenewals(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	rc := r.receiver(func(n int, _ http.ResponseWriter) {
		if n == 1 {
			<-release
		}
	})
	w := r.webhook(rc.URL)
	_, err := r.store.UpdateWebhook(t.Context(), r.account, w.ID, 0, nil, func(w *fanfare.Webhook) error { w.MaxInFlight = 1; return nil })
	r.ok(err)
	d := r.node(Options{})
	r.publish(d, `{}`)
	r.next(rc)
	r.publish(d, `{}`)
	d.lapse()
	close(release)
	r.until("the sender has ended", func() bool {
		d.queue.mu.Lock()
		defer d.queue.mu.Unlock()
		return d.queue.senders == 0
	})
	// The renewal that was under way is granted, and whoever looks then sees a lease that was never lost.
	r.ok(d.renew(t.Context()))
	r.next(rc)
}

func TestANodeThatHadLostItsLeaseKnowsWhatHasChangedBeforeItSendsAgain(t *testing.T) {
	r := newRig(t)
	w := r.webhook("http://127.0.0.1:1")
	reg := registry.New(r.store, r.keyring, registry.Options{})
	r.ok(reg.Load(t.Context()))
	d := testNode{Dispatcher: New(r.store, reg, nil, Options{})} // nothing but this test renews
	r.ok(d.join(t.Context()))
	r.ok(r.store.DeleteWebhook(t.Context(), r.account, w.ID, 0))
	d.lapse()
	r.ok(d.renew(t.Context()))
	if reg.Snapshot().Webhook(w.ID) != nil {
		t.Error("it may send to a webhook that was deleted while it could not know")
	}
}

func TestAWebhookThatIsEnabledGetsNoMoreAtOnceThanItMay(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	rc := r.receiver(func(int, http.ResponseWriter) { <-release })
	w := r.webhook(rc.URL)
	edit := func(f func(*fanfare.Webhook)) {
		_, err := r.store.UpdateWebhook(t.Context(), r.account, w.ID, 0, nil, func(w *fanfare.Webhook) error { f(w); return nil })
		r.ok(err)
	}
	edit(func(w *fanfare.Webhook) { w.Disabled = &fanfare.Disabled{By: fanfare.DisabledByUser} })
	d := r.node(Options{})
	matched := d.reg.Snapshot().Webhook(w.ID)
	edit(func(w *fanfare.Webhook) { w.Disabled, w.MaxInFlight = nil, 1 })
	r.ok(d.reg.CatchUp(t.Context()))
	// What was matched before comes into the queue after.
	var ds []*delivery
	for n := range 5 {
		ds = append(ds, &delivery{
			event: &event{id: fanfare.EventID(d.node.floor()+1, uint64(n)), data: []byte(`{}`)}, webhook: w.ID, account: r.account,
			owner: d.node.id(), hook: matched, trigger: fanfare.TriggerFirst, firstAt: time.Now(), queuedAt: time.Now(),
		})
	}
	d.enqueue(ds)
	for range ds {
		r.next(rc)
		if flying := d.queue.inFlight(); flying != 1 || len(rc.got) > 0 {
			t.Errorf("%d at once", flying)
		}
		release <- struct{}{}
	}
}

func TestOneAccountLeavesTheOthersRoomInMemory(t *testing.T) {
	q := testQueue(10, 100, 1000, 1<<20)
	for hook := range byte(20) {
		q.push(waiting(1, 100+hook, 50))
	}
	if q.waiting != 50 {
		t.Errorf("alone an account holds %d of 100", q.waiting)
	}
	if _, over := q.push(waiting(2, 21, 10)); len(over) != 0 {
		t.Errorf("%d of another's 10 found no room", len(over))
	}
	if room, _ := q.room(id(22), waiting(2, 22, 1)[0].hook, 1000, make(promises)); room == 0 {
		t.Error("another's retries are not claimed")
	}
}

func TestAGreatFanOutKeepsNobodyFromPublishing(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	rc := r.receiver(func(int, http.ResponseWriter) { <-release })
	defer close(release)
	for range 30 {
		r.webhook(rc.URL)
	}
	d := r.node(Options{QueueDepth: 10})
	// Nothing can be recorded while the recorder waits for this row.
	tx, err := r.sql.Begin(t.Context())
	r.ok(err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE retries`)
	r.ok(err)
	d.recorder.mu.Lock()
	for len(d.recorder.pending) < maxUnrecorded+lotSize { // as after a great many
		d.recorder.pending = append(d.recorder.pending, store.Outcome{
			Group: uuid.New(), Owner: d.node.id(), Retry: &store.Retry{WebhookID: uuid.New(), EventID: uuid.New()},
		})
	}
	d.recorder.signal()
	d.recorder.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 5 {
		_, err := d.Publish(ctx, []Publication{{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`)}})
		r.ok(err)
	}
	r.ok(tx.Rollback(t.Context()))
}

func TestADeliveryOfADeadIncarnationIsNotSent(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	w := r.webhook(rc.URL)
	d := r.node(Options{})
	before := d.node.id()
	r.ok(d.rejoin(t.Context()))
	// What was on its way into the queue when the incarnation ended.
	d.enqueue([]*delivery{{
		event: &event{id: fanfare.EventID(d.node.floor()+1, 1), data: []byte(`{}`)}, webhook: w.ID, account: r.account, owner: before,
		group: &group{id: uuid.New(), owner: before}, trigger: fanfare.TriggerFirst, firstAt: time.Now(), queuedAt: time.Now(),
	}})
	id := r.publish(d, `{}`)
	if got := r.next(rc).header.Get("webhook-id"); got != id.String() {
		t.Errorf("a delivery of the dead incarnation was sent: %s", got)
	}
	r.settled()
	if len(rc.got) != 0 {
		t.Error("a delivery of the dead incarnation was sent")
	}
}

func TestWithoutALeaseAPublishIsRefusedAtOnce(t *testing.T) {
	r := newRig(t)
	reg := registry.New(r.store, r.keyring, registry.Options{})
	r.ok(reg.Load(t.Context()))
	d := New(r.store, reg, nil, Options{}) // it never joined
	_, err := d.Publish(t.Context(), []Publication{{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`)}})
	if n, _ := d.incoming.backlog(); !errors.Is(err, ErrUnavailable) || n != 0 {
		t.Errorf("the publish was answered %v, and %d events wait", err, n)
	}
}

func TestALoopThatHangsWithWorkIsUnhealthy(t *testing.T) {
	r := newRig(t)
	reg := registry.New(r.store, r.keyring, registry.Options{})
	d := New(r.store, reg, nil, Options{}) // its loops never turn
	r.ok(d.incoming.add(&call{pubs: make([]Publication, 1)}, false))
	r.ok(d.Healthy())
	d.incoming.since = time.Now().Add(-2 * stuckAfter)
	if err := d.Healthy(); err == nil {
		t.Error("a commit loop that hangs is healthy")
	}
	d.progressed.tick("commit")
	r.ok(d.Healthy())
	for _, loop := range []string{"lease", "claim", "recover", "upkeep", "health", "pace"} {
		d.progressed.last[loop] = time.Now().Add(-2 * stuckAfter)
		if err := d.Healthy(); err == nil {
			t.Errorf("a %s loop that hangs is healthy", loop)
		}
		d.progressed.tick(loop)
	}
	r.ok(d.Healthy())
}

func TestAClaimUnderWayIsNotForgotten(t *testing.T) {
	r := newRig(t)
	d := r.node(Options{})
	d.claiming.Lock() // a claim is under way
	done := make(chan error, 1)
	go func() {
		_, err := d.freeForgotten(context.Background(), d.node.id())
		done <- err
	}()
	select {
	case <-done:
		t.Error("what was forgotten was looked for during a claim")
	case <-time.After(100 * time.Millisecond):
	}
	d.claiming.Unlock()
	r.ok(<-done)
}

func TestATestSendWhoseCallerLeftIsSentAllTheSame(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	w := r.webhook(rc.URL)
	d := r.node(Options{})
	tx, err := r.sql.Begin(t.Context())
	r.ok(err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(20566, 1)`) // commits wait
	r.ok(err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.Test(ctx, r.account, w.ID, "call.ended", []byte(`{}`)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the caller got %v", err)
	}
	r.ok(tx.Rollback(t.Context()))
	r.next(rc)
	r.settled()
}

func TestAStopEndsAlsoWhenNothingCanBeRecorded(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	rc := r.receiver(func(int, http.ResponseWriter) { <-release })
	defer close(release)
	r.webhook(rc.URL)
	d := r.node(Options{Grace: time.Millisecond})
	d.flushFor = 100 * time.Millisecond
	tx, err := r.sql.Begin(t.Context())
	r.ok(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), `LOCK TABLE retries, attempts`)
	r.ok(err)
	for range 5 {
		r.publish(d, `{}`)
	}
	if err := d.stop(); !errors.Is(err, errStopping) {
		t.Errorf("the stop answered %v", err)
	}
}

func TestAQueuedEventDoesNotKeepItsRequestInMemory(t *testing.T) {
	r := newRig(t)
	d := r.node(Options{})
	body := append([]byte(`{}`), bytes.Repeat([]byte(" "), 1<<20)...)
	cl := &call{pubs: []Publication{{AccountID: r.account, Type: "call.ended", Data: body[:2]}}}
	r.ok(d.submit(t.Context(), cl))
	if c := cap(cl.pubs[0].Data); c > 2048 {
		t.Errorf("2 bytes of data keep %d", c)
	}
}

func TestARowThatIsLockedIsNotAskedForWithoutAPause(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(500))
	w := r.webhook(rc.URL, time.Hour)
	d := r.node(Options{})
	id := r.publish(d, `{}`)
	r.settled()
	tx, err := r.sql.Begin(t.Context())
	r.ok(err)
	defer tx.Rollback(context.Background())
	_, err = r.sql.Exec(t.Context(), `UPDATE retries SET due_at = now() - interval '1 s' WHERE event_id = $1`, id)
	r.ok(err)
	_, err = tx.Exec(t.Context(), `SELECT FROM retries WHERE event_id = $1 FOR UPDATE`, id)
	r.ok(err)
	now := d.node.now()
	r.ok(d.claim(t.Context(), []store.Want{{WebhookID: w.ID, Room: 1}}, now))
	if due, next := d.due.pop(now, 10); len(due) != 0 || next.Before(now.Add(noRoomWait)) {
		t.Errorf("it is asked for again at once: %v, %s", due, next.Sub(now))
	}
}
