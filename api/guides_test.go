package api_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// fence is a block of a guide that says what it is for: ```json filter
var fence = regexp.MustCompile("(?s)```json ([^\n]+)\n(.*?)\n```")

// chosenBy is whether the webhook of a guide is sent an event, by the registry that publishing asks.
func (w *world) chosenBy(account, eventType string, data []byte) bool {
	w.t.Helper()
	if err := w.registry.CatchUp(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return len(w.registry.Snapshot().Match(nil, uuid.MustParse(account), eventType, data)) == 1
}

func TestTheExamplesOfTheGuideAboutChoosingEventsAreTrue(t *testing.T) {
	text, err := os.ReadFile("../docs/guides/choosing-events.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	var (
		account string // of the webhook that was made last
		filter  string // that was given last; "": the webhook has none
		last    *reply
		events  int
	)
	make := func(body string) {
		account = w.account("")
		w.call("POST", "/v1/accounts/"+account+"/webhooks", platformKey, body).want(201)
	}
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		kind, body := block[1], block[2]
		method, path, isCall := strings.Cut(kind, " ")
		switch {
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
	if events < 30 {
		t.Errorf("only %d events were tried", events)
	}
}

func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
