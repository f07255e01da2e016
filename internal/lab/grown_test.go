package lab

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
)

// grown is the lane of a great many webhooks in many accounts (F6): how long a node takes to know them and in how
// much memory, how soon a node knows a change while very many stream in, and what those notice in whose
// neighbourhood an account fills up.
type grown struct {
	accounts int
	each     int     // webhooks in an account
	rate     float64 // of events to other webhooks, all the time
	measure  time.Duration
	changes  float64 // a second, of webhooks at random
	changing time.Duration
	created  int  // one after the other, in one account
	bars     bool // memory and times are asserted
}

// maxRSS is for a million webhooks.
const maxRSS = 1536

func (g *grown) run(l *lab) {
	l.start(1)
	l.eventType("lab.seeded")
	owners := l.accounts(10)
	topics := make([]*topic, len(owners))
	for i, e := range l.endpoints(len(owners)) {
		topics[i] = l.topic(owners[i], "lab.quiet", wish{}, e)
	}
	turns := func(i int) *topic { return topics[i%len(topics)] }
	few := l.nodes[0].series()
	var seeded []seededHook
	l.offline(func() {
		begin := time.Now()
		seeded = l.seed(g.accounts, g.each)
		l.report.figure("s to seed", time.Since(begin).Seconds())
	})
	n := l.nodes[0]
	all := float64(len(seeded) + len(topics))
	l.report.bar("webhooks known", n.metrics().sum("fanfare_registry_webhooks") == all, n.metrics().sum("fanfare_registry_webhooks"), fmt.Sprint(all))
	l.report.figure("MiB after the start", n.rss())
	l.start(1)

	before := l.load(g.rate, g.measure, turns)
	before.delivered("held up before", patience)
	quiet := before.latency("before", everyHook)
	g.change(l, seeded, owners[0], topics[0].hooks[0].endpoint, turns)
	g.create(l, quiet, topics[0].hooks[0].endpoint, turns)

	l.report.atMost("series more than with few webhooks", float64(n.series()-few), 0)
	for _, n := range l.nodes {
		n.remember()
	}
	l.report.figure("most MiB", float64(l.memory.Load())/mib)
	if g.bars {
		l.report.atMost("start s", n.took.Seconds(), 15)
		l.report.atMost("RSS MiB", float64(l.memory.Load())/mib, maxRSS)
	}
	l.audit(patience)
}

// change has changes stream in through one node, and measures how long the other takes to know a new webhook.
func (g *grown) change(l *lab, seeded []seededHook, owner string, e *endpoint, turns func(int) *topic) {
	stop := make(chan struct{})
	var work sync.WaitGroup
	var done, wrong int64
	work.Go(func() { done, wrong = l.edits(g.changes, seeded, stop) })
	var p *phase
	work.Go(func() { p = l.load(g.rate, g.changing, turns) })
	l.eventType("lab.nothing")
	var took []time.Duration
	begun := time.Now()
	for time.Since(begun) < g.changing {
		want := l.nodes[1].metrics().sum("fanfare_registry_webhooks") + 1
		l.hook(e, owner, "lab.nothing", wish{})
		answered := time.Now()
		l.until("the other node knows a new webhook", func() bool {
			return l.nodes[1].metrics().sum("fanfare_registry_webhooks") >= want
		})
		took = append(took, time.Since(answered))
	}
	streamed := time.Since(begun)
	close(stop)
	work.Wait()
	l.report.figure("changes a second", float64(done)/streamed.Seconds())
	l.report.none("changes that failed", wrong)
	visible := l.summary("answer of a change → known to another node", took)
	if g.bars {
		l.report.atMost("ms until a change is known to another node", visible.Max, 1000)
	}
	p.delivered("held up beside changes", patience)
	p.latency("beside changes", everyHook)
}

// create fills an account up, one webhook after the other.
func (g *grown) create(l *lab, quiet latency, e *endpoint, turns func(int) *topic) {
	owner := l.account("one that fills up")
	filled := make(chan struct{})
	var load sync.WaitGroup
	var parts []*phase
	load.Go(func() {
		for {
			parts = append(parts, l.load(g.rate, g.measure, turns))
			select {
			case <-filled:
				return
			default:
			}
		}
	})
	took := make([]time.Duration, g.created)
	for i := range took {
		begun := time.Now()
		l.hook(e, owner, "lab.nothing", wish{})
		took[i] = time.Since(begun)
	}
	close(filled)
	load.Wait()
	beside := &phase{l: l}
	for _, p := range parts {
		beside.events = append(beside.events, p.events...)
	}
	beside.delivered("held up beside an account that fills up", patience)
	felt := beside.latency("beside an account that fills up", everyHook)
	l.summary("creating, the first tenth", took[:max(len(took)/10, 1)])
	l.summary("creating, the last tenth", took[len(took)*9/10:])
	if g.bars {
		l.report.atMost("p99 ms beside an account that fills up", felt.P99, max(1.5*quiet.P99, quiet.P99+20))
	}
}

