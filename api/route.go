package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"github.com/fanfare-webhooks/fanfare"
)

// route is one operation of the spec.
type route struct {
	method, path string
	scope        fanfare.Scope // "": needs no key
	platform     bool          // needs a platform's key
	body         int           // the most bytes that are read before handle; 0: none
	once         bool          // takes an Idempotency-Key, under which its answer is kept
	params       []string      // the query parameters that it has
	patient      bool          // takes longer than callTimeout
	handle       func(*Server, *call) (answer, error)
	plain        http.Handler // in place of handle, for what is not JSON
}

// callTimeout bounds a call, but for publishing, which its own bounds end, for sends, and for waits for events.
const callTimeout = 15 * time.Second

// routes lists the operations. Those of one path stand together, and what is called most comes first:
// the router tries paths in this order.
func (s *Server) routes() []route {
	page := []string{"limit", "after"}
	const (
		account   = "/v1/accounts/{account}"
		webhook   = account + "/webhooks/{webhook}"
		event     = account + "/events/{event}"
		eventType = "/v1/event-types/{name}"
	)
	all := []route{
		{method: "POST", path: account + "/events", scope: fanfare.ScopePublish, patient: true, handle: (*Server).publish},
		{
			method: "GET", path: account + "/events", scope: fanfare.ScopeRead, handle: (*Server).listEvents,
			params: append([]string{"event_type", "since", "until", "data"}, page...),
		},
		{
			method: "GET", path: account + "/events/sync", scope: fanfare.ScopeRead, patient: true, handle: (*Server).syncEvents,
			params: []string{"since", "types", "descendants", "limit", "wait"},
		},
		{method: "POST", path: "/v1/events/batch", scope: fanfare.ScopePublish, patient: true, handle: (*Server).publishBatch},

		{method: "GET", path: event, scope: fanfare.ScopeRead, handle: (*Server).getEvent},
		{method: "POST", path: event + "/expunge", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).expungeEvent},
		{
			method: "GET", path: event + "/deliveries", scope: fanfare.ScopeRead, handle: (*Server).listEventDeliveries,
			params: append([]string{"state"}, page...),
		},
		{method: "GET", path: event + "/attempts", scope: fanfare.ScopeRead, handle: (*Server).listEventAttempts, params: page},

		{method: "POST", path: account + "/webhooks", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).createWebhook},
		{method: "GET", path: account + "/webhooks", scope: fanfare.ScopeRead, handle: (*Server).listWebhooks, params: page},
		{method: "POST", path: account + "/webhooks/re-enable", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).reEnable},
		{method: "GET", path: webhook, scope: fanfare.ScopeRead, handle: (*Server).getWebhook},
		{method: "PATCH", path: webhook, scope: fanfare.ScopeWrite, body: maxBody, handle: (*Server).updateWebhook},
		{method: "DELETE", path: webhook, scope: fanfare.ScopeWrite, handle: (*Server).deleteWebhook},
		{method: "POST", path: webhook + "/enable", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).enableWebhook},
		{method: "POST", path: webhook + "/disable", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).disableWebhook},
		{method: "POST", path: webhook + "/test", scope: fanfare.ScopeWrite, body: maxBody, once: true, patient: true, handle: (*Server).testWebhook},
		{method: "GET", path: webhook + "/stats", scope: fanfare.ScopeRead, handle: (*Server).webhookStats, params: []string{"window"}},
		{method: "GET", path: webhook + "/secrets", scope: fanfare.ScopeSecrets, handle: (*Server).listSecrets},
		{method: "POST", path: webhook + "/secrets/rotate", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).rotateSecret},
		{
			method: "GET", path: webhook + "/deliveries", scope: fanfare.ScopeRead, handle: (*Server).listWebhookDeliveries,
			params: append([]string{"state", "event_type", "since", "until"}, page...),
		},
		{method: "GET", path: webhook + "/attempts", scope: fanfare.ScopeRead, handle: (*Server).listWebhookAttempts, params: page},

		{
			method: "GET", path: account + "/deliveries", scope: fanfare.ScopeRead, handle: (*Server).listDeliveries,
			params: append([]string{"state", "event_type", "since", "until"}, page...),
		},
		{
			method: "GET", path: account + "/errors", scope: fanfare.ScopeRead, handle: (*Server).listErrors,
			params: append([]string{"webhook_id", "code", "status", "event_type"}, page...),
		},

		{method: "GET", path: account + "/signing-secrets", scope: fanfare.ScopeSecrets, handle: (*Server).listSigningSecrets},
		{method: "POST", path: account + "/signing-secrets/rotate", scope: fanfare.ScopeWrite, body: maxBody, once: true, handle: (*Server).rotateSigningSecret},

		{method: "GET", path: "/v1/event-types", handle: (*Server).listEventTypes, params: append([]string{"group"}, page...)},
		{method: "GET", path: eventType, handle: (*Server).getEventType},
		{method: "PUT", path: eventType, scope: fanfare.ScopeWrite, platform: true, body: maxPublishBody, handle: (*Server).putEventType},
		{method: "DELETE", path: eventType, scope: fanfare.ScopeWrite, platform: true, handle: (*Server).deleteEventType},
		{method: "GET", path: eventType + "/samples", handle: (*Server).listSamples},

		{
			method: "POST", path: account + "/health-policy/test", scope: fanfare.ScopeRead, body: maxBody, handle: (*Server).testPolicy, params: page,
		},
		{method: "POST", path: "/v1/filters/test", scope: fanfare.ScopeRead, body: maxPublishBody, handle: (*Server).testFilter},

		{method: "POST", path: "/v1/accounts", scope: fanfare.ScopeAdmin, body: maxBody, once: true, handle: (*Server).createAccount},
		{method: "GET", path: "/v1/accounts", scope: fanfare.ScopeRead, handle: (*Server).listAccounts, params: page},
		{method: "GET", path: account, scope: fanfare.ScopeRead, handle: (*Server).getAccount},
		{method: "PATCH", path: account, scope: fanfare.ScopeAdmin, body: maxBody, handle: (*Server).updateAccount},
		{method: "DELETE", path: account, scope: fanfare.ScopeAdmin, handle: (*Server).deleteAccount, params: []string{"cascade"}},

		{method: "POST", path: account + "/keys", scope: fanfare.ScopeAdmin, body: maxBody, once: true, handle: (*Server).createKey},
		{method: "GET", path: account + "/keys", scope: fanfare.ScopeAdmin, handle: (*Server).listKeys, params: page},
		{method: "DELETE", path: account + "/keys/{key}", scope: fanfare.ScopeAdmin, handle: (*Server).deleteKey},

		{method: "GET", path: "/hc", plain: http.HandlerFunc(healthy)},
		{method: "GET", path: "/docs", plain: http.HandlerFunc(docs)},
		{method: "GET", path: "/openapi.yaml", plain: http.HandlerFunc(spec)},
	}
	return append(all, s.echoRoutes()...)
}

