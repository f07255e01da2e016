package filter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Spellings of few names and values, so that filters and events meet.
var (
	someNames = rapid.SampledFrom([]string{`"a"`, `"b"`, `"\u0061"`, `"c d"`, `"0"`, `"1"`, `""`, `"é"`})
	numbers   = []string{
		"0", "-0.0", "1", "1.0", "10e-1", "-1", "0.1", "0.10", "1e400", "-1e400", "1e-400", "12345678901234567890.1",
		"12345678901234567890.10", "12345678901234567890.2", "100", "1e2", "99.99", "-99.99", "-100",
	}
	texts = []string{
		`""`, `"a"`, `"\u0061"`, `"ab"`, `"abc"`, `"b\n"`, `"b\u000a"`, `"\ud83d\ude00"`, `"😀"`, `"ä"`, `"1"`,
	}
	someScalars = rapid.SampledFrom(slices.Concat(numbers, texts, []string{"null", "true", "false"}))
	someTexts   = rapid.SampledFrom(texts)
	someOrdered = rapid.SampledFrom(slices.Concat(numbers, texts))
)

func drawValue(t *rapid.T, depth int) string {
	switch what := rapid.IntRange(0, 9).Draw(t, "value"); {
	case what < 3 && depth > 0:
		return drawObject(t, depth)
	case what < 5 && depth > 0:
		var list []string
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			list = append(list, drawValue(t, depth-1))
		}
		return "[" + strings.Join(list, rapid.SampledFrom([]string{",", " ,\n"}).Draw(t, "comma")) + "]"
	}
	return someScalars.Draw(t, "scalar")
}

