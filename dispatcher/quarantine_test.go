package dispatcher

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// stranded publishes an event whose delivery this node then forgets.
func (r *rig) stranded(d *testNode) uuid.UUID {
	r.Helper()
	d.queue.mu.Lock()
	d.queue.slots = 0
	d.queue.mu.Unlock()
	id := r.publish(d, `{}`)
	d.recorder.forgetAll()
	d.queue.clear()
	d.queue.mu.Lock()
	d.queue.slots = 10
	d.queue.mu.Unlock()
	return id
}

func TestAGroupThatWasTakenOverTwiceIsDealtWithPairByPair(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	r.webhook(rc.URL)
	d := r.node(Options{})
	id := r.stranded(d)
	_, err := r.sql.Exec(t.Context(), `UPDATE open_groups SET takeovers = 2`)
	r.ok(err)
	d.claiming.Lock() // what goes to retries stays there until it was seen
	lost, err := d.store.RetakeGroups(t.Context(), d.node.id(), r.openGroups())
	r.ok(err)
	r.ok(d.resume(t.Context(), d.node.id(), lost))
	r.settled()
	var waiting int
	r.ok(r.sql.QueryRow(t.Context(), `SELECT count(*) FROM retries WHERE event_id = $1`, id).Scan(&waiting))
	if waiting != 1 || len(rc.got) != 0 {
		t.Errorf("%d rows of retries, %d requests", waiting, len(rc.got))
	}
	d.claiming.Unlock()
	if got := r.next(rc).header.Get("webhook-id"); got != id.String() {
		t.Errorf("got %s, want %s", got, id)
	}
}

func (r *rig) openGroups() (ids []uuid.UUID) {
	r.Helper()
	r.ok(r.sql.QueryRow(r.Context(), `SELECT array_agg(id) FROM open_groups`).Scan(&ids))
	return ids
}

func TestADeliveryThatThreeNodesDiedWithIsQuarantined(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	w := r.webhook(rc.URL)
	d := r.node(Options{HookDepth: 1})
	id := r.stranded(d)
	_, err := r.sql.Exec(t.Context(), `
		INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, takeovers)
		VALUES ($1, $2, $3, 'first', 0, 0, now(), now(), 3)`, w.ID, id, r.account)
	r.ok(err)
	d.due.note(w.ID, d.node.now())
	r.until("the delivery has ended", func() bool { s, _ := r.state(w.ID, id); return s != "" })
	if state, reason := r.state(w.ID, id); state != fanfare.Exhausted || reason != fanfare.ReasonQuarantined {
		t.Errorf("the delivery is %s %s", state, reason)
	}
	if len(rc.got) != 0 {
		t.Error("a request was made")
	}
}
