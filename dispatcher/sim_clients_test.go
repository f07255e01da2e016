package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

// publication is what a client wants to publish.
type publication struct {
	serial int
	slot   int // whom it asks first
	child  bool
	kind   string
	events int
	keyed  bool // it is repeated, at another node, until it is accepted
	size   int
	hosts  []int // of its one-off destinations
}

// publish is a client. What a dead node answered never reached it.
func (w *world) publish(p publication) {
	w.mu.Lock()
	w.publishes++
	w.mu.Unlock()
	w.clients.Go(func() {
		for try := range 6 {
			if w.tryPublish(p, try) || !p.keyed {
				break
			}
			sleep(time.Duration(try+1) * 400 * time.Millisecond)
		}
		w.mu.Lock()
		w.publishes--
		w.mu.Unlock()
	})
}

func (w *world) tryPublish(p publication, try int) (accepted bool) {
	node := w.node(p.slot + try)
	if node == nil {
		return false
	}
	pubs := make([]Publication, p.events)
	for i := range pubs {
		pubs[i] = Publication{AccountID: numbered(1), Type: p.kind, Data: fmt.Appendf(nil, `{"n":%d,"of":%d,"pad":"%*s"}`, p.serial, i, p.size, "")}
		if p.child {
			pubs[i].AccountID = numbered(2)
		}
		for n, host := range p.hosts {
			pubs[i].Destinations = append(pubs[i].Destinations, fanfare.Destination{URL: oneOffAt(host, n+1)})
		}
		if p.keyed {
			pubs[i].IdempotencyKey = fmt.Sprintf("key-%d-%d", p.serial, i)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 7*time.Second)
	defer cancel()
	receipts, err := node.d.Publish(ctx, pubs)
	w.mu.Lock()
	defer w.mu.Unlock()
	var refused *RefusedError
	switch {
	case node.wire.cut || node.wire.still != nil:
		w.say("client", "hears nothing of %d", p.serial)
		return false
	case errors.As(err, &refused):
		w.rules.broke("publish %d was refused for good: %v", p.serial, err)
	case err == nil:
		w.say("client", "%d is accepted, from %v", p.serial, receipts[0].ID)
		w.rules.accept(pubs, receipts)
		if receipts[0].Replayed {
			w.reach("a publish that was repeated")
		}
	default:
		w.say("client", "%d is refused: %v", p.serial, err)
		w.reach("a publish that failed")
	}
	return err == nil
}

// oneOffAt is where the destination of that place is called, at one of the hosts that take anything.
func oneOffAt(host, place int) string { return fmt.Sprintf("https://host-%d.test/%d", host, place) }

// node is one that runs, the first from a slot on; nil: there is none.
func (w *world) node(slot int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.nodes {
		if p := w.nodes[(slot+i)%len(w.nodes)]; p != nil && p.d != nil {
			return p
		}
	}
	return nil
}

// try makes a test send.
func (w *world) try(slot, hook int) {
	p := w.node(slot)
	if p == nil {
		return
	}
	w.clients.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		h := w.db.hooks[hook]
		_, err := p.d.Test(ctx, h.AccountID, h.ID, "call.ended", []byte(`{}`))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.say("client", "a test send ended: %v", err)
	})
}
