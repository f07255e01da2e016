package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fanfare-webhooks/fanfare/internal/devpg"
	"github.com/fanfare-webhooks/fanfare/migrations"
)

// fleet is nodes that come and go while publishers look for one that answers.
type fleet struct {
	l *lab

	mu sync.Mutex // guards up
	up []*node    // whom publishers ask
}

// newFleet starts n nodes.
func (l *lab) newFleet(n int) *fleet {
	l.Helper()
	l.env["FANFARE_MIGRATE"] = "true"
	f := &fleet{l: l}
	for range n {
		f.start()
	}
	return f
}

func (f *fleet) start() *node {
	f.l.Helper()
	n := f.l.startNode()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = append(f.up, n)
	return n
}

// leave takes a node out that has ended.
func (f *fleet) leave(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	other := func(m *node) bool { return m == n }
	f.up = slices.DeleteFunc(f.up, other)
	f.l.nodes = slices.DeleteFunc(f.l.nodes, other)
}

// kill ends a node as a power cut does. Publishers find out by asking.
func (f *fleet) kill(n *node) {
	n.kill()
	f.leave(n)
}

// stop ends a node as a deploy does. Publishers find out by asking.
func (f *fleet) stop(n *node) {
	f.l.Helper()
	n.stop()
	f.leave(n)
}

// pick is a node to ask, nil if there is none.
func (f *fleet) pick(turn int) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.up) == 0 {
		return nil
	}
	return f.up[turn%len(f.up)]
}

// stream is a load by patient publishers: each waits for the answer to one event before it publishes the
// next, and repeats what was certainly not stored. What may have been stored it repeats only under an
// idempotency key; without one the journal keeps it as unknown.
type stream struct {
	*phase
	fleet *fleet
	keyed func(i int) bool

	all   sync.WaitGroup
	next  atomic.Int64
	acked atomic.Int64 // when the last event was acknowledged whose request went out last, in ns since 1970
	quit  atomic.Bool

	mu       sync.Mutex // guards refusals
	refusals []refusal
}

// refusal is an answer that acknowledged nothing.
type refusal struct {
	at     time.Time // when the request went out
	status int
	asked  bool // it said when to come again
}

// againAfter is how soon a publisher repeats what was refused: sooner than it is asked to, so that what it is
// told during an outage is seen.
const againAfter = 100 * time.Millisecond

// stream publishes n events in the background, at most rate a second.
func (f *fleet) stream(publishers, n int, rate float64, t func(i int) *topic, keyed func(i int) bool) *stream {
	begin := time.Now()
	due := func(i int) time.Time { return begin.Add(time.Duration(float64(i) / rate * float64(time.Second))) }
	first := f.l.announce(n, t, due)
	s := &stream{phase: &phase{l: f.l, begun: begin, events: numbers(first, first+n)}, fleet: f, keyed: keyed}
	for range publishers {
		s.all.Go(func() {
			for {
				i := int(s.next.Add(1)) - 1
				if i >= n || s.quit.Load() || f.l.Context().Err() != nil {
					return
				}
				sleepUntil(due(i))
				s.publish(first+i, i)
			}
		})
	}
	f.l.Cleanup(func() { s.quit.Store(true); s.all.Wait() }) // of a lane that fails in between
	return s
}

func (s *stream) publish(number, i int) {
	l := s.l
	l.mu.Lock()
	l.events[number].due = time.Now() // its publisher waited for the answer to the one before
	t, key := l.events[number].topic, ""
	l.mu.Unlock()
	if s.keyed(i) {
		key = fmt.Sprintf("lab-%d", number)
	}
	for turn := number; !s.quit.Load() && l.Context().Err() == nil; turn++ {
		n := s.fleet.pick(turn)
		if n == nil {
			l.pause(againAfter)
			continue
		}
		r := l.send(n, t, number, key)
		if key == "" && errors.Is(r.err, syscall.ECONNREFUSED) {
			// Nobody got it. With a key the client repeats by itself, and only the last try was refused.
			l.pause(againAfter / 10)
			continue
		}
		l.note(number, r)
		e := l.event(number)
		switch {
		case e.acknowledged():
			for was := s.acked.Load(); r.sent.UnixNano() > was && !s.acked.CompareAndSwap(was, r.sent.UnixNano()); {
				was = s.acked.Load()
			}
			return
		case r.status > 0:
			s.mu.Lock()
			s.refusals = append(s.refusals, refusal{r.sent, r.status, r.asked})
			s.mu.Unlock()
		}
		if !e.refused() && key == "" {
			return
		}
		l.pause(againAfter)
	}
}

