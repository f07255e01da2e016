package shape

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

var (
	someID      = fanfare.EventID(fanfare.PositionAt(time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)), 42)
	someAccount = uuid.MustParse("01234567-89ab-7def-8123-456789abcdef")
)

func event(data string) *fanfare.Event {
	return &fanfare.Event{ID: someID, AccountID: someAccount, Type: "call.ended", Data: []byte(data)}
}

// written is what the shape makes of data; an error is its text.
func written(s *Shape, data string) string {
	b, err := s.Write(event(data))
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

func custom(t *testing.T, raw string) *Custom {
	t.Helper()
	c, faults := ParseCustom([]byte(raw))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

const head = `{"id":"` + `ID` + `","type":"call.ended","timestamp":"2026-03-04T05:06:07.089Z","account_id":"01234567-89ab-7def-8123-456789abcdef","data":`

func TestWrite(t *testing.T) {
	head := strings.Replace(head, "ID", someID.String(), 1)
	formHead := "id=" + someID.String() + "&type=call.ended&timestamp=2026-03-04T05%3A06%3A07.089Z&account_id=" + someAccount.String()
	const data = `{"b" : 1.0, "a":{"x":[1,null]} }`
	tenant := custom(t, `{"b":"42","zü":"é"}`)
	for _, c := range []struct {
		name        string
		shape       *Shape
		want        string
		contentType string
	}{
		{"no shape", nil, head + data + `}`, JSON},
		{"the zero shape", &Shape{}, head + data + `}`, JSON},
		{"raw", &Shape{Raw: true}, data, JSON},
		{"ecmascript", &Shape{ECMAScript: true}, head + `{"b":1,"a":{"x":[1,null]}}}`, JSON},
		{"ecmascript, raw", &Shape{ECMAScript: true, Raw: true}, `{"b":1,"a":{"x":[1,null]}}`, JSON},
		{"custom data", &Shape{Custom: tenant}, head + `{"a":{"x":[1,null]},"b":"42","zü":"é"}}`, JSON},
		{"custom data, raw, ecmascript", &Shape{Raw: true, ECMAScript: true, Custom: custom(t, `{"7":"x"}`)}, `{"7":"x","b":1,"a":{"x":[1,null]}}`, JSON},
		{"form", &Shape{Form: true}, formHead + `&data[b]=1.0&data[a][x][]=1&data[a][x][]=`, Form},
		{"form, raw", &Shape{Form: true, Raw: true}, `b=1.0&a[x][]=1&a[x][]=`, Form},
		{"form, custom data", &Shape{Form: true, Raw: true, Custom: tenant}, `a[x][]=1&a[x][]=&b=42&z%C3%BC=%C3%A9`, Form},
		{"query", &Shape{Query: true, Raw: true}, `b=1.0&a%5Bx%5D%5B%5D=1&a%5Bx%5D%5B%5D=`, ""},
		{"query of the envelope", &Shape{Query: true}, formHead + `&data%5Bb%5D=1.0&data%5Ba%5D%5Bx%5D%5B%5D=1&data%5Ba%5D%5Bx%5D%5B%5D=`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := written(c.shape, data); got != c.want {
				t.Errorf("\n%s, want\n%s", got, c.want)
			}
			if got := c.shape.ContentType(); got != c.contentType {
				t.Errorf("content type %q", got)
			}
		})
	}
}

func TestTheEnvelopesTimestampIsWhenItHappened(t *testing.T) {
	e := event(`{}`)
	e.OccurredAt = time.Date(2025, 12, 31, 23, 0, 0, 0, time.FixedZone("", -3600))
	for _, s := range []*Shape{nil, {Form: true}} {
		b, err := s.Write(e)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(b), "%3A", ":"), "2026-01-01T00:00:00.000Z") {
			t.Errorf("%s, %v", b, err)
		}
	}
}

func TestTheDefaultCostsOneAllocation(t *testing.T) {
	e := event(`{"a":1}`)
	for _, s := range []*Shape{nil, {}} {
		if n := testing.AllocsPerRun(100, func() { s.Write(e) }); n != 1 {
			t.Errorf("%v allocations", n)
		}
	}
	raw := &Shape{Raw: true}
	if n := testing.AllocsPerRun(100, func() { raw.Write(e) }); n != 0 {
		t.Errorf("raw: %v allocations", n)
	}
}

func TestQuery(t *testing.T) {
	for url, want := range map[string]string{
		"https://h/p":       "https://h/p?a=1",
		"https://h":         "https://h?a=1",
		"https://h/p?":      "https://h/p?a=1",
		"https://h/p?x=y":   "https://h/p?x=y&a=1",
		"https://h/p?x=y&":  "https://h/p?x=y&a=1",
		"https://h/p?x=?&":  "https://h/p?x=?&a=1",
		"https://h/p?x=a?":  "https://h/p?x=a?&a=1",
		"https://h/p&x":     "https://h/p&x?a=1",
		"https://h/p?k[]=1": "https://h/p?k[]=1&a=1",
	} {
		if got := Query(url, []byte("a=1")); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
		if got := Query(url, nil); got != url {
			t.Errorf("nothing appended to %s: %s", url, got)
		}
	}
}
