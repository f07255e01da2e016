package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/retry"
)

// field is a member that an object may have.
type field struct {
	name     string
	required bool
	take     func(v value) // nil: read-only, which is accepted and ignored
}

// decode reads a body that must be an object with these members. No body is an empty object. The error
// names every fault.
func decode(body []byte, fields ...field) error {
	if len(body) == 0 {
		body = []byte("{}")
	}
	raw, err := onlyValue(body, maxDepth)
	switch err {
	case nil:
	case errDepth:
		return refuse("", codeTooDeep, fmt.Sprintf("is nested more than %d levels deep", maxDepth))
	default:
		return errMalformed
	}
	var f faults
	value{raw: raw, f: &f}.object(fields...)
	return f.err()
}

// value is a JSON value, known to be well formed, on its way into a Go value. Its methods add a fault
// and answer false if it is not what they read.
type value struct {
	raw []byte
	at  string // pointer
	f   *faults
}

func (v value) fault(c code, detail string) { v.f.at(v.at, c, detail) }

func (v value) null() bool { return string(v.raw) == "null" }

// given reports whether v was there at all.
func (v value) given() bool { return v.raw != nil }

// wrong adds the fault that v is of another type.
func (v value) wrong(want string) bool {
	v.fault(codeWrongType, "must be "+want)
	return false
}

func (v value) object(fields ...field) {
	if v.raw[0] != '{' {
		v.wrong("an object")
		return
	}
	seen := make([]bool, len(fields))
	m := members{b: v.raw, depth: maxDepth}
next:
	for {
		quoted, raw, ok := m.next()
		if !ok {
			break
		}
		name, sound := unquote(quoted)
		at := v.at + "/" + escapePointer(name)
		for i := range fields {
			if !sound || fields[i].name != name {
				continue
			}
			if seen[i] {
				v.f.at(at, codeDuplicateField, "stands here twice")
			} else if fields[i].take != nil {
				fields[i].take(value{raw: raw, at: at, f: v.f})
			}
			seen[i] = true
			continue next
		}
		v.f.at(at, codeUnknownField, "is not a member of this object")
	}
	for i := range fields {
		if fields[i].required && !seen[i] {
			v.f.at(v.at+"/"+fields[i].name, codeRequired, "is required")
		}
	}
}

func (v value) list(most int, take func(v value)) bool {
	if v.raw[0] != '[' {
		return v.wrong("an array")
	}
	e := elements{b: v.raw, depth: maxDepth}
	for i := 0; ; i++ {
		raw, ok := e.next()
		if !ok {
			return true
		}
		if i == most {
			v.fault(codeTooMany, fmt.Sprintf("has more than %d entries", most))
			return false
		}
		take(value{raw: raw, at: v.at + "/" + strconv.Itoa(i), f: v.f})
	}
}

// text reads a string of at most most characters that can be stored: U+0000 cannot.
func (v value) text(most int) (string, bool) {
	if v.raw[0] != '"' {
		return "", v.wrong("a string")
	}
	s, ok := unquote(v.raw)
	if !ok || strings.Contains(s, "\x00") {
		v.fault(codeInvalidText, "contains half of a surrogate pair or U+0000")
		return "", false
	}
	if utf8.RuneCountInString(s) > most {
		v.fault(codeTooLong, fmt.Sprintf("is longer than %d characters", most))
		return "", false
	}
	return s, true
}

// choice reads one of several words.
func (v value) choice(words ...string) (string, bool) {
	if v.raw[0] != '"' {
		return "", v.wrong("a string")
	}
	word, _ := unquote(v.raw)
	if !slices.Contains(words, word) {
		v.fault(codeInvalidValue, "must be "+strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1])
		return "", false
	}
	return word, true
}

func (v value) boolean() (is, ok bool) {
	if string(v.raw) != "true" && string(v.raw) != "false" {
		return false, v.wrong("true or false")
	}
	return v.raw[0] == 't', true
}

func (v value) integer(least, most int) (int, bool) {
	n, err := strconv.Atoi(string(v.raw))
	if c := v.raw[0]; c != '-' && (c < '0' || c > '9') {
		return 0, v.wrong("an integer")
	}
	if err != nil || n < least || n > most {
		v.fault(codeOutOfRange, fmt.Sprintf("must be an integer from %d to %d", least, most))
		return 0, false
	}
	return n, true
}

func (v value) duration(least, most time.Duration) (time.Duration, bool) {
	if v.raw[0] != '"' {
		return 0, v.wrong(`a string such as "90s"`)
	}
	s, _ := unquote(v.raw)
	d, err := retry.ParseDuration(s)
	if err != nil {
		v.fault(codeInvalidFormat, err.Error())
		return 0, false
	}
	if d < least || d > most {
		v.fault(codeOutOfRange, "must be from "+retry.FormatDuration(least)+" to "+retry.FormatDuration(most))
		return 0, false
	}
	return d, true
}

func (v value) id() (uuid.UUID, bool) {
	if v.raw[0] != '"' {
		return uuid.Nil, v.wrong("a string")
	}
	s, _ := unquote(v.raw)
	id, ok := parseID(s)
	if !ok {
		v.fault(codeInvalidFormat, "is not a UUID")
	}
	return id, ok
}

// json reads an object to keep as it is, of at most most bytes. Its names must be unique at any depth:
// whoever reads it must not wonder which one counts.
func (v value) json(most int) ([]byte, bool) {
	if v.raw[0] != '{' {
		return nil, v.wrong("an object")
	}
	if len(v.raw) > most {
		v.fault(codeTooLong, fmt.Sprintf("has more than %d bytes", most))
		return nil, false
	}
	before := len(v.f.list)
	v.unique()
	return v.raw, len(v.f.list) == before
}

func (v value) unique() {
	switch v.raw[0] {
	case '{':
		seen := make(map[string]bool)
		m := members{b: v.raw, depth: maxDepth}
		for {
			quoted, raw, ok := m.next()
			if !ok {
				return
			}
			name, sound := unquote(quoted)
			at := v.at + "/" + escapePointer(name)
			if !sound {
				v.f.at(at, codeInvalidText, "contains half of a surrogate pair")
			} else if seen[name] {
				v.f.at(at, codeDuplicateField, "stands here twice")
			}
			seen[name] = true
			value{raw: raw, at: at, f: v.f}.unique()
		}
	case '[':
		v.list(len(v.raw), value.unique)
	}
}

// parseID reads a UUID in its usual form, in lower or upper case.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

// parseTime reads an RFC 3339 time of a year that has four digits in UTC too.
func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || len(s) > 64 || t.UTC().Year() < 0 || t.UTC().Year() > 9999 || strings.Contains(s, ",") {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// escapePointer makes a name a step of a JSON Pointer, cut to a length that an answer can bear.
func escapePointer(name string) string {
	const most = 200
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	if !strings.ContainsAny(name, "~/") {
		return name
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
