package api

import (
	"strings"
	"testing"
)

func TestAMalformedBodyIsToldWhereAndWhat(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":NaN}`:     "byte 6: invalid character 'N'",
		`{"a":1,}`:      "byte 8: invalid character '}'",
		`{"a":1} x`:     "byte 9: invalid character 'x'",
		`{"a":1`:        "byte 6: unexpected end",
		"{\"a\":\"\xff": "byte 6 is not UTF-8",
	} {
		if p := malformed([]byte(body)); p.code != codeMalformed || !strings.Contains(p.detail, want) {
			t.Errorf("%q: %s", body, p.detail)
		}
	}
	if errMalformed.detail != "The body is not JSON." {
		t.Errorf("the shared problem was written to: %s", errMalformed.detail)
	}
}