func drawObject(t *rapid.T, depth int) string {
	var members []string
	seen := make(map[string]bool)
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		name := someNames.Draw(t, "name")
		if seen[name] && rapid.IntRange(0, 4).Draw(t, "twice") > 0 {
			continue
		}
		seen[name] = true
		members = append(members, name+rapid.SampledFrom([]string{":", " : "}).Draw(t, "colon")+drawValue(t, depth-1))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// drawFilter draws the members of an object of conditions.
func drawFilter(t *rapid.T, depth int, named bool) string {
	var members []string
	seen := make(map[string]bool)
	for len(members) == 0 || len(members) < 3 && rapid.Bool().Draw(t, "more") {
		name, value := drawCondition(t, depth, named)
		plain, _ := json.Marshal(decodeNaive([]byte(name)))
		if !seen[string(plain)] {
			seen[string(plain)] = true
			members = append(members, name+":"+value)
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func drawCondition(t *rapid.T, depth int, named bool) (name, value string) {
	objects := func() string {
		var list []string
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			list = append(list, drawFilter(t, depth-1, named))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	scalars := func() string {
		return "[" + strings.Join(rapid.SliceOfN(someScalars, 1, 4).Draw(t, "set"), ",") + "]"
	}
	most := 14
	if !named {
		most = 3
	}
	low := 0
	if depth <= 0 {
		low = 4
		if !named {
			low = 3
		}
	}
	switch rapid.IntRange(low, most).Draw(t, "condition") {
	case 0:
		return `"$and"`, objects()
	case 1:
		return `"$or"`, objects()
	case 2:
		return `"$not"`, drawFilter(t, depth-1, named)
	case 3:
		if !named {
			return `"data"`, drawFilter(t, depth-1, true)
		}
		return someNames.Draw(t, "name"), drawFilter(t, depth-1, true)
	case 4, 5:
		return someNames.Draw(t, "name"), someScalars.Draw(t, "operand")
	case 6:
		return `"$eq"`, someScalars.Draw(t, "operand")
	case 7:
		return `"$ne"`, someScalars.Draw(t, "operand")
	case 8:
		return rapid.SampledFrom([]string{`"$gt"`, `"$gte"`}).Draw(t, "up"), someOrdered.Draw(t, "operand")
	case 9:
		return rapid.SampledFrom([]string{`"$lt"`, `"$lte"`}).Draw(t, "down"), someOrdered.Draw(t, "operand")
	case 10:
		return `"$in"`, scalars()
	case 11:
		return `"$nin"`, scalars()
	case 12:
		return rapid.SampledFrom([]string{`"$starts_with"`, `"$ends_with"`}).Draw(t, "side"), someTexts.Draw(t, "operand")
	case 13:
		return `"$contains"`, someScalars.Draw(t, "operand")
	default:
		return `"$exists"`, rapid.SampledFrom([]string{"true", "false"}).Draw(t, "operand")
	}
}

var someAccount = [16]byte{0: 0x01, 6: 0x70, 8: 0x80, 15: 0xab}

const someAccountText = "01000000-0000-7000-8000-0000000000ab"

// matches decides one filter by itself.
func matches(f *Filter, data []byte) bool {
	d := NoPaths().Draft()
	places := d.Bind(f)
	r := Read(Event{Type: "a.b", AccountID: someAccount, Data: data})
	defer r.Close()
	r.Scan(d.Done())
	return r.Match(f, places)
}

func TestAFilterDecidesAsANaiveEvaluatorDoes(t *testing.T) {
	var yes, no, undecided int
	rapid.Check(t, func(t *rapid.T) {
		var filters []*Filter
		var texts []string
		var stored []*Filter
		for range 5 {
			text := drawFilter(t, 3, false)
			if rapid.Bool().Draw(t, "of the event") {
				text = `{"type":{"$in":["a.b","c"]},"account_id":"` + someAccountText + `","$or":[` + text + `]}`
			}
			if len(text) > MaxSize || depth([]byte(text)) > MaxDepth {
				continue
			}
			f, faults := Parse([]byte(text))
			if len(faults) == 1 && faults[0].Code == TooMany {
				continue
			}
			if len(faults) > 0 {
				t.Fatalf("%s: %v", text, faults)
			}
			again, err := ParseStored(Canonical([]byte(text)))
			if err != nil {
				t.Fatalf("%s: its canonical form %s: %v", text, Canonical([]byte(text)), err)
			}
			filters, texts, stored = append(filters, f), append(texts, text), append(stored, again)
		}
		d := NoPaths().Draft()
		var places, storedPlaces [][]int32
		for i, f := range filters {
			places, storedPlaces = append(places, d.Bind(f)), append(storedPlaces, d.Bind(stored[i]))
		}
		for range 4 {
			data := []byte(drawObject(t, 4))
			naive := newNaiveEvent("a.b", someAccountText, data)
			r := Read(Event{Type: "a.b", AccountID: someAccount, Data: data})
			r.Scan(d.Done())
			for i, f := range filters {
				verdict := naive.object(decodeNaive([]byte(texts[i])).(map[string]any), nil)
				switch verdict {
				case holds:
					yes++
				case fails:
					no++
				default:
					undecided++
				}
				want := verdict == holds
				if got := r.Match(f, places[i]); got != want {
					t.Fatalf("%s on %s: %v, want %v", texts[i], data, got, want)
				}
				if got := matches(f, data); got != want {
					t.Fatalf("%s alone on %s: %v, want %v", texts[i], data, got, want)
				}
				if got := r.Match(stored[i], storedPlaces[i]); got != want {
					t.Fatalf("%s, read back, on %s: %v, want %v", texts[i], data, got, want)
				}
				match, failed, faults := Explain([]byte(texts[i]), Event{Type: "a.b", AccountID: someAccount, Data: data})
				if match != want || (failed == nil) != want || faults != nil {
					t.Fatalf("%s on %s is explained as %v %v %v", texts[i], data, match, failed, faults)
				}
				for _, e := range f.Equalities() {
					checkEquality(t, r, places[i], e, want)
				}
			}
			r.Close()
		}
	})
	t.Logf("%d hold, %d do not, %d cannot be decided", yes, no, undecided)
	if min(yes, no, undecided) < 50 {
		t.Error("the cases are too much alike")
	}
}

// The same of arrays that are more than may be looked at, with what is asked for anywhere in them.
func TestWhatMatchesALongArrayIsFoundByItsEqualities(t *testing.T) {
	var found, missed int
	rapid.Check(t, func(t *rapid.T) {
		const zeros = maxWork/elementWork + 100
		list := make([]string, zeros)
		for i := range list {
			list[i] = "0"
		}
		for range rapid.IntRange(1, 4).Draw(t, "others") {
			list[rapid.IntRange(0, zeros-1).Draw(t, "at")] = someScalars.Draw(t, "value")
		}
		data := []byte(`{"a":[` + strings.Join(list, ",") + `],"b":1}`)
		f, faults := Parse([]byte(`{"data":{"a":{"$in":[` + strings.Join(rapid.SliceOfN(someScalars, 1, 3).Draw(t, "set"), ",") + `]},"b":1}}`))
		if faults != nil {
			t.Fatal(faults)
		}
		d := NoPaths().Draft()
		places := d.Bind(f)
		r := Read(Event{Data: data})
		defer r.Close()
		r.Scan(d.Done())
		match := r.Match(f, places)
		if match {
			found++
		} else {
			missed++
		}
		for _, e := range f.Equalities() {
			checkEquality(t, r, places, e, match)
			if e.Place == 0 && r.In(places[0], e.Values) {
				checkEquality(t, r, places, e, true)
			}
		}
	})
	if min(found, missed) < 5 {
		t.Errorf("%d match, %d do not", found, missed)
	}
}

// What matches must be found by each of its equalities.
func checkEquality(t *rapid.T, r *Reader, places []int32, e Equality, match bool) {
	if !match {
		return
	}
	for _, h := range r.Hashes(nil, places[e.Place]) {
		for _, s := range e.Values {
			if s.Hash() == h {
				return
			}
		}
	}
	t.Fatalf("a filter matches where the hashes of %q are not", e.Values)
}

func TestNumbersAreOrderedAsTheirValuesAre(t *testing.T) {
	digits := rapid.StringMatching(`(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?`)
	rapid.Check(t, func(t *rapid.T) {
		draw := func() string { return rapid.SampledFrom([]string{"", "-"}).Draw(t, "sign") + digits.Draw(t, "number") }
		for range 50 {
			a, b := draw(), draw()
			want := rat(json.Number(a)).Cmp(rat(json.Number(b)))
			x, y := appendNumber(nil, []byte(a)), appendNumber(nil, []byte(b))
			if got := strings.Compare(string(x), string(y)); got != want {
				t.Fatalf("%s and %s: %d, want %d", a, b, got, want)
			}
			plain := appendPlain(nil, []byte(a))
			if !json.Valid(plain) || rat(json.Number(plain)).Cmp(rat(json.Number(a))) != 0 {
				t.Fatalf("%s is written as %s", a, plain)
			}
			if again := appendPlain(nil, plain); string(again) != string(plain) {
				t.Fatalf("%s, written again, is %s", plain, again)
			}
		}
	})
}

func TestNumbersOfAnySizeAreDecidedRightly(t *testing.T) {
	far := "1e" + strings.Repeat("9", 1000)
	tiny := "1e-" + strings.Repeat("9", 1000)
	long := strings.Repeat("9", 50_000)
	for _, c := range []struct {
		operand, value string
		gt, eq         bool
	}{
		{"1e400", "1e400", false, true},
		{"1e400", "1e401", true, false},
		{"1e400", "10e399", false, true},
		{"0.1", "0.1000000000000000055511151231257827", true, false},
		{"0.1", "1e-1", false, true},
		{"9007199254740993", "9007199254740992", false, false},
		{"1e1000000000", far, true, false},
		{"-1e1000000000", "-" + far, false, false},
		{"0", "0e" + strings.Repeat("9", 1000), false, true},
		{"0", tiny, true, false},
		{"0", "-" + tiny, false, false},
		{"1e-1000000000", tiny, false, false},
		{"1e1000000000", long, false, false},
		{"1e49999", long, true, false},
		{"0", "-0", false, true},
	} {
		data := []byte(`{"n":` + c.value + `}`)
		for op, want := range map[string]bool{"$gt": c.gt, "$eq": c.eq, "$lt": !c.gt && !c.eq, "$gte": c.gt || c.eq, "$lte": !c.gt, "$ne": !c.eq} {
			f, faults := Parse(fmt.Appendf(nil, `{"data":{"n":{%q:%s}}}`, op, c.operand))
			if faults != nil {
				t.Fatal(faults)
			}
			if got := matches(f, data); got != want {
				t.Errorf("%.40s %s %s: %v", c.value, op, c.operand, got)
			}
		}
	}
}
