// Package architecture holds the tree to its own rules: who may import whom, that every package says what
// it hides, and that tests wait for what they need instead of sleeping. It has only tests.
//
// It hides how the rules are read out of the source. A rule that stands in the way is changed here, in
// the same commit and with a reason, not worked around.
package architecture

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/fanfare-webhooks/fanfare"

// root is the module's directory, seen from this package's.
const root = "../.."

// pkg is a package of the module, as `go list` knows it.
type pkg struct {
	ImportPath   string
	Name         string
	Dir          string
	Imports      []string // of the files that are no tests
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
}

// short is the import path below the module: "." for its root.
func (p *pkg) short() string { return short(p.ImportPath) }

func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// packages lists the packages of the module. One that does not compile is another check's business.
func packages(t *testing.T) []*pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Dir,Imports,GoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", cmd, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []*pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &pkg{}
		err := dec.Decode(p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list knows only %d packages: it was asked for the wrong directory", len(all))
	}
	return all
}

// source is one parsed Go file.
type source struct {
	path string // below the module's root, with slashes
	fset *token.FileSet
	file *ast.File
}

// parse reads Go source; text may be what go/parser takes, nil for the file itself.
func parse(t *testing.T, path string, text any) *source {
	t.Helper()
	s := &source{path: path, fset: token.NewFileSet()}
	name := path
	if text == nil {
		name = filepath.Join(root, path)
	}
	var err error
	if s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		t.Fatal(err)
	}
	return s
}

// line is where n begins.
func (s *source) line(n ast.Node) int { return s.fset.Position(n.Pos()).Line }

// importName is the name that the file gives to the package at path, "" if it does not import it.
func (s *source) importName(path string) string {
	for _, spec := range s.file.Imports {
		if strings.Trim(spec.Path.Value, `"`) != path {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndex(path, "/")+1:]
	}
	return ""
}

// testSources parses every test of the module, also those behind a build tag.
func testSources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := len(e.Name()) > 2 && strings.HasPrefix(e.Name(), ".")
		if e.IsDir() && (hidden || slices.Contains([]string{"bin", "node_modules", "testdata"}, e.Name())) {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		all = append(all, parse(t, filepath.ToSlash(below), nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d tests were found: the walk began in the wrong directory", len(all))
	}
	return all
}

// report fails t with each fault.
func report(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}
