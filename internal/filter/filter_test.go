package filter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAFilterMeans(t *testing.T) {
	const data = `{"amount": 500, "currency": "EUR", "paid": true, "note": null, "tags": ["vip", "new", 7], "customer": {"id": "c1", "name": "Zo\u00eb"},
		"lines": [{"sku": "x"}], "twice": 1, "twice": 1, "a.b": "dot", "at": "2026-03-01T12:00:00Z"}`
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{`{}`, true},
		{`{"data":{"currency":"EUR","amount":500.0}}`, true},
		{`{"data":{"currency":"EUR","amount":501}}`, false},
		{`{"data":{"amount":"500"}}`, false},
		{`{"data":{"amount":{"$ne":"500"}}}`, true},
		{`{"data":{"amount":{"$gte":500,"$lt":5e2}}}`, false},
		{`{"data":{"amount":{"$gte":500,"$lte":5e2}}}`, true},
		{`{"data":{"amount":{"$gt":"4"}}}`, false},
		{`{"data":{"amount":{"$not":{"$gt":"4"}}}}`, false}, // not comparable, so neither is the opposite
		{`{"data":{"at":{"$gte":"2026-03-01","$lt":"2026-03-02"}}}`, true},
		{`{"data":{"paid":true}}`, true},
		{`{"data":{"paid":{"$gt":0}}}`, false},
		{`{"data":{"note":null}}`, true},
		{`{"data":{"nothing":null}}`, false},
		{`{"data":{"note":{"$exists":true}}}`, true},
		{`{"data":{"nothing":{"$exists":false}}}`, true},
		{`{"data":{"nothing":{"$ne":1}}}`, false},
		{`{"data":{"nothing":{"$nin":[1]}}}`, false},
		{`{"$not":{"data":{"nothing":1}}}`, false},
		{`{"$or":[{"data":{"nothing":{"$exists":false}}},{"data":{"nothing":{"$ne":1}}}]}`, true},
		{`{"data":{"tags":"vip"}}`, true},
		{`{"data":{"tags":"old"}}`, false},
		{`{"data":{"tags":7}}`, true},
		{`{"data":{"tags":{"$ne":"vip"}}}`, false},
		{`{"data":{"tags":{"$ne":"old"}}}`, true},
		{`{"data":{"tags":{"$in":["old","new"]}}}`, true},
		{`{"data":{"tags":{"$nin":["old","new"]}}}`, false},
		{`{"data":{"tags":{"$contains":"vip"}}}`, true},
		{`{"data":{"tags":{"$contains":"vi"}}}`, false},
		{`{"data":{"tags":{"$gt":1}}}`, false},
		{`{"data":{"tags":{"0":"vip"}}}`, true},
		{`{"data":{"tags":{"3":{"$exists":false}}}}`, true},
		{`{"data":{"lines":{"0":{"sku":"x"}}}}`, true},
		{`{"data":{"lines":{"sku":"x"}}}`, false},
		{`{"data":{"customer":{"name":"Zoë"}}}`, true},
		{`{"data":{"customer":{"name":{"$starts_with":"Zo","$ends_with":"ë","$contains":"o"}}}}`, true},
		{`{"data":{"customer":{"name":{"$starts_with":"zo"}}}}`, false},
		{`{"data":{"customer":{"$exists":true,"id":"c1"}}}`, true},
		{`{"data":{"customer":"c1"}}`, false},
		{`{"data":{"customer":{"$ne":"c1"}}}`, true},
		{`{"data":{"customer":{"$gt":"c"}}}`, false},
		{`{"data":{"a.b":"dot"}}`, true},
		{`{"data":{"a":{"b":"dot"}}}`, false},
		{`{"data":{"twice":1}}`, false},
		{`{"data":{"twice":{"$ne":2}}}`, false},
		{`{"data":{"twice":{"$exists":true}}}`, false},
		{`{"$or":[{"data":{"twice":1}},{"data":{"amount":500}}]}`, true},
		{`{"type":"a.b","account_id":"` + someAccountText + `"}`, true},
		{`{"type":{"$starts_with":"a."}}`, true},
		{`{"type":"b"}`, false},
		{`{"$and":[{"data":{"amount":500}},{"type":{"$ne":"b"}}]}`, true},
		{`{"data":{"$or":[{"amount":1},{"currency":{"$in":["USD","EUR"]}}]}}`, true},
		{`{"data":{"amount":{"$or":[{"$lt":100},{"$gt":400}]}}}`, true},
		{`{"data":{"$not":{"amount":1,"currency":"EUR"}}}`, true},
		{`{"data":{"$exists":true}}`, true},
	} {
		f, faults := Parse([]byte(c.filter))
		if faults != nil {
			t.Errorf("%s: %v", c.filter, faults)
			continue
		}
		if got := matches(f, []byte(data)); got != c.want {
			t.Errorf("%s: %v", c.filter, got)
		}
	}
}

