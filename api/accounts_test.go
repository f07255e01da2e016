package api_test

import (
	"slices"
	"strings"
	"testing"
)

func TestAccountsFormATree(t *testing.T) {
	w := newWorld(t)
	r := w.call("POST", "/v1/accounts", platformKey, `{"name":"Ünïcode \"Ltd\"","metadata":{"b": 1,"a":[1.0]}}`).want(201)
	root := r.str("id")
	if r.header.Get("Location") != "/v1/accounts/"+root || r.header.Get("Etag") != `"1"` {
		t.Errorf("headers %v", r.header)
	}
	if !strings.Contains(string(r.body), `"metadata":{"b": 1,"a":[1.0]}`) || r.get("parent_id") != nil || r.str("name") != `Ünïcode "Ltd"` {
		t.Errorf("created %s", r.body)
	}
	key := w.key(root)

	// With an account's key: under that account, unless a descendant is named.
	child := w.call("POST", "/v1/accounts", key, `{"name":"child"}`).want(201)
	grandchild := w.call("POST", "/v1/accounts", key, `{"name":"grandchild","parent_id":"`+child.str("id")+`"}`).want(201)
	if child.str("parent_id") != root || grandchild.str("parent_id") != child.str("id") {
		t.Errorf("%s %s", child.body, grandchild.body)
	}
	w.call("POST", "/v1/accounts", platformKey, `{"name":"another root"}`).want(201)

	list := w.call("GET", "/v1/accounts", key, nil).want(200)
	if list.str("data.0.id") != grandchild.str("id") || list.str("data.2.id") != root || list.get("data.3") != nil {
		t.Errorf("listed %s", list.body)
	}
	if all := w.call("GET", "/v1/accounts", platformKey, nil).want(200); all.get("data.3") == nil || all.get("data.4") != nil {
		t.Errorf("the platform lists %s", all.body)
	}
}

func TestFaultsOfAnAccount(t *testing.T) {
	w := newWorld(t)
	root, other := w.account(""), w.account("")
	key := w.key(root)
	long := strings.Repeat("é", 201)
	for _, tc := range []struct {
		method, path, body string
		want               []string
	}{
		{"POST", "/v1/accounts", `{}`, []string{"/name required"}},
		{"POST", "/v1/accounts", ``, []string{"/name required"}},
		{"POST", "/v1/accounts", `{"name":"","metadata":[],"settings":{"limits":{}},"notification_emails":["ops"]}`, []string{
			"/metadata wrong_type", "/name too_few", "/notification_emails/0 invalid_format", "/settings/limits unknown_field",
		}},
		{"POST", "/v1/accounts", `{"name":"` + long + `","parent_id":1}`, []string{"/name too_long", "/parent_id wrong_type"}},
		{"POST", "/v1/accounts", `{"name":"a\u0000","parent_id":"x"}`, []string{"/name invalid_text", "/parent_id invalid_format"}},
		{"POST", "/v1/accounts", `{"name":"\ud800"}`, []string{"/name invalid_text"}},
		{"POST", "/v1/accounts", `{"name":"a","name":"b","metadata":{"x":{"y":1,"y":2}}}`, []string{"/metadata/x/y duplicate_field", "/name duplicate_field"}},
		{"POST", "/v1/accounts", `{"name":"a","metadata":{"x":"` + strings.Repeat("x", 16<<10) + `"}}`, []string{"/metadata too_long"}},
		{"POST", "/v1/accounts", `{"name":"a","parent_id":"` + other + `"}`, []string{"/parent_id unknown_account"}},
		{"POST", "/v1/accounts", `{"name":"a","parent_id":"00000000-0000-0000-0000-000000000000"}`, []string{"/parent_id unknown_account"}},
		{"PATCH", "/v1/accounts/me", `{"name":null}`, []string{"/name wrong_type"}},
		{"PATCH", "/v1/accounts/me", `{"parent_id":"` + other + `"}`, []string{"/parent_id unknown_account"}},
		{"PATCH", "/v1/accounts/me", `{"parent_id":"` + root + `"}`, []string{"/parent_id cycle"}},
	} {
		k := key
		if strings.Contains(strings.Join(tc.want, ""), "cycle") {
			k = platformKey
			tc.path = "/v1/accounts/" + root
		}
		got := w.call(tc.method, tc.path, k, tc.body).want(422).problems()
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s %.80s: %q, want %q", tc.method, tc.body, got, tc.want)
		}
	}
}

