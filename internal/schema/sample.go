package schema

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	// maxSampleValues bounds a sample, and so what making one costs.
	maxSampleValues = 200
	// maxSampleDepth is where what may be left out is left out: a schema may lead back to itself.
	maxSampleDepth = 8
)

// Sample makes a JSON object that satisfies the schema: one with all the members that it names, or else one with those
// that it requires. It is nil if neither satisfies it, such as for a pattern, which is not solved.
func (s *Schema) Sample() []byte {
	for _, all := range []bool{true, false} {
		m := sampler{all: all, left: maxSampleValues}
		b, err := json.Marshal(m.value(s.compiled, 0))
		if err == nil && b[0] == '{' && len(s.Check(b, nil)) == 0 {
			return b
		}
	}
	return nil
}

// sampler makes values.
type sampler struct {
	all  bool // also of members that are not required
	left int  // values
}

// value is one that satisfies s, as far as that is easy to say.
func (m *sampler) value(s *jsonschema.Schema, depth int) any {
	if m.left--; m.left < 0 || depth > 2*maxSampleDepth {
		return nil
	}
	switch {
	case s.Const != nil:
		return *s.Const
	case len(s.Examples) > 0:
		return s.Examples[0]
	case s.Default != nil:
		return *s.Default
	case s.Enum != nil && len(s.Enum.Values) > 0:
		return s.Enum.Values[0]
	}
	var types []string
	if s.Types != nil {
		types = s.Types.ToStrings()
	}
	object := map[string]any{}
	if m.members(object, s, depth); len(types) == 0 {
		switch other := m.elsewhere(s, depth); {
		case len(object) > 0 || s.Properties != nil:
			return object
		case other != nil:
			return other
		}
	}
	switch {
	case slices.Contains(types, "object"), len(types) == 0 && depth == 0:
		return object
	case slices.Contains(types, "array"):
		return m.array(s, depth)
	case slices.Contains(types, "string"):
		return text(s)
	case slices.Contains(types, "integer"), slices.Contains(types, "number"):
		return least(s, !slices.Contains(types, "number"))
	case slices.Contains(types, "boolean"):
		return true
	}
	return nil
}

// elsewhere is what a schema without a type gets from those that it refers to.
func (m *sampler) elsewhere(s *jsonschema.Schema, depth int) any {
	for _, other := range others(s) {
		if v := m.value(other, depth+1); v != nil {
			return v
		}
	}
	return nil
}

// others are the schemas that hold for the same value: all of them, and the first of alternatives.
func others(s *jsonschema.Schema) (all []*jsonschema.Schema) {
	if s.Ref != nil {
		all = append(all, s.Ref)
	}
	all = append(all, s.AllOf...)
	for _, choice := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
		if len(choice) > 0 {
			all = append(all, choice[0])
		}
	}
	return all
}

// members puts those of an object that s names into o.
func (m *sampler) members(o map[string]any, s *jsonschema.Schema, depth int) {
	if m.left--; m.left < 0 || depth > 2*maxSampleDepth {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if slices.Contains(s.Required, name) || m.all && depth < maxSampleDepth {
			o[name] = m.value(s.Properties[name], depth+1)
		}
	}
	for _, name := range s.Required {
		if _, there := o[name]; !there {
			o[name] = "sample"
		}
	}
	for _, other := range others(s) {
		m.members(o, other, depth+1)
	}
}

func (m *sampler) array(s *jsonschema.Schema, depth int) any {
	n := 0
	if s.MinItems != nil {
		n = *s.MinItems
	}
	if m.all && n == 0 && depth < maxSampleDepth && (s.Items2020 != nil || len(s.PrefixItems) > 0) {
		n = max(1, len(s.PrefixItems))
	}
	list := []any{}
	for i := 0; i < n && m.left > 0; i++ {
		switch {
		case i < len(s.PrefixItems):
			list = append(list, m.value(s.PrefixItems[i], depth+1))
		case s.Items2020 != nil:
			list = append(list, m.value(s.Items2020, depth+1))
		default:
			list = append(list, "sample")
		}
	}
	return list
}

// formatted are samples of formats.
var formatted = map[string]string{
	"date-time": "2026-01-02T15:04:05Z", "date": "2026-01-02", "time": "15:04:05Z", "duration": "PT1H",
	"email": "somebody@example.com", "idn-email": "somebody@example.com", "hostname": "example.com", "idn-hostname": "example.com",
	"ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "uri": "https://example.com/", "uri-reference": "/sample", "iri": "https://example.com/",
	"iri-reference": "/sample", "uri-template": "https://example.com/{id}", "json-pointer": "/sample", "relative-json-pointer": "0",
	"regex": "sample", "uuid": "0198a3c4-7f00-7000-8000-000000000001",
}

func text(s *jsonschema.Schema) string {
	t := "sample"
	if s.Format != nil && formatted[s.Format.Name] != "" {
		return formatted[s.Format.Name]
	}
	if s.MinLength != nil && *s.MinLength > len(t) && *s.MinLength <= MaxSize {
		t += strings.Repeat("x", *s.MinLength-len(t))
	}
	if s.MaxLength != nil && *s.MaxLength < len(t) {
		t = t[:max(*s.MaxLength, 0)]
	}
	return t
}

// least is the least number that may be, or 1.
func least(s *jsonschema.Schema, whole bool) any {
	n, one := big.NewRat(1, 1), big.NewRat(1, 1)
	switch {
	case s.Minimum != nil:
		n.Set(s.Minimum)
	case s.ExclusiveMinimum != nil:
		n.Add(s.ExclusiveMinimum, one)
	case s.Maximum != nil && s.Maximum.Cmp(n) < 0:
		n.Set(s.Maximum)
	case s.ExclusiveMaximum != nil && s.ExclusiveMaximum.Cmp(n) <= 0:
		n.Sub(s.ExclusiveMaximum, one)
	}
	if step := s.MultipleOf; step != nil && step.Sign() > 0 {
		n.Quo(n, step)
		n.Mul(ceiling(n), step)
	} else if whole {
		n = ceiling(n)
	}
	return json.Number(number(n))
}

func ceiling(n *big.Rat) *big.Rat {
	q, r := new(big.Int).DivMod(n.Num(), n.Denom(), new(big.Int))
	if r.Sign() != 0 {
		q.Add(q, big.NewInt(1))
	}
	return new(big.Rat).SetInt(q)
}
