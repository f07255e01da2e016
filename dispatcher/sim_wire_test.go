package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// What a node learns when it does not get an answer.
var (
	errCut  = errors.New("simulated: this process is dead")
	errAway = errors.New("simulated: Postgres cannot be reached")
	errLost = errors.New("simulated: the connection was lost")
)

// longest is how long a connection may hang before it is known to be lost.
const longest = 10 * time.Second

// wire is all that one process has of the world: its database, its registry's source and its receivers. It
// takes time, loses questions and answers, stands still, and is cut when the process dies.
type wire struct {
	w    *world
	name string

	// Guarded by world.mu.
	asked   map[string]int // questions, by what they are
	cut     bool
	still   chan struct{} // closed when the standstill ends; nil: there is none
	deaf    bool          // a standstill in which no deadline passes either, as in a process that is stopped
	hint    func()        // tells the registry to look
	session store.Session // of the recorder
	breaks  int           // of the world, when it began
	broken  bool          // it has ended
	lives   [3]int        // the nodes that the last renewals told of
}

var (
	_ Log             = (*wire)(nil)
	_ Receivers       = (*wire)(nil)
	_ registry.Source = (*wire)(nil)
)

// fate is what becomes of one question.
type fate struct {
	there, back time.Duration
	refused     bool // it is not asked
	lost        bool // it is done and not answered
	hangs       bool // and that is noticed late
	stubborn    bool // if nobody waits for it any more it is done all the same
	dead        bool // the process was cut before
}

// fate draws that of the next question of a kind.
func (c *wire) fate(kind string) (f fate) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.asked[kind]++
	d := c.w.life.dice.roll(c.name, kind, c.asked[kind])
	sky := c.w.sky
	f.there = 100*time.Microsecond + d.span(time.Millisecond)
	if d.chance(sky.slow) {
		f.there += d.span(2 * time.Second)
	}
	if d.chance(0.3) {
		f.back = d.span(2 * time.Millisecond)
	}
	if d.chance(sky.slow) {
		f.back += d.span(time.Second)
	}
	f.refused, f.lost = d.chance(sky.refused), d.chance(sky.lost)
	f.hangs, f.stubborn, f.dead = d.chance(0.3), d.chance(0.5), c.cut
	return f
}

