package api_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// An event of a child goes to webhooks of three levels, and fails everywhere. Whatever a key of one level asks,
// under its own account it is shown what is that level's, and nothing that is another's.
func TestNoListShowsWhatIsAnotherLevels(t *testing.T) {
	w := newWorld(t)
	type level struct {
		account, key string
		hook         uuid.UUID
		marks        []string // what nobody else may be shown under an account of theirs
	}
	var levels []level
	parent := ""
	for i := range 3 {
		account := w.account(parent)
		name := fmt.Sprintf("mark-%d-of-the-name", i)
		hook := w.call("POST", "/v1/accounts/"+account+"/webhooks", platformKey, map[string]any{
			"name": name, "url": fmt.Sprintf("https://mark-%d.example.com/", i), "event_types": []string{"*"}, "include_subaccounts": true,
		}).want(201).str("id")
		levels = append(levels, level{account, w.key(account), id(t, hook), []string{hook, name, fmt.Sprintf("mark-%d.example", i)}})
		parent = account
	}
	child := levels[2]
	for _, state := range []fanfare.State{fanfare.Delivered, fanfare.Exhausted, fanfare.Discarded} {
		e := w.event(child.account, "a.type", levels[0].hook, levels[1].hook, child.hook)
		w.exec(`UPDATE events SET matched = 1 WHERE id = $1`, e)
		for i := range levels {
			l := &levels[i]
			l.marks = append(l.marks, w.attempt(l.account, l.hook, e, state, 1).String())
		}
	}
	event := w.ids("/v1/accounts/"+child.account+"/events", platformKey, "id", 1)[0]

	asked := 0
	for _, rt := range routes(w) {
		if rt.Method != "GET" || !strings.Contains(rt.Path, "{account}") {
			continue
		}
		for i, l := range levels {
			path := func(hook uuid.UUID) string {
				return strings.NewReplacer("{account}", l.account, "{webhook}", hook.String(), "{event}", event).Replace(rt.Path)
			}
			r := w.call("GET", path(l.hook), l.key, nil).want(200)
			asked++
			for j, other := range levels {
				for _, mark := range other.marks {
					if i != j && bytes.Contains(r.body, []byte(mark)) {
						t.Errorf("%s shows level %d %s of level %d: %s", rt.Path, i, mark, j, r.body)
					}
				}
				if i != j && strings.Contains(rt.Path, "{webhook}") {
					w.call("GET", path(other.hook), l.key, nil).want(404)
				}
			}
			list := strings.HasSuffix(rt.Path, "/deliveries") || strings.HasSuffix(rt.Path, "/attempts") || strings.HasSuffix(rt.Path, "/errors")
			if list && !bytes.Contains(r.body, []byte(l.hook.String())) {
				t.Errorf("%s does not show level %d its own: %s", rt.Path, i, r.body)
			}
			if strings.HasSuffix(rt.Path, "/events") && (len(r.get("data").([]any)) > 0) != (i == 2) {
				t.Errorf("level %d lists events: %s", i, r.body)
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d questions were asked", asked)
	}
}
