package architecture

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// allowed is what each package may import beside the standard library: packages of this module by their
// path below it, libraries by the path of their module. Tests may import what they like.
//
// It goes one way: cmd → internal/app → api → dispatcher → registry → internal/store → the root;
// retry and signature are leaves. The standard library alone is signature's, because receivers import it.
var allowed = map[string][]string{
	".":         {uuid},
	"signature": {},
	"retry":     {"."},

	"internal/version": {},
	"internal/filter":  {},
	"internal/schema":  {"github.com/santhosh-tekuri/jsonschema/v6", "github.com/go-json-experiment/json", "golang.org/x/text"},
	"internal/seal":    {".", uuid},
	"internal/shape":   {".", uuid},
	"internal/echo":    {".", "signature", uuid},
	"internal/egress":  {".", "code.dny.dev/ssrf", "golang.org/x/net"},
	"internal/devpg":   {".", pgx},
	"internal/store":   {".", "internal/weaken", uuid, pgx, "github.com/jackc/puddle/v2"},
	"migrations":       {pgx, "github.com/pressly/goose/v3"},

	"internal/mail":     {".", "internal/outbox", "internal/store", "retry", uuid, "github.com/wneessen/go-mail"},
	"internal/disabler": {".", "internal/store", "retry", uuid},

	"registry":   {".", "retry", "internal/store", "internal/seal", "internal/filter", "internal/schema", "internal/shape", "signature", uuid, prometheus},
	"dispatcher": {".", "registry", "internal/schema", "internal/store", "internal/egress", "internal/seal", "internal/shape", "internal/weaken", "retry", "signature", uuid, prometheus},
	"api": {
		".", "dispatcher", "registry", "internal/disabler", "internal/store", "internal/tail", "internal/echo", "internal/egress", "internal/seal", "internal/filter",
		"internal/schema", "internal/shape", "retry", "signature",
		uuid, prometheus, "github.com/gorilla/mux", "github.com/go-json-experiment/json",
	},
	"internal/outbox": {"dispatcher", "internal/store", uuid},
	"internal/tail":   {".", "internal/store", uuid, prometheus},
	"internal/catalog": {
		".", "api", "internal/store", "go.yaml.in/yaml/v3", "github.com/go-json-experiment/json",
	},
	// Clients of the API, on an operator's or a developer's machine. How shapes and headers are written is said in one place.
	"internal/client":   {uuid},
	"internal/importer": {"internal/client", "internal/shape"},
	"internal/listen":   {".", "internal/client", "internal/shape", "signature", uuid},

	"internal/app": {
		".", "api", "dispatcher", "registry", "retry", "migrations", "internal/store", "internal/catalog", "internal/disabler", "internal/mail", "internal/outbox",
		"internal/tail", "internal/egress", "internal/client", // what `fanfare dev` writes for its clients
		"internal/seal",
		"internal/echo", "internal/devpg", "internal/version", uuid, prometheus, "github.com/caarlos0/env/v11",
	},
	// keys create and migrate work without a running node, on the store itself.
	"cmd/fanfare": {
		".", "internal/app", "internal/bench", "internal/catalog", "internal/client", "internal/importer", "internal/listen", "internal/store", "internal/version",
		"migrations", "signature", uuid, "github.com/spf13/cobra",
	},
	// It measures a node from outside, as a process.
	"internal/bench": {"internal/client", "signature", "internal/version"},

	// For readers: what a receiver imports.
	"examples/receivers/go": {"signature"},

	// Switches of tests; a leaf, so that every protection can ask it.
	"internal/weaken": {},

	// For tests and for making documentation: no other package may import them.
	"internal/pgtest":           {"internal/devpg", "migrations", pgx, "go.uber.org/goleak"},
	"internal/receivers":        {"github.com/standard-webhooks/standard-webhooks/libraries"},
	"internal/architecture":     {},
	"internal/e2e":              {},
	"internal/lab":              {},
	"api/internal/docpage":      {"github.com/getkin/kin-openapi"},
	"deploy":                    {},
	"deploy/internal/configdoc": {"internal/app"},
}

