package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// topic is what can be published: an event type in an account, and who gets it.
type topic struct {
	account, typ string
	hooks        []*hook
}

// hook is a webhook and the journal of what was sent to it.
type hook struct {
	l        *lab
	id       string
	account  string
	endpoint *endpoint
	steps    []time.Duration // its retry schedule; nil: not known
	unheard  bool            // some requests to it are in no journal: nobody listened
	silent   int64           // deliveries in Postgres that are not in the books

	mu        sync.Mutex // guards what follows
	arrivals  []arrival
	delivered map[int]int // event → how often it was answered with 2xx
}

func (h *hook) note(a arrival) (entry int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arrivals = append(h.arrivals, a)
	return len(h.arrivals) - 1
}

func (h *hook) answered(entry int, a arrival) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arrivals[entry].status, h.arrivals[entry].ended = a.status, a.ended
	if a.status/100 == 2 {
		h.delivered[a.event]++
	}
}

// journal is what has arrived so far.
func (h *hook) journal() []arrival {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.arrivals)
}

func (h *hook) got() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.arrivals)
}

func (h *hook) has(event int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.delivered[event] > 0
}

// hookOf is the webhook of an id, also of one that the lab does not know.
func (l *lab) hookOf(id string) *hook {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hooks[id]
	if h == nil {
		h = l.newHook(id)
	}
	return h
}

// newHook must be called with l.mu held. An arrival may come before the answer of the webhook's creation.
func (l *lab) newHook(id string) *hook {
	h := &hook{l: l, id: id, delivered: make(map[int]int)}
	l.hooks[id] = h
	return h
}

// call makes one request to the first node with the platform's key.
func (l *lab) call(method, path string, body, out any) (status int, err error) {
	var in bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&in).Encode(body); err != nil {
			return 0, err
		}
	}
	r, err := http.NewRequestWithContext(l.Context(), method, l.nodes[0].api+path, &in)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+platformKey)
	r.Header.Set("Content-Type", "application/json")
	resp, err := l.http.Do(r)
	if err != nil {
		return 0, err
	}
	text, err := readAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%d: %s", resp.StatusCode, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return resp.StatusCode, err
}

func (l *lab) must(method, path string, body, out any) {
	l.Helper()
	if _, err := l.call(method, path, body, out); err != nil {
		l.Fatalf("%s %s: %v", method, path, err)
	}
}

// parallel does f for 0 to n-1, some at once.
func (l *lab) parallel(n int, f func(i int)) {
	const workers = 16
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(workers, n) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || l.Failed() {
					return
				}
				f(i)
			}
		})
	}
	all.Wait()
	if l.Failed() {
		l.FailNow()
	}
}

func (l *lab) account(name string) string {
	l.Helper()
	var a struct{ ID string }
	l.must("POST", "/v1/accounts", map[string]any{"name": name}, &a)
	return a.ID
}

func (l *lab) accounts(n int) []string {
	l.Helper()
	all := make([]string, n)
	l.parallel(n, func(i int) { all[i] = l.account(fmt.Sprintf("account %d", i)) })
	return all
}

func (l *lab) eventType(name string) {
	l.Helper()
	l.must("PUT", "/v1/event-types/"+name, map[string]any{"description": "of the lab"}, nil)
}

// wish is what a webhook is to be beside its address; zero values are the product's defaults.
type wish struct {
	timeout     time.Duration
	maxInFlight int
	// steps are the retry schedule. Steps below the platform's floor are put in behind the API's back.
	steps []time.Duration
	more  map[string]any
}

// hook makes a webhook for one event type of an account.
func (l *lab) hook(e *endpoint, account, typ string, w wish) *hook {
	l.Helper()
	body := map[string]any{"url": e.url, "event_types": []string{typ}, "secret": l.secret.Text()}
	maps.Copy(body, w.more)
	if w.timeout > 0 {
		body["timeout"] = fmt.Sprintf("%dms", w.timeout.Milliseconds())
	}
	if w.maxInFlight > 0 {
		body["max_in_flight"] = w.maxInFlight
	}
	var made struct{ ID string }
	path := "/v1/accounts/" + account + "/webhooks"
	l.must("POST", path, body, &made)
	if w.steps != nil {
		l.exec(`UPDATE webhooks SET retry_schedule_ms = $2 WHERE id = $1`, made.ID, milliseconds(w.steps))
		l.must("PATCH", path+"/"+made.ID, map[string]any{"name": "with short steps"}, nil) // nodes read it anew
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hooks[made.ID]
	if h == nil {
		h = l.newHook(made.ID)
	}
	h.account, h.endpoint, h.unheard = account, e, !e.listening
	if _, own := w.more["retry_schedule"]; !own {
		if h.steps = w.steps; h.steps == nil {
			h.steps = productSteps
		}
	}
	return h
}

// productSteps are the retry schedule of a webhook that names none.
var productSteps = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour}

// stepsOfAll gives every webhook another retry schedule, see offline.
func (l *lab) stepsOfAll(steps []time.Duration) {
	l.Helper()
	l.exec(`UPDATE webhooks SET retry_schedule_ms = $1`, milliseconds(steps))
	for _, h := range l.known() {
		h.steps = steps
	}
}

func milliseconds(ds []time.Duration) []int64 {
	all := make([]int64, len(ds))
	for i, d := range ds {
		all[i] = d.Milliseconds()
	}
	return all
}

// moves gives a webhook another address.
func (h *hook) moves(to *endpoint) {
	h.l.Helper()
	h.l.must("PATCH", "/v1/accounts/"+h.account+"/webhooks/"+h.id, map[string]any{"url": to.url}, nil)
	h.endpoint, h.unheard = to, h.unheard || !to.listening
}

// topic makes an event type and a webhook for it at each of the endpoints.
func (l *lab) topic(account, typ string, w wish, endpoints ...*endpoint) *topic {
	l.Helper()
	l.eventType(typ)
	t := &topic{account: account, typ: typ}
	for _, e := range endpoints {
		t.hooks = append(t.hooks, l.hook(e, account, typ, w))
	}
	return t
}
