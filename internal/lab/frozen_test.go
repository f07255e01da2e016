package lab

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// frozen is the lane of a node that stands still for longer than its lease, with requests in flight, and then
// goes on as if nothing had happened (C5). Meanwhile another took over, made the same requests, and has half
// of them still in flight. What comes of the first one's requests is written down and changes no state.
type frozen struct {
	hooks  int // all together at most half as many requests as a node has slots: they are of one account
	events int // of each hook, in flight for the first time
	again  int // of each hook of a second kind, in flight for the second time; fewer than make an endpoint down
	limit  time.Duration
}

func (z *frozen) run(l *lab) {
	first, second := make(chan time.Time), make(chan time.Time) // closed: the nodes' requests are answered
	letFirst, letSecond := sync.OnceFunc(func() { close(first) }), sync.OnceFunc(func() { close(second) })
	defer letSecond()
	defer letFirst()
	var seen tries
	l.onFrozenNode(z, func(e *endpoint, _ http.ResponseWriter, r *http.Request) int {
		attempt := r.Header.Get("X-Fanfare-Attempt")
		if r.Header.Get("X-Fanfare-Event-Type") == "lab.again" && attempt == "1" {
			return http.StatusBadRequest // the next try comes from a row of retries
		}
		switch n, odd := seen.count(r.Header.Get("X-Fanfare-Webhook-Id") + r.Header.Get(signature.HeaderID) + attempt); {
		case n == 1:
			if e.wait(r, first) {
				return http.StatusInternalServerError
			}
			return 0
		case n == 2 && odd && !e.wait(r, second):
			return 0
		}
		return http.StatusOK
	})
	all := z.hooks * (z.events + z.again)
	l.until("the requests of the first node are in flight", func() bool { return seen.times(1) == all })
	frozen, me := l.nodes[0], l.text(`SELECT id::text FROM nodes`)
	l.start(1)
	frozen.freeze()
	l.until("it is taken for dead", func() bool { return l.count(`SELECT count(*) FROM nodes WHERE id = $1 AND dead`, me) == 1 })
	l.until("the other node has its work in flight", func() bool { return seen.times(2) == all })
	l.until("what could be delivered is on record", func() bool {
		return l.count(`SELECT count(*) FROM attempts WHERE state = 'delivered'`) == int64(all-all/2)
	})
	before := l.rows()
	letFirst()
	frozen.thaw()
	l.until("what the first node saw is on record", func() bool {
		return l.count(`SELECT count(*) FROM attempts WHERE node = $1 AND status = 500`, me) == int64(all)
	})
	l.until("it knows that it was taken for dead", func() bool {
		return l.count(`SELECT count(*) FROM nodes WHERE NOT dead`) == 2
	})
	l.report.none("rows that late outcomes changed", touched(before, l.rows()))
	letSecond()
	l.balance(books{limit: z.limit})
	l.report.none("delivered rows that changed", int64(len(before.delivered)-kept(before.delivered, l.rows().delivered)))
}

// onFrozenNode starts a node and publishes what it will have in flight when it is frozen.
func (l *lab) onFrozenNode(z *frozen, does behaviour) {
	l.Helper()
	l.start(1)
	account := l.account("with a node that stands still")
	for typ, events := range map[string]int{"lab.first": z.events, "lab.again": z.again} {
		endpoints := l.endpoints(z.hooks)
		for _, e := range endpoints {
			e.becomes(does)
		}
		t := l.topic(account, typ, wish{steps: manySeconds}, endpoints...)
		l.load(1000, time.Duration(events)*time.Millisecond, func(int) *topic { return t })
	}
}

// tries counts how often each try was made.
type tries struct {
	mu   sync.Mutex
	seen map[string]int
	n    int // tries that were made twice
}

// count answers how often a try was made by now, and whether it is every second one of those.
func (t *tries) count(try string) (n int, odd bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = make(map[string]int)
	}
	if t.seen[try]++; t.seen[try] == 2 {
		t.n++
		odd = t.n%2 == 0
	}
	return t.seen[try], odd
}

// times is how many tries were made at least n times.
func (t *tries) times(n int) (all int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, seen := range t.seen {
		if seen >= n {
			all++
		}
	}
	return all
}

// rows is what the database holds of deliveries, each row with the transaction that wrote it last.
type rows struct{ owed, delivered []string }

func (l *lab) rows() rows {
	l.Helper()
	return rows{
		owed: l.texts(`SELECT 'group ' || g.xmin::text || g::text FROM open_groups g
			UNION ALL SELECT 'retry ' || r.xmin::text || r::text FROM retries r`),
		delivered: l.texts(`SELECT concat_ws(' ', xmin::text, webhook_id, event_id, id, state) FROM attempts WHERE state = 'delivered'`),
	}
}

// touched counts the rows that are in one of two readings only.
func touched(before, after rows) int64 {
	return int64(len(before.owed) + len(after.owed) - 2*kept(before.owed, after.owed) + len(before.delivered) - kept(before.delivered, after.delivered))
}

// kept counts what both lists have. They are sorted.
func kept(a, b []string) (n int) {
	for _, row := range a {
		if _, ok := slices.BinarySearch(b, row); ok {
			n++
		}
	}
	return n
}

// texts reads a column, sorted.
func (l *lab) texts(sql string, args ...any) []string {
	l.Helper()
	found, err := l.sql.Query(l.Context(), sql, args...)
	l.ok(err)
	all, err := pgx.CollectRows(found, pgx.RowTo[string])
	l.ok(err)
	slices.Sort(all)
	return all
}

