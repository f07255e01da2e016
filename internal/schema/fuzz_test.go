package schema

import (
	"encoding/json"
	"testing"
)

// FuzzSchema looks for schemas and data that end in something else than an answer.
func FuzzSchema(f *testing.F) {
	for _, seed := range [][2]string{
		{`{}`, `{}`},
		{`{"type":"object","required":["a"],"properties":{"a":{"type":"integer","minimum":1e2}}}`, `{"a":1.5}`},
		{`{"$ref":"#/$defs/a","$defs":{"a":{"$anchor":"x","items":{"$ref":"#x"}}}}`, `{"a":[[]]}`},
		{`{"anyOf":[{"pattern":"^a{2,}$"},{"not":{"uniqueItems":true}}],"unevaluatedProperties":false}`, `{"a":[1,1.0]}`},
		{`{"patternProperties":{"a|b":{"format":"uri"}},"propertyNames":{"maxLength":2}}`, `{"abc":"x:y"}`},
		{`{"oneOf":[{"const":{"a":[1,null]}},{"enum":[{}]}],"if":{},"then":false}`, `{"a":[1,null]}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, raw, data []byte) {
		var object map[string]any
		if !json.Valid(raw) || json.Unmarshal(data, &object) != nil || object == nil {
			return
		}
		s, faults := Parse(raw)
		if (s == nil) == (len(faults) == 0) {
			t.Fatalf("%s: %v and %v", raw, s, faults)
		}
		if s != nil {
			s.Check(data, NewBudget())
		}
	})
}
