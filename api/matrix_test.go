package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
)

// success says how each operation of the API can succeed: the status, and a body if it needs one.
var success = map[string]struct {
	status int
	body   string
}{
	"POST /v1/accounts/{account}/events":                   {202, `{"type":"a.type","data":{}}`},
	"GET /v1/accounts/{account}/events":                    {200, ""},
	"GET /v1/accounts/{account}/events/sync":               {200, ""},
	"POST /v1/events/batch":                                {202, `{"events":[{"account_id":"{account}","type":"a.type","data":{}}]}`},
	"GET /v1/accounts/{account}/events/{event}":            {200, ""},
	"POST /v1/accounts/{account}/events/{event}/expunge":   {200, ""},
	"GET /v1/accounts/{account}/events/{event}/deliveries": {200, ""},
	"GET /v1/accounts/{account}/events/{event}/attempts":   {200, ""},

	"POST /v1/accounts/{account}/webhooks":                          {201, `{"url":"https://example.com","event_types":["*"]}`},
	"GET /v1/accounts/{account}/webhooks":                           {200, ""},
	"GET /v1/accounts/{account}/webhooks/{webhook}":                 {200, ""},
	"PATCH /v1/accounts/{account}/webhooks/{webhook}":               {200, `{"name":"another"}`},
	"DELETE /v1/accounts/{account}/webhooks/{webhook}":              {204, ""},
	"POST /v1/accounts/{account}/webhooks/{webhook}/enable":         {200, ""},
	"POST /v1/accounts/{account}/webhooks/{webhook}/disable":        {200, ""},
	"POST /v1/accounts/{account}/webhooks/{webhook}/test":           {200, ""},
	"GET /v1/accounts/{account}/webhooks/{webhook}/stats":           {200, ""},
	"GET /v1/accounts/{account}/webhooks/{webhook}/secrets":         {200, ""},
	"POST /v1/accounts/{account}/webhooks/{webhook}/secrets/rotate": {200, ""},
	"GET /v1/accounts/{account}/webhooks/{webhook}/deliveries":      {200, ""},
	"GET /v1/accounts/{account}/webhooks/{webhook}/attempts":        {200, ""},
	"GET /v1/accounts/{account}/deliveries":                         {200, ""},
	"GET /v1/accounts/{account}/errors":                             {200, ""},
	"GET /v1/accounts/{account}/signing-secrets":                    {200, ""},
	"POST /v1/accounts/{account}/signing-secrets/rotate":            {200, ""},

	"GET /v1/event-types":                {200, ""},
	"GET /v1/event-types/{name}":         {200, ""},
	"PUT /v1/event-types/{name}":         {200, `{}`},
	"DELETE /v1/event-types/{name}":      {204, ""},
	"GET /v1/event-types/{name}/samples": {200, ""},

	"POST /v1/accounts/{account}/webhooks/re-enable": {200, ""},
	"POST /v1/accounts/{account}/health-policy/test": {200, ""},

	"POST /v1/filters/test": {200, `{"filter":{},"event":{"data":{}}}`},

	"POST /v1/accounts":                        {201, `{"name":"n"}`},
	"GET /v1/accounts":                         {200, ""},
	"GET /v1/accounts/{account}":               {200, ""},
	"PATCH /v1/accounts/{account}":             {200, `{"name":"n"}`},
	"DELETE /v1/accounts/{account}":            {204, ""},
	"POST /v1/accounts/{account}/keys":         {201, `{"scopes":["admin"]}`},
	"GET /v1/accounts/{account}/keys":          {200, ""},
	"DELETE /v1/accounts/{account}/keys/{key}": {204, ""},

	"GET /v1/echo/{name}/requests": {200, ""},
}

func routes(w *world) (list []api.Route) {
	for _, rt := range w.server.Routes() {
		if !rt.Plain {
			list = append(list, rt)
		}
	}
	return list
}

// fill makes the objects that a path names, in an account, and puts their ids in.
func (w *world) fill(path, account string) string {
	w.t.Helper()
	path = strings.ReplaceAll(path, "{account}", account)
	for _, v := range []struct {
		name string
		make func() string
	}{
		{"{webhook}", func() string { return w.webhook(account, platformKey, "a.type") }},
		{"{event}", func() string { return w.event(account, "a.type").String() }},
		{"{name}", func() string {
			name := fmt.Sprintf("type_%d", time.Now().UnixNano())
			w.eventType(name)
			return name
		}},
		{"{key}", func() string {
			return w.call("POST", "/v1/accounts/"+account+"/keys", platformKey, nil).want(201).str("id")
		}},
	} {
		if strings.Contains(path, v.name) {
			path = strings.ReplaceAll(path, v.name, v.make())
		}
	}
	return path
}

