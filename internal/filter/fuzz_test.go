package filter

import (
	"encoding/json"
	"math/big"
	"regexp"
	"testing"
	"unicode/utf8"
)

var seeds = []string{
	`{}`, `{"data":{"a":1}}`, `{"data":{"a":{"$gte":500},"b":"EUR"},"type":"a.b"}`, `{"$or":[{"data":{"a":{"$in":["x",1,null]}}},{"$not":{"data":{"b":{"$exists":false}}}}]}`,
	`{"data":{"a":{"$starts_with":"x","$ends_with":"y","$contains":"z"}}}`, `{"data":{"a":{"0":{"$lt":-1e-400}}}}`, `{"data":{"\u0061":"\ud83d\ude00"}}`,
	`{"$and":[{"account_id":"01000000-0000-7000-8000-0000000000ab"}],"data":{"a":{"$nin":[0.10,1e400]},"$not":{"a":{"$lte":"b"}}}}`, `{"data":{"a":{"$ne":true}}}`,
	`{"$foo":1,"data":{"a":[],"a":1}}`, `[{]}`, "{\"data\":\"\xff\"}",
}

var seedData = []string{
	`{}`, `{"a":1}`, `{"a":500.0,"b":"EUR"}`, `{"a":[1,"x",null,{"a":1}],"b":false}`, `{"a":"x yz","a":2}`, `{"a":[-2e-400]}`, `{"\u0061":"😀"}`,
	` { "a" : "\u0062" , "b" : [ [ ] , { } ] } `, `{"a":"\ud800"}`, `{"a"`, `{"a":}`, `{"a":"`, `{"a":[1,`, `{"a":1,}`, `[]`, `{"\`, `{"a":-}`,
}

// Whatever a filter is, it is refused with faults, or its stored form means the same.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		filter, faults := Parse(text)
		if (filter == nil) == (faults == nil) {
			t.Fatalf("%q: %v, %v", text, filter, faults)
		}
		for _, fault := range faults {
			if !utf8.ValidString(fault.Pointer) || fault.Detail == "" || fault.Code == "" {
				t.Errorf("%q: %+v", text, fault)
			}
		}
		if filter == nil {
			return
		}
		canonical := Canonical(text)
		stored, err := ParseStored(canonical)
		if err != nil {
			t.Fatalf("%q: its form %q: %v", text, canonical, err)
		}
		if again := Canonical(canonical); string(again) != string(canonical) {
			t.Errorf("%q: its form is %q, and that one's %q", text, canonical, again)
		}
		for _, data := range seedData {
			if matches(filter, []byte(data)) != matches(stored, []byte(data)) {
				t.Errorf("%q and its form %q differ on %s", text, canonical, data)
			}
		}
	})
}

// exponents that [big.Rat] would rather not see.
var huge = regexp.MustCompile(`[eE][+-]?0*[0-9]{4}`)

// Whatever an event is, matching ends within it, and as a naive evaluator has it if it is JSON.
func FuzzMatch(f *testing.F) {
	for _, s := range seeds {
		for _, data := range seedData {
			f.Add([]byte(s), []byte(data))
		}
	}
	f.Fuzz(func(t *testing.T, text, data []byte) {
		filter, faults := Parse(text)
		if faults != nil || len(data) > 32<<10 {
			return
		}
		got := matches(filter, data)
		if !json.Valid(data) || !utf8.Valid(data) || huge.Match(text) || huge.Match(data) {
			return
		}
		if data = trimmed(data); data[0] != '{' {
			return // no event
		}
		naive := newNaiveEvent("a.b", someAccountText, data)
		if want := naive.object(decodeNaive(text).(map[string]any), nil) == holds; got != want {
			t.Errorf("%s on %s: %v, want %v", text, data, got, want)
		}
	})
}

func trimmed(data []byte) []byte { return data[skipSpace(data, 0):] }

// Modifiers of any sort are refused with faults or can be used.
func FuzzModifiers(f *testing.F) {
	for _, s := range []string{
		`{"a":{"path":"/x","values":{"v":"V"},"required":true}}`, `{"a":"v","b":["v",1,true]}`, `{"a":{"path":"x"}}`, `{"a":null,"a":[]}`, `{"a":{"path":"/~1/0"}}`, `[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		declared, faults := ParseDeclared(text)
		if faults == nil {
			d := NoPaths().Draft()
			for _, m := range declared {
				d.Add(m.Pointer)
			}
			r := Read(Event{Data: text})
			r.Scan(d.Done())
			r.Close()
		}
		choices, faults := ParseChoices(text)
		if faults == nil {
			CheckChoices(choices, []Chosen{{Name: "t", Exact: true, Modifiers: declared}})
		}
	})
}

// A number's content and its short form are right whatever the number.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0.0", "1e400", "0.000001", "123456789012345678901234567890", "-1.50E-7", "1e999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) || huge.MatchString(text) || len(text) > 1000 {
			return
		}
		want, ok := new(big.Rat).SetString(text)
		if text = string(trimmed([]byte(text))); !ok || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
			return
		}
		plain := appendPlain(nil, []byte(text))
		got, ok := new(big.Rat).SetString(string(plain))
		if !ok || got.Cmp(want) != 0 {
			t.Errorf("%s is written as %s", text, plain)
		}
	})
}
