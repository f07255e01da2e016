package e2e

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fanfare-webhooks/fanfare/internal/app"
	"github.com/fanfare-webhooks/fanfare/internal/client"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// beside starts a production node, in this process, on the database of n, with more settings as pairs.
func (n *node) beside(settings ...string) *node {
	n.Helper()
	sealing, err := os.ReadFile(filepath.Join(n.dir, "encryption.key"))
	if err != nil {
		n.Fatal(err)
	}
	environ := map[string]string{
		"FANFARE_DATABASE_URL": n.cred.DatabaseURL, "FANFARE_ENCRYPTION_KEYS": strings.TrimSpace(string(sealing)),
		"FANFARE_LISTEN": "127.0.0.1:0", "FANFARE_ADMIN_LISTEN": "127.0.0.1:0",
		"FANFARE_EGRESS_ALLOW": "127.0.0.0/8", "FANFARE_ALLOW_HTTP": "true",
	}
	for i := 0; i < len(settings); i += 2 {
		environ[settings[i]] = settings[i+1]
	}
	c, err := app.LoadConfig(environ)
	if err != nil {
		n.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a, err := app.Start(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		cancel()
		n.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	n.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			n.Error(err)
		}
	})
	return &node{T: n.T, cred: client.Credentials{URL: "http://" + a.PublicAddr, PlatformKey: n.cred.PlatformKey}}
}

// The tree: accounts by name, each with its parent.
var tree = [][2]string{{"acme", ""}, {"north", "acme"}, {"south", "acme"}, {"shop", "north"}}

// The catalog: types, and where the values of their modifiers are.
var catalog = map[string]map[string]string{
	"order.created":  {"channel": "/channel"},
	"order.paid":     {"channel": "/channel", "currency": "/currency"},
	"order.refunded": {"channel": "/channel", "reason": "/reason"},
	"call.started":   {"direction": "/direction"},
	"call.ended":     {"direction": "/direction", "cause": "/cause"},
	"user.created":   {"role": "/roles"},
	"user.deleted":   {"role": "/roles"},
	"stock.low":      {"site": "/site"},
	"device.online":  {"site": "/site", "kind": "/device/kind"},
	"device.offline": {"site": "/site", "kind": "/device/kind"},
}

// The webhooks. A plus says that one also wants the events of the accounts below its own.
var hooks = []hook{
	{"a1+", "acme", "*", "", ""},
	{"a2", "acme", "*", "", ""},
	{"a3+", "acme", "order.*", `{"channel": "web"}`, ""},
	{"a4+", "acme", "order.paid", `{"currency": ["EUR", "GBP"]}`, ""},
	{"a5+", "acme", "user.*", `{"role": "admin"}`, ""},
	{"a6+", "acme", "*", "", `{"type": {"$starts_with": "device."}}`},
	{"a7+", "acme", "device.* stock.*", `{"site": "b1"}`, ""},
	{"a8+", "acme", "*", "", `{"data": {"total": {"$gte": 100}}}`},
	{"a9+", "acme", "webhook.* delivery.*", "", ""},
	{"a10", "acme", "webhook.* delivery.*", "", ""}, // fails

	{"n1+", "north", "*", "", ""},
	{"n2", "north", "order.*", "", ""},
	{"n3+", "north", "order.* call.*", `{"channel": "phone", "direction": "outbound"}`, ""},
	{"n4+", "north", "order.created", "", `{"data": {"customer": {"$in": ["c1", "c9"]}}}`},
	{"n5+", "north", "*", "", `{"$not": {"data": {"channel": "web"}}}`},
	{"n6", "north", "user.created", `{"role": ["owner", "admin"]}`, ""},
	{"n7+", "north", "call.ended", `{"cause": "busy"}`, ""},
	{"n8+", "north", "stock.low", "", `{"data": {"left": {"$lt": 5}}}`}, // fails

	{"s1", "shop", "*", "", ""},
	{"s2", "shop", "order.created", `{"channel": ["shop", "phone"]}`, ""},
	{"s3", "shop", "call.*", `{"direction": "inbound"}`, ""},
	{"s4", "shop", "device.offline", `{"site": "b1", "kind": "sensor"}`, ""},
	{"s5", "shop", "device.*", `{"kind": "camera"}`, ""},
	{"s6", "shop", "*", "", `{"data": {"site": {"$exists": true}}}`},
	{"s7", "shop", "order.created", "", `{"data": {"total": {"$gt": 29.999, "$lt": 30.001}}}`},

	{"u1+", "south", "*", "", ""},
	{"u2", "south", "order.refunded", `{"reason": ["broken", "late"]}`, ""},
	{"u3", "south", "call.started device.online", "", ""},
	{"u4", "south", "call.*", `{"direction": "outbound"}`, ""},
	{"u5", "south", "device.online", "", `{"data": {"device": {"kind": {"$ne": "sensor"}}}}`},
}

