package dispatcher

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

func (r *rig) endsUnsent(d *testNode, rc *receiver, webhook, event uuid.UUID, sent int) {
	r.Helper()
	d.due.note(webhook, d.node.now())
	r.until("the delivery has ended", func() bool { s, _ := r.state(webhook, event); return s == fanfare.Exhausted })
	if _, reason := r.state(webhook, event); reason != fanfare.ReasonReject {
		r.Errorf("the reason is %s", reason)
	}
	if n := len(rc.got); n != sent {
		r.Errorf("%d requests more were made", n)
	}
}

func TestARetryOfAnExpungedEventIsNotSent(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(500))
	w := r.webhook(rc.URL, time.Hour)
	d := r.node(Options{})
	id := r.publish(d, `{"secret":1}`)
	r.next(rc)
	r.settled()

	r.ok(r.store.Expunge(t.Context(), r.account, id))

	r.endsUnsent(d, rc, w.ID, id, 0)
	var left int
	r.ok(r.sql.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM events WHERE data <> '{}') + (SELECT count(*) FROM retries)
		+ (SELECT count(*) FROM attempts WHERE response_body IS NOT NULL AND number = 1)`).Scan(&left))
	if left != 0 {
		t.Errorf("%d rows are left", left)
	}
}

func TestAnExpungedEventOfAGroupThatIsTakenOverIsNotSent(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	w := r.webhook(rc.URL)
	d := r.node(Options{})
	id := r.stranded(d)
	r.ok(r.store.Expunge(t.Context(), r.account, id))

	lost, err := d.store.RetakeGroups(t.Context(), d.node.id(), r.openGroups())
	r.ok(err)
	r.ok(d.resume(t.Context(), d.node.id(), lost))

	r.endsUnsent(d, rc, w.ID, id, 0)
}
