package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// listed is the catalog's part that a file brought, as "name archived".
func (n *node) listed() string {
	n.Helper()
	var page struct {
		Data []struct {
			Name, Origin string
			Archived     bool
		}
	}
	n.must("GET", "/v1/event-types", "", nil, &page)
	var list []string
	for _, e := range page.Data {
		if e.Origin != "file" {
			continue
		}
		if e.Archived {
			e.Name += " archived"
		}
		list = append(list, e.Name)
	}
	return strings.Join(list, ", ")
}

func TestACatalogFileIsAppliedAtTheStartAndByACommand(t *testing.T) {
	n := dev(t)
	dir := t.TempDir()
	write := func(text string) string {
		t.Helper()
		path := filepath.Join(dir, "catalog.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	apply := func(args ...string) (out string, code int) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"catalog", "apply"}, args...)...)
		cmd.Env = append(os.Environ(), "FANFARE_DATABASE_URL="+n.cred.DatabaseURL)
		text, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(text), cmd.ProcessState.ExitCode()
	}

	path := write("event_types:\n  order.placed: {schema: {required: [id]}}\n  order.sent:\n")
	other := n.beside("FANFARE_CATALOG", path)
	if got := other.listed(); got != "order.placed, order.sent" {
		t.Errorf("after the start: %s", got)
	}

	path = write("event_types:\n  order.placed: {schema: {required: [number]}}\n")
	want := "~ order.placed: schema\n- order.sent: archived, since the file lacks it\n0 added, 1 changed, 1 archived, 0 unchanged\n"
	if out, code := apply(path, "--dry-run"); code != 0 || out != want+"nothing was written: this was a dry run\n" {
		t.Errorf("dry run: %d\n%s", code, out)
	}
	if got := other.listed(); got != "order.placed, order.sent" {
		t.Errorf("after the dry run: %s", got)
	}
	if out, code := apply(path); code != 0 || out != want {
		t.Errorf("apply: %d\n%s", code, out)
	}
	for _, node := range []*node{n, other} { // neither has been told
		var answer any
		events := "/v1/accounts/" + n.cred.AccountID.String() + "/events"
		status := node.call("POST", events, n.cred.PlatformKey, map[string]any{"type": "order.placed", "data": map[string]any{"id": 1}}, &answer)
		if status != 422 {
			t.Errorf("what the old schema asked for: %d %v", status, answer)
		}
		if status := node.call("POST", events, n.cred.PlatformKey, map[string]any{"type": "order.sent", "data": map[string]any{}}, &answer); status != 202 {
			t.Errorf("an event of an archived type: %d", status)
		}
	}
	if got := other.listed(); got != "order.placed, order.sent archived" {
		t.Errorf("after it was applied: %s", got)
	}

	path = write("event_types:\n  order.paid: {}\n  order.placed: {group: 1}\n  Order: {}\n")
	out, code := apply(path)
	if code != 1 || !strings.Contains(out, "line 3: /event_types/order.placed/group") || !strings.Contains(out, "line 4: /event_types/Order ") {
		t.Errorf("a wrong file: %d\n%s", code, out)
	}
	if got := other.listed(); got != "order.placed, order.sent archived" {
		t.Errorf("after it was refused: %s", got)
	}
}
