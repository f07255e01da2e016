package dispatcher

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// rules are what must hold whatever happens. They hear of every request, every record and every death, and
// look at the rows of the database; nothing of what a dispatcher believes counts, but what it was told.
//
//   - Who was told that an event is accepted finds it in the log, for ever and as it was published.
//   - Every delivery has a state at any time, and an end in the end. Its owner ends it once.
//   - It is tried again only after a failure, and not before its step is over, or for a reason: a node died
//     before it could say what became of it, Postgres forgot it, an answer was lost.
//   - No request starts without a lease, beyond an endpoint's share, or for a webhook that is known to be off.
//   - Nothing is left in the end that belongs to the dead.
type rules struct {
	w        *world
	failures []string
	pairs    map[store.RetryRef]*pairStory
	order    []*pairStory
	nth      map[uuid.UUID]int // requests, by webhook
	accepted []accepted
	byKey    map[string]uuid.UUID // idempotency key → event
	deaths   int
}

// accepted is a publish that was answered.
type accepted struct {
	id   uuid.UUID
	key  string
	data []byte

	destinations int
}

// pairStory is what receivers and nodes saw of a delivery.
type pairStory struct {
	ref      store.RetryRef
	requests []*request
}

// request is one that started.
type request struct {
	pair        *pairStory
	hook        int
	nth         int // of all that the webhook got
	process     *process
	incarnation uuid.UUID
	number      int // as the request says
	body        []byte
	startedAt   time.Time
	endedAt     time.Time // zero: it is in flight
	taken       bool      // the receiver is content, whatever the node learns of it
	result      verdict
	retryAfter  time.Duration
	onRecord    bool
	excuse      string // why the delivery may be tried again all the same; "": there is none
}

// verdict is what a request taught its node.
type verdict string

const (
	inFlight  verdict = "in flight"
	welcome   verdict = "delivered"
	failure   verdict = "failed"             // counts
	blameless verdict = "nobody's fault"     // is repeated after a minute
	prompt    verdict = "a stale connection" // is repeated at once
	final     verdict = "final"              // without success
)

func newRules(w *world) *rules {
	return &rules{w: w, pairs: make(map[store.RetryRef]*pairStory), nth: make(map[uuid.UUID]int), byKey: make(map[string]uuid.UUID)}
}

func (r *rules) broke(format string, args ...any) {
	text := fmt.Sprintf("%8.3fs  ", r.w.sinceBegin().Seconds()) + r.w.render(format, args)
	r.failures = append(r.failures, text)
	r.w.say("RULE", "broken: "+format, args...)
}

// slack is how much the clocks of a node and the database may differ: half of what a renewal may take.
func (r *rules) slack() time.Duration {
	if r.w.life.calm {
		return 5 * time.Millisecond
	}
	return renewEvery / 2
}

// starts is told of a request that begins.
func (r *rules) starts(c *wire, sent *egress.Request) *request {
	header := make(map[string]string, len(sent.Header))
	for _, f := range sent.Header {
		header[f.Name] = f.Value
	}
	q := &request{process: c.w.process(c), startedAt: time.Now(), body: sent.Body, result: inFlight}
	ref := store.RetryRef{EventID: uuid.MustParse(header["webhook-id"])}
	var host, place int
	if hook, ok := header["X-Fanfare-Webhook-Id"]; ok {
		ref.WebhookID = uuid.MustParse(hook)
		q.hook = slices.IndexFunc(r.w.db.hooks, func(h *hookRow) bool { return h.ID == ref.WebhookID })
	} else if n, _ := fmt.Sscanf(sent.URL, "https://host-%d.test/%d", &host, &place); n == 2 {
		ref.WebhookID = r.w.db.oneOffs[ref.EventID][place-1]
		q.hook = len(r.w.db.hooks) + host
		r.w.reach("a request to a one-off destination")
	}
	q.number, _ = strconv.Atoi(header["X-Fanfare-Attempt"])
	q.incarnation = q.process.d.node.id()
	q.nth = r.nth[queueOf(ref.WebhookID)]
	r.nth[queueOf(ref.WebhookID)]++
	q.pair = r.pair(ref)
	e := r.w.db.event(ref.EventID)
	if e == nil {
		r.broke("%v was sent and is not in the log", ref.EventID)
		e = new(fanfare.Event)
	}
	r.w.say(c.name, "sends %v to %v, request %d", ref.EventID, ref.WebhookID, q.number)
	r.leased(q)
	r.wanted(q, sent.URL, e.Test)
	if !e.Test {
		r.room(c, q)
	}
	r.again(q)
	q.pair.requests = append(q.pair.requests, q)
	return q
}

func (r *rules) pair(ref store.RetryRef) *pairStory {
	p := r.pairs[ref]
	if p == nil {
		p = &pairStory{ref: ref}
		r.pairs[ref] = p
		r.order = append(r.order, p)
	}
	return p
}

