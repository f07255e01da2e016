package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const sound = `# Everything that an entry can say.
event_types:
  call.ended:
    description: A call was hung up.
    group: Calls
    modifiers:
      direction:
        path: /direction
        values: {inbound: Somebody called us, outbound: We called somebody}
        required: true
    schema:
      type: object
      required: [call]
      properties:
        call: {type: string}
        at: {type: string, format: date-time}
        cost: {type: number, minimum: 0.10}
    samples:
      - call: c_81f2
        direction: inbound
        at: 2026-11-22T10:00:00Z
        cost: 1.50
  call.began:
  call.moved: {archived: true, group: ~}
`

func TestAFileIsRead(t *testing.T) {
	asJSON := `{"event_types": {
	"call.moved": {"archived": true, "group": null},
	"call.began": {},
	"call.ended": {"description": "A call was hung up.", "group": "Calls",
		"modifiers": {"direction": {"path": "/direction", "values": {"inbound": "Somebody called us", "outbound": "We called somebody"}, "required": true}},
		"schema": {"type": "object", "required": ["call"], "properties": {"call": {"type": "string"}, "at": {"type": "string", "format": "date-time"}, "cost": {"type": "number", "minimum": 0.10}}},
		"samples": [{"call": "c_81f2", "direction": "inbound", "at": "2026-11-22T10:00:00Z", "cost": 1.50}]}
}}`
	want := []fanfare.EventType{
		{Name: "call.began"},
		{
			Name: "call.ended", Description: "A call was hung up.", Group: "Calls",
			Modifiers: []byte(`{"direction":{"path":"/direction","values":{"inbound":"Somebody called us","outbound":"We called somebody"},"required":true}}`),
			Schema:    []byte(`{"type":"object","required":["call"],"properties":{"call":{"type":"string"},"at":{"type":"string","format":"date-time"},"cost":{"type":"number","minimum":0.10}}}`),
			Samples:   []byte(`[{"call":"c_81f2","direction":"inbound","at":"2026-11-22T10:00:00Z","cost":1.50}]`),
		},
		{Name: "call.moved", Archived: true},
	}
	for _, text := range []string{sound, asJSON} {
		got, faults := Parse([]byte(text))
		if diff := cmp.Diff(want, got); diff != "" || len(faults) > 0 {
			t.Errorf("%v\n%s", faults, diff)
		}
	}
}

func TestEveryFaultOfAFileIsNamedWithItsLine(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{``, []string{"is empty"}},
		{"# nothing\n", []string{"is empty"}},
		{"- a\n", []string{"line 1: must be an object"}},
		{"{}", []string{"line 1: /event_types is required"}},
		{"event_types:\n", []string{"line 1: /event_types must be an object"}},
		{"event_types: {}\ntypes: {}\n", []string{"line 2: /types is not a member of a catalog file"}},
		{"event_types: {}\n---\nevent_types: {}\n", []string{"line 2: has more than one document"}},
		{"event_types:\n  a: {\n", []string{"line 2: is not YAML: did not find expected node content"}},
		{"event_types:\n  a:\n    x: 1\n   b: 2\n", []string{"line 4: is not YAML: did not find expected key"}},
		{"event_types:\n" + strings.Repeat("  a: {}\n", 50) + "\tb: {}\n  c: {}\n", []string{"line 52: is not YAML: found character that cannot start any token"}},
		{"event_types:\n  Bad Name: {}\n  a:\n    group: [1]\n    archived: maybe\n    colour: red\n", []string{
			"line 2: /event_types/Bad Name has a name that is none: must be lower-case letters, digits and _, in parts separated by dots, at most 128 characters",
			"line 4: /event_types/a/group must be a string",
			"line 5: /event_types/a/archived must be true or false",
			"line 6: /event_types/a/colour is not a member of this object",
		}},
		{"event_types:\n  a: {name: a}\n", []string{"line 2: /event_types/a/name is not a member of this object"}},
		{"event_types:\n  a: {}\n  b: {}\n  a: {}\n", []string{"line 4: /event_types/a stands here twice"}},
		{"event_types:\n  a:\n    samples:\n      - {x: 1}\n      - x: 1\n        x: 2\n", []string{"line 6: /event_types/a/samples/1/x stands here twice"}},
		{"event_types:\n  a:\n    modifiers:\n      m:\n        values: {}\n", []string{"line 4: /event_types/a/modifiers/m/path is required"}},
		{"event_types:\n  a:\n    schema:\n      type: object\n      required: [n]\n    samples:\n      - {n: 1}\n      - {m: 1}\n", []string{"line 8: /event_types/a/samples/1/n is required"}},
		{"event_types:\n  a:\n    schema:\n      properties:\n        b:\n          $ref: other.yaml\n", []string{
			"line 6: /event_types/a/schema/properties/b/$ref names no subschema of this document: write #, #/$defs/name or #anchor",
		}},
		{"event_types:\n  a: &x {group: A}\n  b: *x\n  c:\n    <<: {group: A}\n", []string{
			"line 2: /event_types/a has an anchor or an alias: write it out",
			"line 3: /event_types/b has an anchor or an alias: write it out",
			"line 5: /event_types/c merges another object: write it out",
		}},
		{"event_types:\n  a:\n    samples: [{n: 0x1F, m: .inf, o: 1_000}]\n    description: !!binary aGVsbG8=\n", []string{
			"line 3: /event_types/a/samples/0/n must be written as JSON writes numbers",
			"line 3: /event_types/a/samples/0/m must be written as JSON writes numbers",
			"line 3: /event_types/a/samples/0/o must be written as JSON writes numbers",
			"line 4: /event_types/a/description has a tag, which means nothing here",
		}},
		{"event_types:\n  ? [a]\n  : {}\n  ~: {}\n", []string{"line 2: /event_types has a member without a name", "line 4: /event_types has a member without a name"}},
		{`{"event_types": {"a": {}, "a": {}}}`, []string{"line 1: /event_types/a stands here twice"}},
		{"{\"event_types\": {\n\"a\": {\n\"group\": 1}}}", []string{"line 3: /event_types/a/group must be a string"}},
		{"event_types:\n  a: {samples: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}\n", []string{
			"line 2: /event_types/a/samples" + strings.Repeat("/0", maxDepth-1) + " is nested more than 64 levels deep",
		}},
		{"event_types: {" + strings.TrimSuffix(strings.Repeat("x: {}, ", maxTypes+1), ", ") + "}", []string{"line 1: /event_types has more than 2000 event types"}},
		{strings.Repeat(" ", MaxSize+1), []string{"has more than 4194304 bytes"}},
	} {
		types, faults := Parse([]byte(c.text))
		var got []string
		for _, f := range faults {
			got = append(got, f.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%.300s\n%d types, %s", c.text, len(types), diff)
		}
	}
}

func TestTheFaultsOfAFileAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("event_types:\n")
	for i := range 500 {
		fmt.Fprintf(&b, "  t%d: {group: 1, archived: 2, colour: 3}\n", i)
	}
	if _, faults := Parse([]byte(b.String())); len(faults) != maxFaults {
		t.Errorf("%d faults", len(faults))
	}
}

func TestTheDiffIsReadable(t *testing.T) {
	var b strings.Builder
	err := Print(&b, []store.CatalogStep{
		{Name: "a", Action: store.CatalogAdd},
		{Name: "b", Action: store.CatalogNoAction},
		{Name: "c", Action: store.CatalogChange, Members: []string{"group", "schema"}},
		{Name: "d", Action: store.CatalogArchive, Members: []string{"archived"}},
	}, true)
	want := `+ a
~ c: group, schema
- d: archived, since the file lacks it
1 added, 1 changed, 1 archived, 1 unchanged
nothing was written: this was a dry run
`
	if b.String() != want || err != nil {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// What is read twice is the same, and what is sound as YAML says the same as the JSON that it stands for.
func FuzzCatalogFile(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(`{"event_types":{"a.b":{"samples":[{"n":1e400,"t":"\u00e9\ud83d\ude00"}],"schema":{"type":"object"}}}}`))
	f.Add([]byte("event_types:\n  a: &a [*a]\n  <<: {}\n  !!str 1: ? [x]\n"))
	f.Add([]byte("event_types: {a: {samples: [{? x : y, z: 'it''s', w: \"\\x41\"}], modifiers: {m: {path: /a~1b, values: {1: one, true: yes}}}}}\n---\n"))
	f.Add([]byte("event_types:\n\ta: |\n  b: >-\n    folded\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		types, faults := Parse(text)
		if len(faults) > 0 {
			return
		}
		entries := make(map[string]map[string]any)
		for _, e := range types {
			entry := map[string]any{"description": e.Description, "group": e.Group, "archived": e.Archived}
			for name, raw := range map[string][]byte{"modifiers": e.Modifiers, "schema": e.Schema, "samples": e.Samples} {
				if raw != nil {
					entry[name] = json.RawMessage(raw)
				}
			}
			entries[e.Name] = entry
		}
		again, err := json.Marshal(map[string]any{"event_types": entries})
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > MaxSize {
			return
		}
		same, faults := Parse(again)
		if len(faults) > 0 || len(same) != len(types) {
			t.Fatalf("%s: %v", again, faults)
		}
		for i := range types {
			if a, b := types[i], same[i]; a.Name != b.Name || a.Description != b.Description || a.Group != b.Group || a.Archived != b.Archived {
				t.Fatalf("%+v, then %+v", a, b)
			}
		}
	})
}