// wait returns when every event has been published or its outcome is unknown.
func (s *stream) wait() { s.all.Wait() }

// done reports whether all events were taken up.
func (s *stream) done() bool { return int(s.next.Load()) > len(s.events) }

// resumes waits for an acknowledgement of what was published after a moment and answers how long it took.
func (s *stream) resumes(after time.Time) time.Duration {
	s.l.within(patience, func() bool { return s.acked.Load() > after.UnixNano() || s.done() })
	return time.Since(after)
}

// odd refusals are those that are not as promised: 503 or 429, and when to come again.
func (s *stream) odd() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.refusals {
		if !r.asked || r.status != http.StatusServiceUnavailable && r.status != http.StatusTooManyRequests {
			n++
		}
	}
	return n
}

// span is a stretch of time.
type span struct{ from, to time.Time }

func (s span) holds(from, to time.Time) bool { return from.After(s.from) && to.Before(s.to) }

// acknowledgedIn counts the events whose publish began and was acknowledged within one of the spans.
func (s *stream) acknowledgedIn(spans []span) (n int64) {
	for _, number := range s.events {
		e := s.l.event(number)
		if e.acknowledged() && slices.ContainsFunc(spans, func(o span) bool { return o.holds(e.sent, e.answered) }) {
			n++
		}
	}
	return n
}

// always and every second one have idempotency keys.
func always(int) bool        { return true }
func everySecond(i int) bool { return i%2 == 1 }

// ownPostgres gives the lab a server of its own, which it may crash.
func (l *lab) ownPostgres() *devpg.Server {
	l.Helper()
	shared.mu.Lock()
	dir := filepath.Join(sharedDir(l.T), fmt.Sprintf("own-%d", shared.databases.Add(1)))
	shared.mu.Unlock()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	s, err := devpg.Start(ctx, devpg.Options{Dir: dir, TCP: true, Settings: map[string]string{"max_connections": "200"}})
	l.ok(err)
	l.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(s.Stop(ctx), devpg.Remove(ctx, dir)); err != nil {
			l.Error(err)
		}
	})
	l.ok(s.CreateDatabase(ctx, template))
	_, err = migrations.Up(ctx, s.URL(template))
	l.ok(err)
	l.url = s.URL(template)
	l.env["FANFARE_DATABASE_URL"] = l.url
	l.sql, err = pgxpool.New(ctx, l.url)
	l.ok(err)
	l.Cleanup(l.sql.Close)
	return s
}

// world makes an account with n endpoints, each with a webhook for a type of its own and for a common one.
// The last failing of them always answer 500; the others fail the first try of one event in sixteen, and the
// first is slow: what became of an event that is for all comes on record in several lots. pick says what
// event i is about: one in twenty is for all.
func (l *lab) world(n, failing int) (bad []*hook, pick func(i int) *topic) {
	l.Helper()
	account := l.account("of the lane")
	const everybody = "lab.everybody"
	l.eventType(everybody)
	common := &topic{account: account, typ: everybody}
	topics := make([]*topic, n)
	endpoints := l.endpoints(n)
	l.parallel(n, func(i int) {
		typ := fmt.Sprintf("lab.own%d", i)
		w := wish{steps: manySeconds, more: map[string]any{"event_types": []string{typ, everybody}}}
		l.eventType(typ)
		topics[i] = &topic{account: account, typ: typ, hooks: []*hook{l.hook(endpoints[i], account, typ, w)}}
	})
	for i, t := range topics {
		common.hooks = append(common.hooks, t.hooks[0])
		switch {
		case i >= n-failing:
			endpoints[i].becomes(answering(http.StatusInternalServerError))
			bad = append(bad, t.hooks[0])
		case i == 0:
			endpoints[i].becomes(slowly(150*time.Millisecond, stumbling))
		default:
			endpoints[i].becomes(stumbling)
		}
	}
	return bad, func(i int) *topic {
		if i%20 == 19 {
			return common
		}
		return topics[i%len(topics)]
	}
}

// stumbling fails the first try of one event in sixteen.
func stumbling(_ *endpoint, _ http.ResponseWriter, r *http.Request) int {
	id := r.Header.Get("webhook-id")
	if r.Header.Get("X-Fanfare-Attempt") == "1" && len(id) > 0 && id[len(id)-1] == '7' {
		return http.StatusBadRequest
	}
	return http.StatusOK
}
