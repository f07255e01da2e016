package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
)

// pair is what a test knows of one delivery.
type pair struct {
	event, hook, owner uuid.UUID
	place              int // of a one-off destination
	eventType          string
	test               bool // the event is
	listed             bool // by its account, if pending
	state              fanfare.State
	reason             fanfare.Reason
	requests           int
	last               uuid.UUID // request
	due                bool
}

// attempt puts a row of attempts. Ids rise.
func (a *archive) attempt(p *pair, number int, state fanfare.State, reason fanfare.Reason) uuid.UUID {
	a.Helper()
	id := newID()
	a.exec(`
INSERT INTO attempts (webhook_id, event_id, id, account_id, webhook_version, number, trigger, started_at, duration_us, method, url, status,
	verdict, state, reason, error, error_detail, response_headers, response_body, retry_at, node)
VALUES ($1, $2, $3, $4, 3, $5, 'first', $6, 1500, 'POST', 'https://example.com', 500, 'retry', $7, $8, 'status', 'no', 'A: b', 'body', $6, $1)`,
		p.hook, p.event, id, p.owner, number, a.noon, state, nullText(reason))
	if number > 0 {
		p.requests, p.last = p.requests+1, id
	}
	return id
}

func (a *archive) retry(p *pair) {
	a.Helper()
	a.exec(`INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at) VALUES ($1, $2, $3, 'retry', 1, 1, $4, $4)`,
		p.hook, p.event, p.owner, a.noon)
}

func (a *archive) openGroup(first, last uuid.UUID) {
	a.Helper()
	a.exec(`INSERT INTO open_groups (id, owner, first, last) VALUES ($1, $1, $2, $3)`, newID(), first, last)
}

// histories are the ways in which a delivery comes to where it is. open says that its event's group is.
var histories = []func(a *archive, p *pair, open bool){
	func(_ *archive, p *pair, open bool) { // nothing is on record
		if p.state = ""; open {
			p.state = fanfare.Pending
		}
	},
	func(a *archive, p *pair, _ bool) {
		a.attempt(p, 1, fanfare.Delivered, "")
		p.state = fanfare.Delivered
	},
	func(a *archive, p *pair, _ bool) { // waits for its third try
		a.attempt(p, 1, fanfare.Pending, "")
		a.attempt(p, 2, fanfare.Pending, "")
		a.retry(p)
		p.state, p.due, p.listed = fanfare.Pending, true, true
	},
	func(a *archive, p *pair, _ bool) { // parked
		a.retry(p)
		p.state, p.due, p.listed = fanfare.Pending, true, true
	},
	func(a *archive, p *pair, _ bool) {
		a.attempt(p, 1, fanfare.Pending, "")
		a.attempt(p, 2, fanfare.Exhausted, fanfare.ReasonSchedule)
		p.state, p.reason = fanfare.Exhausted, fanfare.ReasonSchedule
	},
	func(a *archive, p *pair, _ bool) { // without a request
		a.attempt(p, 0, fanfare.Discarded, fanfare.ReasonWebhookDisabled)
		p.state, p.reason = fanfare.Discarded, fanfare.ReasonWebhookDisabled
	},
	func(a *archive, p *pair, _ bool) { // ended, and owed again
		a.attempt(p, 1, fanfare.Exhausted, fanfare.ReasonReject)
		a.retry(p)
		p.state, p.due, p.listed = fanfare.Pending, true, true
	},
	func(a *archive, p *pair, _ bool) { // ended twice
		a.attempt(p, 1, fanfare.Exhausted, fanfare.ReasonReject)
		a.attempt(p, 0, fanfare.Discarded, fanfare.ReasonWebhookDisabled)
		p.state, p.reason = fanfare.Discarded, fanfare.ReasonWebhookDisabled
	},
	func(a *archive, p *pair, _ bool) { // ended by a clock that was set back since it was tried
		a.attempt(p, 0, fanfare.Discarded, fanfare.ReasonWebhookDisabled)
		a.attempt(p, 1, fanfare.Pending, "")
		p.state, p.reason = fanfare.Discarded, fanfare.ReasonWebhookDisabled
	},
	func(a *archive, p *pair, _ bool) { // ended, delivered, and failed when it was sent again
		a.attempt(p, 1, fanfare.Exhausted, fanfare.ReasonSchedule)
		a.attempt(p, 2, fanfare.Delivered, "")
		a.attempt(p, 3, fanfare.Exhausted, fanfare.ReasonSchedule)
		p.state = fanfare.Delivered
	},
	func(a *archive, p *pair, _ bool) { // delivered, and on its way again
		a.attempt(p, 1, fanfare.Delivered, "")
		a.retry(p)
		p.state = fanfare.Delivered
	},
	func(a *archive, p *pair, open bool) { // tried by a node that did not own it any more; now another one does
		if p.state = ""; open {
			a.attempt(p, 1, fanfare.Pending, "")
			p.state = fanfare.Pending
		}
	},
}