func (s *Server) newRouter() *mux.Router {
	// SkipClean: a path is what it says, and //v1 is nothing, not a redirect.
	router := mux.NewRouter().SkipClean(true)
	endpoints := make(map[string]*endpoint)
	for _, rt := range s.routes() {
		e := endpoints[rt.path]
		if e == nil {
			e = &endpoint{s: s, path: rt.path, methods: make(map[string]*route)}
			endpoints[rt.path] = e
			router.Path(rt.path).Handler(e)
		}
		e.methods[rt.method] = &rt
		e.any = e.any || rt.method == anyMethod
		if rt.method == http.MethodGet && e.methods[http.MethodHead] == nil {
			e.methods[http.MethodHead] = &rt
		}
	}
	for _, e := range endpoints {
		var methods []string
		for m := range e.methods {
			methods = append(methods, m)
		}
		slices.Sort(methods)
		e.allow = strings.Join(methods, ", ")
	}
	router.NotFoundHandler = &endpoint{s: s, path: "unknown"}
	return router
}

// endpoint answers the requests for one path.
type endpoint struct {
	s       *Server
	path    string // the template; a metric's label
	methods map[string]*route
	any     bool   // its one route takes every method
	allow   string // what else it takes
}

// call is a request on its way through its route.
type call struct {
	w       http.ResponseWriter // for deadlines only
	r       *http.Request
	route   *route
	id      string       // of the request
	key     *fanfare.Key // nil: the route needs none
	account uuid.UUID    // of the path
	query   map[string][]string
	body    []byte
	onceKey string // the Idempotency-Key
	faults  faults // found before handle, which adds its own
}

// answer is what a call that went well is answered with.
type answer struct {
	status   int
	body     []byte // JSON; nil: none
	location string
	version  int64  // the ETag; 0: none
	replayed bool   // it is the first answer under an idempotency key
	written  func() // called when it was, or could not be; may be nil
}

// Values of headers that are the same for every answer. Nobody writes to them.
var (
	contentJSON    = []string{"application/json"}
	contentProblem = []string{"application/problem+json"}
	noStore        = []string{"no-store"}
	noSniff        = []string{"nosniff"}
)

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	id := requestID(r.Header)
	h := w.Header()
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = noSniff
	status := e.serve(w, r, id)
	e.s.metrics.seen(e.path, r.Method, status, time.Since(start))
	if e.s.log.Enabled(r.Context(), slog.LevelDebug) {
		e.s.log.Debug("request", "id", id, "method", r.Method, "route", e.path, "status", status, "took", time.Since(start))
	}
}

