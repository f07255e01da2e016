// Package deploy holds what an operator is given to the server that it is for: the alert rules do what
// they say, the dashboard and the rules ask for metrics that a node has, and whatever stops a node waits
// for it. It has only tests.
//
// It hides how rules and dashboards are taken apart.
package deploy

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/app"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// stopping is what a node needs at a stop beyond FANFARE_GRACE: clients get the answers that they wait
// for, and what the last requests brought back is recorded.
const stopping = time.Minute

func TestNodesGetTheTimeToStop(t *testing.T) {
	variables := app.Variables()
	i := slices.IndexFunc(variables, func(v app.Variable) bool { return v.Name == "FANFARE_GRACE" })
	if i < 0 {
		t.Fatal("there is no FANFARE_GRACE")
	}
	grace, err := time.ParseDuration(variables[i].Default)
	if err != nil {
		t.Fatal(err)
	}
	for file, setting := range map[string]*regexp.Regexp{
		"compose.yaml":    regexp.MustCompile(`(?s)\n  fanfare:\n.*?stop_grace_period: (\d+)s.*\n  postgres:\n`),
		"fanfare.service": regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`),
	} {
		m := setting.FindStringSubmatch(read(t, file))
		if m == nil {
			t.Errorf("%s does not say how long a node may take to stop", file)
			continue
		}
		if wait, _ := time.ParseDuration(m[1] + "s"); wait < grace+stopping {
			t.Errorf("%s kills a node after %s; it may need %s", file, wait, grace+stopping)
		}
	}
}

var variable = regexp.MustCompile(`\bFANFARE_\w+`)

func TestFilesSetVariablesThatANodeReads(t *testing.T) {
	variables := app.Variables()
	for _, file := range []string{"compose.yaml", "Containerfile", "fanfare.service", "fanfare.env.example"} {
		names := variable.FindAllString(read(t, file), -1)
		if names == nil {
			t.Errorf("%s names no variable: it is not read as it is written", file)
		}
		for _, name := range names {
			if !slices.ContainsFunc(variables, func(v app.Variable) bool { return v.Name == name }) {
				t.Errorf("%s names %s, which no node reads", file, name)
			}
		}
	}
}
