package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// consistent is the lane of changes that are answered by one node and relied upon at another at once (C7):
// a webhook is made, wants another event type, is disabled and is deleted, and each time the other node
// takes an event that shows whether it knows. Then webhooks end with deliveries still waiting in both nodes.
type consistent struct {
	rounds, workers int
	endings         int  // webhooks that end with deliveries waiting
	waiting         int  // deliveries of each
	bars            bool // how soon they stop being sent is asserted
}

func (c *consistent) run(l *lab) {
	l.start(2)
	l.eventType("lab.one")
	l.eventType("lab.two")
	owners := l.accounts(c.workers)
	endpoints := l.endpoints(c.workers)
	lives := make([][]*changed, c.workers)
	l.parallel(c.workers, func(i int) {
		for range (c.rounds + c.workers - 1) / c.workers {
			one := &changed{l: l, account: owners[i], endpoint: endpoints[i], answers: l.nodes[i%2], takes: l.nodes[(i+1)%2]}
			one.run()
			if lives[i] = append(lives[i], one); one.wrong > 0 {
				return // what was missed never comes
			}
		}
	})
	var ended []*hook
	var wrong, missed, late int64
	all := slices.Concat(lives...)
	for _, one := range all {
		ended = append(ended, one.hook)
		wrong += one.wrong
	}
	l.report.count("webhooks", int64(len(all)))
	l.report.none("events that matched by what had changed", wrong)
	for i := range c.endings {
		if wrong == 0 {
			ended = append(ended, c.ending(l, i))
		}
	}
	l.audit(patience, ended...)
	for _, one := range all {
		missed += one.count(one.wanted, false)
		late += one.count(one.unwanted, true)
	}
	l.report.none("missed", missed)
	l.report.none("sent though the webhook had ended before the publish", late)
}

// changed is the life of one webhook: one node answers its changes, the other takes the events.
type changed struct {
	l              *lab
	account        string
	endpoint       *endpoint
	answers, takes *node

	hook     *hook
	wrong    int64 // events that matched something else than they should
	wanted   []int // events that must be sent
	unwanted []int // and those that must not
}

func (c *changed) run() {
	l := c.l
	c.hook = c.create()
	h := c.hook
	path := "/v1/accounts/" + c.account + "/webhooks/" + h.id
	mine := func(typ string, hooks ...*hook) *topic { return &topic{account: c.account, typ: typ, hooks: hooks} }

	first := c.expect(mine("lab.one", h), 1)
	c.must("PATCH", path, `{"event_types":["lab.two"]}`, http.StatusOK)
	second := c.expect(mine("lab.two", h), 1)
	c.expect(mine("lab.one"), 0)
	if c.wanted = []int{first, second}; c.wrong > 0 {
		return
	}
	l.within(patience, func() bool { return h.has(first) && h.has(second) })

	c.must("POST", path+"/disable", `{}`, http.StatusOK)
	missed := c.expect(mine("lab.two", h), 1) // it matches, and what it misses is on record
	c.must("DELETE", path, ``, http.StatusNoContent)
	c.unwanted = append(c.unwanted, missed, c.expect(mine("lab.two"), 0))
}

// count is how many of the events were delivered, or were not.
func (c *changed) count(numbers []int, delivered bool) (n int64) {
	for _, number := range numbers {
		if c.hook.has(number) == delivered {
			n++
		}
	}
	return n
}

func (c *changed) create() *hook {
	body := fmt.Sprintf(`{"url":%q,"event_types":["lab.one"],"secret":%q}`, c.endpoint.url, c.l.secret.Text())
	var made struct{ ID string }
	if answer := c.must("POST", "/v1/accounts/"+c.account+"/webhooks", body, http.StatusCreated); json.Unmarshal(answer, &made) != nil {
		c.l.Errorf("create a webhook: %s", answer)
	}
	h := c.l.hookOf(made.ID)
	h.account, h.endpoint, h.steps = c.account, c.endpoint, productSteps
	return h
}

// expect publishes an event and notes whether it matched as many webhooks as it should.
func (c *changed) expect(t *topic, matched int64) (number int) {
	number, got := c.l.insist(c.takes, t)
	if got != matched {
		c.wrong++
	}
	return number
}

func (c *changed) must(method, path, body string, want int) []byte {
	status, answer := c.answers.ask(method, path, body)
	if status != want {
		c.l.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// ending deletes a webhook, or disables it, with deliveries waiting in both nodes.
func (c *consistent) ending(l *lab, i int) *hook {
	e := l.endpoints(1)[0]
	e.becomes(slowly(20*time.Millisecond, healthy))
	t := l.topic(l.account("with an ending"), "lab.ending", wish{maxInFlight: 2}, e)
	h := t.hooks[0]
	l.burst(c.waiting, t)
	l.until("some are sent", func() bool { return h.got() > 0 })
	method, path, body, reason := "DELETE", "/v1/accounts/"+t.account+"/webhooks/"+h.id, "", "webhook_deleted"
	if i%2 == 1 {
		method, path, body, reason = "POST", path+"/disable", "{}", "webhook_disabled"
	}
	if status, answer := l.nodes[i%2].ask(method, path, body); status/100 != 2 {
		l.Fatalf("%s: %d %s", path, status, answer)
	}
	var answered time.Time
	l.ok(l.sql.QueryRow(l.Context(), `SELECT clock_timestamp()`).Scan(&answered))

	count := func(where string, args ...any) int64 {
		return l.count(`SELECT count(*) FROM attempts WHERE webhook_id = $1 AND `+where, append([]any{h.id}, args...)...)
	}
	ended := func() int64 { return count(`state IN ('delivered', 'discarded')`) }
	l.within(patience, func() bool { return ended() == int64(c.waiting) })
	l.report.none(fmt.Sprintf("deliveries that did not end with their webhook %d", i), int64(c.waiting)-ended())
	discarded := count(`state = 'discarded' AND reason = $2`, reason)
	l.report.bar(fmt.Sprintf("some were still waiting %d", i), discarded > 0, discarded, "> 0")
	if c.bars {
		late := count(`number > 0 AND started_at > $2::timestamptz + interval '1 second'`, answered)
		l.report.none(fmt.Sprintf("requests that started more than 1 s after the answer %d", i), late)
	}
	return h
}

var c7Short = consistent{rounds: 60, workers: 4, endings: 2, waiting: 200}

func TestWhatWasAnsweredIsKnownEverywhere(t *testing.T) {
	t.Parallel()
	run(t, "C7 short", "", &c7Short).finish(t)
}
