package schema

import (
	"testing"

	"pgregory.net/rapid"
)

func TestASampleSatisfiesItsSchema(t *testing.T) {
	for _, c := range []struct{ schema, want string }{
		{`{"type":"object"}`, `{}`},
		{`{"properties":{"b":{"type":"boolean"},"a":{"const":7}}}`, `{"a":7,"b":true}`},
		{`{"required":["x"]}`, `{"x":"sample"}`},
		{`{"properties":{"n":{"type":"integer","exclusiveMinimum":2.5},"m":{"type":"number","minimum":0.3,"multipleOf":0.25}}}`, `{"m":0.5,"n":4}`},
		{`{"properties":{"n":{"type":"integer","maximum":-2}}}`, `{"n":-2}`},
		{
			`{"properties":{"s":{"type":"string","minLength":8},"d":{"type":"string","format":"date-time"},"e":{"enum":["paid","open"]}}}`,
			`{"d":"2026-01-02T15:04:05Z","e":"paid","s":"samplexx"}`,
		},
		{
			`{"properties":{"l":{"type":"array","items":{"type":"object","required":["id"],"properties":{"id":{"type":"string","format":"uuid"}}},"minItems":1}}}`,
			`{"l":[{"id":"0198a3c4-7f00-7000-8000-000000000001"}]}`,
		},
		{`{"properties":{"who":{"$ref":"#/$defs/who"}},"$defs":{"who":{"properties":{"name":{"type":"string","examples":["Ada"]}}}}}`, `{"who":{"name":"Ada"}}`},
		{`{"allOf":[{"properties":{"a":{"type":"string"}}},{"anyOf":[{"required":["b"]},{"required":["c"]}]}]}`, `{"a":"sample","b":"sample"}`},
		{`{"properties":{"a":{"type":"string","pattern":"^[0-9]+$"}}}`, `{}`}, // what cannot be made is left out if it may be
		{`{"properties":{"next":{"$ref":"#"}}}`, `{"next":{"next":{"next":{"next":{}}}}}`},
	} {
		if got := string(parsed(t, c.schema).Sample()); got != c.want {
			t.Errorf("%s: %s, want %s", c.schema, got, c.want)
		}
	}
	if got := parsed(t, `{"required":["a"],"properties":{"a":{"type":"string","pattern":"^[0-9]+$"}}}`).Sample(); got != nil {
		t.Errorf("a pattern that is required: %s", got)
	}
}

// Whatever the schema, something is made that the library is content with, or nothing, and no schema keeps it busy.
func TestAnySchemaHasASampleOrNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := someSchema(t, 3).(map[string]any)
		doc["$defs"] = map[string]any{"a": someSchema(t, 2), "b": someSchema(t, 2)}
		s, faults := Parse(marshal(t, doc))
		if len(faults) > 0 {
			return
		}
		b := s.Sample()
		if b == nil {
			return
		}
		v, err := decode(b)
		if err == nil {
			err = s.compiled.Validate(v)
		}
		if err != nil || b[0] != '{' {
			t.Fatalf("%s: %v", b, err)
		}
	})
}