// event puts an event into the log that matched these webhooks.
func (w *world) event(account, eventType string, webhooks ...uuid.UUID) uuid.UUID {
	w.t.Helper()
	if _, err := w.store.EnsurePartitions(context.Background(), 24*time.Hour); err != nil {
		w.t.Fatal(err)
	}
	w.publisher.mu.Lock()
	w.publisher.position++
	id := fanfare.EventID(w.publisher.position, 7)
	w.publisher.mu.Unlock()
	if webhooks == nil {
		webhooks = []uuid.UUID{}
	}
	w.exec(`INSERT INTO events (id, account_id, type, data, webhook_ids, matched) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, account, eventType, []byte(`{"n": 1}`), webhooks, len(webhooks))
	return id
}

// try calls a route so that it can succeed, for an account.
func (w *world) try(rt api.Route, account, key string, headers ...string) *reply {
	w.t.Helper()
	row := success[rt.Method+" "+rt.Path]
	path := w.fill(rt.Path, account)
	if row.body == "" {
		return w.call(rt.Method, path, key, nil, headers...)
	}
	return w.call(rt.Method, path, key, strings.ReplaceAll(row.body, "{account}", account), headers...)
}

func without(scope fanfare.Scope) (rest []fanfare.Scope) {
	for _, s := range fanfare.Scopes() {
		if s != scope {
			rest = append(rest, s)
		}
	}
	return rest
}

func TestEveryRouteIsInTheMatrixAndTheSpec(t *testing.T) {
	w := newWorld(t)
	rec, err := recorded()
	if err != nil {
		t.Fatal(err)
	}
	inSpec := make(map[string]bool)
	for path, item := range rec.doc.Paths.Map() {
		for method, op := range item.Operations() {
			inSpec[method+" "+path] = true
			scope, _ := op.Extensions["x-fanfare-scope"].(string)
			for _, rt := range w.server.Routes() {
				if rt.Method == method && rt.Path == path && string(rt.Scope) != scope {
					t.Errorf("%s %s needs the scope %q, the spec says %q", method, path, rt.Scope, scope)
				}
			}
		}
	}
	routed := make(map[string]bool)
	for _, rt := range w.server.Routes() {
		name := rt.Method + " " + rt.Path
		routed[name] = true
		if _, ok := success[name]; !ok && !rt.Plain {
			t.Errorf("%s is not in the matrix", name)
		}
		if rt.Method == "*" {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				routed[method+" "+rt.Path] = true
			}
			continue
		}
		if !inSpec[name] {
			t.Errorf("%s is not in the spec", name)
		}
		for _, p := range rt.Params {
			if inSpec[name] && !hasParam(rec, rt, p) {
				t.Errorf("%s: the parameter %s is not in the spec", name, p)
			}
		}
	}
	for name := range inSpec {
		if !routed[name] {
			t.Errorf("%s is in the spec only", name)
		}
	}
}

func hasParam(rec *recorder, rt api.Route, name string) bool {
	op := rec.doc.Paths.Value(rt.Path).GetOperation(rt.Method)
	return op.Parameters.GetByInAndName("query", name) != nil
}

func TestTenantMatrix(t *testing.T) {
	w := newWorld(t)
	w.eventType("a.type")
	parent := w.account("")
	own := w.account(parent)
	child := w.account(own)
	other := w.account(parent)
	deleted := w.account(own)
	key := w.key(own)
	otherKey := w.key(other)
	gone := w.call("POST", "/v1/accounts/"+own+"/keys", platformKey, nil).want(201)
	w.call("DELETE", "/v1/accounts/"+own+"/keys/"+gone.str("id"), platformKey, nil).want(204)
	w.call("DELETE", "/v1/accounts/"+deleted, key, nil).want(204)
	if err := w.registry.CatchUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	only := make(map[fanfare.Scope]string)
	lacking := make(map[fanfare.Scope]string)
	for _, scope := range fanfare.Scopes() {
		only[scope] = w.key(own, scope)
		lacking[scope] = w.key(own, without(scope)...)
	}

	for _, rt := range routes(w) {
		row := success[rt.Method+" "+rt.Path]
		tenant := strings.Contains(rt.Path, "{account}")
		t.Run(rt.Method+" "+rt.Path, func(t *testing.T) {
			w := w.with(t)
			fresh := func() string { return w.account(own) } // an account that may be deleted
			if rt.Scope == "" {
				w.try(rt, own, "").want(row.status)
				w.try(rt, own, "not-a-key").want(row.status)
				return
			}
			w.try(rt, own, "").want(401)
			w.try(rt, own, "ffk_"+strings.Repeat("A", 43)).want(401)
			w.try(rt, own, "ffk_short").want(401)
			w.try(rt, own, gone.str("key")).want(401)
			w.try(rt, fresh(), platformKey).want(row.status)
			if rt.Platform {
				w.try(rt, own, key).want(403)
				return
			}
			w.try(rt, own, lacking[rt.Scope]).want(403)
			w.try(rt, fresh(), only[rt.Scope]).want(row.status)
			if rt.Path == "/v1/events/batch" {
				w.try(rt, child, key).want(202)
				for _, account := range []string{other, parent, deleted, uuid.NewString()} {
					if got := w.try(rt, account, key).want(422).problems(); got[0] != "/events/0/account_id unknown_account" {
						t.Error(got)
					}
				}
			}
			if !tenant {
				return
			}
			w.try(rt, w.account(child), key).want(row.status) // a descendant's descendant
			w.try(rt, other, key).want(404)
			w.try(rt, parent, key).want(404)
			w.try(rt, own, otherKey).want(404)
			for _, account := range []string{deleted, uuid.NewString(), uuid.Nil.String(), "x", strings.Repeat("a", 5000)} {
				// What an account that is not there would hold is not there either.
				path := strings.NewReplacer("{account}", account, "{webhook}", uuid.NewString(), "{event}", uuid.NewString(),
					"{key}", uuid.NewString()).Replace(rt.Path)
				for _, k := range []string{key, platformKey} {
					w.call(rt.Method, path, k, row.body).want(404)
				}
			}
			if i := strings.LastIndexByte(rt.Path, '{'); !strings.HasPrefix(rt.Path[i:], "{account}") {
				// Another account's object under the own account's path, and what is no id at all.
				w.call(rt.Method, strings.Replace(w.fill(rt.Path, other), other, own, 1), key, row.body).want(404)
				w.call(rt.Method, strings.NewReplacer("{account}", own, "{webhook}", "x", "{event}", "x", "{key}", "x").Replace(rt.Path),
					key, row.body).want(404)
			}
			if rt.Method == "DELETE" && strings.HasSuffix(rt.Path, "{account}") {
				return // "me" would take the fixture away
			}
			me := strings.Replace(w.fill(rt.Path, own), own, "me", 1)
			w.call(rt.Method, me, key, jsonOr(row.body)).want(row.status)
			r := w.call(rt.Method, me, platformKey, jsonOr(row.body)).want(404)
			if got := r.str("detail"); !strings.HasPrefix(got, "A platform key belongs to no account") {
				t.Errorf("a platform key's me: %s", got)
			}
		})
	}
}

// jsonOr is nil for no body, so that none is sent.
func jsonOr(body string) any {
	if body == "" {
		return nil
	}
	return body
}

// with is the world for a subtest.
func (w *world) with(t testing.TB) *world {
	sub := *w
	sub.t = t
	return &sub
}

func TestEveryRouteRefusesWhatItCannotRead(t *testing.T) {
	w := newWorld(t)
	w.eventType("a.type")
	own := w.account("")
	for _, rt := range routes(w) {
		t.Run(rt.Method+" "+rt.Path, func(t *testing.T) {
			w := w.with(t)
			path := w.fill(rt.Path, own)
			r := w.call(rt.Method, path+"?nonsense=1&a%5B%5D=2", platformKey,
				jsonOr(strings.ReplaceAll(success[rt.Method+" "+rt.Path].body, "{account}", own))).want(422)
			if got := r.problems(); !slices.Equal(got, []string{"a[] unknown_parameter", "nonsense unknown_parameter"}) {
				t.Errorf("%q", got)
			}
			if rt.Body == 0 {
				return
			}
			w.call(rt.Method, path, platformKey, `{"a":`).want(400)
			w.call(rt.Method, path, platformKey, `{"a":1}`, "Content-Type", "text/plain").want(415)
			w.call(rt.Method, path, platformKey, strings.Repeat(" ", rt.Body+1)).want(413)
			w.call(rt.Method, path, platformKey, `[]`).want(422)
			w.call(rt.Method, path, platformKey, `{"nonsense":1}`).want(422)
			w.call(rt.Method, path, platformKey, strings.Repeat("[", 10_000)).want(422)
		})
	}
}

func TestEveryPostCanBeRepeated(t *testing.T) {
	w := newWorld(t)
	w.eventType("a.type")
	own := w.account("")
	other := w.account("")
	for _, rt := range routes(w) {
		if !rt.Once {
			continue
		}
		t.Run(rt.Path, func(t *testing.T) {
			w := w.with(t)
			row := success[rt.Method+" "+rt.Path]
			path := w.fill(rt.Path, own)
			body := row.body
			if body == "" {
				body = "{}"
			}
			key := uuid.NewString()
			if strings.HasSuffix(path, "/enable") {
				w.call("POST", strings.TrimSuffix(path, "enable")+"disable", platformKey, nil).want(200)
			}
			first := w.call("POST", path, platformKey, body, "Idempotency-Key", key).want(row.status)
			if first.header.Get("Idempotency-Replayed") != "" {
				t.Error("the first answer says that it is a repeat")
			}
			again := w.call("POST", path, platformKey, body, "Idempotency-Key", key).want(row.status)
			if string(again.body) != string(first.body) || again.header.Get("Idempotency-Replayed") != "true" ||
				again.header.Get("Location") != first.header.Get("Location") || again.header.Get("Etag") != first.header.Get("Etag") {
				t.Errorf("first %v %s\nthen %v %s", first.header, first.body, again.header, again.body)
			}
			changed := body[:len(body)-1] + " }"
			if got := w.call("POST", path, platformKey, changed, "Idempotency-Key", key).want(409).str("code"); got != "idempotency_key_reused" {
				t.Error(got)
			}
			for _, bad := range []string{strings.Repeat("k", 256), "é", "a\tb"} {
				if got := w.call("POST", path, platformKey, body, "Idempotency-Key", bad).want(422).problems(); got[0] != "Idempotency-Key invalid_format" {
					t.Error(got)
				}
			}
			if strings.Contains(rt.Path, "{account}") { // keys are an account's own
				w.call("POST", w.fill(rt.Path, other), platformKey, body, "Idempotency-Key", key).want(row.status)
			}
		})
	}
}

func TestEveryRouteSaysWhenPostgresIsAway(t *testing.T) {
	w := newWorld(t)
	w.eventType("a.type")
	own := w.account("")
	if err := w.registry.CatchUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	paths := make(map[string]string)
	for _, rt := range routes(w) {
		paths[rt.Method+" "+rt.Path] = w.fill(rt.Path, own)
	}
	key := w.key(own)
	w.store.Close()
	w.publisher.set(func(p *fakePublisher) { p.fail = errAway })
	for _, rt := range routes(w) {
		name := rt.Method + " " + rt.Path
		body := strings.ReplaceAll(success[name].body, "{account}", own)
		r := w.call(rt.Method, paths[name], platformKey, jsonOr(body))
		if strings.Contains(name, "/echo/") {
			r.want(200) // it lives in memory
			continue
		}
		if strings.Contains(name, "/filters/") {
			r.want(200) // it is told all that it needs
		} else if r.status != 503 || r.header.Get("Retry-After") == "" || r.str("code") != "unavailable" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		if rt.Scope != "" { // whether a key that this node does not know is one, only Postgres knows
			if r := w.call(rt.Method, paths[name], key, jsonOr(body)); r.status != 503 {
				t.Errorf("%s with a new key: %d %s", name, r.status, r.body)
			}
		}
	}
}

func TestWrongMethodsAndPathsAreProblems(t *testing.T) {
	w := newWorld(t)
	methods := make(map[string][]string)
	for _, rt := range w.server.Routes() {
		methods[rt.Path] = append(methods[rt.Path], rt.Method)
		if rt.Method == "GET" {
			methods[rt.Path] = append(methods[rt.Path], "HEAD")
		}
	}
	for path, allowed := range methods {
		if allowed[0] == "*" {
			continue
		}
		slices.Sort(allowed)
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if slices.Contains(allowed, method) {
				continue
			}
			r := w.call(method, path, "", nil).want(405)
			if got := r.header.Get("Allow"); got != strings.Join(allowed, ", ") || r.str("code") != "method_not_allowed" {
				t.Errorf("%s %s: Allow: %s, %s", method, path, got, r.body)
			}
		}
	}
	for _, path := range []string{"/", "/v1", "/v2/accounts", "/v1/accounts/", "//v1/accounts", "/v1/accounts/me/../me", "/v1/accounts/a/webhooks/b/c", "/metrics", "/docs/"} {
		if got := w.call("GET", path, platformKey, nil).want(404).str("code"); got != "not_found" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestTheMetricsHaveTheRoutesTemplates(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	w.call("GET", "/v1/accounts/"+account, platformKey, nil).want(200)
	w.call("GET", "/nowhere/"+account, "", nil).want(404)
	w.call("BREW", "/hc", "", nil).want(405)
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(families)
	for _, want := range []string{"/v1/accounts/{account}", `"unknown"`, `"other"`, "fanfare_http_requests_total", "fanfare_http_request_duration_seconds"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if strings.Contains(string(raw), account) {
		t.Error("an account's id is in a label")
	}
}