// The events, and who is to get them at first.
var events = []occurrence{
	{"web order", "shop", "order.created", `{"channel": "web", "total": 120, "customer": "c1"}`, "a1 a3 a8 n1 n4 s1"},
	{"phone order", "shop", "order.created", `{"channel": "phone", "total": 30.0, "customer": "c2"}`, "a1 n1 n3 n5 s1 s2 s7"},
	{"paid in EUR", "north", "order.paid", `{"channel": "web", "currency": "EUR", "total": 120.50}`, "a1 a3 a4 a8 n1 n2"},
	{"paid in USD", "acme", "order.paid", `{"channel": "shop", "currency": "USD", "total": 9}`, "a1 a2"},
	{"refund", "south", "order.refunded", `{"channel": "web", "reason": "broken", "total": 20}`, "a1 a3 u1 u2"},
	{"ringing", "south", "call.started", `{"direction": "inbound"}`, "a1 u1 u3"},
	{"busy", "shop", "call.ended", `{"direction": "outbound", "cause": "busy"}`, "a1 n1 n3 n7 s1"},
	{"new admin", "north", "user.created", `{"roles": ["user", "admin"]}`, "a1 a5 n1 n6"},
	{"user gone", "acme", "user.deleted", `{"roles": ["user"]}`, "a1 a2"},
	{"stock", "shop", "stock.low", `{"site": "b1", "left": 3}`, "a1 a7 n1 n8 s1 s6"},
	{"sensor off", "shop", "device.offline", `{"site": "b1", "device": {"kind": "sensor"}}`, "a1 a6 a7 n1 s1 s4 s6"},
	{"phone on", "south", "device.online", `{"site": "s1", "device": {"kind": "phone"}}`, "a1 a6 u1 u3 u5"},
}

// What happens, and who gets what from then on. Brackets: it matches a webhook that is disabled. "-": the account
// is gone. Events that are not named here go where they went before.
var chapters = []chapter{
	{"s2 wants the web now", edit("s2", `{"modifiers": {"channel": "web"}}`), want{
		"web order":   "a1 a3 a8 n1 n4 s1 s2",
		"phone order": "a1 n1 n3 n5 s1 s7",
	}},
	{"n4 loses its filter", edit("n4", `{"filter": null}`), want{
		"phone order": "a1 n1 n3 n4 n5 s1 s7",
	}},
	{"a8 is disabled", act("a8", "disable"), want{
		"web order":   "a1 a3 [a8] n1 n4 s1 s2",
		"paid in EUR": "a1 a3 a4 [a8] n1 n2",
	}},
	{"a8 is enabled", act("a8", "enable"), want{
		"web order":   "a1 a3 a8 n1 n4 s1 s2",
		"paid in EUR": "a1 a3 a4 a8 n1 n2",
	}},
	{"the shop moves south", move("shop", "south"), want{
		"web order":   "a1 a3 a8 s1 s2 u1",
		"phone order": "a1 s1 s7 u1",
		"busy":        "a1 s1 u1",
		"stock":       "a1 a7 s1 s6 u1",
		"sensor off":  "a1 a6 a7 s1 s4 s6 u1",
	}},
	{"device.offline is archived, and goes on", archive("device.offline"), nil},
	{"s1 is deleted", remove("s1"), want{
		"web order":   "a1 a3 a8 s2 u1",
		"phone order": "a1 s7 u1",
		"busy":        "a1 u1",
		"stock":       "a1 a7 s6 u1",
		"sensor off":  "a1 a6 a7 s4 s6 u1",
	}},
	{"s8 is created", create(hook{"s8", "shop", "order.*", `{"channel": "phone"}`, ""}), want{
		"phone order": "a1 s7 s8 u1",
	}},
	{"u1 wants calls only", edit("u1", `{"event_types": ["call.*"]}`), want{
		"web order":   "a1 a3 a8 s2",
		"phone order": "a1 s7 s8",
		"refund":      "a1 a3 u2",
		"stock":       "a1 a7 s6",
		"sensor off":  "a1 a6 a7 s4 s6",
		"phone on":    "a1 a6 u3 u5",
	}},
	{"the receiver of n6 says that it is gone", gone("n6", "new admin"), want{
		"new admin": "a1 a5 n1 [n6]",
	}},
	{"the shop moves to the top", move("shop", ""), want{
		"web order":   "s2",
		"phone order": "s7 s8",
		"busy":        "",
		"stock":       "s6",
		"sensor off":  "s4 s6",
	}},
	{"the south is deleted", removeAccount("south"), want{"refund": "-", "ringing": "-", "phone on": "-"}},
}