const (
	uuid       = "github.com/google/uuid"
	pgx        = "github.com/jackc/pgx/v5"
	prometheus = "github.com/prometheus/client_golang"
)

func TestImportsGoOneWay(t *testing.T) {
	all := packages(t)
	report(t, importFaults(all, allowed))
	for name := range allowed {
		if !slices.ContainsFunc(all, func(p *pkg) bool { return p.short() == name }) {
			t.Errorf("the table names %s, which is no package", name)
		}
	}
}

// The table itself may hold no circle, or it would allow one.
func TestTheTableOfImportsHasNoCircle(t *testing.T) {
	if circle := circleIn(allowed); circle != nil {
		t.Errorf("circle: %s", strings.Join(circle, " → "))
	}
}

// importFaults lists every import that the table does not have.
func importFaults(all []*pkg, allowed map[string][]string) (faults []string) {
	for _, p := range all {
		may, known := allowed[p.short()]
		if !known {
			faults = append(faults, fmt.Sprintf("%s is not in the table of allowed imports: say there what it may import", p.short()))
			continue
		}
		for _, path := range p.Imports {
			if !inStandardLibrary(path) && !slices.ContainsFunc(may, func(m string) bool { return covers(m, path) }) {
				faults = append(faults, fmt.Sprintf("%s may not import %s", p.short(), short(path)))
			}
		}
	}
	return faults
}

// covers reports whether the table's entry allows the import of path.
func covers(entry, path string) bool {
	if path == module || strings.HasPrefix(path, module+"/") {
		return entry == short(path)
	}
	return path == entry || strings.HasPrefix(path, entry+"/")
}

// inStandardLibrary goes by the rule that only the standard library's paths begin without a domain.
func inStandardLibrary(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// circleIn returns a circle of the table, nil if there is none.
func circleIn(allowed map[string][]string) []string {
	var circle []string
	done := make(map[string]bool)
	var visit func(name string, way []string) bool
	visit = func(name string, way []string) bool {
		if i := slices.Index(way, name); i >= 0 {
			circle = append(slices.Clone(way[i:]), name)
			return true
		}
		if done[name] {
			return false
		}
		done[name] = true
		for _, next := range allowed[name] {
			if visit(next, append(way, name)) {
				return true
			}
		}
		return false
	}
	for name := range allowed {
		if visit(name, nil) {
			return circle
		}
	}
	return nil
}

func TestImportFaults(t *testing.T) {
	table := map[string][]string{
		".":              {},
		"internal/store": {".", pgx},
		"api":            {"internal/store"},
	}
	for _, c := range []struct {
		name    string
		path    string
		imports []string
		faults  int
	}{
		{"what the table has", "internal/store", []string{"context", "encoding/json", module, pgx, pgx + "/pgxpool"}, 0},
		{"against the direction", "internal/store", []string{module + "/api"}, 1},
		{"past a layer", "api", []string{module}, 1},
		{"another's library", "api", []string{pgx}, 1},
		{"a name that only begins alike", "internal/store", []string{pgx + "extra"}, 1},
		{"a package below an allowed one", "api", []string{module + "/internal/store/sub"}, 1},
		{"a leaf that imports", "", []string{uuid, module + "/api"}, 2},
		{"a package that nobody put in the table", "helpers", nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pkg{ImportPath: strings.TrimSuffix(module+"/"+c.path, "/"), Imports: c.imports}
			if got := importFaults([]*pkg{p}, table); len(got) != c.faults {
				t.Errorf("%d faults, want %d: %q", len(got), c.faults, got)
			}
		})
	}
}

func TestCircleIn(t *testing.T) {
	if c := circleIn(map[string][]string{"a": {"b", "c"}, "b": {"c"}, "c": {"lib"}}); c != nil {
		t.Errorf("a circle where there is none: %v", c)
	}
	if c := circleIn(map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"b"}}); len(c) != 3 {
		t.Errorf("b → c → b was not found: %v", c)
	}
}
