package schema

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// compilePattern compiles a regular expression that takes neither long nor much memory. Matching never
// goes back (RE2).
func compilePattern(pattern string) (*regexp.Regexp, error) {
	if _, err := measurePattern(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(pattern)
}

// measurePattern is how many steps a pattern's program has, about.
func measurePattern(pattern string) (steps int, err error) {
	if len(pattern) > maxPattern {
		return 0, fmt.Errorf("is a pattern of more than %d bytes", maxPattern)
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("is not a regular expression of RE2: %w", err)
	}
	if steps = programSize(tree); steps > maxProgram {
		return 0, fmt.Errorf("is too large a pattern")
	}
	return steps, nil
}

// programSize counts what a tree becomes when its repetitions are written out; beyond maxProgram it is
// only more than that.
func programSize(tree *syntax.Regexp) int {
	size := 1
	switch tree.Op {
	case syntax.OpLiteral:
		size += len(tree.Rune)
	case syntax.OpCharClass: // a range of characters is two runes
		size += len(tree.Rune) / 16
	}
	for _, sub := range tree.Sub {
		size = min(size+programSize(sub), maxProgram+1)
	}
	if tree.Op == syntax.OpRepeat {
		size *= max(tree.Min, tree.Max, 1)
	}
	return min(size, maxProgram+1)
}
