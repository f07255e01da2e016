package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare/api"
)

// bombs are bodies that break decoders.
func bombs() map[string]string {
	keys := &strings.Builder{}
	keys.WriteString("{")
	for i := range 30_000 {
		fmt.Fprintf(keys, `"k%d":0,`, i)
	}
	keys.WriteString(`"z":0}`)
	return map[string]string{
		"deep arrays":      strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"deep objects":     strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		"unclosed":         strings.Repeat(`{"a":[`, 5_000),
		"many keys":        keys.String(),
		"same key":         "{" + strings.Repeat(`"name":"x",`, 10_000) + `"name":"x"}`,
		"huge number":      `{"name":1e400,"type":1e400,"url":-1e999999999,"max_in_flight":1e400,"limit":1E+400}`,
		"many digits":      `{"name":` + strings.Repeat("9", 100_000) + `,"max_in_flight":` + strings.Repeat("9", 100_000) + `}`,
		"NUL":              `{"name":"\u0000","url":"https://example.com/\u0000","event_types":["\u0000"],"type":"\u0000","reason":"\u0000","description":"\u0000","overlap":"\u0000","scopes":["\u0000"],"idempotency_key":"\u0000","metadata":{"\u0000":"\u0000"}}`,
		"lone surrogate":   `{"name":"\ud800","url":"https://\udc00","event_types":["\ud800"],"type":"\udfff","reason":"\ud800","description":"\ud800","overlap":"\ud800","\ud800":1,"metadata":{"\ud800":1}}`,
		"invalid UTF-8":    "{\"name\":\"\xff\xfe\"}",
		"overlong UTF-8":   "{\"name\":\"\xc0\x80\"}",
		"encoded half":     "{\"name\":\"\xed\xa0\x80\"}",
		"BOM":              "\ufeff{}",
		"UTF-16":           "\xff\xfe{\x00}\x00",
		"control":          "{\"name\":\"a\nb\"}",
		"comment":          "{/**/}",
		"two values":       "{}{}",
		"NaN":              `{"max_in_flight":NaN}`,
		"single quotes":    `{'name':'x'}`,
		"long name":        `{"` + strings.Repeat("n", 100_000) + `":1}`,
		"long text":        `{"name":"` + strings.Repeat("n", 100_000) + `","url":"https://` + strings.Repeat("n", 100_000) + `"}`,
		"escaped names":    `{"\u006eame":"x","\u0075rl":"https://example.com","\u0065vent_types":["*"]}`,
		"pointer names":    `{"a/b~c\"\\":1}`,
		"many event types": `{"event_types":[` + strings.Repeat(`"x",`, 20_000) + `"x"]}`,
		"null":             "null", "string": `"x"`, "number": "-0.0e-0", "space": " \t\r\n",
	}
}

func TestNothingAClientTypesIsOurFault(t *testing.T) {
	w := newWorld(t)
	w.eventType("a.type")
	account := w.account("")
	for _, rt := range routes(w) {
		if rt.Body == 0 {
			continue
		}
		path := w.fill(rt.Path, account)
		for name, body := range bombs() {
			r := w.call(rt.Method, path, platformKey, body)
			if r.status >= 500 {
				t.Errorf("%s %s with %s: %d %.300s", rt.Method, rt.Path, name, r.status, r.body)
			}
			if len(r.body) > 64<<10 {
				t.Errorf("%s %s with %s: an answer of %d bytes", rt.Method, rt.Path, name, len(r.body))
			}
			if !utf8.Valid(r.body) || !json.Valid(r.body) {
				t.Errorf("%s %s with %s: %q", rt.Method, rt.Path, name, r.body)
			}
		}
	}
	if logs := w.logs.String(); strings.Contains(logs, "level=ERROR") || strings.Contains(logs, "level=WARN") {
		t.Errorf("%s", logs)
	}
}

func TestPathsAndHeadersOfAnySortAreNotOurFault(t *testing.T) {
	w := newWorld(t)
	account := w.account("")
	for _, path := range []string{
		"/v1/accounts/%00", "/v1/accounts/%ff", "/v1/accounts/%2e%2e", "/v1/accounts/%F0%9F%92%A9", "/v1/event-types/%00",
		"/v1/event-types/" + strings.Repeat("a", 9000), "/v1/accounts/" + account + "/webhooks/%00",
		"/v1/accounts/{" + account + "}", "/v1/accounts/urn:uuid:" + account, "/v1/accounts/" + strings.ReplaceAll(account, "-", ""),
		"/v1/echo/%00/requests",
	} {
		if r := w.call("GET", path, platformKey, nil); r.status != 404 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	w.call("GET", "/v1/accounts/"+strings.ToUpper(account), platformKey, nil).want(200)
	for _, auth := range []string{
		"Bearer", "Bearer ", "Basic " + platformKey, platformKey, "Bearer  " + platformKey, "Bearer " + platformKey + " ",
		"Bearer " + strings.Repeat("x", 5000), "Bearer \x00", "Bearer ffk_é",
	} {
		if got := w.call("GET", "/v1/accounts", "", nil, "Authorization", auth); got.status != 401 || got.header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("%q: %d", auth, got.status)
		}
	}
	r := httptest.NewRequest("GET", "/v1/accounts", nil)
	r.Header["Authorization"] = []string{"Bearer " + platformKey, "Bearer " + platformKey}
	w.send(r).want(401)
	w.call("GET", "/v1/accounts", "", nil, "Authorization", "bearer "+platformKey).want(200)
}

