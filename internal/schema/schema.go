// Package schema checks the data of events against the JSON Schema (2020-12) of their type.
//
// It hides the library that does it and how that is kept from running away: what a schema may cost is
// computed from its shape before the library sees it, and what an event may cost before it is checked.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The limits of a schema.
const (
	MaxSize       = 64 << 10 // bytes
	maxDepth      = 64       // arrays and objects inside each other
	maxPointer    = 1000     // bytes of a JSON Pointer into it
	maxSubschemas = 500
	maxPattern    = 500 // bytes
	maxProgram    = 500 // steps of a pattern
	maxPrograms   = 5000
	maxFaults     = 100
)

// Dialect is the only value that $schema may have.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// Code is what is wrong, for programs.
type Code string

// The codes.
const (
	InvalidValue Code = "invalid_value"
	InvalidRef   Code = "invalid_reference"
	TooCostly    Code = "too_costly"
	TooDeep      Code = "too_deep"
	TooLong      Code = "too_long"
	TooMany      Code = "too_many"
	WrongType    Code = "wrong_type"
	// Violation is that data does not satisfy a schema.
	Violation Code = "schema_violation"
)

// Fault is one thing that is wrong with what was given.
type Fault struct {
	Pointer string // where, from the beginning of what was given (RFC 6901)
	Code    Code
	Detail  string // for people: "must be an object"
}

func (f Fault) String() string { return fmt.Sprintf("%s %s", f.Pointer, f.Detail) }

// Schema is a schema that was read and is sound. It may be used by many goroutines.
type Schema struct {
	compiled *jsonschema.Schema
	factor   factor

	// big is held by whoever checks much data at once: what was found wrong with it stays in memory until the
	// end of the check.
	big sync.Mutex
}

// Parse reads a schema, which is well-formed JSON with unique names, and names every fault of one that is
// not sound.
func Parse(raw []byte) (*Schema, []Fault) {
	s, faults := parse(raw)
	sortFaults(faults)
	if len(faults) > maxFaults {
		faults = faults[:maxFaults]
	}
	return s, faults
}

func sortFaults(faults []Fault) {
	slices.SortStableFunc(faults, func(a, b Fault) int { return strings.Compare(a.Pointer, b.Pointer) })
}

func parse(raw []byte) (*Schema, []Fault) {
	if len(raw) > MaxSize {
		return nil, []Fault{{"", TooLong, fmt.Sprintf("has more than %d bytes", MaxSize)}}
	}
	doc, err := decode(raw)
	if err != nil {
		return nil, []Fault{{"", InvalidValue, "is not JSON, or has a name twice in one object"}}
	}
	if _, ok := doc.(map[string]any); !ok {
		return nil, []Fault{{"", WrongType, "must be an object"}}
	}
	o, faults := newOutline(doc)
	if o == nil {
		return nil, faults
	}
	f, costly := o.cost()
	if len(costly) > 0 {
		return nil, append(faults, costly...)
	}
	if len(faults) > 0 {
		if meta, err := metaschema(); err == nil {
			faults = append(faults, faultsOf(meta.Validate(doc), InvalidValue)...)
		}
		return nil, faults
	}
	c := newCompiler()
	c.AssertFormat()
	if err := c.AddResource(location, doc); err != nil {
		return nil, []Fault{{"", InvalidValue, err.Error()}}
	}
	compiled, err := c.Compile(location)
	var invalid *jsonschema.SchemaValidationError
	switch {
	case errors.As(err, &invalid):
		return nil, faultsOf(invalid.Err, InvalidValue)
	case err != nil:
		return nil, []Fault{{"", InvalidValue, err.Error()}}
	}
	return &Schema{compiled: compiled, factor: f}, nil
}

// location is where the library believes the schema to be.
const location = "schema:"

func newCompiler() *jsonschema.Compiler {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nowhere{})
	c.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) { return compilePattern(pattern) })
	return c
}

// nowhere is all that a schema can load.
type nowhere struct{}

func (nowhere) Load(string) (any, error) { return nil, errors.New("is not in this document") }

var metaschema = sync.OnceValues(func() (*jsonschema.Schema, error) { return newCompiler().Compile(Dialect) })

// decode reads JSON and keeps numbers as they are written. A name that stands twice in one object is an
// error: readers differ in which of the two counts.
func decode(raw []byte) (any, error) {
	return decodeValue(jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowInvalidUTF8(true)))
}

func decodeValue(d *jsontext.Decoder) (any, error) {
	t, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case '"':
		return t.String(), nil
	case '0':
		return json.Number(t.String()), nil
	case 't', 'f':
		return t.Bool(), nil
	case '[':
		list := []any{}
		for d.PeekKind() != ']' {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.ReadToken()
		return list, err
	case '{':
		object := make(map[string]any)
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			text := name.String()
			if object[text], err = decodeValue(d); err != nil {
				return nil, err
			}
		}
		_, err = d.ReadToken()
		return object, err
	}
	return nil, nil // null
}
