package dispatcher

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

// life is what happens to some nodes in a minute or so: a seed made into webhooks, receivers' moods and steps.
// What the steps meet is not in it: that is for the dispatchers to say.
type life struct {
	seed     uint64
	dice     dice
	calm     bool // nothing fails but receivers, and nodes are only ever stopped in good order
	nodes    int
	skew     time.Duration // of the database's clock
	options  Options
	hooks    []hookLife
	hosts    []hookLife // of one-off destinations; only their moods count
	steps    []step
	refused  int  // one delivery in so many has a reply that the database refuses; 0: none
	survivor int  // the slot that goes on at the end
	ruthless bool // the others are killed at the end, not stopped
}

// step is one thing that happens from outside.
type step struct {
	at   time.Duration
	what string
	do   func(*world)
}

// hookLife is a webhook and how its receiver is.
type hookLife struct {
	child    bool // it belongs to the sub-account
	subs     bool // it wants sub-accounts' events as well
	types    []string
	schedule []time.Duration
	inFlight int
	rate     fanfare.RateLimit
	timeout  time.Duration
	moods    []mood
}

// mood is how a receiver answers until a time.
type mood struct {
	until time.Duration
	kind  string
}

var moods = []string{
	"well", "well", "well", "well", "slow", "failing", "failing", "busy", "unavailable", "hanging", "away", "flapping",
	"mute", "stale", "starved", "gone", "blocked",
}

// answer is what a receiver does with a request.
type answer struct {
	after      time.Duration
	status     int               // what it says, and whether it is content
	code       fanfare.ErrorCode // what the node learns instead; "": it learns the status
	stale      bool
	retryAfter string
}

// answer is that of a webhook's receiver to the nth request that it gets.
func (l *life) answer(hook, nth int, at time.Duration) answer {
	h := l.receiver(hook)
	kind := "well"
	for _, m := range h.moods {
		if at < m.until {
			kind = m.kind
			break
		}
	}
	d := l.dice.roll("answer", strconv.Itoa(hook), nth)
	a := answer{after: time.Millisecond + d.span(20*time.Millisecond), status: http.StatusOK}
	if d.chance(0.1) {
		a.after += d.span(time.Second)
	}
	switch kind {
	case "slow":
		a.after += d.span(h.timeout * 5 / 4)
	case "failing":
		a.status = http.StatusInternalServerError
	case "busy":
		a.status = http.StatusTooManyRequests
		if d.chance(0.5) {
			a.retryAfter = strconv.Itoa(1 + d.below(4))
		}
	case "unavailable":
		a.status, a.retryAfter = http.StatusServiceUnavailable, strconv.Itoa(1+d.below(14))
	case "hanging":
		a.after, a.status = time.Hour, 0
	case "away":
		a.status, a.code = 0, fanfare.ErrConnect
	case "flapping":
		if d.chance(0.5) {
			a.status = http.StatusBadGateway
		}
	case "mute":
		if d.chance(0.3) {
			a.code = fanfare.ErrProtocol
		}
	case "stale":
		if d.chance(0.4) {
			a.status, a.code, a.stale = 0, fanfare.ErrConnect, true
		}
	case "starved":
		if d.chance(0.3) {
			a.status, a.code = 0, fanfare.ErrOwn
		}
	case "gone":
		if d.chance(0.3) {
			a.status = http.StatusGone
		}
	case "blocked":
		if d.chance(0.3) {
			a.status, a.code = 0, fanfare.ErrBlocked
		}
	}
	return a
}

// hopeless deliveries fail also when all else is well.
func (l *life) hopeless(event string, hook int) bool {
	return l.dice.roll("hopeless "+event, strconv.Itoa(hook), 0).chance(0.05)
}

// receiver is a webhook's, or, for numbers beyond those of webhooks, a host of one-off destinations.
func (l *life) receiver(n int) *hookLife {
	if n < len(l.hooks) {
		return &l.hooks[n]
	}
	return &l.hosts[n-len(l.hooks)]
}

