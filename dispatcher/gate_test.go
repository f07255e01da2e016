package dispatcher

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

func (d *testNode) down() int { _, _, n, _ := d.queue.sizes(); return n }

// publishMany publishes n events in one call.
func (r *rig) publishMany(d *testNode, n int) {
	r.Helper()
	pubs := make([]Publication, n)
	for i := range pubs {
		pubs[i] = Publication{AccountID: r.account, Type: "call.ended", Data: []byte(`{}`)}
	}
	r.accepted(d, pubs)
}

func (r *rig) count(sql string) (n int) {
	r.Helper()
	r.ok(r.sql.QueryRow(r.Context(), sql).Scan(&n))
	return n
}

func TestWhatWaitsForAnEndpointThatIsDownLosesNoTry(t *testing.T) {
	r := newRig(t)
	var up atomic.Bool
	rc := r.receiver(func(_ int, w http.ResponseWriter) {
		if !up.Load() {
			w.WriteHeader(500)
		}
	})
	r.webhook(rc.URL, quick...)
	d := r.node(Options{})
	for range downAfter {
		r.publish(d, `{}`)
		r.next(rc)
	}
	r.until("the endpoint is down", func() bool { return d.down() == 1 })

	const many = 50
	r.publishMany(d, many)
	r.until("they wait in Postgres", func() bool { return r.count(`SELECT count(*) FROM retries`) >= many })
	if waiting, _, _, _ := d.queue.sizes(); waiting > 1 {
		t.Errorf("%d wait in memory", waiting)
	}
	up.Store(true)
	r.until("all are delivered", func() bool {
		return r.count(`SELECT count(*) FROM attempts WHERE state = 'delivered'`) == downAfter+many
	})
	if n := d.down(); n != 0 {
		t.Errorf("%d endpoints are down", n)
	}
	// The probe before it came back may have been one of them.
	if n := r.count(`SELECT count(*) FROM (SELECT FROM attempts GROUP BY event_id HAVING count(*) > 1) AS tried`); n > downAfter+3 {
		t.Errorf("%d deliveries were tried more than once", n)
	}
}

func TestANewURLIsUsedForWhatWaits(t *testing.T) {
	r := newRig(t)
	broken := r.receiver(answering(500))
	works := r.receiver(answering(204))
	w := r.webhook(broken.URL)
	d := r.node(Options{})
	for range downAfter {
		r.publish(d, `{}`)
		r.next(broken)
	}
	r.until("the endpoint is down", func() bool { return d.down() == 1 })
	_, err := r.store.UpdateWebhook(t.Context(), r.account, w.ID, 0, nil, func(w *fanfare.Webhook) error { w.URL = works.URL; return nil })
	r.ok(err)
	r.ok(d.reg.CatchUp(t.Context()))
	id := r.publish(d, `{}`)
	if got := r.next(works); got.header.Get("webhook-id") != id.String() {
		t.Errorf("got %v", got.header)
	}
	if n := d.down(); n != 0 {
		t.Errorf("%d endpoints are down", n)
	}
}

func TestADisabledEndpointThatWasDownEndsWhatWaits(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(500))
	w := r.webhook(rc.URL)
	d := r.node(Options{})
	for range downAfter {
		r.publish(d, `{}`)
		r.next(rc)
	}
	r.until("the endpoint is down", func() bool { return d.down() == 1 })
	const many = 20
	r.publishMany(d, many)
	r.until("they wait in Postgres", func() bool { return r.count(`SELECT count(*) FROM retries`) == downAfter+many })
	_, err := r.store.UpdateWebhook(t.Context(), r.account, w.ID, 0, nil, func(w *fanfare.Webhook) error {
		w.Disabled = &fanfare.Disabled{By: fanfare.DisabledByUser}
		return nil
	})
	r.ok(err)
	r.ok(d.reg.CatchUp(t.Context()))
	r.publish(d, `{}`) // ends at once, and opens the gate
	r.until("what was due is discarded", func() bool {
		return r.count(`SELECT count(*) FROM attempts WHERE state = 'discarded'`) == many+1
	})
}