// What a9 is told of all this, and of the failures of n8, though a10 fails as well: each once, in any order.
var happenings = []string{
	"webhook.updated s2", "webhook.updated n4", "webhook.disabled a8", "webhook.enabled a8", "webhook.deleted s1",
	"webhook.created s8", "webhook.updated u1", "webhook.disabled n6", "delivery.exhausted n8",
}

type (
	hook       struct{ name, account, types, modifiers, filter string }
	occurrence struct{ name, account, eventType, data, first string }
	want       map[string]string // by event, as in occurrence.first
	change     func(*choosing, *node)
	chapter    struct {
		what   string
		change change
		want   want
	}
)

// choosing is the story while it is told.
type choosing struct {
	*testing.T
	key      string
	accounts map[string]string // ids by name
	hooks    map[string]string // ids by name
	names    map[string]string // of hooks, by id
	owner    map[string]string // of hooks: accounts by hooks' names
	owed     map[string]string // "event webhook" → the account that the event happened in
	silent   []string          // "event webhook" that must be discarded
	receiver *httptest.Server

	mu     sync.Mutex // guards the rest
	got    map[string]bool
	told   []string // to a9: "type webhook"
	failed map[string]int
}

func newChoosing(t *testing.T, key string) *choosing {
	s := &choosing{
		T: t, key: key, accounts: map[string]string{}, hooks: map[string]string{}, names: map[string]string{}, owner: map[string]string{},
		owed: map[string]string{}, got: map[string]bool{}, failed: map[string]int{"n8": 500, "a10": 500},
	}
	s.receiver = httptest.NewServer(http.HandlerFunc(s.receive))
	t.Cleanup(s.receiver.Close)
	return s
}

