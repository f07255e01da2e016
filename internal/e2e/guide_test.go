package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// fence is a block of a guide that says what it is for.
var fence = regexp.MustCompile("(?s)```(json [^\n]+|http)\n(.*?)\n?```")

// echoed is a request as the echo receiver shows it.
type echoed struct {
	Method, Path, Query, Body string
	Headers                   map[string][]string
}

func TestTheExamplesOfTheGuideAboutRequestsAreTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/requests.md")
	if err != nil {
		t.Fatal(err)
	}
	n := dev(t)
	shown := 0
	var path string // of the webhook that was made last
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		kind, body := block[1], block[2]
		switch kind {
		case "json PATCH account":
			n.must("PATCH", "/v1/accounts/"+n.cred.AccountID.String(), n.cred.PlatformKey, json.RawMessage(body), nil)
		case "json webhook":
			shown++
			here := fmt.Sprintf("%s/echo/guide-%d", n.cred.URL, shown)
			body = strings.Replace(body, "https://example.com/hooks", here, 1)
			if path != "" {
				n.must("DELETE", path, n.cred.AccountKey, nil, nil)
			}
			var hook struct{ ID string }
			n.must("POST", "/v1/accounts/me/webhooks", n.cred.AccountKey, json.RawMessage(body), &hook)
			path = "/v1/accounts/me/webhooks/" + hook.ID
		case "json event":
			publishVerbatim(n, body)
		case "http":
			n.shows(fmt.Sprintf("guide-%d", shown), "hooks", body)
		default:
			t.Errorf("a block is for %q", kind)
		}
	}
	if shown < 9 {
		t.Errorf("only %d webhooks were tried", shown)
	}
}

// shows holds what an echo receiver got against a request in a guide, where it is called path; … there stands for
// anything.
func (n *node) shows(echo, path, want string) {
	n.Helper()
	var got page[echoed]
	n.until("a request arrives", func() bool {
		n.must("GET", "/v1/echo/"+echo+"/requests", n.cred.AccountKey, nil, &got)
		return len(got.Data) > 0
	})
	head, body, _ := strings.Cut(want, "\n\n")
	lines := strings.Split(head, "\n")
	r := got.Data[0]
	target := strings.Replace(r.Path, "/echo/"+echo, "/"+path, 1)
	if r.Query != "" {
		target += "?" + r.Query
	}
	if !alike(lines[0], r.Method+" "+target) {
		n.Errorf("%s %s arrived, the guide says %s", r.Method, target, lines[0])
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if got := strings.Join(r.Headers[http.CanonicalHeaderKey(name)], ", "); !alike(value, got) {
			n.Errorf("%s: %s arrived, the guide says %s", name, got, value)
		}
	}
	if !alike(body, r.Body) {
		n.Errorf("arrived\n%s\nthe guide says\n%s", r.Body, body)
	}
}

// alike compares with a text in which … stands for anything but nothing.
func alike(want, got string) bool {
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".+") + "$").MatchString(got)
}