// leased: nobody else can have taken over.
func (r *rules) leased(q *request) {
	n, there := r.w.db.nodes[q.incarnation]
	switch since := time.Since(n.granted); {
	case !there:
		r.broke("%v starts a request for %v after it left", q.incarnation, q.pair.ref.EventID)
	case n.dead:
		r.broke("%v starts a request for %v after it was marked dead", q.incarnation, q.pair.ref.EventID)
	case since > leaseTerm:
		r.broke("%v starts a request for %v, %v after its last lease", q.incarnation, q.pair.ref.EventID, since)
	}
}

// wanted: what was switched off, deleted or moved is known everywhere within a second, and on a node that
// cannot ask at the latest with the end of its lease and of a question that hangs.
func (r *rules) wanted(q *request, url string, test bool) {
	if isOneOff(q.pair.ref.WebhookID) {
		return
	}
	h := r.w.db.hooks[q.hook]
	known := time.Second
	if h.changedAt.Before(r.w.fairSince) {
		known = longest + leaseTerm
	}
	if time.Since(h.changedAt) <= known {
		return
	}
	switch {
	case h.deleted:
		r.broke("%v is called %v after it was deleted", h.ID, time.Since(h.changedAt))
	case h.Disabled != nil && !test:
		r.broke("%v is called %v after it was disabled", h.ID, time.Since(h.changedAt))
	case h.URL != url:
		r.broke("%v is called where it was %v ago", h.ID, time.Since(h.changedAt))
	}
}

// room: an endpoint gets no more requests at once than its share on this node.
func (r *rules) room(c *wire, q *request) {
	limit, nodes, queue := r.limits(q).MaxInFlight, max(slices.Min(c.lives[:]), 1), queueOf(q.pair.ref.WebhookID)
	most, flying := max(limit/nodes, 1), 1
	for _, p := range r.order {
		for _, other := range p.requests {
			if other.process == q.process && queueOf(p.ref.WebhookID) == queue && other.result == inFlight && !r.w.db.event(p.ref.EventID).Test {
				flying++
			}
		}
	}
	if flying > most {
		r.broke("%s has %d requests in flight to %v, which may be %d", c.name, flying, q.pair.ref.WebhookID, most)
	}
	if flying > 1 && flying == most {
		r.w.reach("an endpoint with all the requests that it may have")
	}
}

// limits are those of a request's receiver.
func (r *rules) limits(q *request) *fanfare.Webhook {
	if isOneOff(q.pair.ref.WebhookID) {
		return &fanfare.Webhook{MaxInFlight: defaultLimit, RetrySchedule: retry.Default}
	}
	return &r.w.db.hooks[q.hook].Webhook
}

// again: whoever is tried again has failed, and waited.
func (r *rules) again(q *request) {
	charged, excused := 0, false
	for i, before := range q.pair.requests {
		excused = excused || before.excuse != ""
		switch {
		case !bytes.Equal(before.body, q.body):
			r.broke("%v gets other bytes for %v", q.pair.ref.WebhookID, q.pair.ref.EventID)
		case before.excuse != "":
			if before.taken {
				r.w.reach("a duplicate: " + before.excuse)
			}
		case before.result == inFlight, before.result == welcome, before.result == final:
			r.broke("%v is sent again to %v, where its request %d is %s", q.pair.ref.EventID, q.pair.ref.WebhookID, before.number, before.result)
		case before.result == prompt && i-charged >= maxFree:
			before.result = failure // for once it counts
			charged++
		case before.result == failure:
			charged++
		}
	}
	if len(q.pair.requests) == 0 || excused {
		return
	}
	last := q.pair.requests[len(q.pair.requests)-1]
	schedule := r.limits(q).RetrySchedule
	if charged > len(schedule) {
		r.broke("%v is sent to %v once more after %d failures", q.pair.ref.EventID, q.pair.ref.WebhookID, charged)
		return
	}
	var step time.Duration
	switch last.result {
	case failure:
		step = max(schedule[charged-1], last.retryAfter)
	case blameless:
		step = time.Minute
	}
	// Nodes that met a clock at different times believe it differently: they do not wait alike.
	if waited := q.startedAt.Sub(last.endedAt); waited < step-r.slack() && r.w.clockSetAt.IsZero() {
		r.broke("%v is sent again to %v after %v instead of %v", q.pair.ref.EventID, q.pair.ref.WebhookID, waited, step)
	}
}

// ends is told what came back.
func (r *rules) ends(q *request, res *egress.Result) {
	q.endedAt = time.Now()
	switch {
	case res.Error == fanfare.ErrOwn:
		q.result = blameless
	case res.Stale:
		q.result = prompt
	case res.Error == fanfare.ErrBlocked:
		q.result = final
	case res.Error == "" && res.Status/100 == 2:
		q.result = welcome
	case res.Status == 410 && isOneOff(q.pair.ref.WebhookID):
		q.result = final
	case res.Status == 410:
		q.result = blameless // or final; the webhook is off in any case
	default:
		q.result = failure
	}
	if res.Status == 429 || res.Status == 503 {
		seconds, _ := strconv.Atoi(res.RetryAfter)
		q.retryAfter = time.Duration(seconds) * time.Second
	}
	if q.taken && q.result != welcome {
		q.excuse = "its answer was lost"
	}
	r.w.say(q.process.wire.name, "learns of %v to %v: %s %d %s", q.pair.ref.EventID, q.pair.ref.WebhookID, q.result, res.Status, res.Error)
}