func TestARequestIdIsTakenWhenItIsHarmless(t *testing.T) {
	w := newWorld(t)
	if got := w.call("GET", "/hc", "", nil, "X-Request-Id", "abc-DEF_1.2:3").header.Get("X-Request-Id"); got != "abc-DEF_1.2:3" {
		t.Errorf("answered %s", got)
	}
	for _, bad := range []string{"a b", "a\x00", "<script>", strings.Repeat("a", 129), "é"} {
		r := w.call("GET", "/nowhere", "", nil, "X-Request-Id", bad)
		if got := r.header.Get("X-Request-Id"); got == bad || len(got) != 32 || r.str("request_id") != got {
			t.Errorf("%q answered %s", bad, got)
		}
	}
}

func TestNoSecretIsLoggedOrRepeated(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	account := w.account("")
	key := w.key(account)
	secret := w.call("POST", "/v1/accounts/me/webhooks", key, `{"url":"https://example.com","event_types":["*"]}`, "Idempotency-Key", "canary-idempotency").want(201).str("secret")
	w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":{"card":"canary-payload"}}`).want(202)
	w.call("POST", "/v1/accounts/me/events", key, `{"type":"t","data":"canary-payload"}`).want(422)
	w.call("GET", "/v1/accounts/me", "ffk_canary-wrong-key", nil).want(401)
	for _, body := range []string{
		`"headers":{"Authorization":{"secret":"canary-header"}},"signature":{"scheme":"github"}`,
		`"headers":{"X-A":{"secret":"canary\n{who}"}},"secret":"canary"`,
		`"headers":{"X-A":{"secret":"canary-{who}"}},"secret":"canary-for-an-hmac"`,
	} {
		if r := w.call("POST", "/v1/accounts/me/webhooks", key, newHook+body+`}`); strings.Contains(string(r.body), "canary") {
			t.Errorf("an answer repeats it: %s", r.body)
		}
	}
	logs := w.logs.String()
	if !strings.Contains(logs, "route=/v1/accounts/{account}/events") {
		t.Errorf("no access log: %s", logs)
	}
	for _, canary := range []string{key, secret, platformKey, "canary"} {
		if strings.Contains(logs, canary) {
			t.Errorf("%s is in the log", canary)
		}
	}
}

// A client that is slow in its header or its body, or that never reads its answer, is let go.
func TestTheServerHasBounds(t *testing.T) {
	s := api.NewHTTPServer(http.NotFoundHandler())
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Errorf("%+v", s)
	}
	if s.WriteTimeout < 60*time.Second+15*time.Second {
		t.Error("the answer of a test send may come after the end of the time to write")
	}
}

func TestABodyThatStopsShortIs400(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	server := httptest.NewUnstartedServer(w.server)
	server.Config = api.NewHTTPServer(w.server)
	server.Config.ReadTimeout = 50 * time.Millisecond // the client below never sends the rest
	server.Start()
	defer server.Close()
	for _, path := range []string{"/v1/accounts", "/v1/events/batch"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path, platformKey)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 400 || !bytes.Contains(body, []byte("incomplete_body")) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// Memory follows what has come, not what was announced.
func TestAnAnnouncedBodyTakesNoMemory(t *testing.T) {
	w := newWorld(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		r := httptest.NewRequest("POST", "/v1/events/batch", io.MultiReader(strings.NewReader("{"), failing{}))
		r.ContentLength = 4 << 20
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+platformKey)
		out := httptest.NewRecorder()
		w.server.ServeHTTP(out, r)
		if out.Code != 400 {
			t.Fatalf("%d", out.Code)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 100*(1<<20) {
		t.Errorf("%d bytes were allocated for a hundred bytes", grown)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWhatNobodyForesawIs500AndStaysInTheLog(t *testing.T) {
	w := newWorld(t)
	w.eventType("t")
	key := w.key(w.account(""))
	for name, fail := range map[string]error{"an error": errors.New("canary of the cause"), "a panic": panicking{}} {
		w.publisher.set(func(p *fakePublisher) { p.fail = fail })
		r := httptest.NewRequest("POST", "/v1/accounts/me/events", strings.NewReader(`{"type":"t","data":{}}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+key)
		out := httptest.NewRecorder()
		w.server.ServeHTTP(out, r)
		if out.Code != 500 || !strings.Contains(out.Body.String(), `"internal"`) || strings.Contains(out.Body.String(), "canary") {
			t.Errorf("%s: %d %s", name, out.Code, out.Body)
		}
		if !strings.Contains(w.logs.String(), "canary") {
			t.Errorf("%s is not in the log", name)
		}
	}
}

// panicking is an error that the fake publisher panics with.
type panicking struct{}

func (panicking) Error() string { return "canary of a panic" }
