package shape

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestForm(t *testing.T) {
	raw := &Shape{Form: true, Raw: true}
	for data, want := range map[string]string{
		`{}`:                               ``,
		`{"a":{}}`:                         `a=`,
		`{"a":[]}`:                         `a=`,
		`{"a":null,"b":"","c":"x"}`:        `a=&b=&c=x`,
		`{"a":true,"b":false}`:             `a=true&b=false`,
		`{"a":1.50,"b":-0,"c":1E+2}`:       `a=1.50&b=-0&c=1E%2B2`,
		`{"b":1,"a":2,"10":3,"9":4}`:       `b=1&a=2&10=3&9=4`,
		`{"a":{"b":{"c":1},"d":2}}`:        `a[b][c]=1&a[d]=2`,
		`{"k":["v","w"]}`:                  `k[]=v&k[]=w`,
		`{"k":["v",[],{},null]}`:           `k[]=v&k[]=&k[]=&k[]=`,
		`{"k":[{"a":1,"b":2},{"a":3}]}`:    `k[0][a]=1&k[0][b]=2&k[1][a]=3`,
		`{"k":[1,[2,3],{"a":4},[]]}`:       `k[0]=1&k[1][]=2&k[1][]=3&k[2][a]=4&k[3]=`,
		`{"k":[[1],[[2]]]}`:                `k[0][]=1&k[1][0][]=2`,
		`{"a b+&=%":"c d+&=%"}`:            `a%20b%2B%26%3D%25=c%20d%2B%26%3D%25`,
		`{"é":{"東":"\ud83d\ude00\u0000"}}`: `%C3%A9[%E6%9D%B1]=%F0%9F%98%80%00`,
		`{"a.b":1,"A-Z_~*":"-._~*"}`:       `a.b=1&A-Z_%7E%2A=-._%7E%2A`,
	} {
		if got := written(raw, data); got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
	}
}

func TestWhatAFormCannotSayIsRefusedWithTheReason(t *testing.T) {
	for data, want := range map[string]string{
		`{"a":"x\ud800"}`:               `"a" is a text with half of a surrogate pair`,
		`{"a":{"\udc00":1}}`:            `a name in "a" has half of a surrogate pair`,
		`{"a":{"":1}}`:                  `a name in "a" is empty or only space`,
		`{"a":{" \t\r\n\f\u000b":1}}`:   `a name in "a" is empty or only space`,
		`{"a":{"b\u0000":1}}`:           `a name in "a" holds U+0000, which many read as its end`,
		`{"":1}`:                        `a name in the data is empty or only space`,
		`{"a":{"b":[{"c]":1}]}}`:        `a name in "a[b][0]" has a bracket, which would be read as nesting: "c]"`,
		`{"a[b]":1}`:                    `a name in the data has a bracket, which would be read as nesting: "a[b]"`,
		`{"a":1,"b":2,"\u0061":3}`:      `"a" stands in the data twice`,
		`{"x":{"a":{"b":1},"a":[]}}`:    `"x[a]" stands in the data twice`,
		`{"x":[{"a":1},{"a":2,"a":3}]}`: `"x[1][a]" stands in the data twice`,
	} {
		want = "error: the event cannot be written as a form: " + want
		if got := written(&Shape{Form: true, Raw: true}, data); got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
		if got := written(&Shape{Query: true}, data); !strings.HasPrefix(got, "error: the event cannot be written as a form: ") {
			t.Errorf("query of %s: %s", data, got)
		}
	}
}

// Without a bound some KiB of JSON would be hundreds of MiB.
func TestAFormHasABound(t *testing.T) {
	name := strings.Repeat("n", 64<<10)
	data := `{"` + name + `":[` + strings.Repeat("0,", 30000) + `0]}`
	if got := written(&Shape{Form: true}, data); got != "error: the event cannot be written as a form: it would have more than 1024 KiB" {
		t.Errorf("%.100s", got)
	}
}

// pairs is a decoded form, or the data that one should decode to: a text, or named pairs in their order.
type pairs struct {
	text  string
	names []string // nil: a text
	kids  map[string]*pairs
}

func (p *pairs) kid(name string) *pairs {
	if p.kids == nil {
		p.kids = make(map[string]*pairs)
	}
	k := p.kids[name]
	if k == nil {
		k = &pairs{}
		p.kids[name] = k
		p.names = append(p.names, name)
	}
	return k
}

func (p *pairs) String() string {
	if p.names == nil {
		return strconv.Quote(p.text)
	}
	var b strings.Builder
	for _, name := range p.names {
		fmt.Fprintf(&b, " %q:%v", name, p.kids[name])
	}
	return "{" + b.String() + " }"
}

// decodeForm reads a form as PHP reads one: a[b] is the member b of a, a[] the next element of a.
func decodeForm(t *testing.T, form string) *pairs {
	t.Helper()
	top := &pairs{}
	for pair := range strings.SplitSeq(form, "&") {
		if pair == "" {
			continue
		}
		quotedName, quotedText, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(quotedName)
		text, err2 := url.QueryUnescape(quotedText)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q: %v, %v", pair, err1, err2)
		}
		first, rest, nested := strings.Cut(name, "[")
		at := top.kid(first)
		for nested {
			var step string
			step, rest, _ = strings.Cut(rest, "]")
			if step == "" {
				step = strconv.Itoa(len(at.names))
			}
			at = at.kid(step)
			_, rest, nested = strings.Cut(rest, "[")
		}
		at.text = text
	}
	return top
}

// decodeData reads data into what its form should decode to, by the standard library.
func decodeData(t *testing.T, d *json.Decoder) *pairs {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	p := &pairs{}
	switch token := token.(type) {
	case json.Delim:
		for i := 0; d.More(); i++ {
			name := strconv.Itoa(i)
			if token == '{' {
				quoted, err := d.Token()
				if err != nil {
					t.Fatal(err)
				}
				name = quoted.(string)
			}
			*p.kid(name) = *decodeData(t, d)
		}
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
	case nil:
	default:
		p.text = fmt.Sprint(token)
	}
	return p
}

// checkForm holds a form against the data that it was made of.
func checkForm(t *testing.T, data, form string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(data))
	d.UseNumber()
	if got, want := decodeForm(t, form).String(), decodeData(t, d).String(); got != want {
		t.Errorf("%s as\n%s\nis read as\n%s, want\n%s", data, form, got, want)
	}
}

func TestAFormIsReadAsTheDataItWasMadeOf(t *testing.T) {
	raw, query := &Shape{Form: true, Raw: true}, &Shape{Query: true, Raw: true}
	seed := rand.Uint64()
	g := &generator{rand.New(rand.NewPCG(seed, 2))}
	bodies := awkward(t)
	for range 2000 {
		bodies = append(bodies, g.body())
	}
	sent := 0
	for _, data := range bodies {
		form, err := raw.Write(event(data))
		asQuery, queryErr := query.Write(event(data))
		if (err == nil) != (queryErr == nil) {
			t.Fatalf("%s: %v, and as a query %v", data, err, queryErr)
		}
		if err != nil {
			continue
		}
		sent++
		checkForm(t, data, string(form))
		checkForm(t, data, string(asQuery))
		if strings.ContainsAny(string(asQuery), "[]+# ") {
			t.Errorf("not a query: %s", asQuery)
		}
	}
	t.Logf("seed %d: %d of %d could be written", seed, sent, len(bodies))
	if sent < len(bodies)/10 {
		t.Error("too few to prove anything")
	}
}
