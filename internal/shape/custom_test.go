package shape

import (
	"fmt"
	"strings"
	"testing"
)

func TestCustomDataIsPutAmongTheMembersOfData(t *testing.T) {
	for _, c := range []struct{ custom, data, want string }{
		{`{"t":"42"}`, `{}`, `{"t":"42"}`},
		{`{"t":"42"}`, " {\t} ", `{"t":"42"}`},
		{`{"t":"42"}`, `{"a":1}`, `{"a":1,"t":"42"}`},
		{`{"t":"42","u":""}`, `{"t":1}`, `{"t":"42","u":""}`},
		{`{"t":"42"}`, `{"t":1,"a":{"t":2},"t":[3]}`, `{"a":{"t":2},"t":"42"}`},
		{`{"t":"42"}`, `{"a" : [ 1, {} ] , "\u0061":1e400,"t" :2,"b":"\ud800\/"}`, `{"a" : [ 1, {} ],"\u0061":1e400,"b":"\ud800\/","t":"42"}`},
		{`{"é\n":"x"}`, `{"\u00e9\u000A":1,"é":2,"e\n":3}`, `{"é":2,"e\n":3,"é\n":"x"}`},
		{`{"t":"a\u0000\"\u2028"}`, `{"T":1}`, `{"T":1,"t":"a\u0000\"` + "\u2028" + `"}`},
		{`{"\ud83d\ude00":"1"}`, `{"😀":1,"\uD83D\uDE00":2}`, `{"😀":"1"}`},
		{`{"a":"{}"}`, `{"a":"}","b":"{"}`, `{"b":"{","a":"{}"}`},
	} {
		shape := &Shape{Raw: true, Custom: custom(t, c.custom)}
		if got := written(shape, c.data); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.custom, c.data, got, c.want)
		}
	}
}

func TestWhatIsNotJSONIsRefused(t *testing.T) {
	c := custom(t, `{"t":"42"}`)
	deep := `{"a":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + `}`
	for _, data := range []string{
		``, ` `, `[`, `{`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":1 "b":2}`, `{,}`, `{"a":1}}`, `{"a":1}x`, `{a:1}`,
		`{"a":tru}`, `{"a":-}`, `{"a":1.}`, `{"a":1e}`, `{"a":01}`, `{"a":.5}`, `{"a":+1}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, "{\"a\":\"\n\"}",
		`{"a":[1,]}`, `{"a":[,]}`, `{"a":[1 2]}`, `{"a":[`, `{"a":[1`, `{"a":{]}`, `{"a":nul`, "{\"a\":\x00}",
	} {
		for _, s := range []*Shape{{Raw: true, ECMAScript: true}, {Raw: true, Form: true}, {ECMAScript: true, Custom: c}, {Form: true, Custom: c}} {
			if got := written(s, data); !strings.HasPrefix(got, "error: ") {
				t.Errorf("%q as %+v: %s", data, s, got)
			}
		}
	}
	for _, s := range []*Shape{{ECMAScript: true}, {Form: true}} {
		if got := written(s, deep); got != "error: "+errTooDeep.Error() {
			t.Errorf("%+v of a deep one: %.80s", s, got)
		}
	}
}

func TestParseCustom(t *testing.T) {
	many := make([]string, MaxCustomMembers+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"k%d":""`, i)
	}
	for _, c := range []struct{ raw, want string }{
		{`{}`, ``},
		{` { "a" : "\u0041" , "b":"\/" } `, `{"a":"A","b":"/"}`},
		{`{"a":"1","\u0061":"2"}`, `/a duplicate_field`},
		{`{"a":1,"b/~c":null,"d":{}}`, `/a wrong_type, /b~1~0c wrong_type, /d wrong_type`},
		{`{"a":"\ud800","\udfff":"x"}`, `/a invalid_text, / invalid_text`},
		{`["a"]`, ` wrong_type`},
		{`null`, ` wrong_type`},
		{`{"a":"` + strings.Repeat("x", MaxCustom) + `"}`, ` too_long`},
		{"{" + strings.Join(many, ",") + "}", ` too_many`},
		{"{" + strings.Join(many[1:], ",") + "}", "{" + strings.Join(many[1:], ",") + "}"},
	} {
		custom, faults := ParseCustom([]byte(c.raw))
		got := string(custom.JSON())
		if len(faults) > 0 {
			got = faultList(faults)
		}
		if got != c.want {
			t.Errorf("%.80s: %.80s, want %.80s", c.raw, got, c.want)
		}
	}
}

func faultList(faults []Fault) string {
	list := make([]string, len(faults))
	for i, f := range faults {
		list[i] = f.Pointer + " " + f.Code
	}
	return strings.Join(list, ", ")
}
