package shape

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare"
)

// maxForm bounds a form, in bytes: the names of what is around a value are repeated with each, so that a
// form can be thousands of times as long as its JSON.
const maxForm = 1 << 20

// form writes an event as application/x-www-form-urlencoded.
//
// The members of an object are a[b]=…, to any depth. The elements of a list are a[]=…, or a[0]=…, a[1]=…
// if there is an object or a list among them, which could not be told apart otherwise. Numbers, true and
// false are their text; null, {} and [] are empty. Everything stands in the order in which it was
// published. A space is %20, which those take for one who do not know +.
//
// A form cannot say: a name that is empty, only space (which PHP reads as []) or has a bracket or U+0000, a
// name that stands twice in its object, half of a surrogate pair. Nor does it tell an object whose names are numbers
// from a list; that is left to receivers.
func (s *Shape) form(e *fanfare.Event, data []byte) ([]byte, error) {
	if !utf8.Valid(data) {
		return nil, errNotJSON
	}
	w := formWriter{reader: reader{b: data}, open: "[", close: "]", dst: make([]byte, 0, len(data)+len(data)/4+192)}
	if s.Query { // where brackets may not stand (RFC 3986, section 3.4)
		w.open, w.close = "%5B", "%5D"
	}
	if !s.Raw {
		w.dst = appendUUID(append(w.dst, "id="...), e.ID)
		w.dst = append(append(w.dst, "&type="...), e.Type...)
		w.dst = append(w.dst, "&timestamp="...)
		w.dst = appendEncoded(w.dst, string(appendTime(nil, e)))
		w.dst = appendUUID(append(w.dst, "&account_id="...), e.AccountID)
		w.name = append(w.name, "data"...)
	}
	ok := w.peek() == '{' && w.value(0) && w.end()
	switch {
	case w.err != nil:
		return nil, w.err
	case !ok:
		return nil, errNotJSON
	}
	return w.dst, nil
}

// formWriter writes what it reads as pairs.
type formWriter struct {
	reader
	open, close string
	dst         []byte
	name        []byte   // of what is being read, encoded; empty: the top of raw data
	members     []member // of the objects that are open, outermost first
	err         error    // why it cannot be written
}

func (w *formWriter) value(depth int) bool {
	if depth > maxDepth {
		w.err = errTooDeep
		return false
	}
	switch w.peek() {
	case '{':
		return w.object(depth)
	case '[':
		return w.list(depth)
	case '"':
		inner, ok := w.text()
		if !ok || !w.pair() {
			return false
		}
		text, sound := unquote(inner)
		if !sound {
			return w.cannot("%s is a text with half of a surrogate pair", w.place())
		}
		w.dst = appendEncoded(w.dst, text)
		return true
	case 't', 'f':
		word, ok := w.word()
		if !ok || !w.pair() {
			return false
		}
		w.dst = append(w.dst, word...)
		return true
	case 'n':
		_, ok := w.word()
		return ok && w.pair()
	default:
		number, ok := w.number()
		if !ok || !w.pair() {
			return false
		}
		w.dst = appendEncoded(w.dst, string(number))
		return true
	}
}

// pair begins a pair: what is written next is its value.
func (w *formWriter) pair() bool {
	if len(w.dst)+len(w.name) > maxForm {
		return w.cannot("it would have more than %d KiB", maxForm>>10)
	}
	if len(w.dst) > 0 {
		w.dst = append(w.dst, '&')
	}
	w.dst = append(append(w.dst, w.name...), '=')
	return true
}

func (w *formWriter) object(depth int) bool {
	w.i++
	if w.eat('}') {
		return len(w.name) == 0 || w.pair()
	}
	outer, mine := len(w.name), len(w.members)
	for first := true; ; first = false {
		more, ok := w.more('}', first)
		if !more {
			if _, twice, found := sameName(w.dst, w.members[mine:]); found {
				return w.cannot("%s stands in the data twice", excerpt(w.dst[twice.from-outer:twice.to]))
			}
			w.members = w.members[:mine]
			return ok
		}
		inner, named := w.text()
		if !ok || !named || !w.eat(':') {
			return false
		}
		m := w.enter(inner, outer)
		if w.err != nil || !w.value(depth+1) {
			return false
		}
		w.members = append(w.members, m)
		w.name = w.name[:outer]
	}
}

// enter goes to a member of the object whose name has outer bytes, and says where its name is about to be
// written in dst.
func (w *formWriter) enter(inner []byte, outer int) (m member) {
	name, sound := unquote(inner)
	switch {
	case !sound:
		w.cannot("a name in %s has half of a surrogate pair", w.place())
	case strings.Trim(name, " \t\r\n\v\f") == "":
		w.cannot("a name in %s is empty or only space", w.place())
	case strings.Contains(name, "\x00"):
		w.cannot("a name in %s holds U+0000, which many read as its end", w.place())
	case strings.ContainsAny(name, "[]"):
		w.cannot("a name in %s has a bracket, which would be read as nesting: %s", w.place(), excerpt([]byte(name)))
	}
	if m.from = len(w.dst); m.from > 0 {
		m.from++ // the & in front
	}
	m.from += outer
	start := len(w.name)
	if outer > 0 {
		w.name = append(w.name, w.open...)
		w.name = appendEncoded(w.name, name)
		w.name = append(w.name, w.close...)
	} else {
		w.name = appendEncoded(w.name, name)
	}
	m.colon = m.from + len(w.name) - start
	m.to = m.colon
	return m
}

func (w *formWriter) list(depth int) bool {
	flat := w.flat()
	w.i++
	if w.eat(']') {
		return w.pair()
	}
	outer := len(w.name)
	for i := 0; ; i++ {
		more, ok := w.more(']', i == 0)
		if !more {
			return ok
		}
		w.name = append(w.name, w.open...)
		if !flat {
			w.name = strconv.AppendInt(w.name, int64(i), 10)
		}
		w.name = append(w.name, w.close...)
		if !ok || !w.value(depth+1) {
			return false
		}
		w.name = w.name[:outer]
	}
}

// flat reports whether each element of the list that comes is one pair.
func (w *formWriter) flat() bool {
	r := w.reader
	r.i++
	for first := true; ; first = false {
		more, ok := r.more(']', first)
		if !more || !ok {
			return true
		}
		if c := r.peek(); c == '{' || c == '[' {
			r.i++
			if !r.eat(c + 2) { // the bracket that ends what c begins, in ASCII
				return false
			}
		} else if !r.value() {
			return true
		}
	}
}

// cannot notes why there is no form.
func (w *formWriter) cannot(format string, args ...any) bool {
	w.err = fmt.Errorf("the event cannot be written as a form: "+format, args...)
	return false
}

// place names what is being read.
func (w *formWriter) place() string {
	if len(w.name) == 0 {
		return "the data"
	}
	return excerpt(w.name)
}

// excerpt quotes the beginning of a name.
func excerpt(name []byte) string {
	const most = 100
	if len(name) > most {
		return strconv.Quote(string(name[:most])) + "…"
	}
	return strconv.Quote(string(name))
}

// appendEncoded percent-encodes a text but for the characters that no decoder takes for anything else.
func appendEncoded(dst []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
