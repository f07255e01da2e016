package shape

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// decoded is what the standard library makes of JSON, with numbers as JavaScript has them.
func decoded(t *testing.T, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var numbers func(v any) any
	numbers = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for name := range v {
				v[name] = numbers(v[name])
			}
		case []any:
			for i := range v {
				v[i] = numbers(v[i])
			}
		case json.Number:
			f, _ := strconv.ParseFloat(string(v), 64)
			if math.IsInf(f, 0) {
				return nil
			}
			return f + 0 // minus zero is zero
		}
		return v
	}
	return numbers(v)
}

// Whatever text is, it is refused, or written with the same meaning and in a form that stays as it is.
func FuzzECMAScript(f *testing.F) {
	for _, body := range awkward(f) {
		f.Add([]byte(body))
	}
	for _, text := range []string{`[1,"x",null]`, `"\ud800"`, `-0`, `1e999`, `{"a":1,}`, `[`, `tru`, "{\"\xff\":1}", `{"a":1}{}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ecmascript(text)
		if wanted := json.Valid(text) && utf8.Valid(text); (err == nil) != wanted {
			if err != errTooDeep {
				t.Fatalf("%q: %v", text, err)
			}
		}
		if err != nil {
			return
		}
		if again, err := ecmascript(got); err != nil || string(again) != string(got) {
			t.Errorf("%q is %q, and that is %q, %v", text, got, again, err)
		}
		// The standard library takes halves of surrogate pairs for U+FFFD, so that names become one.
		if !strings.Contains(string(got), `\ud`) && !reflect.DeepEqual(decoded(t, got), decoded(t, text)) {
			t.Errorf("%q is %q", text, got)
		}
	})
}

// Whatever data is, it is refused, or its form is read as what it was.
func FuzzForm(f *testing.F) {
	for _, body := range awkward(f) {
		f.Add([]byte(body))
	}
	for _, text := range []string{`{"a":[[],[1]]}`, `{"a":{"0":1},"b":[1]}`, `{"k":["v",{"a":[]}]}`, `[1]`, `"a"`, `{"a":"\ud800"}`, `{"a[":1}`} {
		f.Add([]byte(text))
	}
	shape := &Shape{Form: true, Raw: true}
	f.Fuzz(func(t *testing.T, data []byte) {
		form, err := shape.Write(event(string(data)))
		if err != nil {
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			t.Fatalf("%q was written: %q", data, form)
		}
		checkForm(t, string(data), string(form))
	})
}

// Whatever custom data is, it is refused, or stands in the data it is put into.
func FuzzCustom(f *testing.F) {
	for _, body := range awkward(f) {
		f.Add([]byte(`{"a":"1","\u0062":"\n"}`), []byte(body))
	}
	f.Fuzz(func(t *testing.T, raw, data []byte) {
		c, faults := ParseCustom(raw)
		if c != nil && faults != nil {
			t.Fatalf("%q: %v", raw, faults)
		}
		if c == nil || !json.Valid(data) || !utf8.Valid(data) {
			return
		}
		if same, faults := ParseCustom(c.JSON()); faults != nil || string(same.JSON()) != string(c.JSON()) {
			t.Fatalf("%q is stored as %s: %v", raw, c.JSON(), faults)
		}
		got, err := c.put(data)
		want, isObject := decoded(t, data).(map[string]any)
		if (err == nil) != isObject {
			t.Fatalf("%q: %v", data, err)
		}
		if err != nil || strings.Contains(string(data), `\u`) { // halves of surrogate pairs
			return
		}
		for name, value := range decoded(t, c.JSON()).(map[string]any) {
			want[name] = value
		}
		if !reflect.DeepEqual(decoded(t, got), any(want)) {
			t.Errorf("%q in %q: %q", raw, data, got)
		}
	})
}

// Whatever headers are, they are refused, or can be sent as they are.
func FuzzHeaders(f *testing.F) {
	for _, raw := range []string{
		`{"X-Env":"prod","Authorization":{"secret":"Bearer x"}}`, `{"X":{"secret":null}}`, `{"X":"{event_id} {attempt}{webhook_id}{account_id}{event_type}"}`,
		`{"X":"{a}"}`, `{"X":"a\r\nB: c"}`, `{"Host":"h"}`, `{"x":"a","X":"b"}`, `{"X":"{{}{"}`, `{"X":"\ud800"}`, `{"X Y":" "}`, `{"X":{"secret":1}}`,
	} {
		f.Add([]byte(raw))
	}
	v := &Values{WebhookID: someID.String(), AccountID: someAccount.String(), EventID: someID.String(), EventType: "call.ended", Attempt: "12"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, faults := ParseHeaders(raw)
		for _, fault := range faults {
			if !utf8.ValidString(fault.Pointer) || fault.Code == "" || fault.Detail == "" {
				t.Errorf("%q: %+v", raw, fault)
			}
		}
		if faults != nil {
			return
		}
		for _, h := range list {
			template := Compile(h.Value)
			filled := template.Fill(v)
			if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(filled) || strings.TrimSpace(filled) != filled {
				t.Errorf("%q: %q: %q", raw, h.Name, filled)
			}
			if strings.EqualFold(h.Name, "Host") || strings.EqualFold(h.Name, "Content-Length") {
				t.Errorf("%q sets %s", raw, h.Name)
			}
		}
	})
}