// serve answers and tells the status.
func (e *endpoint) serve(w http.ResponseWriter, r *http.Request, id string) (status int) {
	tell := func(p *problem) int {
		w.Header()["Cache-Control"] = noStore
		p.write(w, id)
		return p.status
	}
	// The router matches the decoded path, in which a %2f has become a part's end.
	if e.methods == nil || strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") {
		return tell(errNoRoute)
	}
	rt := e.methods[r.Method]
	if e.any {
		rt = e.methods[anyMethod]
	}
	if rt == nil {
		return tell(&problem{
			status: http.StatusMethodNotAllowed, code: codeMethod, allow: e.allow,
			detail: "This path has the methods " + e.allow + ".",
		})
	}
	defer func() {
		switch fault := recover(); fault {
		case nil:
		case http.ErrAbortHandler:
			panic(fault)
		default:
			e.s.log.Error("a handler panicked", "id", id, "route", e.path, "panic", fault, "stack", string(debug.Stack()))
			status = tell(errInternal)
		}
	}()
	if rt.plain != nil {
		rec := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		rt.plain.ServeHTTP(rec, r)
		return rec.status
	}
	c := call{w: w, r: r, route: rt, id: id}
	a, err := e.s.run(&c)
	if err != nil {
		p := problemOf(err)
		if p == errInternal && !errors.Is(err, p) {
			e.s.log.Error("a call failed", "id", id, "route", e.path, "error", err)
		} else if p == errUnavailable { // whoever noticed that Postgres is away says so once, not once a call
			e.s.log.Debug("a call could not be served", "id", id, "route", e.path, "error", err)
		}
		switch {
		case p == errMalformed:
			p = malformed(c.body)
		case p.code == codeTooLarge:
			drain(w, r)
		}
		return tell(p)
	}
	if a.written != nil {
		defer a.written()
	}
	h := w.Header()
	h["Cache-Control"] = noStore
	if a.location != "" {
		h.Set("Location", a.location)
	}
	if a.version != 0 {
		h["Etag"] = []string{etag(a.version)}
	}
	if a.replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	if a.body != nil {
		h["Content-Type"] = contentJSON
		h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	if a.body != nil {
		_, _ = w.Write(a.body)
	}
	return a.status
}

// run does what every call needs, in this order: who is it, may they, where, what.
func (s *Server) run(c *call) (answer, error) {
	if !c.route.patient {
		ctx, cancel := context.WithTimeout(c.r.Context(), callTimeout)
		defer cancel()
		c.r = c.r.WithContext(ctx)
	}
	if c.route.scope != "" {
		if err := s.admit(c); err != nil {
			return answer{}, err
		}
	}
	c.readQuery()
	if c.route.body > 0 {
		var err error
		if c.body, err = readBody(c.r, c.route.body); err != nil {
			return answer{}, err
		}
	}
	if c.route.once {
		c.onceKey = c.idempotencyKey()
		if c.onceKey != "" && len(c.faults.list) == 0 {
			if a, found, err := s.first(c); found || err != nil {
				return a, err
			}
		}
	}
	return c.route.handle(s, c)
}

// admit finds the key and the path's account.
func (s *Server) admit(c *call) error {
	var err error
	if c.key, err = s.authenticate(c.r); err != nil {
		return err
	}
	if c.route.platform && !isPlatform(c.key) {
		return errPlatform
	}
	if !has(c.key, c.route.scope) {
		return errScope(c.route.scope)
	}
	if text, ok := mux.Vars(c.r)["account"]; ok {
		var within bool
		if c.account, within, err = s.account(c.r, c.key, text); err != nil {
			return err
		}
		switch {
		case within:
		case text == "me" && isPlatform(c.key):
			return errNobodysMe
		default:
			return errNotFound
		}
	}
	return nil
}

// pathID reads an id of the path. What is no id is found nowhere.
func (c *call) pathID(name string) (uuid.UUID, error) {
	id, ok := parseID(mux.Vars(c.r)[name])
	if !ok {
		return uuid.Nil, errNotFound
	}
	return id, nil
}

// decode reads the body and adds what is wrong with it to what is wrong already.
func (c *call) decode(fields ...field) error {
	var p *problem
	switch err := decode(c.body, fields...); {
	case err == nil:
	case errors.As(err, &p) && len(p.faults) > 0:
		for _, f := range p.faults {
			c.faults.add(f)
		}
	default:
		return err
	}
	return c.faults.err()
}

// requestID is the client's own if it is harmless, and new if not.
func requestID(h http.Header) string {
	if given := h["X-Request-Id"]; len(given) == 1 && sane(given[0]) {
		return given[0]
	}
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < len(b); i += 16 {
		for j, n := 0, rand.Uint64(); j < 16; j, n = j+1, n>>4 {
			b[i+j] = digits[n&15]
		}
	}
	return string(b[:])
}

func sane(id string) bool {
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == ':' || c == '-') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 128
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// ifMatch is the version that a write is meant for; 0: any. A tag that no version has is errVersion.
func (c *call) ifMatch() (int64, error) {
	values := c.r.Header["If-Match"]
	if len(values) == 0 || len(values) == 1 && values[0] == "*" {
		return 0, nil
	}
	if len(values) > 1 {
		return 0, errVersion
	}
	v, err := strconv.ParseInt(strings.Trim(values[0], `"`), 10, 64)
	if err != nil || v <= 0 || values[0] != etag(v) {
		return 0, errVersion
	}
	return v, nil
}

// statusWriter remembers the status of an answer that is not JSON.
type statusWriter struct {
	http.ResponseWriter
	status  int
	written bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.written && status >= 200 {
		w.status, w.written = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (rt *route) String() string { return fmt.Sprintf("%s %s", rt.method, rt.path) }
