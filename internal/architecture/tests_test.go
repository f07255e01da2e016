package architecture

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maySleep are the tests that sleep for another reason than to wait, and the reason.
var maySleep = map[string]string{
	"internal/egress/hostile_test.go": "its receivers are slow on purpose",
}

func TestNoTestSleeps(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range testSources(t) {
		faults := sleepFaults(s)
		if _, ok := maySleep[s.path]; ok {
			used[s.path] = len(faults) > 0
			continue
		}
		report(t, faults)
	}
	for path := range maps.Keys(maySleep) {
		if !used[path] {
			t.Errorf("%s does not sleep any more: take it out of the list", path)
		}
	}
}

// sleepFaults lists the calls of time.Sleep. Two are no fault: in a file of testing/synctest, whose
// sleeps take no time, and as the step of a poll: for deadline := …; !done(); time.Sleep(…).
func sleepFaults(s *source) (faults []string) {
	name := s.importName("time")
	if name == "" || s.importName("testing/synctest") != "" {
		return nil
	}
	steps := make(map[ast.Node]bool)
	ast.Inspect(s.file, func(n ast.Node) bool {
		if loop, ok := n.(*ast.ForStmt); ok && loop.Init != nil && loop.Cond != nil {
			if step, ok := loop.Post.(*ast.ExprStmt); ok {
				steps[step.X] = true
			}
		}
		if call, ok := n.(*ast.CallExpr); ok && isCall(call, name, "Sleep") && !steps[n] {
			faults = append(faults, fmt.Sprintf("%s:%d sleeps: wait for a signal, or poll with a deadline", s.path, s.line(n)))
		}
		return true
	})
	return faults
}

func isCall(call *ast.CallExpr, pkg, function string) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != function {
		return false
	}
	x, ok := f.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func TestNoTestListensOnAFixedPort(t *testing.T) {
	for _, s := range testSources(t) {
		report(t, portFaults(s))
	}
}

var (
	fixedPort = regexp.MustCompile(`^(?:[\w.-]*|\[[^]]*\]):0*[1-9]\d*$`)
	listeners = regexp.MustCompile(`^Listen\w*$`)
	options   = regexp.MustCompile(`^(?:Addr|Admin|\w*Listen|FANFARE_\w*LISTEN)$`)
)

// portFaults lists what looks like a listener on a port of the test's choice, which another process may
// have: a literal "host:port" that is handed to a function Listen…, or that is the value of a listener's
// option.
func portFaults(s *source) (faults []string) {
	check := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if ok && lit.Kind == token.STRING && fixedPort.MatchString(strings.Trim(lit.Value, "\"`")) {
			faults = append(faults, fmt.Sprintf("%s:%d listens on %s: take port 0 and ask which it is", s.path, s.line(e), lit.Value))
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if listeners.MatchString(lastName(n.Fun)) {
				for _, arg := range n.Args {
					check(arg)
				}
			}
		case *ast.KeyValueExpr:
			if options.MatchString(lastName(n.Key)) {
				check(n.Value)
			}
		}
		return true
	})
	return faults
}

// lastName is the last part of a name or selector, or what a string literal says.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.BasicLit:
		return strings.Trim(e.Value, "\"`")
	default:
		return ""
	}
}

func TestSleepFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		source string
		faults int
	}{
		{"waits", `import "time"; func f() { <-time.After(1); time.Now() }`, 0},
		{"sleeps", `import "time"; func f() { time.Sleep(1); time.Sleep(2) }`, 2},
		{"sleeps under another name", `import clock "time"; func f() { clock.Sleep(1) }`, 1},
		{"polls with a deadline", `import "time"; func f() { for end := time.Now(); !is(end); time.Sleep(1) { g() } }`, 0},
		{"loops without an end", `import "time"; func f() { for { time.Sleep(1) } }`, 1},
		{"sleeps inside a poll", `import "time"; func f() { for end := time.Now(); !is(end); time.Sleep(1) { time.Sleep(1) } }`, 1},
		{"another's Sleep", `import "x/bed"; func f() { bed.Sleep(1) }`, 0},
		{"virtual time", `import ("time"; "testing/synctest"); func f() { synctest.Test(t, g); time.Sleep(1) }`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sleepFaults(parse(t, "x_test.go", "package x; "+c.source)); len(got) != c.faults {
				t.Errorf("%d faults, want %d: %q", len(got), c.faults, got)
			}
		})
	}
}

func TestPortFaults(t *testing.T) {
	cases := map[string]int{
		`net.Listen("tcp", "127.0.0.1:0")`:                               0,
		`net.Listen("tcp", "127.0.0.1:8080")`:                            1,
		`net.Listen("tcp", ":8080")`:                                     1,
		`net.Listen("tcp", "[::1]:8080")`:                                1,
		`http.ListenAndServe("localhost:8080", nil)`:                     1,
		`get("http://127.0.0.1:8080/")`:                                  0, // a URL in a table
		`net.Dial("tcp", "127.0.0.1:5432")`:                              0,
		`use(http.Server{Addr: "localhost:80"})`:                         1,
		`use(http.Server{Addr: addr})`:                                   0,
		`use(Config{Listen: ":8080", AdminListen: "127.0.0.1:9090"})`:    2,
		`use(Config{Listen: "127.0.0.1:0", AdminListen: "localhost:0"})`: 0,
		`use(map[string]string{"FANFARE_ADMIN_LISTEN": ":9090"})`:        1,
		`use(map[string]string{"FANFARE_PUBLIC_URL": "x:9090"})`:         0,
	}
	for _, statement := range slices.Sorted(maps.Keys(cases)) {
		t.Run(statement, func(t *testing.T) {
			want := cases[statement]
			if got := portFaults(parse(t, "x_test.go", "package x; func f() { "+statement+" }")); len(got) != want {
				t.Errorf("%d faults, want %d: %q", len(got), want, got)
			}
		})
	}
}