// receive is every webhook's receiver: the path names the webhook.
func (s *choosing) receive(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	text, _ := io.ReadAll(r.Body)
	var body struct {
		AccountID string `json:"account_id"`
		Type      string
		Data      struct{ Webhook struct{ Name string } }
	}
	if err := json.Unmarshal(text, &body); err != nil {
		s.Errorf("%s got %s: %v", name, text, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if of := body.Data.Webhook.Name; of != "" {
		if name == "a9" {
			s.told = append(s.told, body.Type+" "+of)
		} else if name != "a10" || s.owner[of] != "acme" {
			s.Errorf("%s is told %s of %s", name, body.Type, of)
		}
	} else {
		s.got[r.Header.Get(signature.HeaderID)+" "+name+" "+body.AccountID] = true
		if r.Header.Get("X-Fanfare-Account-Id") != s.accounts[s.owner[name]] {
			s.Errorf("%s got the account %s", name, r.Header.Get("X-Fanfare-Account-Id"))
		}
	}
	if status := s.failed[name]; status != 0 {
		w.WriteHeader(status)
	}
}

func (s *choosing) path(account string) string { return "/v1/accounts/" + s.accounts[account] }

func (s *choosing) hookPath(name string) string {
	return s.path(s.owner[name]) + "/webhooks/" + s.hooks[name]
}

func (s *choosing) make(n *node, h hook) {
	s.Helper()
	name, below := strings.CutSuffix(h.name, "+")
	body := map[string]any{
		"name": name, "url": s.receiver.URL + "/" + name, "event_types": strings.Fields(h.types), "include_subaccounts": below,
		"retry_schedule": []string{}, // what fails is given up at once
	}
	if h.modifiers != "" {
		body["modifiers"] = json.RawMessage(h.modifiers)
	}
	if h.filter != "" {
		body["filter"] = json.RawMessage(h.filter)
	}
	var made struct{ ID string }
	s.mu.Lock() // the receiver looks at the owner
	s.owner[name] = h.account
	s.mu.Unlock()
	n.must("POST", s.path(h.account)+"/webhooks", s.key, body, &made)
	s.hooks[name], s.names[made.ID] = made.ID, name
}

// The changes.

func edit(name, body string) change {
	return func(s *choosing, n *node) { n.must("PATCH", s.hookPath(name), s.key, json.RawMessage(body), nil) }
}

func act(name, action string) change {
	return func(s *choosing, n *node) { n.must("POST", s.hookPath(name)+"/"+action, s.key, nil, nil) }
}

func remove(name string) change {
	return func(s *choosing, n *node) { n.must("DELETE", s.hookPath(name), s.key, nil, nil) }
}

func create(h hook) change {
	return func(s *choosing, n *node) { s.make(n, h) }
}

func move(name, to string) change {
	return func(s *choosing, n *node) {
		body := map[string]any{"parent_id": nil}
		if to != "" {
			body["parent_id"] = s.accounts[to]
		}
		n.must("PATCH", s.path(name), s.key, body, nil)
	}
}

func removeAccount(name string) change {
	return func(s *choosing, n *node) { n.must("DELETE", s.path(name), s.key, nil, nil) }
}

func archive(eventType string) change {
	return func(s *choosing, n *node) {
		n.must("PUT", "/v1/event-types/"+eventType, s.key, typeBody(eventType, true), nil)
		refused := map[string]any{"url": s.receiver.URL + "/no", "event_types": []string{eventType}}
		if status := n.call("POST", s.path("shop")+"/webhooks", s.key, refused, nil); status != 422 {
			s.Errorf("a new webhook for %s: %d", eventType, status)
		}
	}
}

func gone(name, event string) change {
	return func(s *choosing, n *node) {
		s.mu.Lock()
		s.failed[name] = http.StatusGone
		s.mu.Unlock()
		e := events[slices.IndexFunc(events, func(e occurrence) bool { return e.name == event })]
		s.publish(n, e, strings.Fields(e.first))
		n.until(name+" is disabled", func() bool {
			var w struct{ Enabled bool }
			n.must("GET", s.hookPath(name), s.key, nil, &w)
			return !w.Enabled
		})
	}
}

func typeBody(eventType string, archived bool) map[string]any {
	modifiers := map[string]any{}
	for name, path := range catalog[eventType] {
		modifiers[name] = map[string]any{"path": path}
	}
	return map[string]any{"modifiers": modifiers, "archived": archived}
}

// publish publishes an event, checks the answer, and notes who is to get it.
func (s *choosing) publish(n *node, e occurrence, to []string) (id string) {
	s.Helper()
	own := 0
	for _, name := range to {
		if s.owner[strings.Trim(name, "[]")] == e.account {
			own++
		}
	}
	var answer struct {
		ID      string
		Matched int
	}
	n.must("POST", s.path(e.account)+"/events", s.key, map[string]any{"type": e.eventType, "data": json.RawMessage(e.data)}, &answer)
	if answer.Matched != own {
		s.Errorf("%s matched %d webhooks of its own account, not %d of %q", e.name, answer.Matched, own, to)
	}
	for _, name := range to {
		if plain := strings.Trim(name, "[]"); plain != name {
			s.silent = append(s.silent, answer.ID+" "+plain)
		} else {
			s.owed[answer.ID+" "+name] = s.accounts[e.account]
		}
	}
	return answer.ID
}

// deliveries lists who gets an event, as every account sees it: each its own webhooks.
func (s *choosing) deliveries(n *node, id string) (all []string, states map[string]string) {
	s.Helper()
	states = map[string]string{}
	for name, account := range s.accounts {
		var list page[struct {
			delivery
			Reason string `json:"reason"`
		}]
		if n.call("GET", "/v1/accounts/"+account+"/events/"+id+"/deliveries", s.key, nil, &list) == http.StatusNotFound {
			continue
		}
		for _, d := range list.Data {
			hook := s.names[d.WebhookID]
			if d.AccountID != account || s.owner[hook] != name {
				s.Errorf("the account %s is shown a delivery to %s", name, hook)
			}
			all, states[hook] = append(all, hook), strings.TrimSpace(d.State+" "+d.Reason)
		}
	}
	slices.Sort(all)
	return all, states
}

// Ten types with modifiers, four accounts in three levels, thirty webhooks, two nodes that take turns: after each
// change, the next publish on the other node goes exactly where the table says.
func TestEventsGoWhereTheTableSaysWhileItChanges(t *testing.T) {
	first := dev(t)
	second := first.beside()
	nodes := []*node{first, second}
	turn := 0
	next := func() *node { turn++; return nodes[turn%2] }
	s := newChoosing(t, first.cred.PlatformKey)
	for _, a := range tree {
		body := map[string]any{"name": a[0]}
		if a[1] != "" {
			body["parent_id"] = s.accounts[a[1]]
		}
		var made struct{ ID string }
		next().must("POST", "/v1/accounts", s.key, body, &made)
		s.accounts[a[0]] = made.ID
	}
	for eventType := range catalog {
		next().must("PUT", "/v1/event-types/"+eventType, s.key, typeBody(eventType, false), nil)
	}
	for _, h := range hooks {
		s.make(next(), h)
	}

	now := want{}
	for _, e := range events {
		now[e.name] = e.first
	}
	for _, c := range append([]chapter{{what: "at first"}}, chapters...) {
		if c.change != nil {
			c.change(s, next())
		}
		for event, to := range c.want {
			now[event] = to
		}
		s.chapter(c.what, now, next)
	}
	s.ends(first)
}

// chapter publishes every event, the first of them at once on the node that was not asked for the change.
func (s *choosing) chapter(what string, now want, next func() *node) {
	s.Helper()
	for _, e := range events {
		n := next()
		if now[e.name] == "-" {
			body := map[string]any{"type": e.eventType, "data": json.RawMessage(e.data)}
			if status := n.call("POST", s.path(e.account)+"/events", s.key, body, nil); status != http.StatusNotFound {
				s.Errorf("%s: %s was answered %d", what, e.name, status)
			}
			continue
		}
		to := strings.Fields(now[e.name])
		id := s.publish(n, e, to)
		got, _ := s.deliveries(next(), id)
		names := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(now[e.name]))
		slices.Sort(names)
		if diff := cmp.Diff(names, got); diff != "" && len(names)+len(got) > 0 {
			s.Errorf("%s: %s goes to others: %s", what, e.name, diff)
		}
		next() // the next event is published where this one was asked about
	}
}

// ends waits until everybody has what is owed, and nobody else anything.
func (s *choosing) ends(n *node) {
	s.Helper()
	for _, silent := range s.silent {
		id, hook, _ := strings.Cut(silent, " ")
		n.until(silent+" is discarded", func() bool {
			_, states := s.deliveries(n, id)
			return states[hook] == "discarded webhook_disabled"
		})
	}
	n.until("every event has arrived", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.got) >= len(s.owed)
	})
	n.until("everything that happened is told", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !slices.ContainsFunc(happenings, func(h string) bool { return !slices.Contains(s.told, h) })
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	got := map[string]string{}
	for key := range s.got {
		parts := strings.Fields(key)
		got[parts[0]+" "+parts[1]] = parts[2]
	}
	if diff := cmp.Diff(s.owed, got); diff != "" {
		s.Errorf("who got what: %s", diff)
	}
	told := slices.DeleteFunc(s.told, func(h string) bool { return strings.HasPrefix(h, "webhook.created ") && h != "webhook.created s8" })
	slices.Sort(told)
	if diff := cmp.Diff(slices.Sorted(slices.Values(happenings)), told); diff != "" {
		s.Errorf("what a9 was told: %s", diff)
	}
}
