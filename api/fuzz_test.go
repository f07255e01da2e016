package api_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfare-webhooks/fanfare/api"
)

// depth is how deep a value is nested; the value is valid.
func depth(b []byte) (deepest int) {
	d := jsontext.NewDecoder(bytes.NewReader(b), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		if _, err := d.ReadToken(); err != nil {
			return deepest
		}
		deepest = max(deepest, d.StackDepth())
	}
}

// What the scanner takes is what the standard library takes, as far as both have the same limits.
func FuzzScan(f *testing.F) {
	for _, body := range bombs() {
		if len(body) < 2000 {
			f.Add([]byte(body))
		}
	}
	for _, s := range []string{`[1,-0,0.1e+5,"\u00e9\n"]`, `[01]`, `[1.]`, `[-]`, `[1e]`, `{"a":}`, `{"a"}`, `[,]`, `[1 2]`, `{"a":1,}`, "\"\x7f\"", `"\x"`, `tru`, "\v1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want := json.Valid(body) && utf8.Valid(body)
		if want && depth(body) > 64 {
			want = false
		}
		if got := api.ValidJSON(body); got != want {
			t.Errorf("%q: %v, the standard library says %v", body, got, want)
		}
	})
}

// Publishing finds the same data as a decoder does, byte for byte.
func FuzzPublication(f *testing.F) {
	for _, s := range []string{
		`{"type":"a.b","data":{}}`, `{"data": {"a":[1, 2]} ,"type":"a"}`, `{"type":"a","data":{"data":{}},"idempotency_key":"k"}`,
		`{"type":"a","data":{},"occurred_at":"2026-01-01T00:00:00Z"}`, `{"\u0064ata":{"x":"}"},"type":"a"}`, `{"type":"a","data":[]}`,
		`{"type":"a","data":{"\ud800":1}}`, `{"type":"a","data":{}}x`, `{"type":"a","data":{},"data":{}}`,
		`{"type":"a","data":{},"destinations":[{"url":"https://a","headers":{"A":{"secret":"b"}},"signature":{"scheme":"hex","header":"S"}}]}`,
		`{"type":"a","data":{},"destinations":[{},null,[{"url":1}],{"custom_data":{"a":"b"},"method":"GET"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		data := api.DataOf(body)
		if data == nil || !utf8.Valid(body) { // which the handler has checked before
			return
		}
		var want struct{ Data json.RawMessage }
		d := json.NewDecoder(bytes.NewReader(body))
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q: accepted, but %v", body, err)
		}
		if !bytes.Equal(data, want.Data) {
			t.Errorf("%q: found %q, want %q", body, data, want.Data)
		}
		if len(data) > 256<<10 || data[0] != '{' {
			t.Errorf("accepted the data %.100q", data)
		}
	})
}