func newLife(seed uint64) *life {
	r := rand.New(rand.NewPCG(seed, 1))
	l := &life{seed: seed, dice: dice(seed), calm: r.IntN(6) == 0, nodes: 1 + r.IntN(3), ruthless: r.IntN(2) == 0}
	l.survivor = r.IntN(l.nodes)
	l.skew = time.Duration(r.IntN(2000)-1000) * time.Millisecond
	l.options = Options{
		Slots: pick(r, 2, 8, 64), QueueDepth: pick(r, 4, 30, 1000), HookDepth: pick(r, 3, 20, 1000), QueueBytes: pick[int64](r, 40, 400, 1<<20),
		Grace: pick(r, time.Second, 15*time.Second, 15*time.Second),
	}
	if l.calm {
		l.options.Grace = time.Minute
	}
	for range 1 + r.IntN(4) {
		l.hooks = append(l.hooks, newHookLife(r))
	}
	if r.IntN(3) == 0 {
		for range 1 + r.IntN(2) {
			h := newHookLife(r)
			h.timeout = oneOffTimeout
			l.hosts = append(l.hosts, h)
		}
	}
	span := time.Duration(8+r.IntN(20)) * time.Second
	l.publishes(r, span)
	l.edits(r, span)
	l.deploys(r, span)
	if !l.calm {
		l.troubles(r, span)
		if r.IntN(8) == 0 {
			l.refused = 3
		}
	}
	slices.SortStableFunc(l.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return l
}

func newHookLife(r *rand.Rand) hookLife {
	h := hookLife{
		child: r.IntN(2) == 0, subs: r.IntN(2) == 0, inFlight: pick(r, 1, 2, 3, 8), timeout: pick[time.Duration](r, 2, 5, 10) * time.Second,
		types: [][]string{{"*"}, {"call.ended"}, {"call.started", "call.ended"}}[r.IntN(3)],
	}
	if r.IntN(6) == 0 {
		h.rate = fanfare.RateLimit{Count: 1 + r.IntN(4), Per: time.Second}
	}
	for range r.IntN(5) {
		h.schedule = append(h.schedule, pick[time.Duration](r, 1, 1, 2, 5, 15)*time.Second)
	}
	for at := time.Duration(0); at < 40*time.Second; {
		at += time.Duration(1+r.IntN(12)) * time.Second
		h.moods = append(h.moods, mood{at, moods[r.IntN(len(moods))]})
	}
	return h
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// within is a time in a span.
func within(r *rand.Rand, span time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(span)))
}

func (l *life) then(at time.Duration, do func(*world), what string, args ...any) {
	l.steps = append(l.steps, step{at, fmt.Sprintf(what, args...), do})
}

// slot names one of the nodes.
func (l *life) slot(r *rand.Rand) int { return r.IntN(l.nodes) }

func (l *life) publishes(r *rand.Rand, span time.Duration) {
	for burst := range 2 + r.IntN(5) {
		at := within(r, span)
		for n := range 1 + r.IntN(8) {
			p := publication{
				serial: 100*burst + n, slot: l.slot(r), child: r.IntN(2) == 0, kind: eventTypes[r.IntN(2)], events: pick(r, 1, 1, 1, 3),
				keyed: r.IntN(3) == 0, size: pick(r, 0, 0, 100),
			}
			if len(l.hosts) > 0 {
				for range r.IntN(4) {
					p.hosts = append(p.hosts, r.IntN(len(l.hosts)))
				}
			}
			l.then(at, func(w *world) { w.publish(p) }, "publish %d", p.serial)
			at += time.Duration(r.IntN(300)) * time.Millisecond
		}
	}
	if r.IntN(3) == 0 {
		slot, hook := l.slot(r), r.IntN(len(l.hooks))
		l.then(within(r, span), func(w *world) { w.try(slot, hook) }, "a test send to w%d", hook)
	}
}

func (l *life) edits(r *rand.Rand, span time.Duration) {
	for range r.IntN(4) {
		at, hook := within(r, span), r.IntN(len(l.hooks))
		switch r.IntN(4) {
		case 0:
			l.then(at, func(w *world) { w.edit(hook, func(h *hookRow) { h.deleted = true }) }, "delete w%d", hook)
		case 1:
			l.then(at, func(w *world) { w.edit(hook, func(h *hookRow) { h.URL += "/moved" }) }, "w%d moves", hook)
		default:
			off := &fanfare.Disabled{By: fanfare.DisabledByUser}
			l.then(at, func(w *world) { w.edit(hook, func(h *hookRow) { h.Disabled = off }) }, "disable w%d", hook)
			at += within(r, 10*time.Second)
			l.then(at, func(w *world) { w.edit(hook, func(h *hookRow) { h.Disabled = nil }) }, "enable w%d", hook)
		}
	}
}