// scene is a log with every history in it.
type scene struct {
	*archive
	accounts []uuid.UUID
	hooks    []uuid.UUID
	events   []uuid.UUID
	pairs    []pair // newest event first, by falling webhook
}

func newScene(t testing.TB, seed uint64) *scene {
	t.Helper()
	s := &scene{archive: newArchive(t)}
	rnd := rand.New(rand.NewPCG(seed, 0))
	parent := newAccount(t, s.Store, uuid.Nil)
	s.accounts = []uuid.UUID{parent, newAccount(t, s.Store, parent)}
	owner, live := map[uuid.UUID]uuid.UUID{}, map[uuid.UUID]bool{}
	for i := range 7 {
		w := newWebhook(t, s.Store, s.accounts[i%2], "*")
		s.hooks, owner[w.ID], live[w.ID] = append(s.hooks, w.ID), w.AccountID, i > 1
		if !live[w.ID] {
			must(t, s.DeleteWebhook(t.Context(), w.AccountID, w.ID, 0))
		}
	}
	for i := range 40 {
		var hooks []uuid.UUID
		for _, h := range s.hooks {
			if rnd.IntN(2) == 0 {
				hooks = append(hooks, h)
			}
		}
		eventType := []string{"call.began", "call.ended", "invoice.paid"}[rnd.IntN(3)]
		id := s.event(s.accounts[1], time.Duration(i)*30*time.Minute, eventType, hooks...)
		s.events = append(s.events, id)
		test, open := rnd.IntN(8) == 0, rnd.IntN(3) == 0
		s.exec(`UPDATE events SET test = $2 WHERE id = $1`, id, test)
		if open {
			s.openGroup(id, id)
		}
		for _, h := range hooks {
			p := pair{event: id, hook: h, owner: owner[h], eventType: eventType, test: test, listed: open && live[h]}
			histories[rnd.IntN(len(histories))](s.archive, &p, open)
			s.pairs = append(s.pairs, p)
		}
		s.destinations(id, eventType, test, open, rnd)
	}
	slices.SortFunc(s.pairs, func(a, b pair) int {
		return -DeliveryCursor{a.event, a.hook}.compare(DeliveryCursor{b.event, b.hook})
	})
	return s
}

// destinations gives an event of the second account some one-off destinations.
func (s *scene) destinations(event uuid.UUID, eventType string, test, open bool, rnd *rand.Rand) {
	s.Helper()
	var ids []uuid.UUID
	for place := range rnd.IntN(3) {
		p := pair{event: event, hook: newID(), owner: s.accounts[1], place: place + 1, eventType: eventType, test: test, listed: open}
		histories[rnd.IntN(len(histories))](s.archive, &p, open)
		s.pairs, ids = append(s.pairs, p), append(ids, p.hook)
	}
	s.exec(`UPDATE events SET destination_ids = $2 WHERE id = $1`, event, ids)
}

func (p *pair) matches(q DeliveryQuery) bool {
	wildcard := func(pattern string) bool {
		prefix, wild := strings.CutSuffix(pattern, "*")
		return pattern == p.eventType || wild && strings.HasPrefix(p.eventType, prefix)
	}
	at := fanfare.EventTime(p.event)
	switch {
	case p.owner != q.AccountID,
		q.WebhookID.Valid && q.WebhookID.UUID != p.hook,
		q.EventID.Valid && q.EventID.UUID != p.event,
		len(q.EventTypes) > 0 && !slices.ContainsFunc(q.EventTypes, wildcard),
		!q.Since.IsZero() && at.Before(q.Since),
		!q.Until.IsZero() && !at.Before(q.Until),
		len(q.States) > 0 && !slices.Contains(q.States, p.state):
		return false
	case q.EventID.Valid:
		return true
	case p.test || p.state == "":
		return false
	case q.WebhookID.Valid:
		return true
	}
	return p.state == fanfare.Exhausted || p.state == fanfare.Discarded || p.state == fanfare.Pending && p.listed
}

