package schema

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Budget is how much work the checks of one request may be. Each check takes what it may cost.
type Budget struct{ left int }

// The units of work are evaluations of a subschema, some tenths of a microsecond each.
const (
	maxCallWork  = 1 << 20
	maxEventWork = 150_000 // more than the largest event has values
	bigWork      = 4096    // what is cheap enough to be done many times at once
	stepsPerUnit = 32      // bytes × steps of a pattern that cost as much as an evaluation
)

// NewBudget is what one request may spend.
func NewBudget() *Budget { return &Budget{left: maxCallWork} }

// maxViolations bounds how many faults of one event are named.
const maxViolations = 20

// Check names what is wrong with an event's data, which is a JSON object, with pointers into it; nothing if
// it satisfies the schema. Data whose check could cost too much is refused as [TooCostly]. Without a budget
// only what one event may cost counts.
func (s *Schema) Check(data []byte, b *Budget) []Fault {
	work := s.factor.evaluations*values(data) + s.factor.steps*len(data)/stepsPerUnit
	if !b.take(work) {
		return costly
	}
	if work > bigWork {
		s.big.Lock()
		defer s.big.Unlock()
	}
	v, err := decode(data)
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return []Fault{{pointerTo(slices.Collect(syntax.JSONPointer.Tokens())), Violation, "stands here twice"}}
	case err != nil:
		return []Fault{{"", Violation, "cannot be read"}}
	}
	if faults := plain(v, nil, nil); len(faults) > 0 {
		sortFaults(faults)
		return faults
	}
	if s.factor.unique > 0 && !b.take(s.factor.unique*comparisons(v)) {
		return costly
	}
	faults := faultsOf(s.compiled.Validate(v), Violation)
	return faults[:min(len(faults), maxViolations)]
}

var costly = []Fault{{"", TooCostly, "is too much to be checked against the schema of the event type"}}

func (b *Budget) take(work int) bool {
	if work > maxEventWork || b != nil && work > b.left {
		return false
	}
	if b != nil {
		b.left -= work
	}
	return true
}

// values is how many values and names JSON has, at most.
func values(raw []byte) int {
	n, text := 1, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			text = !text
		case text && c == '\\':
			i++
		case !text && (c == ',' || c == ':' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// comparisons is how much work it is to compare the elements of every array with each other. The library
// finds texts and numbers that are equal by their hash; different arrays or objects, however, may be made
// to have one, and then each is compared with each.
func comparisons(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, v := range v {
			n += comparisons(v)
		}
	case []any:
		composite := 0
		for _, v := range v {
			switch v.(type) {
			case map[string]any, []any:
				composite++
			}
			n += comparisons(v)
		}
		n += max(composite, 1) * size(v)
	}
	return n
}

const (
	maxDigits    = 200
	maxExponent  = 500
	detailNumber = "is a number of more than 200 characters or with an exponent of more than 500"
)

// plainNumber says whether a number is cheap to calculate with: 1e999999999 is not.
func plainNumber(n json.Number) bool {
	if len(n) > maxDigits {
		return false
	}
	i := strings.IndexAny(string(n), "eE")
	if i < 0 {
		return true
	}
	exponent, err := strconv.Atoi(string(n[i+1:]))
	return err == nil && -maxExponent <= exponent && exponent <= maxExponent
}

// plain names numbers that are not. The steps lead to v.
func plain(v any, steps []string, faults []Fault) []Fault {
	switch v := v.(type) {
	case json.Number:
		if !plainNumber(v) && len(faults) < maxViolations {
			faults = append(faults, Fault{pointerTo(steps), TooLong, detailNumber})
		}
	case map[string]any:
		for name, v := range v {
			faults = plain(v, append(steps, name), faults)
		}
	case []any:
		for i, v := range v {
			if n, ok := v.(json.Number); ok && plainNumber(n) { // its place need not be spelled
				continue
			}
			faults = plain(v, append(steps, strconv.Itoa(i)), faults)
		}
	}
	return faults
}
