package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/client"
	"github.com/fanfare-webhooks/fanfare/internal/importer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run imports and gives the report.
func run(t *testing.T, o importer.Options, export string) (string, error) {
	t.Helper()
	var report strings.Builder
	err := importer.Import(t.Context(), o, strings.NewReader(export), &report)
	return report.String(), err
}

func exported(t *testing.T, source string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + source + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExportsAreReadAsTheyWereMeant(t *testing.T) {
	for _, source := range importer.Sources() {
		t.Run(source, func(t *testing.T) {
			want, err := os.ReadFile("testdata/" + source + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			got, err := run(t, importer.Options{
				Source: source, Target: client.Target{Account: "me"}, DryRun: true, Types: map[string]string{"channel_destroy": "call.ended"},
			}, exported(t, source))
			if !errors.Is(err, importer.ErrIncomplete) {
				t.Error(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestWhatIsNoExportIsRefused(t *testing.T) {
	for export, want := range map[string]string{
		"":                              "line 1: the export is not JSON, or ends too early",
		"{\n\n\"data\": [}":             "line 3: the export is not JSON: ",
		`{"data":[]}`:                   "the export has no webhooks in it",
		`[1,"a",null,{"data":5}]`:       "the export has no webhooks in it",
		"{\"id\":\"h\"}\n{\"data\":\n[": "line 3: the export is not JSON, or ends too early",
	} {
		for _, source := range importer.Sources() {
			if report, err := run(t, importer.Options{Source: source, DryRun: true}, export); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: %q: %v, %s", source, export, err, report)
			}
		}
	}
	if _, err := run(t, importer.Options{Source: "hookdeck", DryRun: true}, "{}"); err == nil {
		t.Error("an unknown source is read")
	}
}

// node is a node's API, as far as an import needs it.
type node struct {
	*httptest.Server
	hooks    []map[string]any
	disabled []string
	refuse   func(body map[string]any) (status int, problem string) // 0: nothing
}

func newNode(t *testing.T) *node {
	n := &node{}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	given, _ := io.ReadAll(r.Body)
	var body map[string]any
	json.Unmarshal(given, &body)
	say := func(status int, text string) { w.WriteHeader(status); io.WriteString(w, text) }
	switch {
	case r.Header.Get("Authorization") != "Bearer ffk_key":
		say(401, `{"title":"Unauthorized","detail":"No such key."}`)
	case r.Method == "GET":
		// A page for each, so that there are several.
		from := 0
		if after := r.URL.Query()["after"]; after != nil {
			if _, err := fmt.Sscan(after[0], &from); err != nil {
				say(422, `{"title":"Unprocessable","detail":"no cursor"}`)
				return
			}
		}
		page := map[string]any{"data": []any{}, "next": nil}
		if from < len(n.hooks) {
			page = map[string]any{"data": n.hooks[from : from+1], "next": fmt.Sprint(from + 1)}
		}
		text, _ := json.Marshal(page)
		say(200, string(text))
	case strings.HasSuffix(r.URL.Path, "/disable"):
		n.disabled = append(n.disabled, fmt.Sprint(strings.Split(r.URL.Path, "/")[5], body["reason"]))
		say(200, `{}`)
	default:
		if n.refuse != nil {
			if status, problem := n.refuse(body); status != 0 {
				say(status, problem)
				return
			}
		}
		body["id"], body["version"], body["enabled"] = fmt.Sprint("w", len(n.hooks)), 1, true
		n.hooks = append(n.hooks, body)
		say(201, fmt.Sprintf(`{"id":%q}`, body["id"]))
	}
}

func (n *node) options(source string) importer.Options {
	return importer.Options{Source: source, Target: client.Target{URL: n.URL + "/", Key: "ffk_key", Account: "me"}}
}

func TestAnImportThatIsRepeatedMakesNothingTwice(t *testing.T) {
	n := newNode(t)
	for i, want := range []string{"3 created, 0 there already, 1 not imported\n", "0 created, 3 there already, 1 not imported\n"} {
		report, err := run(t, n.options("kazoo"), exported(t, "kazoo"))
		if !errors.Is(err, importer.ErrIncomplete) || !strings.HasSuffix(report, want) {
			t.Errorf("import %d: %v\n%s", i, err, report)
		}
	}
	if len(n.hooks) != 3 {
		t.Errorf("%d webhooks", len(n.hooks))
	}
}

func TestWhatIsDisabledThereIsDisabledHere(t *testing.T) {
	n := newNode(t)
	if _, err := run(t, n.options("svix"), `{"id":"e","url":"https://example.com","disabled":true}`); err != nil {
		t.Fatal(err)
	}
	if want := "[w0disabled in Svix]"; fmt.Sprint(n.disabled) != want {
		t.Errorf("%v", n.disabled)
	}
	// Killed before it had disabled it, the next import does; not if somebody has changed it since.
	for _, version := range []int{2, 1} {
		n.disabled, n.hooks[0]["version"] = nil, version
		report, err := run(t, n.options("svix"), `{"id":"e","url":"https://example.com","disabled":true}`)
		if err != nil || (len(n.disabled) == 1) != (version == 1) {
			t.Errorf("version %d: %v, %v\n%s", version, n.disabled, err, report)
		}
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	n := newNode(t)
	o := n.options("svix")
	o.DryRun = true
	report, err := run(t, o, `{"id":"e","url":"https://example.com","disabled":true,"secret":"whsec_C2FVsBQIhrscChlQIMV"}`)
	if err != nil || len(n.hooks)+len(n.disabled) > 0 || !strings.Contains(report, "1 would be created, 0 there already") {
		t.Errorf("%v\n%s", err, report)
	}
	if strings.Contains(report, "C2FV") {
		t.Error("the report shows the secret")
	}
}

func TestWhatTheNodeRefusesIsReportedInTheWordsOfTheExport(t *testing.T) {
	n := newNode(t)
	n.refuse = func(body map[string]any) (int, string) {
		if body["name"] == "bad" {
			return 422, `{"title":"T","detail":"D","errors":[{"pointer":"/url","detail":"is not allowed"},{"pointer":"/event_types/0","detail":"is not in the catalog"},{"pointer":"/timeout","detail":"t"}]}`
		}
		return 0, ""
	}
	report, err := run(t, n.options("kazoo"), `[{"id":"1","name":"bad","uri":"http://10.0.0.1","hook":"x","format":"json"},{"id":"2","name":"good","uri":"u","hook":"y","format":"json"}]`)
	want := "line 1: bad: NOT IMPORTED\n  uri: is not allowed\n  hook: x is not in the catalog\n  timeout: t\nline 1: good: created w0\n1 created, 0 there already, 1 not imported\n"
	if !errors.Is(err, importer.ErrIncomplete) || report != want {
		t.Errorf("%v\n%s", err, report)
	}
}

func TestAnImportEndsWhereTheNodeDoesNotAnswerAsItShould(t *testing.T) {
	n := newNode(t)
	const export = `[{"id":"1","uri":"u","hook":"x","format":"json"},{"id":"2","uri":"u","hook":"x","format":"json"}]`
	for status, problem := range map[int]string{
		503: `{"title":"Overloaded","detail":"Come again."}`, 403: `{"title":"Forbidden","detail":"scope"}`, 500: `<html>`, 422: `<html>`, 200: `not JSON`,
	} {
		n.refuse = func(map[string]any) (int, string) { return status, problem }
		report, err := run(t, n.options("kazoo"), export)
		if err == nil || errors.Is(err, importer.ErrIncomplete) || !strings.HasPrefix(err.Error(), "line 1: ") || !strings.HasSuffix(report, "0 created, 0 there already, 0 not imported\n") {
			t.Errorf("%d: %v\n%s", status, err, report)
		}
	}
	o := n.options("kazoo")
	o.Key = "ffk_other"
	if _, err := run(t, o, export); err == nil || !strings.Contains(err.Error(), "No such key") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := importer.Import(ctx, n.options("kazoo"), strings.NewReader(export), io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAccountsAreThoseOfTheExport(t *testing.T) {
	o := importer.Options{Source: "kazoo", DryRun: true, Target: client.Target{Account: "me"}, Accounts: map[string]string{"a1": "01234567-89ab-7def-8123-456789abcdef"}}
	report, err := run(t, o, `[
{"id":"1","uri":"u","hook":"x","format":"json","pvt_account_id":"a1"},
{"id":"2","uri":"u","hook":"x","format":"json","pvt_account_id":"a2"},
{"id":"3","uri":"u","hook":"x","format":"json"}]`)
	if !errors.Is(err, importer.ErrIncomplete) || !strings.Contains(report, "the accounts that were given have none for a2") ||
		!strings.Contains(report, "the export does not say whose it is") || !strings.HasSuffix(report, "1 would be created, 0 there already, 2 not imported\n") {
		t.Errorf("%v\n%s", err, report)
	}
}

func TestWhatDoesNotSayWhichEventsItWantsCanBeTold(t *testing.T) {
	o := importer.Options{Source: "convoy", DryRun: true, Wanted: []string{"invoice.*"}, Signature: json.RawMessage(`{"scheme":"github"}`)}
	report, err := run(t, o, `{"uid":"E","url":"https://example.com"}`)
	if err != nil || !strings.Contains(report, `"event_types":["invoice.*"]`) || !strings.Contains(report, `"signature":{"scheme":"github"}`) {
		t.Errorf("%v\n%s", err, report)
	}
}

// Whatever an export is, it is read or refused.
func FuzzImport(f *testing.F) {
	for _, source := range importer.Sources() {
		text, err := os.ReadFile("testdata/" + source + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`[[[{"rows":[{"doc":{"hook":1,"uri":[],"name":{}}}]}]]]`)
	f.Add(`{"uid":null,"url":5,"secrets":[{}],"authentication":{"type":"api_key"},"endpoint_metadata":{"uid":3}}`)
	f.Fuzz(func(t *testing.T, export string) {
		for _, source := range importer.Sources() {
			importer.Import(t.Context(), importer.Options{Source: source, DryRun: true}, strings.NewReader(export), io.Discard)
		}
	})
}
