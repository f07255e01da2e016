package api

import (
	"errors"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Reading JSON as RFC 8259 has it, without building anything: a value is the bytes that it takes up in
// the body. The whole body must be UTF-8, which is checked once and before; what grammar allows beyond
// (duplicate names, escapes of lone surrogates, numbers of any size) is for the caller to judge.

var (
	errSyntax = errors.New("not JSON")
	errDepth  = errors.New("nested too deeply")
)

// maxDepth is how many arrays and objects may stand inside each other.
const maxDepth = 64

// plain marks the bytes of a string that mean themselves.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue checks the value that begins at b[i], at most depth deep, and gives where it ends. The
// error is errSyntax or errDepth.
func skipValue(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return i, errSyntax
	}
	switch c := b[i]; c {
	case '{':
		m := members{b: b, i: i, depth: depth}
		for {
			if _, _, ok := m.next(); !ok {
				return m.i, m.err
			}
		}
	case '[':
		e := elements{b: b, i: i, depth: depth}
		for {
			if _, ok := e.next(); !ok {
				return e.i, e.err
			}
		}
	case '"':
		return skipString(b, i)
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	default:
		return skipNumber(b, i)
	}
}

func skipWord(b []byte, i int, word string) (int, error) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, errSyntax
	}
	return i + len(word), nil
}

func skipString(b []byte, i int) (int, error) {
	for i++; i < len(b); i++ {
		for i < len(b) && plain[b[i]] {
			i++
		}
		if i == len(b) {
			break
		}
		switch b[i] {
		case '"':
			return i + 1, nil
		case '\\':
			i++
			if i == len(b) {
				return i, errSyntax
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(b)-i < 5 || !isHex(b[i+1]) || !isHex(b[i+2]) || !isHex(b[i+3]) || !isHex(b[i+4]) {
					return i, errSyntax
				}
				i += 4
			default:
				return i, errSyntax
			}
		default: // a control character
			return i, errSyntax
		}
	}
	return i, errSyntax
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

func skipNumber(b []byte, i int) (int, error) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	i = skipDigits(b, i)
	if i == start || (b[start] == '0' && i > start+1) {
		return i, errSyntax
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = skipDigits(b, start); i == start {
			return i, errSyntax
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = skipDigits(b, start); i == start {
			return i, errSyntax
		}
	}
	return i, nil
}

// members walks an object that begins at b[i].
type members struct {
	b       []byte
	i       int // when next has answered false without an error: behind the object
	depth   int // how deep the object itself may be
	started bool
	err     error
	failed  []byte // the name of the member whose value err is about, if it is about one
}

// next gives the next member: its name with the quotes, and its value.
func (m *members) next() (name, value []byte, ok bool) {
	b := m.b
	i := m.i
	fail := func(err error) ([]byte, []byte, bool) {
		m.i, m.err = i, err
		return nil, nil, false
	}
	if !m.started {
		m.started = true
		if m.depth == 0 {
			return fail(errDepth)
		}
		i = skipSpace(b, i+1)
		if i < len(b) && b[i] == '}' {
			m.i = i + 1
			return nil, nil, false
		}
	} else {
		i = skipSpace(b, i)
		if i >= len(b) {
			return fail(errSyntax)
		}
		if b[i] == '}' {
			m.i = i + 1
			return nil, nil, false
		}
		if b[i] != ',' {
			return fail(errSyntax)
		}
		i = skipSpace(b, i+1)
	}
	if i >= len(b) || b[i] != '"' {
		return fail(errSyntax)
	}
	end, err := skipString(b, i)
	if err != nil {
		return fail(err)
	}
	name = b[i:end]
	i = skipSpace(b, end)
	if i >= len(b) || b[i] != ':' {
		return fail(errSyntax)
	}
	i = skipSpace(b, i+1)
	end, err = skipValue(b, i, m.depth-1)
	if err != nil {
		m.failed = name
		return fail(err)
	}
	value = b[i:end:end]
	m.i = end
	return name, value, true
}

// elements walks an array that begins at b[i].
type elements struct {
	b       []byte
	i       int // when next has answered false without an error: behind the array
	depth   int // how deep the array itself may be
	started bool
	err     error
}

func (e *elements) next() (value []byte, ok bool) {
	b := e.b
	i := e.i
	fail := func(err error) ([]byte, bool) {
		e.i, e.err = i, err
		return nil, false
	}
	if !e.started {
		e.started = true
		if e.depth == 0 {
			return fail(errDepth)
		}
		i = skipSpace(b, i+1)
		if i < len(b) && b[i] == ']' {
			e.i = i + 1
			return nil, false
		}
	} else {
		i = skipSpace(b, i)
		if i >= len(b) {
			return fail(errSyntax)
		}
		if b[i] == ']' {
			e.i = i + 1
			return nil, false
		}
		if b[i] != ',' {
			return fail(errSyntax)
		}
		i = skipSpace(b, i+1)
	}
	end, err := skipValue(b, i, e.depth-1)
	if err != nil {
		return fail(err)
	}
	value = b[i:end:end]
	e.i = end
	return value, true
}

// onlyValue checks that body is one JSON value in UTF-8 and gives it without the space around it. The
// error is errSyntax or errDepth.
func onlyValue(body []byte, depth int) ([]byte, error) {
	if !utf8.Valid(body) {
		return nil, errSyntax
	}
	start := skipSpace(body, 0)
	end, err := skipValue(body, start, depth)
	if err != nil {
		return nil, err
	}
	if skipSpace(body, end) != len(body) {
		return nil, errSyntax
	}
	return body[start:end:end], nil
}

// unquote reads a string that skipString has accepted. It is not ok if the string has an escape that
// stands for no character: half of a surrogate pair.
func unquote(quoted []byte) (text string, ok bool) {
	inner := quoted[1 : len(quoted)-1]
	for i := 0; ; i++ {
		if i == len(inner) {
			return string(inner), true
		}
		if inner[i] == '\\' {
			break
		}
	}
	out, err := jsontext.AppendUnquote(nil, quoted)
	return string(out), err == nil
}
