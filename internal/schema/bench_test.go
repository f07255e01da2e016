package schema

import (
	"strings"
	"testing"
)

const ordinary = `{"type":"object","required":["call"],"properties":{"call":{"type":"object","required":["id","seconds"],"properties":{
	"id":{"type":"string","pattern":"^c_[0-9a-f]+$"},"seconds":{"type":"integer","minimum":0},"direction":{"enum":["in","out"]},
	"at":{"type":"string","format":"date-time"}}}}}`

func BenchmarkParse(b *testing.B) {
	for name, raw := range map[string]string{
		"ordinary":  ordinary,
		"largest":   `{"properties":{` + repeat(`"p%d":{"type":"string"}`, maxSubschemas-2) + `}}`,
		"exploding": `{"anyOf":[` + strings.Repeat(`{"properties":{"a":{"$ref":"#"}}},`, 50) + `{}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse([]byte(raw))
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	sound := []byte(`{"call":{"id":"c_81f2","seconds":42,"direction":"in","at":"2026-11-22T10:00:00Z"}}`)
	for _, c := range []struct {
		name, schema string
		data         []byte
	}{
		{"sound", ordinary, sound},
		{"wrong", ordinary, []byte(`{"call":{"id":"x","seconds":-1,"direction":"up"}}`)},
		{"as much work as may be", `{"additionalProperties":{"items":{"type":"string"}}}`, []byte(`{"a":[` + strings.Repeat("1,", 130_000) + `1]}`)},
	} {
		s := parsed(b, c.schema)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Check(c.data, nil)
			}
		})
	}
}