func (p *pair) String() string {
	return fmt.Sprint(p.event, " ", p.hook, " ", p.place, " ", p.eventType, " ", p.state, " ", p.reason, " requests ", p.requests, " last ", p.last, " due ", p.due)
}

func describe(d *fanfare.Delivery) string {
	p := pair{
		event: d.EventID, hook: d.WebhookID, owner: d.AccountID, eventType: d.EventType, state: d.State, reason: d.Reason,
		requests: d.Attempts, due: !d.NextAttemptAt.IsZero(), place: d.Destination,
	}
	if d.LastAttempt != nil {
		p.last = d.LastAttempt.ID
	}
	return p.String()
}

func TestDeliveriesAreListedWithTheStateThatTheirHistoryGives(t *testing.T) {
	for seed := range uint64(2) {
		s := newScene(t, seed)
		rapid.Check(t, func(t *rapid.T) {
			q := DeliveryQuery{AccountID: rapid.SampledFrom(s.accounts).Draw(t, "account"), Limit: rapid.IntRange(1, 20).Draw(t, "limit")}
			if rapid.Bool().Draw(t, "of a webhook") {
				q.WebhookID = some(rapid.SampledFrom(s.hooks).Draw(t, "webhook"))
			}
			if rapid.IntRange(0, 3).Draw(t, "of an event") == 0 {
				q.EventID = some(rapid.SampledFrom(s.events).Draw(t, "event"))
			}
			q.States = rapid.SliceOfNDistinct(rapid.SampledFrom([]fanfare.State{fanfare.Pending, fanfare.Delivered, fanfare.Exhausted, fanfare.Discarded}),
				0, 3, rapid.ID).Draw(t, "states")
			if !q.WebhookID.Valid && !q.EventID.Valid {
				q.States = slices.DeleteFunc(q.States, func(s fanfare.State) bool { return s == fanfare.Delivered })
			}
			q.EventTypes = rapid.SampledFrom([][]string{nil, {"call.*"}, {"call.ended", "invoice.paid"}}).Draw(t, "types")
			if rapid.Bool().Draw(t, "since") {
				q.Since = s.noon.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hours")) * time.Hour)
			}
			if rapid.Bool().Draw(t, "until") {
				q.Until = s.noon.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hours")) * time.Hour)
			}
			var want, got []string
			for i := range s.pairs {
				if s.pairs[i].matches(q) {
					want = append(want, s.pairs[i].String())
				}
			}

			for {
				page, next, err := s.Deliveries(s.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for i := range page {
					got = append(got, describe(&page[i]))
				}
				if len(page) > q.Limit {
					t.Fatalf("a page of %d has %d", q.Limit, len(page))
				}
				if next == nil {
					break
				}
				q.After = *next
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestALastAttemptIsWhole(t *testing.T) {
	a := newArchive(t)
	account := newAccount(t, a.Store, uuid.Nil)
	hook := newWebhook(t, a.Store, account, "*")
	p := pair{hook: hook.ID, owner: account}
	p.event = a.event(account, 0, "call.ended", hook.ID)
	id := a.attempt(&p, 4, fanfare.Discarded, fanfare.ReasonGone)
	want := fanfare.Attempt{
		ID: id, EventID: p.event, WebhookID: hook.ID, AccountID: account, WebhookVersion: 3, Number: 4, Trigger: fanfare.TriggerFirst,
		StartedAt: a.noon, Duration: 1500 * time.Microsecond, URL: "https://example.com", Method: "POST", Status: 500, Verdict: fanfare.VerdictRetry,
		State: fanfare.Discarded, Reason: fanfare.ReasonGone, Error: fanfare.ErrStatus, ErrorDetail: "no", ResponseHeaders: []byte("A: b"),
		ResponseBody: []byte("body"), RetryAt: a.noon, Node: hook.ID,
	}

	list, _, err := a.Deliveries(t.Context(), DeliveryQuery{AccountID: account, Limit: 1})
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("%d deliveries are listed", len(list))
	}
	if diff := cmp.Diff(&want, list[0].LastAttempt); diff != "" {
		t.Error(diff)
	}
	attempts, _, err := a.Attempts(t.Context(), account, hook.ID, AttemptCursor{}, 1)
	must(t, err)
	if diff := cmp.Diff([]fanfare.Attempt{want}, attempts); diff != "" {
		t.Error(diff)
	}
}

func TestABacklogThatOneCallCannotSeeThroughIsListedWhole(t *testing.T) {
	a := newArchive(t)
	account, other := newAccount(t, a.Store, uuid.Nil), newAccount(t, a.Store, uuid.Nil)
	mine, theirs := newWebhook(t, a.Store, account, "*").ID, newWebhook(t, a.Store, other, "*").ID
	a.many(account, 14_000, 0)
	// From old to new: 1000 of mine that wait in retries, 2000 of mine in open groups, and more of others
	// in open groups than one call looks at.
	a.exec(`CREATE TABLE numbered AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM events`)
	a.exec(`UPDATE events e SET webhook_ids = ARRAY[CASE WHEN n <= 3000 THEN $1 ELSE $2 END::uuid] FROM numbered WHERE numbered.id = e.id`, mine, theirs)
	a.exec(`
INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
SELECT $1, id, $2, 'retry', 1, 1, now(), now() FROM numbered WHERE n <= 1000`, mine, account)
	a.exec(`
INSERT INTO open_groups (id, owner, first, last)
SELECT gen_random_uuid(), gen_random_uuid(), min(id::text)::uuid, max(id::text)::uuid FROM numbered WHERE n > 1000 GROUP BY (n - 1) / 100`)

	for _, q := range []DeliveryQuery{{WebhookID: some(mine)}, {}} {
		seen, calls, last := 0, 0, uuid.Max
		q.AccountID, q.Limit = account, 200
		for {
			page, next, err := a.Deliveries(t.Context(), q)
			must(t, err)
			calls++
			for _, d := range page {
				if seen++; bytes.Compare(d.EventID[:], last[:]) >= 0 {
					t.Fatalf("%s comes after %s", d.EventID, last)
				}
				last = d.EventID
			}
			if next == nil {
				break
			}
			q.After = *next
		}
		if seen != 3000 {
			t.Errorf("%d of 3000 pending deliveries were listed in %d calls", seen, calls)
		}
	}
}

func TestAttemptsAreListedNewestEventFirstWithoutDecisions(t *testing.T) {
	s := newScene(t, 7)
	for _, hook := range s.hooks {
		for _, account := range s.accounts {
			var got []uuid.UUID
			for after := (AttemptCursor{}); ; {
				page, next, err := s.Attempts(t.Context(), account, hook, after, 3)
				must(t, err)
				for _, a := range page {
					got = append(got, a.ID)
				}
				if next == nil {
					break
				}
				after = *next
			}
			var want []uuid.UUID
			must(t, s.pool.QueryRow(t.Context(), `
SELECT array_agg(id ORDER BY event_id DESC, id DESC) FROM attempts WHERE webhook_id = $1 AND account_id = $2 AND number > 0`, hook, account).Scan(&want))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestAnEventsAttemptsAreThoseOfTheAccountsWebhooks(t *testing.T) {
	s := newScene(t, 8)
	for _, event := range s.events {
		for _, account := range s.accounts {
			var got []uuid.UUID
			for after := (AttemptCursor{}); ; {
				page, next, err := s.EventAttempts(t.Context(), account, event, after, 2)
				must(t, err)
				for _, a := range page {
					got = append(got, a.ID)
				}
				if next == nil {
					break
				}
				after = *next
			}
			var want []uuid.UUID
			must(t, s.pool.QueryRow(t.Context(), `
SELECT array_agg(id ORDER BY id DESC) FROM attempts WHERE event_id = $1 AND account_id = $2 AND number > 0`, event, account).Scan(&want))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestErrorsAreTheFailedRequestsOfAllWebhooks(t *testing.T) {
	s := newScene(t, 9)
	s.exec(`UPDATE attempts SET (status, error) = (CASE number WHEN 1 THEN 0 WHEN 2 THEN 404 ELSE 503 END, CASE number WHEN 1 THEN 'tls' ELSE 'status' END)`)
	var hooks []uuid.NullUUID
	must(t, s.pool.QueryRow(t.Context(), `SELECT array_agg(DISTINCT webhook_id) FROM attempts`).Scan(&hooks))
	for _, account := range s.accounts {
		for where, q := range map[string]ErrorQuery{
			"true": {},
			"webhook_id = '" + hooks[0].UUID.String() + "'": {WebhookID: hooks[0]},
			"error = 'tls'":        {Codes: []fanfare.ErrorCode{fanfare.ErrTLS, fanfare.ErrDNS}},
			"error = 'status'":     {Codes: []fanfare.ErrorCode{fanfare.ErrStatus}},
			"status = 404":         {Statuses: []StatusRange{{404, 404}}},
			"status IN (404, 503)": {Statuses: []StatusRange{{500, 599}, {404, 404}}},
			"false":                {EventTypes: []string{"nothing"}},
			"error = 'status' AND status >= 500 AND EXISTS (SELECT FROM events e WHERE e.id = event_id AND type LIKE 'call.%')": {
				Codes: []fanfare.ErrorCode{fanfare.ErrStatus}, Statuses: []StatusRange{{500, 599}}, EventTypes: []string{"call.*"},
			},
		} {
			var got []uuid.UUID
			for q.Limit = 4; ; {
				page, next, err := s.Errors(t.Context(), account, q)
				must(t, err)
				for _, a := range page {
					got = append(got, a.ID)
				}
				if q.After = next; next == uuid.Nil {
					break
				}
			}
			var want []uuid.UUID
			must(t, s.pool.QueryRow(t.Context(), `
SELECT array_agg(id ORDER BY id DESC) FROM attempts WHERE account_id = $1 AND state <> 'delivered' AND number > 0 AND `+where, account).Scan(&want))
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 && where == "true" {
				t.Errorf("%s, of %d: %s", where, len(want), diff)
			}
		}
	}
}

// plan is how Postgres would run a statement.
func (a *archive) plan(sql string, args ...any) string {
	a.Helper()
	rows, err := a.pool.Query(a.Context(), `EXPLAIN `+sql, args...)
	must(a, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(a, err)
	return strings.Join(lines, "\n")
}

// On a log of some size, a list touches what it shows and little else.
func TestListsReadTheLogThroughItsIndexes(t *testing.T) {
	a := newArchive(t)
	account, other := newAccount(t, a.Store, uuid.Nil), newAccount(t, a.Store, uuid.Nil)
	a.many(other, 6000, 3)
	a.exec(`UPDATE events SET id = event_id($1 + (row_number << 16), 1) FROM (SELECT id AS old, row_number() OVER (ORDER BY id) FROM events) n WHERE id = old`,
		int64(fanfare.PositionAt(a.noon.Add(6*time.Hour))))
	hooks := a.many(account, 6000, 4)
	a.exec(`
INSERT INTO webhooks (id, account_id, url, event_types, timeout_ms, retry_schedule_ms, max_in_flight)
SELECT gen_random_uuid(), $1, '', '{*}', 1, '{}', 1 FROM generate_series(1, 5000)`, other)
	a.exec(`
INSERT INTO attempts (webhook_id, event_id, id, account_id, webhook_version, number, trigger, started_at, duration_us, method, url, status, state, node)
SELECT h, e.id, gen_random_uuid(), w.account_id, 1, 1, 'first', now(), 1, 'POST', '', 200, CASE WHEN random() < .1 THEN 'exhausted' ELSE 'delivered' END, h
FROM events e, unnest(e.webhook_ids) h JOIN webhooks w ON w.id = h`)
	a.exec(`
INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
SELECT h, e.id, w.account_id, 'retry', 1, 1, now(), now() FROM events e, unnest(e.webhook_ids) h JOIN webhooks w ON w.id = h WHERE random() < .2`)
	a.exec(`
INSERT INTO open_groups (id, owner, first, last)
SELECT gen_random_uuid(), gen_random_uuid(), min(id::text)::uuid, max(id::text)::uuid
FROM (SELECT id, row_number() OVER (ORDER BY id DESC) n FROM events) e WHERE n <= 300 GROUP BY n / 10`)
	a.exec(`ANALYZE`)
	var events []uuid.UUID
	must(t, a.pool.QueryRow(t.Context(), `SELECT ARRAY(SELECT id FROM events WHERE account_id = $1 ORDER BY id DESC LIMIT 51)`, account).Scan(&events))
	var none []string
	newest, oldest, hook := uuid.Max, uuid.Nil, hooks[0]
	pairs := slices.Repeat([]uuid.UUID{hook}, len(events))

	for _, c := range []struct {
		name, plan string
		want       []string // parts of the names of indexes
	}{
		{"an event", a.plan(eventSQL, account, events[0]), []string{"events_p", "_id_idx"}},
		{"events", a.plan(listEventsSQL, account, newest, oldest, none, none, 51, false), []string{"events_p", "_pkey"}},
		{"open groups", a.plan(openCandidatesSQL, account, newest, oldest, 10000, uuid.NullUUID{}), []string{"events_p", "_id_idx", "webhooks_account"}},
		{"a webhook's open groups", a.plan(openCandidatesSQL, account, newest, oldest, 10000, some(hook)), []string{"events_p", "_id_idx"}},
		{"retries", a.plan(retryCandidatesSQL, account, newest, newest, oldest, 51), []string{"retries_account"}},
		{"a webhook's retries", a.plan(webhookRetryCandidatesSQL, account, newest, newest, oldest, 51, hook), []string{"retries_pkey"}},
		{"what ended", a.plan(endedCandidatesSQL, account, newest, newest, oldest, 51, none), []string{"attempts_p", "_account_id_event_id_webhook_id_idx"}},
		{"what was attempted", a.plan(attemptedCandidatesSQL, account, newest, newest, oldest, 51, hook), []string{"attempts_p", "_pkey"}},
		{"an event's deliveries", a.plan(eventCandidatesSQL, account, newest, newest, oldest, 51, events[0], nil), []string{"events_p", "webhooks_pkey"}},
		{
			"states", a.plan(deliveryStatesSQL, events, pairs, events[50], events[0], account, false, none, none, none),
			[]string{"events_p", "id = p.event_id", "attempts_p", "_pkey", "event_id = p.event_id", "retries_pkey"},
		},
		{"a webhook's attempts", a.plan(listAttemptsSQL, account, hook, newest, newest, 51), []string{"attempts_p", "_pkey"}},
		{"an event's attempts", a.plan(listEventAttemptsSQL, account, events[0], newest, 51), []string{"attempts_p", "_pkey"}},
		{
			"errors", a.plan(listErrorsSQL, account, newest, 51, nil, none, nil, nil, none, none),
			[]string{"attempts_p", "_account_id_id_idx", "_pkey"},
		},
		{
			"some errors", a.plan(listErrorsSQL, account, newest, 51, hook, []string{"tls"}, []int32{500}, []int32{599}, []string{}, []string{"call."}),
			[]string{"attempts_p", "_account_id_id_idx", "_pkey", "events_p", "Index Cond: (id = attempts"},
		},
	} {
		for _, table := range []string{partitionName("events", a.noon), partitionName("attempts", a.noon), "retries", "webhooks"} {
			if strings.Contains(c.plan, "Seq Scan on "+table+" ") {
				t.Errorf("%s: all of %s is read:\n%s", c.name, table, c.plan)
			}
		}
		for _, index := range c.want {
			if !strings.Contains(c.plan, index) {
				t.Errorf("%s: %s is not used:\n%s", c.name, index, c.plan)
			}
		}
	}
	plan := a.plan(deliveryStatesSQL, events, pairs, events[50], events[0], account, false, none, none, none)
	if !strings.Contains(plan, partitionName("attempts", a.noon)) || strings.Contains(plan, partitionName("attempts", a.noon.Add(24*time.Hour))) {
		t.Errorf("states: not only the events' own partition is looked at:\n%s", plan)
	}
}