func TestAnAccountThatWasReadCanBeWrittenBack(t *testing.T) {
	w := newWorld(t)
	parent := w.account("")
	account := w.account(parent)
	key := w.key(account)
	before := w.call("GET", "/v1/accounts/me", key, nil).want(200)
	after := w.call("PATCH", "/v1/accounts/me", key, string(before.body)).want(200)
	if after.str("parent_id") != parent || after.header.Get("Etag") != `"2"` {
		t.Errorf("%v %s", after.header, after.body)
	}
	w.call("PATCH", "/v1/accounts/me", key, `{"metadata":{"a":1}}`).want(200)
	if reset := w.call("PATCH", "/v1/accounts/me", key, `{"metadata":null}`).want(200); !strings.Contains(string(reset.body), `"metadata":{}`) {
		t.Errorf("reset %s", reset.body)
	}
}

func TestIfMatchMakesAWriteConditional(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	hook := "/v1/accounts/" + account + "/webhooks/" + w.webhook(account, platformKey)
	for _, tc := range []struct{ method, path, body string }{
		{"PATCH", "/v1/accounts/" + account, `{"name":"n"}`},
		{"PATCH", hook, `{"name":"n"}`},
		{"POST", hook + "/disable", `{}`},
		{"POST", hook + "/enable", `{}`},
		{"DELETE", hook, ""},
	} {
		object := strings.TrimSuffix(strings.TrimSuffix(tc.path, "/enable"), "/disable")
		tag := w.call("GET", object, platformKey, nil).want(200).header.Get("Etag")
		for _, wrong := range []string{`"999"`, `"0"`, `"-1"`, strings.Trim(tag, `"`), "W/" + tag, `"x"`, tag + ", " + tag} {
			if got := w.call(tc.method, tc.path, platformKey, jsonOr(tc.body), "If-Match", wrong).want(412).str("code"); got != "version_mismatch" {
				t.Errorf("%s %s: %s", tc.method, tc.path, got)
			}
		}
		ok := w.call(tc.method, tc.path, platformKey, jsonOr(tc.body), "If-Match", tag)
		if ok.status >= 300 || ok.header.Get("Etag") == tag {
			t.Errorf("%s %s with %s: %d %v %s", tc.method, tc.path, tag, ok.status, ok.header, ok.body)
		}
	}
}

func TestMovingAnAccountNeedsAuthorityOverAllThree(t *testing.T) {
	w := newWorld(t)
	root := w.account("")
	a, b := w.account(root), w.account(root)
	leaf := w.account(a)
	rootKey, aKey := w.key(root), w.key(a)
	move := func(account, key, to string, status int) *reply {
		t.Helper()
		return w.call("PATCH", "/v1/accounts/"+account, key, `{"parent_id":`+to+`}`).want(status)
	}
	move(leaf, aKey, `"`+b+`"`, 422)     // the new parent is out of reach
	move(a, aKey, `"`+leaf+`"`, 403)     // the old parent is
	move(leaf, rootKey, `null`, 403)     // only the platform makes roots
	move(root, rootKey, `null`, 200)     // it is one: nothing moves
	move(a, rootKey, `"`+leaf+`"`, 422)  // a cycle
	move(leaf, rootKey, `"`+b+`"`, 200)  // all three within reach
	move(leaf, platformKey, `null`, 200) // the platform may
	if err := w.registry.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.call("GET", "/v1/accounts/"+leaf, rootKey, nil).want(404)
	move(leaf, platformKey, `"`+leaf+`"`, 422)
}

