package shape

import "unicode/utf8"

// maxDepth bounds the nesting of what is written anew. Published data never comes near it.
const maxDepth = 1000

// reader goes through JSON text (RFC 8259), token by token. Each method leaves it behind what it read, and
// answers false, with the reader anywhere, if that is not there.
type reader struct {
	b []byte
	i int
}

func (r *reader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\r', '\n':
			r.i++
		default:
			return
		}
	}
}

// peek is the next byte that is not space; 0: there is none.
func (r *reader) peek() byte {
	r.space()
	if r.i == len(r.b) {
		return 0
	}
	return r.b[r.i]
}

func (r *reader) eat(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.i++
	return true
}

// end reports whether nothing but space follows.
func (r *reader) end() bool { return r.peek() == 0 && r.i == len(r.b) }

// more goes to the next entry of the object or array that close ends, or behind its end. It is asked with
// first before the first one.
func (r *reader) more(close byte, first bool) (more, ok bool) {
	switch {
	case r.eat(close):
		return false, true
	case first:
		return true, true
	case !r.eat(','):
		return false, false
	default:
		return true, r.peek() != close
	}
}

// text reads a text and gives what stands between its quotes.
func (r *reader) text() (inner []byte, ok bool) {
	if !r.eat('"') {
		return nil, false
	}
	for start := r.i; r.i < len(r.b); r.i++ {
		switch c := r.b[r.i]; {
		case c == '"':
			r.i++
			return r.b[start : r.i-1], true
		case c == '\\':
			if r.i++; r.i < len(r.b) && r.b[r.i] == 'u' {
				if _, ok := hex4(r.b, r.i+1); !ok {
					return nil, false
				}
			} else if r.i == len(r.b) || escapes[r.b[r.i]] == 0 {
				return nil, false
			}
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// escapes is what stands for a character behind a backslash.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// word reads true, false or null.
func (r *reader) word() (word []byte, ok bool) {
	for _, w := range [...]string{"true", "false", "null"} {
		if end := r.i + len(w); end <= len(r.b) && string(r.b[r.i:end]) == w {
			word = r.b[r.i:end]
			r.i = end
			return word, true
		}
	}
	return nil, false
}

// number reads a number.
func (r *reader) number() (number []byte, ok bool) {
	start := r.i
	r.skip('-')
	if !r.skip('0') && !r.digits() {
		return nil, false
	}
	if r.skip('.') && !r.digits() {
		return nil, false
	}
	if r.skip('e') || r.skip('E') {
		if !r.skip('+') {
			r.skip('-')
		}
		if !r.digits() {
			return nil, false
		}
	}
	return r.b[start:r.i], true
}

func (r *reader) skip(c byte) bool {
	if r.i < len(r.b) && r.b[r.i] == c {
		r.i++
		return true
	}
	return false
}

func (r *reader) digits() bool {
	start := r.i
	for r.i < len(r.b) && '0' <= r.b[r.i] && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i > start
}

// value reads any value without looking at what is in it beyond finding its end.
func (r *reader) value() bool {
	switch r.peek() {
	case '"':
		_, ok := r.text()
		return ok
	case '{', '[':
		for depth := 0; ; {
			switch r.peek() {
			case 0:
				return false
			case '"':
				if _, ok := r.text(); !ok {
					return false
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			r.i++
			if depth == 0 {
				return true
			}
		}
	case 't', 'f', 'n':
		_, ok := r.word()
		return ok
	default:
		_, ok := r.number()
		return ok
	}
}

// unit reads the character of a text's inside at i, and where the next begins. Half of a surrogate pair
// that stands alone is its own number, which no UTF-8 has.
func unit(inner []byte, i int) (r rune, next int) {
	if inner[i] != '\\' {
		r, n := utf8.DecodeRune(inner[i:])
		return r, i + n
	}
	if inner[i+1] != 'u' {
		return rune(escapes[inner[i+1]]), i + 2
	}
	r, _ = hex4(inner, i+2)
	next = i + 6
	if r < 0xd800 || r >= 0xdc00 || next+1 >= len(inner) || inner[next] != '\\' || inner[next+1] != 'u' {
		return r, next
	}
	if low, ok := hex4(inner, next+2); ok && low >= 0xdc00 && low < 0xe000 {
		return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00), next + 6
	}
	return r, next
}

func isSurrogate(r rune) bool { return r >= 0xd800 && r < 0xe000 }

func hex4(b []byte, i int) (r rune, ok bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unquote is what a text's inside says, if UTF-8 can say it.
func unquote(inner []byte) (text string, ok bool) {
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); {
		var r rune
		if r, i = unit(inner, i); isSurrogate(r) {
			return "", false
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b), true
}
