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
func (s *site) load(ctx context.Context, l *ledger, c Config) time.Duration {
	// A call under way at an interrupt may still end: an event without an answer tells nothing.
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if pause(over, grace) {
			s.publisher.close()
		}
	})
	defer stop()
	l.start = l.since()
	if c.Rate > 0 {
		l.sent = s.openLoop(ctx, l, c)
	} else {
		l.sent = s.closedLoop(ctx, l, c)
	}
	return l.since()
}

// openLoop sends event i at i/rate seconds, a batch when its first event is due. A call that hangs holds
// up no other, until maxInFlight hang. It returns how many events it sent.
func (s *site) openLoop(ctx context.Context, l *ledger, c Config) int {
	var under sync.WaitGroup
	defer under.Wait()
	slots := make(chan struct{}, maxInFlight)
	for seq := 0; seq < len(l.events); seq += c.batch() {
		due := l.start + time.Duration(float64(seq)/c.Rate*float64(time.Second))
		if !sleepUntil(ctx, l.origin.Add(due)) {
			return seq
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return seq
		}
		under.Go(func() {
			s.publish(l, c, seq, due)
			<-slots
		})
	}
	return len(l.events)
}

// closedLoop has every publisher send its next event, or batch, when the one before is answered. It
// returns how many events they sent.
func (s *site) closedLoop(ctx context.Context, l *ledger, c Config) int {
	var next atomic.Int64
	var publishers sync.WaitGroup
	for range c.Publishers {
		publishers.Go(func() {
			for ctx.Err() == nil && l.since() < l.start+c.Warmup+c.Duration {
				seq := int(next.Add(int64(c.batch()))) - c.batch()
				if seq >= len(l.events) {
					return
				}
				if !s.publish(l, c, seq, l.since()) {
					pause(ctx, refused)
				}
			}
		})
	}
	publishers.Wait()
	return min(int(next.Load()), len(l.events))
}

// publish sends event first, or the batch that begins with it, which was due then, and notes what came
// of it.
func (s *site) publish(l *ledger, c Config, first int, due time.Duration) bool {
	events := l.events[first:min(first+c.batch(), len(l.events))]
	sent := l.since()
	for i := range events {
		events[i].due, events[i].sent = due, sent
	}
	account, _ := l.to(first)
	path, body := s.paths[account]+"/events", func(b []byte) []byte { return l.appendEvent(b, first, "") }
	if c.Batch > 0 {
		path, body = "/v1/events/batch", func(b []byte) []byte { return s.appendBatch(b, l, first, len(events)) }
	}
	var answered time.Duration
	fault := s.publisher.post(path, len(events), body, func(i int, id []byte) {
		if i == 0 {
			answered = l.since()
		}
		events[i].answered = answered
		l.acknowledge(first+i, id)
	})
	if fault != "" {
		l.fault(fault)
	}
	return fault == ""
}

// appendEvent appends the body that publishes event seq, with the account if one is given.
func (l *ledger) appendEvent(b []byte, seq int, account string) []byte {
	_, group := l.to(seq)
	b = append(b, '{')
	if account != "" {
		b = append(b, `"account_id":"`...)
		b = append(b, account...)
		b = append(b, `",`...)
	}
	b = append(b, `"type":"`...)
	b = append(b, l.types[group]...) // needs no quoting
	b = append(b, `","data":`...)
	b = l.appendData(b, seq)
	return append(b, '}')
}

func (s *site) appendBatch(b []byte, l *ledger, first, n int) []byte {
	b = append(b, `{"events":[`...)
	for seq := first; seq < first+n; seq++ {
		if seq > first {
			b = append(b, ',')
		}
		account, _ := l.to(seq)
		b = l.appendEvent(b, seq, *s.in.accounts[account].Load())
	}
	return append(b, `]}`...)
}
