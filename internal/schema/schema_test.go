package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// parsed reads a schema that is sound.
func parsed(t testing.TB, raw string) *Schema {
	t.Helper()
	s, faults := Parse([]byte(raw))
	if len(faults) > 0 {
		t.Fatalf("%s: %v", raw, faults)
	}
	return s
}

func texts(faults []Fault) (list []string) {
	for _, f := range faults {
		list = append(list, f.String())
	}
	return list
}

func TestCheckNamesEveryFaultWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		schema, data string
		want         []string
	}{
		{`{}`, `{"a":1}`, nil},
		{`{"required":["a","b"]}`, `{}`, []string{"/a is required", "/b is required"}},
		{`{"properties":{"a":{"type":"integer"},"b":{"type":["string","null"]}}}`, `{"a":1.5,"b":[]}`, []string{"/a must be an integer", "/b must be null or a string"}},
		{`{"properties":{"a":{"type":"integer"}}}`, `{"a":1.0}`, nil},
		{`{"properties":{"a":{"minimum":0.1,"maximum":9007199254740993}}}`, `{"a":9007199254740994}`, []string{"/a must be at most 9007199254740993"}},
		{`{"properties":{"a":{"multipleOf":0.01}}}`, `{"a":19.99}`, nil},
		{`{"properties":{"a":{"exclusiveMinimum":0.25}}}`, `{"a":0.25}`, []string{"/a must be greater than 0.25"}},
		{`{"additionalProperties":false,"properties":{"a~/b":{"const":{"c":[1]}}}}`, `{"a~/b":2,"x":1}`, []string{"/a~0~1b must be {\"c\":[1]}", "/x is not a member that the schema allows"}},
		{`{"properties":{"a":{"enum":["in","out"]}}}`, `{"a":"up"}`, []string{`/a must be one of "in", "out"`}},
		{`{"properties":{"a":{"format":"date-time"},"b":{"format":"nobody-knows-it"}}}`, `{"a":"yesterday","b":"x"}`, []string{"/a must have the format date-time"}},
		{`{"properties":{"a":{"pattern":"^[A-Z]{2}$"}}}`, `{"a":"abc"}`, []string{`/a must match the pattern "^[A-Z]{2}$"`}},
		{`{"properties":{"a":{"items":{"minLength":2},"uniqueItems":true,"maxItems":3}}}`, `{"a":["ab","c","ab","d"]}`, []string{
			"/a has the same at 0 and at 2", "/a must have at most 3 elements", "/a/1 must have at least 2 characters", "/a/3 must have at least 2 characters",
		}},
		{`{"properties":{"a":{"items":{"type":"string"}}}}`, `{"a":[` + strings.Repeat("1,", 30) + `1]}`, func() (list []string) {
			for i := range 20 {
				list = append(list, fmt.Sprintf("/a/%d must be a string", i))
			}
			return list
		}()},
		{`{"properties":{"a":{"anyOf":[{"type":"null"},{"type":"object","required":["b"]}]}}}`, `{"a":{}}`, []string{"/a/b is required"}},
		{`{"properties":{"a":{"anyOf":[{"type":"null"},{"type":"object","required":["b"]}]}}}`, `{"a":1}`, []string{"/a must match one of the alternatives that the schema gives"}},
		{`{"oneOf":[{"properties":{"kind":{"const":"a"},"n":{"type":"string"}}},{"properties":{"kind":{"const":"b"},"n":{"type":"number"}}}]}`, `{"kind":"b","n":"x"}`, []string{"/n must be a number"}},
		{`{"oneOf":[{"required":["a"]},{"required":["b"]}]}`, `{"a":1,"b":2}`, []string{" must match only one of the alternatives that the schema gives"}},
		{`{"not":{"required":["a"]}}`, `{"a":1}`, []string{" is what the schema excludes"}},
		{`{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{"a":1}`, []string{"/b is required"}},
		{`{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, []string{`/b is required beside "a"`}},
		{`{"propertyNames":{"maxLength":3}}`, `{"long":1}`, []string{"/long has a name that the schema does not allow"}},
		{`{"allOf":[{"properties":{"a":true}}],"unevaluatedProperties":false}`, `{"a":1,"b":2}`, []string{"/b is not allowed"}},
		{
			`{"$id":"https://example.com/tree","$ref":"#/$defs/node","$defs":{"node":{"$anchor":"node","properties":{"children":{"items":{"$ref":"#node"}},"n":{"type":"number"}}}}}`,
			`{"children":[{"children":[{"n":1},{"n":"x"}]}]}`,
			[]string{"/children/0/children/1/n must be a number"},
		},
		{`{"$dynamicAnchor":"t","properties":{"c":{"$dynamicRef":"#t"}},"required":["n"]}`, `{"n":1,"c":{}}`, []string{"/c/n is required"}},
		{`{"$id":"urn:fanfare:test","$ref":"#/$defs/a%20b","$defs":{"a b":{"required":["c"]}}}`, `{}`, []string{"/c is required"}},
		{`{"$id":"https://json-schema.org/draft/2020-12/schema","$ref":"#/$defs/a","$defs":{"a":{"required":["c"]}}}`, `{}`, []string{"/c is required"}},
		{`{"properties":{"$ref":{"const":{"$ref":"#/none","$id":"x"}}},"x-more":{"$ref":"https://example.com"}}`, `{"$ref":1}`, []string{`/$ref must be {"$id":"x","$ref":"#/none"}`}},
		{`{"type":"object"}`, `{"a":{"b/c":1,"b\u002fc":2}}`, []string{"/a/b~1c stands here twice"}},
		{`{"properties":{"a":{"maxLength":1}}}`, `{"a":"\ud800"}`, nil},
		{`{"type":"object"}`, `{"a":1e999999999,"b":[-1E-501,1]}`, []string{"/a " + detailNumber, "/b/0 " + detailNumber}},
	} {
		got := texts(parsed(t, c.schema).Check([]byte(c.data), nil))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s and %s: %s", c.schema, c.data, diff)
		}
	}
}

func TestParseNamesEveryFault(t *testing.T) {
	for _, c := range []struct {
		schema string
		want   []string
	}{
		{`[]`, []string{" wrong_type"}},
		{`{`, []string{" invalid_value"}},
		{`{"type":"objct","properties":{"a":{"minimum":"1"}},"required":"a"}`, []string{"/properties/a/minimum invalid_value", "/required invalid_value", "/type invalid_value"}},
		{`{"$schema":"http://json-schema.org/draft-07/schema#"}`, []string{"/$schema invalid_value"}},
		{`{"$ref":"other.json","items":{"$ref":"#/$defs/none"},"contains":{"$ref":"#none"},"type":1}`, []string{
			"/$ref invalid_reference", "/contains/$ref invalid_reference", "/items/$ref invalid_reference", "/type invalid_value",
		}},
		{`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, []string{"/$ref invalid_reference"}},
		{`{"$ref":"file:///etc/passwd"}`, []string{"/$ref invalid_reference"}},
		{`{"$ref":"#/properties","properties":{}}`, []string{"/$ref invalid_reference"}},
		{`{"$ref":"#/%zz"}`, []string{"/$ref invalid_reference"}},
		{`{"properties":{"a":{"$recursiveRef":"#"}}}`, []string{"/properties/a/$recursiveRef invalid_reference"}},
		{`{"$id":"relative.json"}`, []string{"/$id invalid_reference"}},
		{`{"$defs":{"a":{"$id":"https://example.com/a"}}}`, []string{"/$defs/a/$id invalid_reference"}},
		{`{"$defs":{"a":{"$anchor":"x"},"b":{"$dynamicAnchor":"x"}}}`, []string{"/$defs/a/$anchor invalid_reference"}},
		{`{"pattern":"(?=a)","patternProperties":{"(":{}}}`, []string{"/pattern invalid_value", "/patternProperties/( invalid_value"}},
		{`{"pattern":"(a{100}){10}"}`, []string{"/pattern invalid_value"}},
		{`{"pattern":"` + strings.Repeat("a", maxPattern+1) + `"}`, []string{"/pattern invalid_value"}},
		{`{"minimum":1e99999}`, []string{"/minimum too_long"}},
		{`{"enum":[` + strings.Repeat("9", maxDigits+1) + `]}`, []string{"/enum/0 too_long"}},
		{strings.Repeat(`{"not":`, maxDepth) + `{}` + strings.Repeat(`}`, maxDepth), []string{strings.Repeat("/not", maxDepth) + " too_deep"}},
		{`{"default":"` + strings.Repeat("a", MaxSize) + `"}`, []string{" too_long"}},
		{`{"allOf":[` + strings.Repeat(`{},`, maxSubschemas) + `{}]}`, []string{" too_many"}},
	} {
		_, faults := Parse([]byte(c.schema))
		var got []string
		for _, f := range faults {
			got = append(got, f.Pointer+" "+string(f.Code))
		}
		if c.want[0] == "/$defs/a/$anchor invalid_reference" && len(got) == 1 { // whichever of the two came second
			got[0] = strings.NewReplacer("/b/$dynamicAnchor", "/a/$anchor").Replace(got[0])
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%.200s: %s", c.schema, diff)
		}
	}
}

