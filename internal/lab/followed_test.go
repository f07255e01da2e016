package lab

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// followed is the lane of those who follow the log through nodes that are killed, while several publish (C12):
// each of them sees every event once, and in order.
type followed struct {
	nodes      int
	publishers int
	events     int
	rate       float64
	pollers    int
	kills      int
	gap        between
}

func (w *followed) run(l *lab) {
	f := l.newFleet(w.nodes)
	var topics []*topic
	accounts := []string{l.account("parent")}
	for i := range 3 {
		if i > 0 {
			var a struct{ ID string }
			l.must("POST", "/v1/accounts", map[string]any{"name": "child", "parent_id": accounts[i/2]}, &a)
			accounts = append(accounts, a.ID)
		}
		topics = append(topics, l.topic(accounts[i], fmt.Sprintf("lab.kind%d.done", i), wish{}))
	}
	pollers := make([]*poller, w.pollers)
	var following sync.WaitGroup
	var end atomic.Bool
	l.Cleanup(func() { end.Store(true); following.Wait() }) // of a lane that fails in between
	for i := range pollers {
		p := &poller{l: l, fleet: f, end: &end, rand: rand.New(rand.NewPCG(l.report.Seed, uint64(i))), account: accounts[i%3]}
		if i%2 == 0 {
			p.query = "&descendants=true"
		}
		if i%5 == 0 {
			p.query += "&types=lab.kind0.*,lab.kind2.done"
		}
		pollers[i] = p
		following.Go(p.follow)
	}

	chance := rand.New(rand.NewPCG(l.report.Seed, 1))
	s := f.stream(w.publishers, w.events, w.rate, func(i int) *topic { return topics[i%3] }, everySecond)
	for range w.kills {
		l.pause(w.gap.draw(chance))
		f.kill(l.nodes[chance.IntN(len(l.nodes))])
		f.start()
	}
	s.wait()
	end.Store(true)
	following.Wait()

	var acknowledged []string
	for _, number := range s.events {
		if e := l.event(number); e.acknowledged() {
			acknowledged = append(acknowledged, e.id)
		}
	}
	l.report.count("acknowledged", int64(len(acknowledged)))
	l.report.none("acknowledged and not in the log", l.count(`
SELECT count(*) FROM unnest($1::uuid[]) id WHERE id NOT IN (SELECT id FROM events)`, acknowledged))
	var unseen, repeated, disorder, odd, calls, pages, seen int64
	for _, p := range pollers {
		want := l.log(p)
		missing := int64(len(want))
		known := make(map[string]bool, len(want))
		for i, id := range p.seen {
			if i > 0 && id < p.seen[i-1] {
				disorder++
			}
			if known[id] {
				repeated++
				continue
			}
			known[id] = true
			if _, found := slices.BinarySearch(want, id); found {
				missing--
			} else {
				odd++
			}
		}
		unseen += missing
		odd += p.odd
		calls, pages, seen = calls+p.calls, pages+p.pages, seen+int64(len(p.seen))
	}
	l.report.count("calls", calls)
	l.report.count("pages with events", pages)
	l.report.count("events seen", seen)
	l.report.bar("events were seen", seen > 0, seen, "some")
	l.report.none(unseenByPoller, unseen)
	l.report.none("events that somebody saw twice", repeated)
	l.report.none("events that came before an earlier one", disorder)
	l.report.none("events that are not somebody's, and answers that are not promised", odd)
}

const unseenByPoller = "events that somebody who follows never saw"

// log lists the events that a poller should see, in order.
func (l *lab) log(p *poller) (ids []string) {
	l.Helper()
	l.ok(l.sql.QueryRow(l.Context(), `
WITH RECURSIVE tree AS (
	SELECT id FROM accounts WHERE id = $1::uuid
	UNION ALL
	SELECT a.id FROM tree JOIN accounts a ON a.parent_id = tree.id AND $2
)
SELECT coalesce(array_agg(id::text ORDER BY id), '{}') FROM events
WHERE account_id IN (SELECT id FROM tree) AND ($3 OR type IN ('lab.kind0.done', 'lab.kind2.done'))`,
		p.account, p.has("descendants"), !p.has("types")).Scan(&ids))
	return ids
}

// poller follows an account's events, each time at another node.
type poller struct {
	l       *lab
	fleet   *fleet
	rand    *rand.Rand
	end     *atomic.Bool // nothing more is published
	account string
	query   string

	seen         []string
	calls, pages int64
	odd          int64
}

func (p *poller) has(parameter string) bool { return strings.Contains(p.query, "&"+parameter+"=") }

func (p *poller) follow() {
	for since := ""; p.l.Context().Err() == nil; {
		over := p.end.Load()
		n := p.fleet.pick(p.rand.IntN(1000))
		if n == nil {
			p.l.pause(againAfter)
			continue
		}
		wait := []string{"0s", "50ms", "1s"}[p.rand.IntN(3)]
		limit := 1 + p.rand.IntN(100)
		status, body := p.get(n.api + "/v1/accounts/" + p.account + fmt.Sprintf("/events/sync?wait=%s&limit=%d%s%s", wait, limit, p.query, since))
		switch status {
		case http.StatusOK:
		case 0, http.StatusServiceUnavailable: // the node was killed, or stops
			p.l.pause(againAfter / 10)
			continue
		default:
			p.odd++
			p.l.Errorf("%d: %s", status, body)
			return
		}
		var page struct {
			Data     []struct{ ID string }
			Cursor   string
			CaughtUp bool `json:"caught_up"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			p.l.Error(err)
			return
		}
		p.calls++
		if since = "&since=" + page.Cursor; len(page.Data) > 0 {
			p.pages++
			if p.rand.IntN(4) == 0 { // an event's id is a cursor, too
				since = "&since=" + page.Data[len(page.Data)-1].ID
			}
		}
		for _, e := range page.Data {
			p.seen = append(p.seen, e.ID)
		}
		if over && page.CaughtUp && len(page.Data) == 0 {
			return
		}
		if p.rand.IntN(20) == 0 {
			p.l.pause(500 * time.Millisecond) // and falls behind
		}
	}
}

// get answers the status 0 if none came.
func (p *poller) get(url string) (status int, body []byte) {
	r, err := http.NewRequestWithContext(p.l.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+platformKey)
	resp, err := p.l.http.Do(r)
	if err != nil {
		return 0, nil
	}
	if body, err = readAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, body
}

var c12Short = followed{
	nodes: 2, publishers: 4, events: 600, rate: 200, pollers: 10, kills: 1, gap: between{500 * time.Millisecond, time.Second},
}

func TestWhoeverFollowsTheLogSeesEveryEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	run(t, "C12 short", "", &c12Short).finish(t)
}
