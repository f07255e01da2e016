// Package filter is the language in which a webhook says which events it wants beyond their types:
// conditions on an event (filters) and values of what an event type declares (modifiers).
//
// It hides how they are read, with every fault named by its place, and how they are decided: on the
// bytes of the event's data, in one pass for any number of filters, without a tree of the data, with
// numbers of any precision, and with a bound on the work that no event and no filter can exceed. It
// imports only the standard library.
//
// A condition holds, does not hold, or cannot be decided: because the value is missing, stands in its
// object twice, or is of a type that the operator does not compare. What cannot be decided stays so
// under $not, and an event whose filter cannot be decided does not match.
package filter

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The limits of a filter.
const (
	MaxSize       = 4 << 10 // bytes, as it is given
	MaxConditions = 64
	MaxDepth      = 16 // objects and arrays inside each other
)

// maxStored is the largest canonical form that is read back. It is longer than the given at worst where that
// is 1e19, which becomes 20 digits: five times as long.
const maxStored = 6 * MaxSize

// Code says for programs what kind of fault it is.
type Code string

// The codes of faults.
const (
	UnknownField   Code = "unknown_field"
	DuplicateField Code = "duplicate_field"
	Required       Code = "required"
	WrongType      Code = "wrong_type"
	TooLong        Code = "too_long"
	TooMany        Code = "too_many"
	TooFew         Code = "too_few"
	TooDeep        Code = "too_deep"
	OutOfRange     Code = "out_of_range"
	InvalidText    Code = "invalid_text"
	InvalidFormat  Code = "invalid_format"
	InvalidValue   Code = "invalid_value"
)

// Fault is one thing that is wrong with what was given.
type Fault struct {
	Pointer string // where, from the beginning of what was given (RFC 6901)
	Code    Code
	Detail  string // for people: "must be an object"
}

func (f Fault) String() string { return fmt.Sprintf("%s %s", f.Pointer, f.Detail) }

// Filter is a filter that was read and is sound. It never changes and may be used by many goroutines.
type Filter struct {
	paths   [][]string // the places that it looks at, each once; the first step is type, data or account_id
	program []instr    // a tree, each part before what belongs to it; empty: it holds for every event
}

// Parse reads a filter and names every fault of one that is not sound.
func Parse(raw []byte) (*Filter, []Fault) {
	t, faults := parse(raw, MaxSize)
	if len(faults) > 0 {
		return nil, faults
	}
	f, _ := compile(t)
	return f, nil
}

// ParseStored reads the form that [Canonical] made.
func ParseStored(canonical []byte) (*Filter, error) {
	t, faults := parse(canonical, maxStored)
	if len(faults) > 0 {
		return nil, fmt.Errorf("the filter cannot be read: %s", strings.TrimSpace(faults[0].String()))
	}
	f, _ := compile(t)
	return f, nil
}

// instr is a part of a filter: a combinator, or a condition on one place.
type instr struct {
	op    op
	end   uint16   // behind what belongs to it
	place uint16   // in the filter's paths
	value Scalar   // the operand
	set   []Scalar // the operands of $in and $nin, sorted
}

// op is an operator.
type op uint8

const (
	opAnd op = iota
	opOr
	opNot
	opEq
	opNe
	opGt
	opGte
	opLt
	opLte
	opIn
	opNin
	opStartsWith
	opEndsWith
	opContains
	opExists
)

var operators = map[string]op{
	"$and": opAnd, "$or": opOr, "$not": opNot, "$eq": opEq, "$ne": opNe, "$gt": opGt, "$gte": opGte, "$lt": opLt, "$lte": opLte,
	"$in": opIn, "$nin": opNin, "$starts_with": opStartsWith, "$ends_with": opEndsWith, "$contains": opContains, "$exists": opExists,
}

const operatorNames = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $starts_with, $ends_with, $contains, $exists, $and, $or, $not"

// tree is a filter as it was read.
type tree struct {
	op    op
	at    string // pointer
	path  []string
	value Scalar
	set   []Scalar
	kids  []*tree
}

// compile makes a program of a tree and says where each part of it was given. A nil tree holds always.
func compile(t *tree) (*Filter, []string) {
	f := &Filter{}
	if t == nil {
		return f, nil
	}
	var at []string
	places := make(map[string]uint16)
	var add func(t *tree)
	add = func(t *tree) {
		in := instr{op: t.op, value: t.value, set: t.set}
		if t.op > opNot {
			key := joinPath(t.path)
			place, ok := places[key]
			if !ok {
				place = uint16(len(f.paths))
				places[key] = place
				f.paths = append(f.paths, t.path)
			}
			in.place = place
		}
		self := len(f.program)
		f.program = append(f.program, in)
		at = append(at, t.at)
		for _, kid := range t.kids {
			add(kid)
		}
		f.program[self].end = uint16(len(f.program))
	}
	add(t)
	f.program = append(make([]instr, 0, len(f.program)), f.program...)
	return f, at
}

// joinPath makes one text of a path, different for different paths.
func joinPath(path []string) string {
	var b strings.Builder
	for _, step := range path {
		b.WriteByte('/')
		b.WriteString(escapeStep(step))
	}
	return b.String()
}

// escapeStep makes a name a step of a JSON Pointer.
func escapeStep(name string) string {
	if !strings.ContainsAny(name, "~/") {
		return name
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// wellFormed checks what everything else here relies on: the text is one JSON value in UTF-8, no larger
// than most bytes and no deeper than deepest.
func wellFormed(raw []byte, most, deepest int) []Fault {
	switch {
	case len(raw) > most:
		return []Fault{{Code: TooLong, Detail: fmt.Sprintf("has more than %d bytes", most)}}
	case !utf8.Valid(raw) || !json.Valid(raw):
		return []Fault{{Code: InvalidFormat, Detail: "is not JSON"}}
	case depth(raw) > deepest:
		return []Fault{{Code: TooDeep, Detail: fmt.Sprintf("is nested more than %d levels deep", deepest)}}
	}
	return nil
}

// Empty says whether it holds for every event.
func (f *Filter) Empty() bool { return len(f.program) == 0 }

// Steps is how many names the places of a filter are made of, and so the most that it adds to [Paths].
func (f *Filter) Steps() (n int) {
	for _, path := range f.paths {
		n += len(path) - 1
	}
	return n
}

// Equality is a condition without which a filter cannot hold: at a place stands one of some values, or
// an array that has one of them.
type Equality struct {
	Place  int // of the filter's places, in the order of [Draft.Bind]
	Values []Scalar
}

// Equalities lists those of a filter.
func (f *Filter) Equalities() []Equality {
	var list []Equality
	for i := 0; i < len(f.program); {
		switch in := &f.program[i]; in.op {
		case opAnd:
			i++ // what belongs to it is as necessary as it is
			continue
		case opEq:
			list = append(list, Equality{int(in.place), []Scalar{in.value}})
		case opIn:
			list = append(list, Equality{int(in.place), in.set})
		}
		i = int(f.program[i].end)
	}
	return list
}