func (l *lab) text(sql string, args ...any) string {
	l.Helper()
	all := l.texts(sql, args...)
	if len(all) != 1 {
		l.Fatalf("%s: %d rows", sql, len(all))
	}
	return all[0]
}

var c5Short = frozen{hooks: 3, events: 8, again: 4, limit: patience}

func TestANodeThatStoodStillChangesNothingOfWhatOthersHave(t *testing.T) {
	t.Parallel()
	run(t, "C5 short", "", &c5Short).finish(t)
}

// inside is the lane of a node that is stopped in the middle of its append to the log (C17): the others go on
// at once. The append is caught while it waits for the log's lock, which it then gets, and gives back, without
// its node.
type inside struct {
	rounds    int
	publishes int           // at the other node, during each
	stops     int           // at random instants under load, after that
	stop      time.Duration // how long each of them lasts; less than a lease
	rate      float64       // of publishing at the other node meanwhile
	bars      bool          // latencies are compared
}

func (i *inside) run(l *lab) {
	l.start(2)
	victim, other := l.nodes[0], l.nodes[1]
	t := l.topic(l.account("beside a node that stands still"), "lab.inside", wish{}, l.endpoints(1)...)
	announce := func() int {
		due := time.Now()
		return l.announce(1, func(int) *topic { return t }, func(int) time.Time { return due })
	}
	publish := func(n *node) bool {
		number := announce()
		l.note(number, l.send(n, t, number, ""))
		e := l.event(number)
		return e.acknowledged()
	}
	timed := func(rounds int, before, after func()) (took []time.Duration, failed int64) {
		for range rounds {
			before()
			for range i.publishes {
				begin := time.Now()
				if !publish(other) {
					failed++
				}
				took = append(took, time.Since(begin))
			}
			after()
		}
		return took, failed
	}
	nothing := func() {}
	took, failed := timed(i.rounds, nothing, nothing)
	calm := l.summary("publish, all nodes well", took)

	lock, err := l.sql.Acquire(l.Context())
	l.ok(err)
	defer lock.Release()
	var stopped sync.WaitGroup
	took, failedBeside := timed(i.rounds, func() {
		_, err := lock.Exec(l.Context(), `SELECT pg_advisory_lock(20566, 1)`)
		l.ok(err)
		stopped.Go(func() {
			if !publish(victim) {
				l.Error("the append of the node that was stopped failed")
			}
		})
		l.until("the append waits for the log", func() bool {
			return l.count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 20566 AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
		})
		victim.freeze()
		_, err = lock.Exec(l.Context(), `SELECT pg_advisory_unlock(20566, 1)`)
		l.ok(err)
	}, func() {
		victim.thaw()
		stopped.Wait()
	})
	l.report.none("publishes that failed beside a stopped node", failed+failedBeside)
	beside := l.summary("publish, a node stopped inside its append", took)
	if i.bars {
		l.report.atMost("publish p99 ms beside a node stopped inside its append", beside.P99, max(2*calm.P99, calm.P99+20))
	}
	if i.stops > 0 {
		i.random(l, t, victim, other)
	}
	l.balance(books{limit: patience})
	l.report.none("nodes taken for dead", l.count(`SELECT count(*) FROM nodes WHERE dead`))
}

// random stops one node at random instants while both are published to. What was due at the other node while
// the first stood still is held against what was due in between.
func (i *inside) random(l *lab, t *topic, victim, other *node) {
	quit := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				due := time.Now()
				number := l.announce(1, func(int) *topic { return t }, func(int) time.Time { return due })
				l.note(number, l.send(victim, t, number, ""))
			}
		})
	}
	n := int(i.rate * 2.5 * i.stop.Seconds() * float64(i.stops))
	begin := time.Now()
	due := func(k int) time.Time { return begin.Add(time.Duration(float64(k) / i.rate * float64(time.Second))) }
	first := l.announce(n, func(int) *topic { return t }, due)
	var loading sync.WaitGroup
	loading.Go(func() { // open loop
		for k := range n {
			sleepUntil(due(k))
			loading.Go(func() { l.note(first+k, l.send(other, t, first+k, "")) })
		}
	})
	var stops []span
	for range i.stops {
		l.pause(between{i.stop / 2, i.stop * 3 / 2}.draw(l.rand))
		victim.freeze()
		stop := span{from: time.Now()}
		l.pause(i.stop)
		stop.to = time.Now()
		victim.thaw()
		stops = append(stops, stop)
	}
	loading.Wait()
	close(quit)
	busy.Wait()
	all := &phase{l: l, begun: begin, events: numbers(first, first+n)}
	_, refused, unasked, unknown := all.tally()
	l.report.none("publishes that failed beside a node that stops", refused+unasked+unknown)
	during, calm := &phase{l: l}, &phase{l: l}
	for _, number := range all.events {
		at := l.event(number).due
		if slices.ContainsFunc(stops, func(s span) bool { return s.holds(at, at) }) {
			during.events = append(during.events, number)
		} else {
			calm.events = append(calm.events, number)
		}
	}
	well := calm.publishing("publish, between the stops of the other node")
	l.report.atMost("publish p99 ms while a node stands still", during.publishing("publish, while the other node stands still").P99,
		max(2*well.P99, well.P99+20))
}

var c17Short = inside{rounds: 4, publishes: 5}

func TestANodeThatIsStoppedInsideItsAppendHoldsUpNobody(t *testing.T) {
	t.Parallel()
	run(t, "C17 short", "", &c17Short).finish(t)
}
