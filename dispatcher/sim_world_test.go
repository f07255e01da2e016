package dispatcher

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// world runs real dispatchers with real registries on a database that is none, in virtual time. It does the
// steps of a life, and then waits until nothing is owed any more.
type world struct {
	life    *life
	keyring *seal.Keyring
	begun   time.Time
	clients sync.WaitGroup

	mu         sync.Mutex // guards all below, and all of db and rules
	db         *database
	rules      *rules
	nodes      []*process // by slot; nil: none runs there
	processes  []*process
	sky        sky
	fairSince  time.Time // when the last trouble ended; in the future during one
	awayUntil  time.Time // Postgres
	awayHangs  bool      // and does not refuse
	breaks     int       // how often every connection was lost
	clockSetAt time.Time // the database's; zero: never
	mild       bool      // receivers are well
	publishes  int       // calls under way
	story      []line
	names      map[uuid.UUID]string
	reached    map[string]bool
}

// sky is how the way to the database is: chances of a question.
type sky struct{ slow, lost, refused float64 }

// process is one start of a node.
type process struct {
	slot   int
	wire   *wire
	cancel context.CancelFunc
	ended  chan struct{}
	d      *Dispatcher // nil until it has begun; guarded by world.mu
}

// newWorld makes the world of a life. There are an account and its sub-account.
func newWorld(l *life, keyring *seal.Keyring) *world {
	w := &world{
		life: l, keyring: keyring, begun: time.Now(), fairSince: time.Now(), nodes: make([]*process, l.nodes),
		names: make(map[uuid.UUID]string), reached: make(map[string]bool),
	}
	w.rules = newRules(w)
	w.db = newDatabase(w.rules)
	w.db.ahead = l.skew
	if l.refused > 0 {
		w.db.refuse = func(ref store.RetryRef) bool { return fanfare.PositionOf(ref.EventID)%fanfare.Position(l.refused) == 0 }
	}
	root, child := numbered(1), numbered(2)
	w.db.parents[root], w.db.parents[child] = uuid.Nil, root
	for i, h := range l.hooks {
		row := &hookRow{Webhook: fanfare.Webhook{
			ID: numbered(100 + i), AccountID: root, URL: fmt.Sprintf("https://receiver-%d.test", i), EventTypes: h.types,
			IncludeSubaccounts: h.subs, Timeout: h.timeout, RetrySchedule: h.schedule, MaxInFlight: h.inFlight, RateLimit: h.rate,
		}}
		if h.child {
			row.AccountID = child
		}
		place := seal.Place{Account: row.AccountID, Object: row.ID, Column: "webhook_secrets.sealed"}
		row.sealed = keyring.Seal(place, []byte("a secret of at least 24 bytes"))
		w.db.hooks = append(w.db.hooks, row)
		w.db.edit(row)
		w.name(row.ID, fmt.Sprintf("w%d", i))
	}
	return w
}

