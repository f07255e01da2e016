package deploy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	rulesFile     = "prometheus/rules.yaml"
	dashboardFile = "grafana/fanfare.json"
)

// ruleTests are the files in which promtool finds what raises each alert.
var ruleTests = []string{"prometheus/rules_test.yaml", "prometheus/service_level_test.yaml"}

// promtool runs Prometheus' own checker. Where it is missing and cannot be had, the test is skipped.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.CommandContext(t.Context(), "./promtool.sh").Output()
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		const notHere = 3
		if exit.ExitCode() == notHere {
			t.Skipf("the alert rules are not tested: %s", exit.Stderr)
		}
		t.Fatalf("promtool.sh: %s", exit.Stderr)
	}
	out, err := exec.CommandContext(t.Context(), strings.TrimSpace(string(path)), args...).CombinedOutput()
	return string(out), err
}

func TestTheAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	for _, file := range ruleTests {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if out, err := promtool(t, "test", "rules", file); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// Tests that pass whatever the rules say would prove nothing.
func TestTheTestsOfAlertsCanFail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"rules.yaml":      strings.Replace(read(t, rulesFile), "fanfare_lease_age_seconds > 5", "fanfare_lease_age_seconds > 500", 1),
		"rules_test.yaml": read(t, ruleTests[0]),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := promtool(t, "test", "rules", filepath.Join(dir, "rules_test.yaml")); err == nil || !strings.Contains(out, "FanfareLeaseLost") {
		t.Errorf("an alert that never fires went unnoticed: %v\n%s", err, out)
	}
}

func TestEveryAlertHasATestAndSaysWhatToDo(t *testing.T) {
	text := read(t, rulesFile)
	var tests strings.Builder
	for _, file := range ruleTests {
		tests.WriteString(read(t, file))
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatchIndex(text, -1)
	if len(alerts) < 15 {
		t.Fatalf("only %d alerts were found", len(alerts))
	}
	for i, at := range alerts {
		name, body := text[at[2]:at[3]], text[at[1]:]
		if i+1 < len(alerts) {
			body = text[at[1]:alerts[i+1][0]]
		}
		if !strings.Contains(tests.String(), `alertname="`+name+`"`) {
			t.Errorf("no test raises %s", name)
		}
		for _, part := range []string{"severity: ", "summary: ", "description: "} {
			if !strings.Contains(body, part) {
				t.Errorf("%s has no %s", name, strings.TrimSuffix(part, ": "))
			}
		}
	}
}

// Prometheus itself reads the panels' queries, as if they were rules.
func TestPanelsAskInPromQL(t *testing.T) {
	t.Parallel()
	check := func(exprs []query) error {
		var file strings.Builder
		file.WriteString("groups:\n- name: panels\n  rules:\n")
		for i, q := range exprs {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(q.expr)
			fmt.Fprintf(&file, "  - {record: 'panel:%d', expr: '%s'}\n", i, expr)
		}
		path := filepath.Join(t.TempDir(), "panels.yaml")
		if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := promtool(t, "check", "rules", path); err != nil {
			return fmt.Errorf("%w\n%s\n%s", err, out, file.String())
		}
		return nil
	}
	if err := check(panels(t)); err != nil {
		t.Error(err)
	}
	if err := check([]query{{expr: "sum by (job (up)"}}); err == nil {
		t.Error("promtool takes anything for PromQL")
	}
}
