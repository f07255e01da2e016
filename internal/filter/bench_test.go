package filter

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

var benchFilters = []struct{ name, text string }{
	{"one", `{"data":{"customer_id":"c-4711"}}`},
	{"five", `{"data":{"amount":{"$gte":500},"currency":"EUR","customer":{"country":{"$in":["DE","AT","CH"]}},"tags":"vip","note":{"$contains":"urgent"}}}`},
}

// benchData is an ordinary event of about 1 KB.
var benchData = []byte(`{"customer_id": "c-4711", "amount": 1250.00, "currency": "EUR", "customer": {"id": "c-4711", "name": "Zo\u00eb Ångström", "country": "AT",
	"address": {"street": "Ring 1", "city": "Wien", "zip": "1010"}}, "tags": ["new", "vip"], "note": "this is urgent", "lines": [` +
	strings.Repeat(`{"sku": "A-100", "count": 2, "price": {"net": 10.25, "vat": 2.05}},`, 9) + `{"sku": "B", "count": 1}]}`)

// BenchmarkMatch is a whole decision, and one by a reader that has scanned the event already.
func BenchmarkMatch(b *testing.B) {
	for _, c := range benchFilters {
		f, faults := Parse([]byte(c.text))
		if faults != nil {
			b.Fatal(faults)
		}
		d := NoPaths().Draft()
		places := d.Bind(f)
		paths := d.Done()
		b.Run(c.name+"/scan", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(benchData)))
			for b.Loop() {
				r := Read(Event{Type: "t", Data: benchData})
				r.Scan(paths)
				if !r.Match(f, places) {
					b.Fatal("no match")
				}
				r.Close()
			}
		})
		b.Run(c.name+"/scanned", func(b *testing.B) {
			r := Read(Event{Type: "t", Data: benchData})
			defer r.Close()
			r.Scan(paths)
			for b.Loop() {
				if !r.Match(f, places) {
					b.Fatal("no match")
				}
			}
		})
	}
}

// BenchmarkHostile is what one decision costs at the worst: events of 256 KiB and filters at their limits. For
// comparison it has what the standard library takes to check the first of these events.
func BenchmarkHostile(b *testing.B) {
	const size = 255 << 10
	fill := func(head, unit, tail string) []byte {
		return []byte(head + strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)) + tail)
	}
	any64 := func(condition string) string {
		var parts []string
		for i := range MaxConditions {
			parts = append(parts, fmt.Sprintf(condition, i))
		}
		return `{"data":{"a":{"$or":[` + strings.Join(parts, ",") + `]}}}`
	}
	for _, c := range []struct {
		name, filter string
		data         []byte
	}{
		{"members", any64(`{"$eq":%d}`), fill(`{`, `"":0,`, `"a":-1}`)},
		{"wanted members", any64(`{"$eq":%d}`), fill(`{`, `"a":0,`, `"a":-1}`)},
		{"escaped names", any64(`{"$eq":%d}`), fill(`{`, `"\u0062":0,`, `"a":-1}`)},
		{"array", any64(`{"$eq":"%d"}`), fill(`{"a":[`, `1,`, `1]}`)},
		{"array of escaped texts", any64(`{"$in":["%d","x"]}`), fill(`{"a":[`, `"\u0061\u0061",`, `1]}`)},
		{"array, by index", `{"data":{"a":{"0":1,"9999":2}}}`, fill(`{"a":[`, `1,`, `1]}`)},
		{"text", any64(`{"$contains":"aaaaaaaab%d"}`), fill(`{"a":"`, `a`, `"}`)},
		{"escaped text", any64(`{"$contains":"b%d"}`), fill(`{"a":"`, `\u0061`, `"}`)},
		{"number", any64(`{"$gt":%d}`), fill(`{"a":-`, `9`, `}`)},
		{"exponent", any64(`{"$gt":1e%d}`), fill(`{"a":-1e`, `9`, `}`)},
		{"quotes", any64(`{"$eq":"%d"}`), fill(`{"b":"`, `\"`, `"}`)},
		{"depth", any64(`{"$eq":%d}`), []byte(`{"b":` + strings.Repeat("[", size/2) + strings.Repeat("]", size/2) + `}`)},
	} {
		f, faults := Parse([]byte(c.filter))
		if faults != nil {
			b.Fatal(faults)
		}
		d := NoPaths().Draft()
		places := d.Bind(f)
		paths := d.Done()
		if c.name == "members" {
			b.Run("json.Valid", func(b *testing.B) {
				for b.Loop() {
					json.Valid(c.data)
				}
			})
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := Read(Event{Type: "t", Data: c.data})
				r.Scan(paths)
				r.Match(f, places)
				r.Close()
			}
		})
	}
}

// BenchmarkParse is what a filter costs when it is written or loaded.
func BenchmarkParse(b *testing.B) {
	for _, c := range benchFilters {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseStored([]byte(c.text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