// deploys stop nodes in good order and start them again.
func (l *life) deploys(r *rand.Rand, span time.Duration) {
	for range r.IntN(3) {
		at := within(r, span)
		for slot := range l.nodes {
			l.then(at, func(w *world) { w.stop(slot) }, "stop n%d", slot)
			at += within(r, 4*time.Second)
			l.then(at, func(w *world) { w.start(slot) }, "start n%d", slot)
			at += within(r, 4*time.Second)
		}
	}
}

// troubles are the faults of everything but receivers.
func (l *life) troubles(r *rand.Rand, span time.Duration) {
	for range 1 + r.IntN(6) {
		at, slot := within(r, span), l.slot(r)
		switch r.IntN(14) {
		case 0, 1, 2:
			l.crash(r, at, slot)
		case 3: // who takes over is killed as it does
			l.crash(r, at, slot)
			l.crash(r, at+5*time.Second+within(r, 4*time.Second), l.slot(r))
		case 4: // a deploy that goes wrong
			l.then(at, func(w *world) { w.stop(slot) }, "stop n%d", slot)
			l.crash(r, at+within(r, 2*time.Second), slot)
		case 5, 6:
			l.standstill(r, at, slot)
		case 7: // each believes the other dead
			l.standstill(r, at, slot)
			l.standstill(r, at+7*time.Second+within(r, 6*time.Second), l.slot(r))
		case 8:
			away := 100*time.Millisecond + within(r, 8*time.Second)
			kept, hangs := r.Float64(), r.IntN(2) == 0
			l.then(at, func(w *world) { w.postgresCrashes(kept, away, hangs) }, "Postgres crashes, for %v", away)
		case 9:
			away, hangs := within(r, 20*time.Second), r.IntN(2) == 0
			l.then(at, func(w *world) { w.postgresAway(away, hangs) }, "Postgres is away for %v", away)
		case 10, 12, 13:
			bad, length := sky{slow: pick(r, 0, 0.3, 0.7), lost: pick(r, 0, 0.1, 0.3), refused: pick(r, 0, 0.1)}, within(r, 15*time.Second)
			l.then(at, func(w *world) { w.weather(bad, length) }, "weather %+v for %v", bad, length)
		case 11:
			by := time.Duration(r.IntN(7200)-3600) * time.Second
			l.then(at, func(w *world) { w.setClock(by) }, "the database's clock moves by %v", by)
			if r.IntN(4) > 0 {
				l.then(at+within(r, 15*time.Second), func(w *world) { w.setClock(-by) }, "the database's clock moves back by %v", by)
			}
		}
	}
}

func (l *life) crash(r *rand.Rand, at time.Duration, slot int) {
	l.then(at, func(w *world) { w.crash(slot) }, "kill n%d", slot)
	if r.IntN(5) > 0 {
		l.then(at+within(r, 10*time.Second), func(w *world) { w.start(slot) }, "start n%d", slot)
	}
}

func (l *life) standstill(r *rand.Rand, at time.Duration, slot int) {
	length, deaf := time.Second+within(r, 14*time.Second), r.IntN(2) == 0
	l.then(at, func(w *world) { w.standstill(slot, length, deaf) }, "n%d stands still for %v", slot, length)
}

// dice make chances that depend on the seed and what they are for, and on nothing that happened before: when
// one thing goes another way, the rest does not.
type dice uint64

// roll is the dice for the nth of some things.
func (d dice) roll(who, what string, n int) *dice {
	h := uint64(d) ^ 0xcbf29ce484222325
	for i := range len(who) {
		h = (h ^ uint64(who[i])) * 0x100000001b3
	}
	for i := range len(what) {
		h = (h ^ uint64(what[i])) * 0x100000001b3
	}
	next := dice(h ^ uint64(n)*0x9e3779b97f4a7c15)
	return &next
}

// next is a step of splitmix64.
func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (d *dice) chance(p float64) bool                 { return float64(d.next()>>11)/(1<<53) < p }
func (d *dice) below(n int) int                       { return int(d.next() % uint64(n)) }
func (d *dice) span(most time.Duration) time.Duration { return time.Duration(d.next() % uint64(most)) }
