package store_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// statements reads out of this package's source every statement that is given as a constant to a method
// that sends it, by where it is sent.
func statements(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var (
		fset   = token.NewFileSet()
		files  []*ast.File
		consts = make(map[string]ast.Expr)
	)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i := range spec.Values {
					consts[spec.Names[i].Name] = spec.Values[i]
				}
			}
			return true
		})
	}
	found := make(map[string]string)
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Query", "QueryRow", "Exec", "Queue"}, method.Sel.Name) {
				return true
			}
			at := 1
			if method.Sel.Name == "Queue" {
				at = 0
			}
			if len(call.Args) <= at {
				return true
			}
			if sql, ok := evaluate(call.Args[at], consts); ok {
				p := fset.Position(call.Pos())
				found[fmt.Sprintf("%s:%d:%d", p.Filename, p.Line, p.Column)] = sql
			}
			return true
		})
	}
	return found
}

// evaluate is the value of a constant string expression.
func evaluate(e ast.Expr, consts map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		value, ok := consts[e.Name]
		if !ok {
			return "", false
		}
		return evaluate(value, consts)
	case *ast.BinaryExpr:
		left, ok1 := evaluate(e.X, consts)
		right, ok2 := evaluate(e.Y, consts)
		return left + right, ok1 && ok2 && e.Op == token.ADD
	case *ast.ParenExpr:
		return evaluate(e.X, consts)
	}
	return "", false
}

func TestEveryStatementIsPreparedOnTheSchema(t *testing.T) {
	f := openLog(t)
	conn := f.connect(t)
	all := statements(t)
	if len(all) < 30 {
		t.Fatalf("only %d statements were found: %v", len(all), all)
	}
	for where, sql := range all {
		if _, err := conn.Prepare(t.Context(), "", sql); err != nil {
			t.Errorf("%s: %v\n%s", where, err, sql)
		}
	}
}