// series is how many metrics a node has, but for those of routes, which come with the first call of each.
func (n *node) series() (count int) {
	for name := range n.metrics() {
		if !strings.HasPrefix(name, "fanfare_http_") {
			count++
		}
	}
	return count
}

// seededHook is one that no receiver stands behind.
type seededHook struct{ id, account uuid.UUID }

// seed puts accounts, in a tree of three levels, with webhooks straight into the database. Half of them have a
// condition that is all their own.
func (l *lab) seed(accounts, each int) []seededHook {
	l.Helper()
	keyring, err := seal.Parse(l.env["FANFARE_ENCRYPTION_KEYS"])
	l.ok(err)
	owners := make([]uuid.UUID, accounts)
	for i := range owners {
		owners[i] = uuid.Must(uuid.NewV7())
	}
	hooks := make([]seededHook, accounts*each)
	for i := range hooks {
		hooks[i] = seededHook{uuid.Must(uuid.NewV7()), owners[i%accounts]}
	}
	l.copyIn("accounts", []string{"id", "parent_id", "name"}, accounts, func(i int) []any {
		var parent *uuid.UUID
		if i > 0 {
			parent = &owners[(i-1)/max(accounts/100, 2)%max(i, 1)]
		}
		return []any{owners[i], parent, fmt.Sprintf("seeded %d", i)}
	})
	l.copyIn("webhooks", []string{
		"id", "account_id", "url", "event_types", "timeout_ms", "retry_schedule_ms", "max_in_flight", "filter", "filter_canonical",
	}, len(hooks), func(i int) []any {
		row := []any{
			hooks[i].id, hooks[i].account, fmt.Sprintf("https://hooks-%d.example.com/in/%d", i%1000, i),
			[]string{"lab.seeded", "call.*"},
			30_000, milliseconds(productSteps), 32, nil, nil,
		}
		if i%2 == 0 {
			filter := fmt.Sprintf(`{"data":{"customer_id":"c%d"}}`, i)
			row[7], row[8] = json.RawMessage(filter), filter
		}
		return row
	})
	l.copyIn("webhook_secrets", []string{"id", "account_id", "webhook_id", "sealed"}, len(hooks), func(i int) []any {
		place := seal.Place{Account: hooks[i].account, Object: hooks[i].id, Column: "webhook_secrets.sealed"}
		return []any{uuid.Must(uuid.NewV7()), hooks[i].account, hooks[i].id, keyring.Seal(place, l.secret.Stored())}
	})
	l.exec(`ANALYZE`)
	return hooks
}

func (l *lab) copyIn(table string, columns []string, n int, row func(i int) []any) {
	l.Helper()
	_, err := l.sql.CopyFrom(l.Context(), pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	l.ok(err)
}

// edits renames seeded webhooks, so many a second, until stop is closed. It says how many it did and how many
// were not answered well.
func (l *lab) edits(rate float64, hooks []seededHook, stop <-chan struct{}) (done, wrong int64) {
	var mu sync.Mutex // guards the results
	var under sync.WaitGroup
	slots := make(chan struct{}, 32)
	begun := time.Now()
	for i := 0; ; i++ {
		sleepUntil(begun.Add(time.Duration(float64(i) / rate * float64(time.Second))))
		select {
		case <-stop:
			under.Wait()
			return done, wrong
		case slots <- struct{}{}:
		}
		h := hooks[i*7919%len(hooks)]
		under.Go(func() {
			defer func() { <-slots }()
			status, err := l.call("PATCH", "/v1/accounts/"+h.account.String()+"/webhooks/"+h.id.String(), map[string]any{"name": fmt.Sprint(i)}, nil)
			mu.Lock()
			defer mu.Unlock()
			if done++; err != nil || status != 200 {
				wrong++
			}
		})
	}
}

var f6Short = grown{
	accounts: 100, each: 5, rate: 50, measure: 200 * time.Millisecond, changes: 100, changing: 500 * time.Millisecond, created: 20,
}

func TestManyWebhooksAreKnownAndChangesOfThemAreTold(t *testing.T) {
	t.Parallel()
	run(t, "F6 short", "", &f6Short).finish(t)
}