// recorded is told of an attempt that is in the log now, unless t is lost.
func (r *rules) recorded(t *transaction, a *fanfare.Attempt) {
	r.w.say("log", "attempt %d of %v to %v: %s %s", a.Number, a.EventID, a.WebhookID, a.State, a.Reason)
	if a.Reason == fanfare.ReasonQuarantined {
		r.w.reach("a delivery in quarantine")
		if r.deaths < maxTakeovers {
			r.broke("%v is quarantined after %d deaths", a.EventID, r.deaths)
		}
	}
	for _, q := range r.pair(store.RetryRef{WebhookID: a.WebhookID, EventID: a.EventID}).requests {
		if q.number == a.Number && q.incarnation == a.Node && !q.onRecord {
			q.onRecord = true
			t.undo = append(t.undo, func() { q.onRecord, q.excuse = false, "Postgres forgot it" })
		}
	}
}

// died is told of an incarnation that was marked dead: what it did not record is done again.
func (r *rules) died(incarnation uuid.UUID) {
	r.deaths++
	r.excuse("its node was taken for dead", func(q *request) bool { return q.incarnation == incarnation })
}

// crashed is told of a process that is gone.
func (r *rules) crashed(p *process) {
	r.excuse("its node crashed", func(q *request) bool { return q.process == p })
}

func (r *rules) excuse(why string, who func(*request) bool) {
	for _, p := range r.order {
		for _, q := range p.requests {
			if q.excuse == "" && !q.onRecord && who(q) {
				q.excuse = why
			}
		}
	}
}

// committed is told of an event that is in the log now: it goes to whom it should by what was answered
// before its publish began, and after.
func (r *rules) committed(e *fanfare.Event) {
	r.w.nameEvent(e.ID)
	if e.Test {
		return
	}
	want := r.w.db.match(e.AccountID, e.Type)
	got := slices.Clone(e.WebhookIDs)
	byID := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(want, byID)
	slices.SortFunc(got, byID)
	if !slices.Equal(want, got) {
		r.broke("%v goes to %d webhooks, and %d want it", e.ID, len(got), len(want))
	}
}

// accept is told of a publish that was answered.
func (r *rules) accept(pubs []Publication, receipts []Receipt) {
	for i := range pubs {
		a := accepted{receipts[i].ID, pubs[i].IdempotencyKey, pubs[i].Data, len(pubs[i].Destinations)}
		if id, again := r.byKey[a.key]; again && a.key != "" && id != a.id {
			r.broke("the key %s stands for two events, %v and %v", a.key, id, a.id)
		}
		if a.key != "" {
			r.byKey[a.key] = a.id
		}
		r.accepted = append(r.accepted, a)
		r.kept(&a)
	}
}

func (r *rules) kept(a *accepted) {
	if e := r.w.db.event(a.id); e == nil {
		r.broke("%v was accepted and is not in the log", a.id)
	} else if !bytes.Equal(e.Data, a.data) || e.IdempotencyKey != a.key || len(r.w.db.oneOffs[a.id]) != a.destinations {
		r.broke("%v is %s and was %s", a.id, e.Data, a.data)
	}
}

// accounted: a delivery has a state.
func (r *rules) accounted(ref store.RetryRef) {
	if r.w.db.state(ref) == "" {
		r.broke("%v to %v has no state", ref.EventID, ref.WebhookID)
	}
}

// all calls check for every delivery of the log.
func (r *rules) all(check func(store.RetryRef)) {
	for _, e := range r.w.db.events {
		for _, p := range r.w.db.pairs(e) {
			check(p.ref)
		}
	}
}

// afterCrash looks at what Postgres came back with.
func (r *rules) afterCrash() {
	for i := range r.accepted {
		r.kept(&r.accepted[i])
	}
	r.all(r.accounted)
}

// quiet: nothing is owed any more.
func (r *rules) quiet() bool { return len(r.w.db.groups) == 0 && len(r.w.db.retries) == 0 }

// atTheEnd looks at what is left when everything has ended.
func (r *rules) atTheEnd() {
	db := r.w.db
	for _, g := range db.groups {
		r.broke("the group %v to %v is still open, owned by %v", g.First, g.Last, g.owner)
	}
	for ref, row := range db.retries {
		r.broke("%v to %v is still owed, due %v, owned by %v", ref.EventID, ref.WebhookID, row.DueAt, row.owner)
	}
	for i := range r.accepted {
		r.kept(&r.accepted[i])
	}
	r.all(func(ref store.RetryRef) {
		state := db.state(ref)
		taken := slices.ContainsFunc(r.pair(ref).requests, func(q *request) bool { return q.taken })
		switch {
		case state == "" || state == fanfare.Pending:
			r.broke("%v to %v has not ended: %q", ref.EventID, ref.WebhookID, state)
		case state == fanfare.Delivered && !taken:
			r.broke("%v to %v is delivered, and the receiver has nothing", ref.EventID, ref.WebhookID)
		}
	})
}
