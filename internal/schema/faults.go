package schema

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// maxFound bounds how many faults are looked through for the first ones.
const maxFound = 10_000

// violation is one leaf of what the library finds wrong.
type violation struct {
	steps  []string
	detail string
}

// faultsOf names what a validation found, in the order of pointers.
func faultsOf(err error, c Code) []Fault {
	var invalid *jsonschema.ValidationError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &invalid):
		return []Fault{{"", c, err.Error()}}
	}
	found := leaves(invalid, nil)
	slices.SortFunc(found, func(a, b violation) int {
		return cmp.Or(slices.CompareFunc(a.steps, b.steps, compareSteps), cmp.Compare(a.detail, b.detail))
	})
	found = slices.CompactFunc(found, func(a, b violation) bool {
		return a.detail == b.detail && slices.Equal(a.steps, b.steps)
	})
	faults := make([]Fault, 0, maxFaults)
	for _, v := range found[:min(len(found), maxFaults)] {
		faults = append(faults, Fault{pointerTo(v.steps), c, v.detail})
	}
	return faults
}

// compareSteps puts places in an array in their order.
func compareSteps(a, b string) int {
	const digits = "0123456789"
	if strings.Trim(a, digits) == "" && strings.Trim(b, digits) == "" {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	}
	return cmp.Compare(a, b)
}

// leaves appends what is wrong by itself, not only because of something below it. Of alternatives none of
// which holds only the one is looked into, if there is one, that is meant: all others want another type or
// constant.
func leaves(e *jsonschema.ValidationError, found []violation) []violation {
	if len(found) >= maxFound {
		return found
	}
	add := func(detail string, more ...string) {
		found = append(found, violation{append(slices.Clone(e.InstanceLocation), more...), detail})
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.AllOf, *kind.Reference:
		for _, cause := range e.Causes {
			found = leaves(cause, found)
		}
	case *kind.AnyOf, *kind.OneOf:
		if one, ok := k.(*kind.OneOf); ok && len(one.Subschemas) > 0 {
			add("must match only one of the alternatives that the schema gives")
		} else if meant := meant(e); meant != nil {
			found = leaves(meant, found)
		} else {
			add("must match one of the alternatives that the schema gives")
		}
	case *kind.Required:
		for _, name := range k.Missing {
			add("is required", name)
		}
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			add(fmt.Sprintf("is required beside %s", quoted(k.Prop)), name)
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			add("is not a member that the schema allows", name)
		}
	case *kind.PropertyNames:
		add("has a name that the schema does not allow", k.Property)
	default:
		add(detailOf(e.ErrorKind))
	}
	return found
}

// meant is the one alternative that fails for what is inside the value, not for what the value is.
func meant(e *jsonschema.ValidationError) (one *jsonschema.ValidationError) {
	for _, cause := range e.Causes {
		if decided(cause, len(e.InstanceLocation)) {
			continue
		}
		if one != nil {
			return nil
		}
		one = cause
	}
	return one
}

// decided says whether an alternative fails because of a type or a constant: the value's own, or that of a
// member that tells alternatives apart.
func decided(e *jsonschema.ValidationError, depth int) bool {
	switch e.ErrorKind.(type) {
	case *kind.Type:
		return len(e.InstanceLocation) == depth
	case *kind.Const, *kind.Enum:
		return len(e.InstanceLocation) <= depth+1
	case *kind.FalseSchema:
		return true
	case *kind.Group, *kind.AllOf, *kind.Reference:
		return slices.ContainsFunc(e.Causes, func(c *jsonschema.ValidationError) bool { return decided(c, depth) })
	}
	return false
}

var articles = map[string]string{
	"null": "null", "boolean": "true or false", "number": "a number", "integer": "an integer", "string": "a string", "array": "an array", "object": "an object",
}

func detailOf(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		want := make([]string, len(k.Want))
		for i, t := range k.Want {
			want[i] = articles[t]
		}
		return "must be " + strings.Join(want, " or ")
	case *kind.Enum:
		return "must be " + listed(k.Want)
	case *kind.Const:
		return "must be " + shown(k.Want)
	case *kind.Format:
		return "must have the format " + k.Want
	case *kind.Pattern:
		return "must match the pattern " + quoted(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d elements", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d elements", k.Want)
	case *kind.MinProperties:
		return fmt.Sprintf("must have at least %d members", k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("must have at most %d members", k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("has the same at %d and at %d", k.Duplicates[0], k.Duplicates[1])
	case *kind.Contains:
		return "must contain an element that the schema describes"
	case *kind.MinContains:
		return fmt.Sprintf("must contain at least %d elements that the schema describes", k.Want)
	case *kind.MaxContains:
		return fmt.Sprintf("must contain at most %d elements that the schema describes", k.Want)
	case *kind.Minimum:
		return "must be at least " + number(k.Want)
	case *kind.Maximum:
		return "must be at most " + number(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be greater than " + number(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be less than " + number(k.Want)
	case *kind.MultipleOf:
		return "must be a multiple of " + number(k.Want)
	case *kind.Not:
		return "is what the schema excludes"
	case *kind.FalseSchema:
		return "is not allowed"
	}
	return cut(k.LocalizedString(message.NewPrinter(language.English)))
}

// number is a decimal, as those of schemas are.
func number(r *big.Rat) string {
	if r.IsInt() {
		return cut(r.Num().String())
	}
	digits, exact := r.FloatPrec()
	if !exact {
		return cut(r.RatString())
	}
	return cut(r.FloatString(digits))
}

// maxShown bounds how many values a fault lists.
const maxShown = 20

func listed(values []any) string {
	texts := make([]string, 0, maxShown)
	for _, v := range values[:min(len(values), maxShown)] {
		texts = append(texts, shown(v))
	}
	text := "one of " + strings.Join(texts, ", ")
	if len(values) > maxShown {
		text += " and others"
	}
	return text
}

func shown(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "what the schema says"
	}
	return cut(string(raw))
}

func quoted(text string) string { return strconv.Quote(cut(text)) }

// cut shortens a text to what an answer can bear.
func cut(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// pointerTo is a JSON Pointer whose steps are of a length that an answer can bear.
func pointerTo(steps []string) string {
	const most = 200
	var b strings.Builder
	for _, s := range steps {
		if len(s) > most {
			s = strings.ToValidUTF8(s[:most], "") + "…"
		}
		b.WriteString("/")
		b.WriteString(escape(s))
	}
	return b.String()
}
