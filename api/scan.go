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
	var end int
	if m.i, ok, m.err = step(m.b, m.i, '}', m.depth, m.started); !ok {
		return nil, nil, false
	}
	m.started = true
	b := m.b
	if m.i == len(b) || b[m.i] != '"' {
		m.err = errSyntax
		return nil, nil, false
	}
	if end, m.err = skipString(b, m.i); m.err != nil {
		return nil, nil, false
	}
	name = b[m.i:end:end]
	if m.i = skipSpace(b, end); m.i == len(b) || b[m.i] != ':' {
		m.err = errSyntax
		return nil, nil, false
	}
	m.i = skipSpace(b, m.i+1)
	if end, m.err = skipValue(b, m.i, m.depth-1); m.err != nil {
		m.failed = name
		return nil, nil, false
	}
	value = b[m.i:end:end]
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
	var end int
	if e.i, ok, e.err = step(e.b, e.i, ']', e.depth, e.started); !ok {
		return nil, false
	}
	e.started = true
	if end, e.err = skipValue(e.b, e.i, e.depth-1); e.err != nil {
		return nil, false
	}
	value = e.b[e.i:end:end]
	e.i = end
	return value, true
}

// step goes from the beginning of an object or array, or from behind one of its entries, to the next
// entry. There is none (more is false) behind the end, which is where i is then, or after an error.
func step(b []byte, i int, end byte, depth int, started bool) (at int, more bool, err error) {
	if !started {
		if depth == 0 {
			return i, false, errDepth
		}
		i = skipSpace(b, i+1)
		if i < len(b) && b[i] == end {
			return i + 1, false, nil
		}
		return i, true, nil
	}
	if i = skipSpace(b, i); i == len(b) {
		return i, false, errSyntax
	}
	switch b[i] {
	case end:
		return i + 1, false, nil
	case ',':
		return skipSpace(b, i+1), true, nil
	}
	return i, false, errSyntax
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
