package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// refused is how long a publisher of the closed loop waits after a failed call: it would otherwise
// measure how fast a node refuses.
const refused = 100 * time.Millisecond

// load publishes until the time is up, the ledger is full or ctx ends, waits for the answers, and
// returns when the last event was sent, counted from the ledger's beginning.
func (l *ledger) load(ctx context.Context, c Config, p *publisher) time.Duration {
	// A call under way at an interrupt may still end: an event without an answer tells nothing.
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if pause(over, grace) {
			p.close()
		}
	})
	defer stop()
	l.start = l.since()
	if c.Rate > 0 {
		l.openLoop(ctx, c, p)
	} else {
		l.closedLoop(ctx, c, p)
	}
	return l.since()
}

// openLoop sends event i at i/rate seconds. A call that hangs holds up no other, until maxInFlight hang.
func (l *ledger) openLoop(ctx context.Context, c Config, p *publisher) {
	var under sync.WaitGroup
	defer under.Wait()
	slots := make(chan struct{}, maxInFlight)
	for seq := range l.events {
		due := l.start + time.Duration(float64(seq)/c.Rate*float64(time.Second))
		if !sleepUntil(ctx, l.origin.Add(due)) {
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		under.Go(func() {
			l.publish(p, c.EventType, seq, due)
			<-slots
		})
	}
}

// closedLoop has every publisher send its next event when the one before is answered.
func (l *ledger) closedLoop(ctx context.Context, c Config, p *publisher) {
	var next atomic.Int64
	var publishers sync.WaitGroup
	defer publishers.Wait()
	for range c.Publishers {
		publishers.Go(func() {
			for ctx.Err() == nil && l.since() < l.start+c.Warmup+c.Duration {
				seq := int(next.Add(1)) - 1
				if seq >= len(l.events) {
					return
				}
				if !l.publish(p, c.EventType, seq, l.since()) {
					pause(ctx, refused)
				}
			}
		})
	}
}

// publish sends event seq, which was due then, and notes what came of it.
func (l *ledger) publish(p *publisher, eventType string, seq int, due time.Duration) bool {
	e := &l.events[seq]
	e.due, e.sent = due, l.since()
	fault := p.post(p.events, 1, func(b []byte) []byte {
		b = append(b, `{"type":"`...)
		b = append(b, eventType...) // needs no quoting
		b = append(b, `","data":`...)
		b = l.appendData(b, seq)
		return append(b, '}')
	}, func(_ int, id []byte) {
		e.answered = l.since()
		l.acknowledge(seq, id)
	})
	if fault != "" {
		l.fault(fault)
	}
	return fault == ""
}
