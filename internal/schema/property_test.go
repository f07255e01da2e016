package schema

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// someSchema draws a subschema of at most some depth.
func someSchema(t *rapid.T, depth int) any {
	s := map[string]any{}
	sub := func() any { return someSchema(t, depth-1) }
	list := func() (l []any) {
		for range rapid.IntRange(1, 3).Draw(t, "alternatives") {
			l = append(l, sub())
		}
		return l
	}
	members := func(names ...string) map[string]any {
		m := map[string]any{}
		for range rapid.IntRange(1, 2).Draw(t, "members") {
			m[rapid.SampledFrom(names).Draw(t, "name")] = sub()
		}
		return m
	}
	keywords := map[string]func() any{
		"type": func() any {
			return rapid.SampledFrom([]string{"object", "array", "string", "integer", "null"}).Draw(t, "type")
		},
		"const":         func() any { return someData(t, 1) },
		"enum":          func() any { return []any{someData(t, 0), someData(t, 1)} },
		"minimum":       func() any { return 1.5 },
		"maxLength":     func() any { return 1 },
		"pattern":       func() any { return "^a" },
		"format":        func() any { return "date" },
		"uniqueItems":   func() any { return true },
		"minItems":      func() any { return 2 },
		"maxProperties": func() any { return 1 },
		"required":      func() any { return []any{"a"} },
	}
	if depth > 0 {
		for name, keyword := range map[string]func() any{
			"allOf": func() any { return list() }, "anyOf": func() any { return list() }, "oneOf": func() any { return list() },
			"not": sub, "if": sub, "then": sub, "else": sub, "items": sub, "contains": sub, "additionalProperties": sub,
			"unevaluatedProperties": sub, "unevaluatedItems": sub, "propertyNames": sub,
			"prefixItems":       func() any { return list() },
			"properties":        func() any { return members("a", "b") },
			"patternProperties": func() any { return members("a", "^b", ".") },
			"dependentSchemas":  func() any { return members("a", "b") },
			"$ref":              func() any { return rapid.SampledFrom([]string{"#", "#/$defs/a", "#/$defs/b"}).Draw(t, "ref") },
		} {
			keywords[name] = keyword
		}
	}
	names := slices.Sorted(maps.Keys(keywords))
	for range rapid.IntRange(0, 3).Draw(t, "keywords") {
		name := rapid.SampledFrom(names).Draw(t, "keyword")
		s[name] = keywords[name]()
	}
	return s
}

func someData(t *rapid.T, depth int) any {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return json.Number(rapid.SampledFrom([]string{"0", "1", "1.0", "2.5", "-1e2"}).Draw(t, "number"))
	case 2:
		return rapid.SampledFrom([]string{"a", "ab", "2026-11-22"}).Draw(t, "text")
	case 3:
		return rapid.Bool().Draw(t, "boolean")
	case 4:
		list := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "elements") {
			list = append(list, someData(t, depth-1))
		}
		return list
	default:
		return someObject(t, depth)
	}
}

func someObject(t *rapid.T, depth int) map[string]any {
	m := map[string]any{}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "ba"}), rapid.ID).Draw(t, "names") {
		m[name] = someData(t, depth-1)
	}
	return m
}

func marshal(t *rapid.T, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// evaluations counts, as a vocabulary of the library, how many subschemas judge something.
type evaluations struct{ n int }

func (e *evaluations) Validate(*jsonschema.ValidatorContext, any) { e.n++ }

// A check says what the library says that does it, and makes no more evaluations than were foreseen.
func TestACheckSaysWhatTheLibrarySaysAndCostsNoMoreThanForeseen(t *testing.T) {
	sound, refused, most := 0, 0, 0.0
	rapid.Check(t, func(t *rapid.T) {
		doc := someSchema(t, 3).(map[string]any)
		doc["$defs"] = map[string]any{"a": someSchema(t, 2), "b": someSchema(t, 2)}
		raw := marshal(t, doc)
		s, faults := Parse(raw)
		if len(faults) > 0 {
			refused++
			if d := faults[0].Detail; !strings.Contains(d, "back to itself") && faults[0].Code != TooCostly {
				t.Fatalf("%s: %v", raw, faults)
			}
			return
		}
		sound++
		var counter evaluations
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		c.AssertVocabs()
		c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "test:count", Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) {
			return &counter, nil
		}})
		decoded, err := decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("test:schema", decoded); err != nil {
			t.Fatal(err)
		}
		direct, err := c.Compile("test:schema")
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		for range 5 {
			data := marshal(t, someObject(t, 4))
			v, err := decode(data)
			if err != nil {
				t.Fatal(err)
			}
			counter.n = 0
			wrong := direct.Validate(v)
			if found := s.Check(data, nil); (wrong == nil) != (len(found) == 0) {
				t.Fatalf("%s and %s: %v, the library says %v", raw, data, found, wrong)
			}
			foreseen := s.factor.evaluations * values(data)
			if counter.n > foreseen {
				t.Fatalf("%s and %s: %d evaluations, %d were foreseen", raw, data, counter.n, foreseen)
			}
			most = max(most, float64(counter.n)/float64(foreseen))
		}
	})
	t.Logf("%d schemas, %d were refused; at most %.2f of what was foreseen", sound+refused, refused, most)
	if sound < 50 || refused == 0 || most == 0 {
		t.Error("the schemas are too much of one kind")
	}
}