func TestEveryFaultOfAFilterIsNamed(t *testing.T) {
	deep := strings.Repeat(`{"$not":`, 64) + `{"data":{"a":1}}` + strings.Repeat("}", 64)
	many := `{"data":{"a":{"$or":[` + strings.Repeat(`{"$eq":1},`, 64) + `{"$eq":1}]}}}`
	for _, c := range []struct {
		filter string
		want   []string
	}{
		{``, []string{" invalid_format"}},
		{`{`, []string{" invalid_format"}},
		{"{\"data\":\"\xff\"}", []string{" invalid_format"}},
		{`[]`, []string{" wrong_type"}},
		{`"x"`, []string{" wrong_type"}},
		{`{"dta":1,"$eq":1,"$foo":1}`, []string{"/dta unknown_field", "/$eq invalid_value", "/$foo unknown_field"}},
		{`{"type":{"x":1},"account_id":{"$gt":true}}`, []string{"/type/x unknown_field", "/account_id/$gt wrong_type"}},
		{`{"data":{"a":{},"b":[1],"c":{"$in":1},"d":{"$in":[]},"e":{"$in":[[1],{}]}}}`, []string{
			"/data/a too_few", "/data/b wrong_type", "/data/c/$in wrong_type", "/data/d/$in too_few", "/data/e/$in/0 wrong_type", "/data/e/$in/1 wrong_type",
		}},
		{`{"data":{"a":{"$starts_with":1,"$exists":1,"$eq":{},"$gt":null,"$contains":[]}}}`, []string{
			"/data/a/$starts_with wrong_type", "/data/a/$exists wrong_type", "/data/a/$eq wrong_type", "/data/a/$gt wrong_type", "/data/a/$contains wrong_type",
		}},
		{`{"$and":{},"$or":[],"$not":[]}`, []string{"/$and wrong_type", "/$or too_few", "/$not wrong_type"}},
		{`{"$and":[1,{}],"$not":{}}`, []string{"/$and/0 wrong_type", "/$and/1 too_few", "/$not too_few"}},
		{`{"data":{"a":1,"\u0061":2,"x/y~z":[]}}`, []string{"/data/a duplicate_field", "/data/x~1y~0z wrong_type"}},
		{`{"data":{"\ud800":1,"b":"\udc00"}}`, []string{"/data/\ufffd invalid_text", "/data/b invalid_text"}},
		{`{"data":{"a":1e1000000001,"b":{"$in":[1e-99999999999999999999]}}}`, []string{"/data/a out_of_range", "/data/b/$in/0 out_of_range"}},
		{deep, []string{" too_deep"}},
		{many, []string{" too_many"}},
		{`{"data":{"a":"` + strings.Repeat("x", MaxSize) + `"}}`, []string{" too_long"}},
	} {
		f, faults := Parse([]byte(c.filter))
		var got []string
		for _, fault := range faults {
			got = append(got, fault.Pointer+" "+string(fault.Code))
			if fault.Detail == "" {
				t.Errorf("%.80s: no detail at %s", c.filter, fault.Pointer)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" || f != nil {
			t.Errorf("%.80s: %s", c.filter, diff)
		}
	}
}

func TestWhatIsAtTheLimitsIsSound(t *testing.T) {
	for name, filter := range map[string]string{
		"depth":      strings.Repeat(`{"$not":`, MaxDepth-2) + `{"data":{"a":1}}` + strings.Repeat("}", MaxDepth-2),
		"conditions": `{"data":{"a":{"$or":[` + strings.Repeat(`{"$eq":1},`, MaxConditions-1) + `{"$eq":1}]}}}`,
		"size":       `{"data":{"a":"` + strings.Repeat("x", MaxSize-len(`{"data":{"a":""}}`)) + `"}}`,
	} {
		if _, faults := Parse([]byte(filter)); faults != nil {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func TestSpellingsOfOneFilterHaveOneForm(t *testing.T) {
	want := `{"$or":[{"data":{"a":{"$in":[1.5,200,"é"]},"b":1e+400}},{"type":"x"}]}`
	want = strings.Replace(want, "1e+400", "1e400", 1)
	for _, filter := range []string{
		want,
		` { "$or" : [ {"data":{"b":{"$eq":10e399},"\u0061":{"$in":["\u00e9",2e2,1.50,200.0]}}}, {"type":{"$eq":"x"}} ] } `,
	} {
		if got := string(Canonical([]byte(filter))); got != want {
			t.Errorf("%s has the form %s", filter, got)
		}
	}
	const kept = `{"$not":{"data":{"a":{"$not":{"$eq":1}}}}}` // what is in $not must be an object
	if got := string(Canonical([]byte(kept))); got != kept {
		t.Errorf("%s has the form %s", kept, got)
	}
}

func TestTheFormThatIsLongestCanBeReadBack(t *testing.T) {
	var numbers []string
	for i := range 9 {
		for e := range 19 {
			numbers = append(numbers, fmt.Sprintf("%de%d,-%de-%d", i+1, 19-e, i+1, e))
		}
	}
	repeated := func(part string) string {
		return `{"data":{"a":"` + strings.Repeat(part, (MaxSize-len(`{"data":{"a":""}}`))/len(part)) + `"}}`
	}
	for _, filter := range []string{
		repeated(`\n`), repeated(`\u0001`), repeated(`\"`), repeated(`\u2028`), repeated(`\/`),
		`{"data":{"a":{"$in":[` + strings.Join(numbers, ",") + `]}}}`,
		`{"data":{"a":{"$in":[` + strings.Repeat("1e19,", (MaxSize-40)/5) + `1]}}}`,
		`{"data":{"` + strings.Repeat(`\n`, MaxSize/2-20) + `":{"$exists":true}}}`,
		`{"data":{"a":1` + strings.Repeat("0", MaxSize-20) + `}}`,
	} {
		f, faults := Parse([]byte(filter))
		if faults != nil {
			t.Fatalf("%.80s: %v", filter, faults)
		}
		again, err := ParseStored(Canonical([]byte(filter)))
		if err != nil {
			t.Errorf("%.80s: %v", filter, err)
			continue
		}
		if diff := cmp.Diff(f.program, again.program, cmp.AllowUnexported(instr{})); diff != "" {
			t.Errorf("%.80s, read back: %s", filter, diff)
		}
	}
}

func TestAStoredFilterThatCannotBeReadIsAnError(t *testing.T) {
	for _, text := range []string{``, `null`, `{"data":{"a":{"$regex":"x"}}}`} {
		if f, err := ParseStored([]byte(text)); err == nil || f != nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestExplainNamesTheConditionToBlame(t *testing.T) {
	const data = `{"a": 1, "s": "x", "twice": 1, "twice": 1, "long": "` // … is closed below
	long := []byte(data + strings.Repeat("x", 200<<10) + `"}`)
	for _, c := range []struct{ filter, pointer, detail string }{
		{`{"data":{"a":1,"s":"y"}}`, "/data/s", "does not hold"},
		{`{"data":{"a":{"$gt":0,"$lt":1}}}`, "/data/a/$lt", "does not hold"},
		{`{"$and":[{"data":{"a":1}},{"data":{"b":1}}]}`, "/$and/1/data/b", "no such value"},
		{`{"data":{"a":{"$contains":"1"}}}`, "/data/a/$contains", "of a type"},
		{`{"data":{"twice":1}}`, "/data/twice", "two values"},
		{`{"data":{"$or":[{"a":2},{"a":3}]}}`, "/data/$or", "none of these"},
		{`{"data":{"$not":{"a":1}}}`, "/data/$not", "holds"},
		{`{"data":{"$not":{"b":1}}}`, "/data/$not", "cannot be decided"},
		{`{"data":{"b":{"$exists":true}}}`, "/data/b/$exists", "does not hold"},
		{`{"data":{"long":{"$contains":"x"}},"$or":[{"data":{"long":{"$contains":"y"}}}]}`, "/$or", "none"},
		{`{"data":{"long":{"$contains":"x","$not":{"$contains":"y"}}}}`, "/data/long/$not", "cannot be decided"},
	} {
		match, failed, faults := Explain([]byte(c.filter), Event{Type: "t", Data: long})
		if match || failed == nil || faults != nil {
			t.Errorf("%s: %v %v %v", c.filter, match, failed, faults)
			continue
		}
		if failed.Pointer != c.pointer || !strings.Contains(failed.Detail, c.detail) {
			t.Errorf("%s: %+v", c.filter, *failed)
		}
	}
	if match, failed, faults := Explain([]byte(`{"data":{"a":1}}`), Event{Data: long}); !match || failed != nil || faults != nil {
		t.Error("what matches is not explained as a match")
	}
	if _, _, faults := Explain([]byte(`{"x":1}`), Event{Data: long}); len(faults) != 1 {
		t.Errorf("faults: %v", faults)
	}
}

func TestOnlyWhatAFilterNeedsIsAnEquality(t *testing.T) {
	f, faults := Parse([]byte(`{"data":{"a":1,"b":{"$in":["x","y"]},"c":{"$gt":1},"$or":[{"d":1}],"$not":{"e":1},"$and":[{"f":null}],"g":{"$ne":1}},"type":"t"}`))
	if faults != nil {
		t.Fatal(faults)
	}
	var got []string
	for _, e := range f.Equalities() {
		got = append(got, fmt.Sprint(strings.Join(f.paths[e.Place], "."), len(e.Values)))
	}
	if diff := cmp.Diff([]string{"data.a1", "data.b2", "data.f1", "type1"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	f, faults := Parse([]byte(`{"type":"a.b","data":{"amount":{"$gte":500},"name":"Zoë","tags":"vip","customer":{"id":{"$in":["c1","c2"]}},"n":{"$contains":"x"}}}`))
	if faults != nil {
		t.Fatal(faults)
	}
	d := NoPaths().Draft()
	places := d.Bind(f)
	paths := d.Done()
	data := []byte(`{"amount": 5e2, "name": "Zo\u00eb", "tags": ["new", "vip"], "customer": {"id": "c2"}, "other": [1,2,{"a":"b"}], "n": "axb"}`)
	hashes := make([]uint64, 0, 8)
	n := testing.AllocsPerRun(200, func() {
		r := Read(Event{Type: "a.b", AccountID: someAccount, Data: data})
		r.Scan(paths)
		if !r.Match(f, places) || len(r.Hashes(hashes, places[3])) == 0 {
			t.Fatal("it does not match")
		}
		r.Close()
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("a match allocates %v times", n)
	}
}

func TestManyPlacesAreReadWithoutMakingRoomForThemAnew(t *testing.T) {
	d := NoPaths().Draft()
	for i := range 20_000 {
		d.Add(Pointer{fmt.Sprint("name", i)})
	}
	paths, data := d.Done(), []byte(`{"name7":1}`)
	n := testing.AllocsPerRun(100, func() {
		r := Read(Event{Data: data})
		r.Scan(paths)
		r.Close()
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("a scan allocates %v times", n)
	}
}

// A new list of an object's names for each name would make of many names a square of them.
func TestADraftMakesFewListsOfNames(t *testing.T) {
	const names = 5000
	pointers := make([]Pointer, names)
	for i := range pointers {
		pointers[i] = Pointer{fmt.Sprint(i)}
	}
	base := NoPaths().Draft()
	base.Add(Pointer{"a"})
	n := testing.AllocsPerRun(3, func() {
		d := base.Done().Draft()
		for _, p := range pointers {
			d.Add(p)
		}
	})
	if n > 1.5*names { // a copy of each name, and little more
		t.Errorf("%v allocations for %d names", n, names)
	}
}

func TestADraftKnowsHowFarAFilterMakesItGrow(t *testing.T) {
	one, _ := Parse([]byte(`{"type":"t","data":{"a":{"b":1,"c":1},"$exists":true}}`))
	two, _ := Parse([]byte(`{"data":{"a":{"b":{"c":1}},"d":1}}`))
	d := NoPaths().Draft()
	if n := d.Grown(one); n != 4 { // a counts twice
		t.Errorf("%d places at most", n)
	}
	first := d.Bind(one)
	if n := d.Grown(one); n != 3 {
		t.Errorf("%d places at most, of what is there", n)
	}
	if n := d.Grown(two); n != 5 {
		t.Errorf("%d places at most", n)
	}
	second := d.Bind(two)
	paths := d.Done()
	for want, lists := range map[int][][]int32{0: nil, 3: {first}, 4: {second}, 5: {first, second, first}} {
		if n := paths.Count(slices.Values(lists)); n != want {
			t.Errorf("%v are %d places, not %d", lists, n, want)
		}
	}
}

// However large the event and whatever the filter, what the conditions look at is bounded.
func TestWorkIsBounded(t *testing.T) {
	text := `"` + strings.Repeat("x", 200<<10) + `"`
	array := "[" + strings.Repeat("1,", 100<<10) + "2]"
	var conditions []string
	for i := range MaxConditions {
		conditions = append(conditions, fmt.Sprintf(`{"v":%d}`, i))
	}
	for _, c := range []struct {
		filter, data string
		want         bool
	}{
		{`{"data":{"v":{"$contains":"xx"}}}`, `{"v":` + text + `}`, true},
		{`{"data":{"v":{"$contains":"xx","$not":{"$contains":"y"}}}}`, `{"v":` + text + `}`, false},
		{`{"data":{"v":{"$starts_with":"x","$ends_with":"x","$gt":"a","$ne":"b"}}}`, `{"v":` + text + `}`, true},
		{`{"data":{"v":1}}`, `{"v":` + array + `}`, true}, // found before the bound
		{`{"data":{"v":2}}`, `{"v":` + array + `}`, false},
		{`{"data":{"v":{"$ne":2}}}`, `{"v":` + array + `}`, false},
		{`{"data":{"v":{"$nin":[3,4]}}}`, `{"v":` + array + `}`, false},
		{`{"data":{"$or":[` + strings.Join(conditions, ",") + `]}}`, `{"v":[` + array + `]}`, false}, // one element is nearly all of it
	} {
		f, faults := Parse([]byte(c.filter))
		if faults != nil {
			t.Fatal(faults)
		}
		d := NoPaths().Draft()
		places := d.Bind(f)
		r := Read(Event{Data: []byte(c.data)})
		r.Scan(d.Done())
		if got := r.Match(f, places); got != c.want {
			t.Errorf("%s: %v", c.filter, got)
		}
		if r.work < -len(c.data) {
			t.Errorf("%s looked at %d bytes", c.filter, maxWork-r.work)
		}
		if n := len(r.Hashes(nil, places[0])); strings.Contains(c.data, `:`+array) && (n == 0 || n > maxWork/elementWork) {
			t.Errorf("an array beyond the bound has %d hashes", n)
		}
		r.Close()
	}
}

func TestADraftLeavesWhatItBeganWith(t *testing.T) {
	one, _ := Parse([]byte(`{"data":{"a":{"b":1}}}`))
	two, _ := Parse([]byte(`{"data":{"a":{"a":1,"0":1}}}`))
	d := NoPaths().Draft()
	first := d.Bind(one)
	before := d.Done()
	d = before.Draft()
	second := d.Bind(two)
	after := d.Done()
	if before.Len() != 2 || after.Len() != 4 || len(before.nodes[first[0]].kids)+len(before.nodes[3].kids) != 1 {
		t.Errorf("before %d, after %d", before.Len(), after.Len())
	}
	if again := after.Draft(); again.Bind(two)[1] != second[1] || again.Bind(one)[0] != first[0] || again.Done() != after {
		t.Error("places that are known were added again")
	}
}