func TestDeletingAnAccountTakesTheSubtreeOnlyWhenAsked(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	root := w.account("")
	parent := w.account(root)
	child := w.account(parent)
	key, childKey := w.key(root), w.key(child)
	hook := w.webhook(child, platformKey)
	if got := w.call("DELETE", "/v1/accounts/"+parent, key, nil).want(409).str("code"); got != "has_children" {
		t.Error(got)
	}
	w.call("DELETE", "/v1/accounts/"+parent+"?cascade=false", key, nil).want(409)
	w.call("DELETE", "/v1/accounts/"+parent+"?cascade=maybe", key, nil).want(422)
	w.call("DELETE", "/v1/accounts/"+parent+"?cascade=true&cascade=true", key, nil).want(422)
	w.call("DELETE", "/v1/accounts/"+parent+"?cascade=true", key, nil).want(204)
	w.call("GET", "/v1/accounts/"+child+"/webhooks/"+hook, key, nil).want(404)
	w.call("POST", "/v1/accounts", key, `{"name":"n","parent_id":"`+child+`"}`).want(422)
	if r := w.call("GET", "/v1/accounts/me", childKey, nil); r.status != 401 && r.status != 404 {
		t.Errorf("the deleted account's key: %d", r.status)
	}
}

func TestAKeyGivesNoScopeThatItLacks(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/keys"
	admin := w.key(account, "admin", "read")
	got := w.call("POST", path, admin, `{"scopes":["read","write","publish"]}`).want(403).problems()
	if !slices.Equal(got, []string{"/scopes/1 insufficient_scope", "/scopes/2 insufficient_scope"}) {
		t.Errorf("%q", got)
	}
	own := w.call("POST", path, admin, `{"name":"x"}`).want(201)
	if own.str("scopes.0") != "admin" || own.str("scopes.1") != "read" || own.get("scopes.2") != nil {
		t.Errorf("without scopes: %s", own.body)
	}
	if !strings.HasPrefix(own.str("key"), own.str("hint")) || own.header.Get("Location") != path+"/"+own.str("id") {
		t.Errorf("%v %s", own.header, own.body)
	}
	for body, want := range map[string]string{
		`{"scopes":[]}`:                               "/scopes too_few",
		`{"scopes":["root"]}`:                         "/scopes/0 invalid_value",
		`{"scopes":["read","read"]}`:                  "/scopes/1 invalid_value",
		`{"scopes":"read"}`:                           "/scopes wrong_type",
		`{"scopes":[1]}`:                              "/scopes/0 wrong_type",
		`{"name":"` + strings.Repeat("x", 201) + `"}`: "/name too_long",
		`{"key":"ffk_mine"}`:                          "/key unknown_field",
	} {
		if got := w.call("POST", path, admin, body).want(422).problems(); got[0] != want {
			t.Errorf("%s: %q", body, got)
		}
	}
	list := w.call("GET", path, admin, nil).want(200)
	if strings.Contains(string(list.body), own.str("key")) || list.str("data.0.id") != own.str("id") {
		t.Errorf("listed %s", list.body)
	}
	w.call("DELETE", path+"/"+own.str("id"), admin, nil).want(204)
	w.call("DELETE", path+"/"+own.str("id"), admin, nil).want(404)
}

// A kept answer holds a key with the scopes of whoever asked first: it is not for others.
func TestAKeptAnswerIsForTheKeyThatGotIt(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	path := "/v1/accounts/" + account + "/keys"
	w.call("POST", path, platformKey, `{}`, "Idempotency-Key", "k").want(201)
	w.call("POST", path, w.key(account, "admin"), `{}`, "Idempotency-Key", "k").want(409)
}