func TestASchemaThatExplodesIsRefused(t *testing.T) {
	chain := func(n int, link string) string {
		var b strings.Builder
		b.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
		for i := range n {
			fmt.Fprintf(&b, `"d%d":%s,`, i, strings.ReplaceAll(link, "NEXT", fmt.Sprintf(`{"$ref":"#/$defs/d%d"}`, i+1)))
		}
		fmt.Fprintf(&b, `"d%d":{}}}`, n)
		return b.String()
	}
	for name, raw := range map[string]string{
		"doubling on one level":  chain(30, `{"anyOf":[NEXT,NEXT]}`),
		"doubling on each level": chain(30, `{"anyOf":[{"properties":{"a":NEXT}},{"properties":{"a":NEXT}}]}`),
		"doubling for elements":  chain(30, `{"items":NEXT,"contains":NEXT}`),
		"doubling into itself":   `{"allOf":[{"additionalProperties":{"$ref":"#"}},{"patternProperties":{"a":{"$ref":"#"}}}]}`,
		"by what is left over":   `{"unevaluatedItems":{"$ref":"#"},"contains":{"$ref":"#"}}`,
		"by dynamic references":  `{"$dynamicAnchor":"n","properties":{"a":{"$dynamicRef":"#n","properties":{"a":{"$ref":"#"}}}}}`,
		"many alternatives":      `{"items":{"oneOf":[` + strings.Repeat(`{"type":"null"},`, 300) + `{}]}}`,
		"a large enumeration":    `{"items":{"enum":[` + strings.Repeat(`1,`, 5000) + `2]}}`,
		"many patterns":          `{"patternProperties":{` + repeat(`"%d[a-z]{90}":{}`, 30) + `}}`,
		"many comparisons":       `{"allOf":[` + repeat(`{"uniqueItems":true,"minItems":%d}`, 20) + `]}`,
		"names and patterns":     `{"allOf":[` + repeat(`{"minProperties":%d,"$ref":"#/$defs/a"}`, 60) + `],"$defs":{"a":{"properties":{` + repeat(`"n%d":{}`, 150) + `},"patternProperties":{` + repeat(`"^p%d":{}`, 150) + `}}}}`,
		"each text is a pattern": `{"allOf":[` + repeat(`{"format":"regex","minLength":%d}`, 5) + `]}`,
	} {
		_, faults := Parse([]byte(raw))
		if len(faults) == 0 || faults[0].Code != TooCostly {
			t.Errorf("%s: %v", name, faults)
		}
	}
	for name, raw := range map[string]string{
		"itself":             `{"$ref":"#"}`,
		"itself after a way": chain(3, `{"allOf":[NEXT,{"$ref":"#"}]}`),
		"by an anchor":       `{"not":{"$dynamicRef":"#a"},"$dynamicAnchor":"a"}`,
	} {
		_, faults := Parse([]byte(raw))
		if len(faults) != 1 || faults[0].Code != InvalidRef || !strings.Contains(faults[0].Detail, "back to itself") {
			t.Errorf("%s: %v", name, faults)
		}
	}
	// What people write does not explode.
	for name, raw := range map[string]string{
		"a tree":              `{"properties":{"children":{"items":{"$ref":"#"}},"parent":{"$ref":"#"}}}`,
		"an expression":       `{"oneOf":[{"properties":{"left":{"$ref":"#"},"right":{"$ref":"#"}}},{"properties":{"operand":{"$ref":"#"}}},{"type":"number"}]}`,
		"a union of variants": `{"oneOf":[` + repeat(`{"properties":{"kind":{"const":%d},"id":{"type":"string"},"at":{"format":"date-time"}}}`, 30) + `]}`,
		"many members":        `{"additionalProperties":false,"properties":{` + repeat(`"p%d":{"type":"string"}`, 300) + `}}`,
	} {
		if _, faults := Parse([]byte(raw)); len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func repeat(format string, n int) string {
	list := make([]string, n)
	for i := range n {
		list[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(list, ",")
}

func TestDataThatCostsTooMuchToCheckIsRefused(t *testing.T) {
	for _, c := range []struct{ name, schema, data string }{
		{"many values", `{"properties":{"a":{"items":{"anyOf":[` + repeat(`{"const":%d}`, 30) + `]}}}}`, `{"a":[` + repeat("%d", 5000) + `]}`},
		{"long texts", `{"properties":{"a":{"pattern":"^([a-z]{3}-){40}$"}}}`, `{"a":"` + strings.Repeat("abc-", 20_000) + `"}`},
		{"objects to compare", `{"properties":{"a":{"uniqueItems":true}}}`, `{"a":[` + repeat(`{"a":%d,"b":1,"c":2}`, 500) + `]}`},
	} {
		if got := parsed(t, c.schema).Check([]byte(c.data), nil); len(got) != 1 || got[0].Code != TooCostly {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	s, data := parsed(t, `{}`), []byte(`{"a":[`+repeat("%d", 100)+`]}`)
	b := &Budget{left: 2 * values(data)}
	for i, want := range []int{0, 0, 1} {
		if got := s.Check(data, b); len(got) != want {
			t.Errorf("event %d of a call that may check two: %v", i, got)
		}
	}
}

// The largest event has more values than any, and a schema of one judge each must bear it.
func TestTheLargestEventCanBeChecked(t *testing.T) {
	const most = 256 << 10
	data := `{"a":[` + strings.Repeat("1,", (most-8)/2) + `1]}`
	s := parsed(t, `{"properties":{"a":{"items":{"type":"string"}}}}`)
	if got := s.Check([]byte(data), nil); len(got) != maxViolations || got[0].Code != Violation {
		t.Errorf("%.200v", got)
	}
}