// numbered is an id that is the same in every run.
func numbered(n int) (id uuid.UUID) {
	id[6], id[8] = 0x70, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

// live does all the steps, lets everything end, and looks at what is left.
func (w *world) live() {
	for slot := range w.nodes {
		w.start(slot)
	}
	for _, s := range w.life.steps {
		sleep(s.at - w.sinceBegin())
		w.mu.Lock()
		w.say("step", "%s", s.what)
		w.mu.Unlock()
		s.do(w)
	}
	w.drain()
	w.clients.Wait()
	for _, p := range w.processes {
		<-p.ended
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules.atTheEnd()
}

// drain lets one node end everything while all is well.
func (w *world) drain() {
	w.mu.Lock()
	w.say("step", "all is well")
	w.sky, w.awayUntil, w.mild = sky{}, time.Time{}, true
	if !w.life.calm { // a question that hangs may hang on
		w.fairSince = time.Now().Add(longest)
	}
	if off := w.db.ahead - w.life.skew; off.Abs() > maxSkew/2 { // no node starts with a clock that is far off
		w.db.ahead = w.life.skew
		w.say("step", "the database's clock is right again")
	}
	for _, p := range w.processes {
		w.thaw(p)
	}
	w.mu.Unlock()
	for slot := range w.nodes {
		switch {
		case slot == w.life.survivor:
			w.start(slot)
		case w.life.ruthless && !w.life.calm:
			w.crash(slot)
		default:
			w.stop(slot)
		}
	}
	// What is due by a clock that was set back is due hours later.
	for end, quiet := time.Now().Add(6*time.Hour), time.Duration(0); quiet <= recoverEvery && time.Now().Before(end); sleep(time.Second) {
		if quiet += time.Second; !w.idle() { // or something came back
			quiet = 0
		}
	}
	w.stop(w.life.survivor)
}

// sleep lets virtual time pass.
func sleep(d time.Duration) { pause(context.Background(), d) }

// idle says whether nothing is owed, and nobody but the survivor could come up with anything.
func (w *world) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	running := 0
	for _, p := range w.processes {
		select {
		case <-p.ended:
		default:
			running++
		}
	}
	return running == 1 && w.publishes == 0 && w.rules.quiet()
}

// start starts a node unless one runs there.
func (w *world) start(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[slot] != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{slot: slot, cancel: cancel, ended: make(chan struct{})}
	p.wire = &wire{w: w, name: fmt.Sprintf("n%d.%d", slot, len(w.processes)), asked: make(map[string]int), session: 1, breaks: w.breaks}
	w.nodes[slot] = p
	w.processes = append(w.processes, p)
	go func() {
		defer close(p.ended)
		defer cancel()
		for !w.run(ctx, p) { // it does not come up without Postgres; something starts it again
			pause(ctx, time.Second)
		}
	}()
}

// run is the life of a process. It answers false if it should begin again.
func (w *world) run(ctx context.Context, p *process) (over bool) {
	reg := registry.New(p.wire, w.keyring, registry.Options{})
	if reg.Load(ctx) != nil {
		return ctx.Err() != nil
	}
	watch, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	parts.Go(func() { _ = reg.Run(watch) })

	o := w.life.options
	o.Registerer, o.Log, o.Keyring = nowhere{}, slog.New(&scribe{w: w, who: p.wire.name}), w.keyring
	d := New(p.wire, reg, p.wire, o)
	defer d.stopSends()
	d.watchCPUs = false
	if d.Start(ctx) != nil {
		return ctx.Err() != nil
	}
	w.mu.Lock()
	p.d = d
	if p.wire.cut {
		d.die()
	}
	w.mu.Unlock()
	err := d.Run(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say(p.wire.name, "has ended: %v", err)
	if w.life.calm && err != nil {
		w.rules.broke("a node that stops in peace says %v", err)
	}
	return true
}

// stop stops a node in good order.
func (w *world) stop(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.nodes[slot]; p != nil {
		w.nodes[slot] = nil
		p.cancel()
	}
}

// crash ends a process at once: what it asks from now on is asked of nobody. It may be one that is stopping.
func (w *world) crash(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		if p.slot != slot || p.wire.cut {
			continue
		}
		p.wire.cut = true
		w.thaw(p)
		w.rules.crashed(p)
		if p.d != nil {
			p.d.die()
		}
		p.cancel()
	}
	w.nodes[slot] = nil
}

// die ends what a process would wait for that stops; it cannot end a goroutine.
func (d *Dispatcher) die() {
	d.recorder.abandon()
	d.stopSends()
}

// standstill lets nothing of what a node says or is told come through.
func (w *world) standstill(slot int, length time.Duration, deaf bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.nodes[slot]
	if p == nil || p.wire.still != nil {
		return
	}
	still := make(chan struct{})
	p.wire.still, p.wire.deaf = still, deaf
	w.trouble(length)
	time.AfterFunc(length, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.wire.still == still {
			w.say(p.wire.name, "goes on")
			w.thaw(p)
		}
	})
}

func (w *world) thaw(p *process) {
	if p != nil && p.wire.still != nil {
		close(p.wire.still)
		p.wire.still = nil
	}
}

// postgresCrashes and comes back after a while, without some of what was not on disk.
func (w *world) postgresCrashes(kept float64, away time.Duration, hangs bool) {
	w.postgresAway(away, hangs)
	w.mu.Lock()
	defer w.mu.Unlock()
	if lost := w.db.crash(kept); lost > 0 {
		w.say("log", "loses %d transactions", lost)
		w.reach("a lot that Postgres forgot")
	}
	w.rules.afterCrash()
}

func (w *world) postgresAway(length time.Duration, hangs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breaks++
	w.awayHangs = hangs
	if until := time.Now().Add(length); until.After(w.awayUntil) {
		w.awayUntil = until
	}
	w.trouble(length)
}

func (w *world) away() bool { return time.Now().Before(w.awayUntil) }

func (w *world) weather(s sky, length time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sky = s
	w.trouble(length)
	time.AfterFunc(length, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sky = sky{}
	})
}

// trouble says that not all is well for a time, and for as long as a question may take that was asked then.
func (w *world) trouble(length time.Duration) {
	if until := time.Now().Add(length + longest); until.After(w.fairSince) {
		w.fairSince = until
	}
}

// setClock sets the database's clock, unless that was just done: a node that renews its lease before the
// first time and after the second cannot know that there was one.
func (w *world) setClock(by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.clockSetAt) < 2*renewEvery {
		return
	}
	w.db.ahead += by
	w.clockSetAt = time.Now()
	w.trouble(0)
}

// edit changes a webhook as the API would, if it could.
func (w *world) edit(hook int, change func(*hookRow)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.db.hooks[hook]; !w.away() && !h.deleted {
		change(h)
		w.db.edit(h)
		w.hintAll()
	}
}

func (w *world) hintAll() {
	for _, p := range w.nodes {
		if p != nil && p.wire.hint != nil && p.wire.still == nil {
			p.wire.hint()
		}
	}
}

// answer is what the receiver of a request does.
func (w *world) answer(q *request) answer {
	a := w.life.answer(q.hook, q.nth, w.sinceBegin())
	if w.mild {
		a = answer{after: 5 * time.Millisecond, status: http.StatusOK}
		if !isOneOff(q.pair.ref.WebhookID) && w.life.hopeless(w.names[q.pair.ref.EventID], q.hook) {
			a.status = http.StatusInternalServerError
		}
	}
	return a
}

// process is whose wire it is.
func (w *world) process(c *wire) *process {
	for _, p := range w.processes {
		if p.wire == c {
			return p
		}
	}
	return nil
}

func (w *world) sinceBegin() time.Duration { return time.Since(w.begun) }