// ask has the database do something, as far as fate allows. What it answers must not be the database's own.
func ask[T any](ctx context.Context, c *wire, kind string, do func(*database) (T, error)) (T, error) {
	var none T
	f := c.fate(kind)
	if f.dead {
		return none, errCut
	}
	if err := c.travel(ctx, f.there); err != nil {
		if f.stubborn {
			time.AfterFunc(f.there, func() {
				c.w.mu.Lock()
				defer c.w.mu.Unlock()
				if !c.w.away() {
					_, _ = do(c.w.db)
				}
			})
		}
		return none, err
	}
	c.w.mu.Lock()
	if err := c.obstacle(f); err != nil {
		wait := min(time.Until(c.w.awayUntil), longest)
		hangs := c.w.awayHangs && !c.cut
		c.w.mu.Unlock()
		if hangs {
			_ = c.travel(ctx, wait)
		}
		return none, err
	}
	got, err := do(c.w.db)
	breaks := c.w.breaks
	c.w.mu.Unlock()
	if f.lost && f.hangs {
		_ = c.travel(ctx, longest)
	}
	if err := c.travel(ctx, f.back); err != nil {
		return none, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if f.lost || c.cut || c.w.breaks != breaks {
		return none, errLost
	}
	return got, err
}

// obstacle is what keeps a question from being done.
func (c *wire) obstacle(f fate) error {
	switch {
	case c.cut && !f.stubborn:
		return errCut
	case c.w.away():
		return errAway
	case f.refused:
		return errLost
	}
	return nil
}

// travel takes time, and as much more as the wire stands still.
func (c *wire) travel(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			if c.standstill() == nil {
				return ctx.Err()
			}
		case <-t.C:
		}
	}
	for {
		still := c.standstill()
		if still == nil {
			return nil
		}
		c.w.mu.Lock()
		deaf := c.deaf
		c.w.mu.Unlock()
		if deaf {
			<-still
			continue
		}
		select {
		case <-still:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *wire) standstill() chan struct{} {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.still
}

// both is an answer of two parts.
type both[A, B any] struct {
	one   A
	other B
}

// tell is ask for what has no answer.
func tell(ctx context.Context, c *wire, kind string, do func(*database) error) error {
	_, err := ask(ctx, c, kind, func(db *database) (struct{}, error) { return struct{}{}, do(db) })
	return err
}

// Do makes a request.
func (c *wire) Do(ctx context.Context, r *egress.Request) egress.Result {
	res := egress.Result{StartedAt: time.Now()}
	c.w.mu.Lock()
	if c.cut {
		c.w.mu.Unlock()
		res.Error, res.OwnFault = fanfare.ErrOwn, true
		return res
	}
	q := c.w.rules.starts(c, r)
	a := c.w.answer(q)
	q.taken = a.status/100 == 2
	c.w.mu.Unlock()

	err := c.travel(ctx, min(a.after, r.Timeout))
	res.Duration = time.Since(res.StartedAt)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	switch {
	case err != nil || c.cut:
		res.Error, res.OwnFault = fanfare.ErrOwn, true
	case a.after >= r.Timeout || res.Duration > r.Timeout && !c.deaf:
		res.Error = fanfare.ErrTimeout
	default:
		res.Status, res.RetryAfter, res.Error, res.Stale = a.status, a.retryAfter, a.code, a.stale
		res.OwnFault = a.code == fanfare.ErrOwn
		if a.code != "" {
			res.Status = 0
		}
	}
	c.w.rules.ends(q, &res)
	return res
}

func (c *wire) Ingest(ctx context.Context, g *store.Group) (*store.Committed, error) {
	return ask(ctx, c, "ingest", func(db *database) (*store.Committed, error) {
		r, err := db.ingest(g)
		c.w.say(c.name, "commits %d events: %d stale, alive %t, beyond %t", len(g.Events), len(r.Stale), r.Alive, r.Beyond)
		if len(r.Stale) > 0 {
			c.w.reach("a commit matched against an old snapshot")
		}
		return r, err
	})
}

func (c *wire) FirstAnswers(ctx context.Context, keys []store.KeyRef) (map[store.KeyRef]store.FirstAnswer, error) {
	return ask(ctx, c, "first answers", func(db *database) (map[store.KeyRef]store.FirstAnswer, error) {
		return db.firstAnswers(keys), nil
	})
}

// RecorderSession is another one after each answer to the recorder that was lost, and whenever all
// connections were.
func (c *wire) RecorderSession(ctx context.Context) (store.Session, error) {
	return ask(ctx, c, "session", func(*database) (store.Session, error) {
		if c.w.breaks != c.breaks || c.broken {
			c.session++
			c.breaks, c.broken = c.w.breaks, false
		}
		return c.session, nil
	})
}

// RecordOrHalve leaves out of a lot what the database refuses, as the store does.
func (c *wire) RecordOrHalve(ctx context.Context, lot *store.Lot, reject func(*store.Outcome, error)) error {
	sent := *lot // it may be done when the lot is about to be sent again
	err := tell(ctx, c, "record", func(db *database) error {
		if c.breaks != c.w.breaks || sent.Session != c.session {
			return store.ErrSession
		}
		err := db.record(&sent)
		c.w.say(c.name, "records %d outcomes, settles %d: %v", len(lot.Outcomes), len(lot.Settled), err)
		return err
	})
	if !errors.Is(err, errRefused) {
		if err != nil {
			c.w.mu.Lock()
			c.broken = true
			c.w.mu.Unlock()
		}
		return err
	}
	part := *lot
	if n := len(lot.Outcomes); n > 1 {
		part.Outcomes, part.Settled = lot.Outcomes[:n/2], nil
		if err := c.RecordOrHalve(ctx, &part, reject); err != nil {
			return err
		}
		part.Outcomes, part.Settled = lot.Outcomes[n/2:], lot.Settled
		return c.RecordOrHalve(ctx, &part, reject)
	}
	reject(&lot.Outcomes[0], err)
	a := *lot.Outcomes[0].Attempt
	a.URL = ""
	part.Outcomes = []store.Outcome{{Attempt: &a, Retry: lot.Outcomes[0].Retry, Group: lot.Outcomes[0].Group, Owner: lot.Outcomes[0].Owner, Due: lot.Outcomes[0].Due}}
	return c.RecordOrHalve(ctx, &part, reject)
}

func (c *wire) DisableWebhook(ctx context.Context, id uuid.UUID, url string, d fanfare.Disabled) (bool, error) {
	return ask(ctx, c, "disable", func(db *database) (bool, error) {
		changed, err := db.disable(id, url, d)
		c.w.say(c.name, "disables %v, which is gone: %t %v", id, changed, err)
		c.w.hintAll()
		return changed, err
	})
}

func (c *wire) Claim(ctx context.Context, node uuid.UUID, wants []store.Want) ([]store.Retry, map[uuid.UUID]time.Time, error) {
	got, err := ask(ctx, c, "claim", func(db *database) (both[[]store.Retry, map[uuid.UUID]time.Time], error) {
		claimed, next := db.claim(node, wants)
		for _, r := range claimed {
			c.w.say(c.name, "claims %v to %v, due %v", r.EventID, r.WebhookID, r.DueAt)
		}
		return both[[]store.Retry, map[uuid.UUID]time.Time]{claimed, next}, nil
	})
	return got.one, got.other, err
}

func (c *wire) DueWebhooks(ctx context.Context) (map[uuid.UUID]time.Time, error) {
	return ask(ctx, c, "due", func(db *database) (map[uuid.UUID]time.Time, error) { return db.dueWebhooks(), nil })
}

func (c *wire) EventsByID(ctx context.Context, ids []uuid.UUID, maxBytes int64) (map[uuid.UUID]*fanfare.Event, error) {
	return ask(ctx, c, "events", func(db *database) (map[uuid.UUID]*fanfare.Event, error) {
		return db.eventsByID(ids, maxBytes), nil
	})
}

func (c *wire) Join(ctx context.Context, id uuid.UUID, _ string, term time.Duration) error {
	return tell(ctx, c, "join", func(db *database) error {
		db.join(id, term)
		c.w.name(id, c.name+"·"+string(rune('a'+c.asked["join"]-1)))
		c.w.say(c.name, "joins as %v", id)
		return nil
	})
}

func (c *wire) Renew(ctx context.Context, id uuid.UUID, term time.Duration) (store.Lease, error) {
	l, err := ask(ctx, c, "renew", func(db *database) (store.Lease, error) { return db.renew(id, term) })
	if err == nil {
		c.w.mu.Lock()
		c.lives = [3]int{l.Live, c.lives[0], c.lives[1]}
		c.w.mu.Unlock()
	}
	return l, err
}

func (c *wire) MarkDead(ctx context.Context, me uuid.UUID, term time.Duration) ([]uuid.UUID, error) {
	return ask(ctx, c, "mark", func(db *database) ([]uuid.UUID, error) {
		dead := db.markDead(me, term)
		for _, id := range dead {
			c.w.say(c.name, "marks %v dead", id)
		}
		return dead, nil
	})
}

func (c *wire) Leave(ctx context.Context, id uuid.UUID) error {
	return tell(ctx, c, "leave", func(db *database) error {
		db.leave(id)
		c.w.say(c.name, "leaves")
		return nil
	})
}

func (c *wire) TakeGroups(ctx context.Context, me uuid.UUID, limit int) ([]store.OpenGroup, error) {
	return c.groups(ctx, "take", func(db *database) []store.OpenGroup {
		return db.takeGroups(me, limit, func(g groupRow) bool { return db.orphaned(g.owner) })
	})
}

func (c *wire) RetakeGroups(ctx context.Context, me uuid.UUID, ids []uuid.UUID) ([]store.OpenGroup, error) {
	return c.groups(ctx, "retake", func(db *database) []store.OpenGroup {
		wanted := make(map[uuid.UUID]bool)
		for _, id := range ids {
			wanted[id] = true
		}
		return db.takeGroups(me, len(ids), func(g groupRow) bool { return g.owner == me && wanted[g.ID] })
	})
}

func (c *wire) groups(ctx context.Context, kind string, take func(*database) []store.OpenGroup) ([]store.OpenGroup, error) {
	return ask(ctx, c, kind, func(db *database) ([]store.OpenGroup, error) {
		taken := take(db)
		for _, g := range taken {
			c.w.say(c.name, "%ss the group from %v to %v, the %d. time", kind, g.First, g.Last, g.Takeovers)
			c.w.reach("a group that was taken over (" + kind + ")")
		}
		return taken, nil
	})
}

func (c *wire) Owed(ctx context.Context, g store.OpenGroup) ([]store.Owed, error) {
	return ask(ctx, c, "owed", func(db *database) ([]store.Owed, error) { return db.owed(g), nil })
}

func (c *wire) Mine(ctx context.Context, me uuid.UUID) (store.Mine, error) {
	return ask(ctx, c, "mine", func(db *database) (store.Mine, error) { return db.mine(me), nil })
}

func (c *wire) FreeRetries(ctx context.Context, me uuid.UUID, refs []store.RetryRef) error {
	return tell(ctx, c, "free", func(db *database) error {
		db.freeRetries(me, refs)
		c.w.say(c.name, "frees %d retries that it forgot", len(refs))
		c.w.reach("a claim that was forgotten")
		return nil
	})
}

func (c *wire) FreeOrphans(ctx context.Context, limit int) (map[uuid.UUID]time.Time, bool, error) {
	got, err := ask(ctx, c, "orphans", func(db *database) (both[map[uuid.UUID]time.Time, bool], error) {
		due, done := db.freeOrphans(limit)
		if len(due) > 0 {
			c.w.say(c.name, "frees retries of dead nodes")
			c.w.reach("a retry that a dead node had in hand")
		}
		return both[map[uuid.UUID]time.Time, bool]{due, done}, nil
	})
	return got.one, got.other, err
}

func (c *wire) EnsurePartitions(ctx context.Context, ahead time.Duration) (fanfare.Position, error) {
	return ask(ctx, c, "partitions", func(db *database) (fanfare.Position, error) { return db.partitions(ahead), nil })
}

func (c *wire) RegistryHead(ctx context.Context) (store.RegistryMark, error) {
	return ask(ctx, c, "head", func(db *database) (store.RegistryMark, error) { return db.registryHead(), nil })
}

func (c *wire) LoadRegistry(ctx context.Context, sink store.RegistrySink) (store.RegistryMark, error) {
	return c.registry(ctx, sink, true, 0)
}

func (c *wire) RegistryChanges(ctx context.Context, since store.RegistryMark, sink store.RegistrySink) (store.RegistryMark, bool, error) {
	m, err := c.registry(ctx, sink, false, since.Version)
	return m, err == nil, err
}

func (c *wire) registry(ctx context.Context, sink store.RegistrySink, all bool, since int64) (store.RegistryMark, error) {
	got, err := ask(ctx, c, "registry", func(db *database) (both[store.RegistryMark, func(store.RegistrySink)], error) {
		return both[store.RegistryMark, func(store.RegistrySink)]{db.registryHead(), db.registry(all, since)}, nil
	})
	if err == nil {
		got.other(sink)
	}
	return got.one, err
}

// Listen is told of changes until the process ends.
func (c *wire) Listen(ctx context.Context, _ string, onNotify func()) error {
	onNotify()
	c.w.mu.Lock()
	c.hint = onNotify
	c.w.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// What follows has no part in what becomes of a delivery.

func (c *wire) RaiseHorizon(context.Context, time.Time) (e store.Ended, err error) { return e, nil }

func (c *wire) DropPartitions(context.Context) (int, error) { return 0, nil }

func (c *wire) PurgeKeys(context.Context, time.Time) (int64, error) { return 0, nil }

func (c *wire) PurgeReplies(context.Context, time.Duration) (int64, error) { return 0, nil }

func (c *wire) PurgeRegistryChanges(context.Context, time.Duration) (int64, error) { return 0, nil }

func (c *wire) PurgeHealth(context.Context, time.Time) (int, error) { return 0, nil }

func (c *wire) PurgeNodes(context.Context) error { return nil }

func (c *wire) Backlog(context.Context) (b store.Backlog, err error) { return b, nil }

func (c *wire) WriteHealth(context.Context, []store.HealthRow) error { return nil }

func (c *wire) Statements() int64 { return 0 }
