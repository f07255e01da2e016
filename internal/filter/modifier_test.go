package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func codes(faults []Fault) (list []string) {
	for _, f := range faults {
		list = append(list, f.Pointer+" "+string(f.Code))
	}
	return list
}

func TestAnEventTypesModifiersAreRead(t *testing.T) {
	got, faults := ParseDeclared([]byte(`{"object_type":{"path":"/object/type","description":"What it is about","values":{"user":"A user","device":"A device"},"required":true},
		"free":{"path":"/a~1b/m~0n/0"}}`))
	want := []Declared{
		{Name: "free", Pointer: Pointer{"a/b", "m~n", "0"}},
		{Name: "object_type", Pointer: Pointer{"object", "type"}, Values: []string{"device", "user"}, Required: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || faults != nil {
		t.Errorf("%v %s", faults, diff)
	}
}

func TestEveryFaultOfDeclaredModifiersIsNamed(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`[]`, []string{" wrong_type"}},
		{`{"a":1,"B":{"path":"/x"},"":{"path":"/x"},"` + strings.Repeat("a", 65) + `":{"path":"/x"}}`, []string{
			"/a wrong_type", "/B invalid_format", "/ invalid_format", "/" + strings.Repeat("a", 65) + " invalid_format",
		}},
		{`{"a":{},"a":{}}`, []string{"/a/path required", "/a duplicate_field"}},
		{`{"a":{"path":"x"},"b":{"path":""},"c":{"path":"/~2"},"d":{"path":1},"e":{"path":"` + strings.Repeat("/x", 17) + `"}}`, []string{
			"/a/path invalid_format", "/b/path invalid_format", "/c/path invalid_format", "/d/path wrong_type", "/e/path invalid_format",
		}},
		{`{"a":{"path":"/x","values":[],"required":"no","description":1,"type":"t"}}`, []string{
			"/a/values wrong_type", "/a/required wrong_type", "/a/description wrong_type", "/a/type unknown_field",
		}},
		{`{"a":{"path":"/x","values":{"v":1,"\ud800":""}}}`, []string{"/a/values/v wrong_type", "/a/values/\ufffd invalid_text"}},
	} {
		_, faults := ParseDeclared([]byte(c.text))
		if diff := cmp.Diff(c.want, codes(faults)); diff != "" {
			t.Errorf("%.80s: %s", c.text, diff)
		}
	}
}

func TestEveryFaultOfChosenModifiersIsNamed(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`{"a":"x","b":["x",1,true]}`, nil},
		{`"a"`, []string{" wrong_type"}},
		{`{"a":null,"b":{},"c":[],"d":[[1],null,"\u0000"],"a":1}`, []string{
			"/a wrong_type", "/b wrong_type", "/c too_few", "/d/0 wrong_type", "/d/1 wrong_type", "/d/2 invalid_text", "/a duplicate_field",
		}},
		{`{"a":[` + strings.Repeat("1,", 100) + `1]}`, []string{"/a too_many"}},
	} {
		_, faults := ParseChoices([]byte(c.text))
		if diff := cmp.Diff(c.want, codes(faults)); diff != "" {
			t.Errorf("%.80s: %s", c.text, diff)
		}
	}
}

func TestChoicesAreHeldAgainstTheChosenTypes(t *testing.T) {
	declared := func(text string) []Declared {
		list, faults := ParseDeclared([]byte(text))
		if faults != nil {
			t.Fatal(faults)
		}
		return list
	}
	types := []Chosen{
		{Name: "call.ended", Exact: true, Modifiers: declared(`{"kind":{"path":"/k","values":{"in":"","out":"","7":""}},"site":{"path":"/s","required":true}}`)},
		{Name: "call.began", Modifiers: declared(`{"kind":{"path":"/k","values":{"all":""}},"must":{"path":"/m","required":true}}`)},
	}
	for _, c := range []struct {
		text string
		want []string
	}{
		{`{"kind":["in","all",7.0],"site":"anything"}`, nil},
		{`{"site":1}`, nil},
		{`{}`, []string{"/site required"}},
		{`{"site":1,"kind":"sideways","other":1}`, []string{"/kind invalid_value", "/other unknown_field"}},
		{`{"site":1,"kind":["in","up","down"]}`, []string{"/kind/1 invalid_value", "/kind/2 invalid_value"}},
	} {
		choices, faults := ParseChoices([]byte(c.text))
		if faults != nil {
			t.Fatal(faults)
		}
		faults = CheckChoices(choices, types)
		if diff := cmp.Diff(c.want, codes(faults)); diff != "" {
			t.Errorf("%s: %s", c.text, diff)
		}
		for _, f := range faults {
			if f.Code == InvalidValue && f.Detail != `must be one of "7", "all", "in", "out"` {
				t.Error(f.Detail)
			}
		}
	}
}

func TestAModifierMatchesAnyOfItsValues(t *testing.T) {
	pointer, ok := ParsePointer("/object/type")
	if !ok {
		t.Fatal("no pointer")
	}
	d := NoPaths().Draft()
	place := d.Add(pointer)
	choices, faults := ParseChoices([]byte(`{"t":["user","device",1]}`))
	if faults != nil {
		t.Fatal(faults)
	}
	for data, want := range map[string]bool{
		`{"object":{"type":"user"}}`:                 true,
		`{"object":{"type":"us\u0065r"}}`:            true,
		`{"object":{"type":1.0}}`:                    true,
		`{"object":{"type":["x","device"]}}`:         true,
		`{"object":{"type":"org"}}`:                  false,
		`{"object":{"type":null}}`:                   false,
		`{"object":{}}`:                              false,
		`{}`:                                         false,
		`{"object":{"type":"user","type":"user"}}`:   false,
		`{"object":{"type":"user"},"object":{}}`:     false,
		`{"object":[{"type":"user"}]}`:               false,
		`{"object":{"type":{"user":"user"}}}`:        false,
		`{"object":{"type":"user"},"x":[1,{}],"y":}`: false,
	} {
		r := Read(Event{Data: []byte(data)})
		r.Scan(d.Done())
		if got := r.In(place, choices[0].Values); got != want {
			t.Errorf("%s: %v", data, got)
		}
		r.Close()
	}
}
