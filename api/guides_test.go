package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/internal/catalog"
)

// fence is a block of a guide that says what it is for: ```json filter
var fence = regexp.MustCompile("(?s)```(?:json|yaml|text) ([^\n]+)\n(.*?)\n```")

// chosenBy is whether the webhook of a guide is sent an event, by the registry that publishing asks.
func (w *world) chosenBy(account, eventType string, data []byte) bool {
	w.t.Helper()
	if err := w.registry.CatchUp(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return len(w.registry.Snapshot().Match(nil, uuid.MustParse(account), eventType, data)) == 1
}

func TestTheExamplesOfTheGuidesAboutEventsAreTrue(t *testing.T) {
	for guide, events := range map[string]int{"choosing-events": 30, "operational-events": 7, "catalog": 2} {
		t.Run(guide, func(t *testing.T) { tryGuide(t, guide, events) })
	}
}

// tryGuide runs the blocks of a guide, which must try at least so many events.
func tryGuide(t *testing.T, guide string, least int) {
	text, err := os.ReadFile("../docs/guides/" + guide + ".md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	if _, err := w.store.ApplyCatalog(t.Context(), fanfare.OriginPlatform, api.OperationalTypes()); err != nil {
		t.Fatal(err)
	}
	var (
		account string // of the webhook that was made last
		filter  string // that was given last; "": the webhook has none
		last    *reply
		events  int
		said    string // by what reads catalog files
	)
	make := func(body string) {
		account = w.account("")
		w.call("POST", "/v1/accounts/"+account+"/webhooks", platformKey, body).want(201)
	}
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		kind, body := block[1], block[2]
		method, path, isCall := strings.Cut(kind, " ")
		switch {
		case method == "sample":
			last = w.call("GET", "/v1/event-types/"+path+"/samples", "", nil).want(200)
			var want any
			if err := json.Unmarshal([]byte(body), &want); err != nil || !within(want, last.get("data.0")) {
				t.Errorf("the sample of %s is %s", path, last.body)
			}
		case isCall:
			if last = w.call(method, path, platformKey, body); last.status > 201 {
				t.Errorf("%s: %d %s", kind, last.status, last.body)
			}
		case kind == "webhook":
			filter = ""
			make(body)
		case kind == "filter":
			filter = body
			make(`{"url":"https://example.com/hooks","event_types":["*"],"filter":` + body + `}`)
		case kind == "events":
			var lists map[string][]json.RawMessage
			if err := json.Unmarshal([]byte(body), &lists); err != nil || len(lists["match"])*len(lists["no match"]) == 0 || len(lists) != 2 {
				t.Fatalf("%v: %s", err, body)
			}
			for list, all := range lists {
				for _, event := range all {
					events++
					var e struct {
						Type string
						Data json.RawMessage
					}
					if err := json.Unmarshal(event, &e); err != nil {
						t.Fatal(err)
					}
					if got := w.chosenBy(account, e.Type, e.Data); got != (list == "match") {
						t.Errorf("%s: %v", event, got)
					}
					if filter == "" {
						continue
					}
					r := w.call("POST", "/v1/filters/test", platformKey, `{"filter":`+filter+`,"event":`+string(event)+`}`).want(200)
					if r.get("match") != (list == "match") {
						t.Errorf("%s is tested as %s", event, r.body)
					}
				}
			}
		case kind == "event" || kind == "refused-event":
			events++
			want := map[string]int{"event": 202, "refused-event": 422}[kind]
			last = w.call("POST", "/v1/accounts/"+w.account("")+"/events", platformKey, body).want(want)
		case kind == "errors":
			var want any
			if err := json.Unmarshal([]byte(body), &want); err != nil || !equalJSON(want, last.get("errors")) {
				t.Errorf("%s, the guide says %s", last.body, body)
			}
		case kind == "catalog" || kind == "refused":
			said = w.applied(body, kind == "refused")
		case kind == "diff" || kind == "faults":
			if said != body {
				t.Errorf("%s\nthe guide says\n%s", said, body)
			}
		case kind == "answer":
			var want, got any
			if err := json.Unmarshal([]byte(body), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(last.body, &got); err != nil || !equalJSON(want, got) {
				t.Errorf("%s, the guide says %s", last.body, body)
			}
		default:
			t.Errorf("a block is for %q", kind)
		}
	}
	if events < least {
		t.Errorf("only %d events were tried", events)
	}
}

// applied applies a catalog file and is what that prints, or what is wrong with it.
func (w *world) applied(file string, refused bool) string {
	w.t.Helper()
	types, faults := catalog.Parse([]byte(file))
	if (len(faults) > 0) != refused {
		w.t.Fatal(faults)
	}
	var said strings.Builder
	for _, f := range faults {
		said.WriteString(f.String() + "\n")
	}
	if !refused {
		steps, err := w.store.ApplyCatalog(context.Background(), fanfare.OriginFile, types)
		if err == nil {
			err = catalog.Print(&said, steps, false)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return strings.TrimSpace(said.String())
}

func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// within says whether JSON has all that a shortened version of it has.
func within(short, long any) bool {
	part, ok := short.(map[string]any)
	whole, also := long.(map[string]any)
	if !ok || !also {
		return equalJSON(short, long)
	}
	for name, value := range part {
		if v, has := whole[name]; !has || !within(value, v) {
			return false
		}
	}
	return true
}

// program is a block of a guide that is a whole program.
var program = regexp.MustCompile("(?s)```go\n(package main\n.*?)```")

// loop is that of the guide about following events.
type loop struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func TestTheLoopOfTheGuideAboutSynchronisationMissesNothing(t *testing.T) {
	text, err := os.ReadFile("../docs/guides/synchronisation.md")
	if err != nil {
		t.Fatal(err)
	}
	source := program.FindSubmatch(text)
	if source == nil {
		t.Fatal("the guide has no program")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), source[1], 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", "loop", "main.go")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	w := newWorld(t)
	account := w.account("")
	server := httptest.NewServer(w.server)
	defer server.Close()
	start := func() *loop {
		t.Helper()
		l := &loop{cmd: exec.Command("./loop")}
		l.cmd.Dir = dir
		l.cmd.Env = append(os.Environ(), "FANFARE_URL="+server.URL, "FANFARE_KEY="+w.key(account))
		out, err := l.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		l.cmd.Stderr = os.Stderr
		l.lines = bufio.NewScanner(out)
		if err := l.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return l
	}
	prints := func(l *loop, want ...uuid.UUID) {
		t.Helper()
		for _, id := range want {
			var e struct{ ID uuid.UUID }
			if !l.lines.Scan() || json.Unmarshal(l.lines.Bytes(), &e) != nil || e.ID != id {
				t.Fatalf("printed %s, want %s", l.lines.Bytes(), id)
			}
		}
	}
	saved := func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "cursor"))
		return err == nil && len(w.follow("/v1/accounts/"+account+"/events/sync", platformKey, string(text)).ids) == 0
	}
	kill := func(l *loop) {
		l.cmd.Process.Kill() //nolint:errcheck // Wait says how it ended
		l.cmd.Wait()         //nolint:errcheck // killed
	}

	first := start()
	defer kill(first)
	prints(first, w.event(account, "t"), w.event(account, "t"))
	w.eventually("the last cursor is saved", saved)
	kill(first)
	missed := w.event(account, "t")
	second := start()
	defer kill(second)
	prints(second, missed, w.event(account, "t"))
}

// Blocks of these guides are bodies of calls: PATCH account, POST webhook/test.
func TestTheBodiesOfTheGuidesAboutHealthAreTaken(t *testing.T) {
	for guide, least := range map[string]int{"health-policy": 6, "disabled-endpoint": 3} {
		text, err := os.ReadFile("../docs/guides/" + guide + ".md")
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		account := w.account("")
		hook := "/v1/accounts/" + account + "/webhooks/" + w.webhook(account, platformKey)
		blocks := fence.FindAllStringSubmatch(string(text), -1)
		if len(blocks) < least {
			t.Errorf("%s has %d bodies", guide, len(blocks))
		}
		for _, block := range blocks {
			method, what, _ := strings.Cut(block[1], " ")
			path := hook + strings.TrimPrefix(what, "webhook")
			if rest, found := strings.CutPrefix(what, "account"); found {
				path = "/v1/accounts/" + account + rest
			}
			w.call(method, path, platformKey, block[2]).want(200)
		}
	}
}
