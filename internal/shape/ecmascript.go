package shape

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

var errTooDeep = errors.New("the data is nested too deep to be written anew")

// ecmascript writes JSON as JSON.stringify(JSON.parse(text)) does (ECMA-262, sections 25.5.1 and 25.5.2).
func ecmascript(text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return nil, errNotJSON
	}
	w := scriptWriter{reader: reader{b: text}, dst: make([]byte, 0, len(text))}
	switch ok := w.value(0) && w.end(); {
	case w.tooDeep:
		return nil, errTooDeep
	case !ok:
		return nil, errNotJSON
	}
	return w.dst, nil
}

// scriptWriter writes what it reads as JavaScript does.
type scriptWriter struct {
	reader
	dst     []byte
	members []member // of the objects that are open, outermost first
	scratch []byte
	tooDeep bool
}

// member is where one was written.
type member struct {
	from, colon, to int    // its name is in [from, colon)
	index           uint32 // of a name that is an array index; notIndex: it is none
}

// notIndex is the first number that is no array index (ECMA-262, section 6.1.7).
const notIndex = math.MaxUint32

func (w *scriptWriter) value(depth int) bool {
	if depth > maxDepth {
		w.tooDeep = true
		return false
	}
	switch w.peek() {
	case '{':
		return w.object(depth)
	case '[':
		return w.array(depth)
	case '"':
		inner, ok := w.text()
		w.dst = appendQuoted(w.dst, inner)
		return ok
	case 't', 'f', 'n':
		word, ok := w.word()
		w.dst = append(w.dst, word...)
		return ok
	default:
		number, ok := w.number()
		w.dst = appendNumber(w.dst, number)
		return ok
	}
}

func (w *scriptWriter) array(depth int) bool {
	w.i++
	w.dst = append(w.dst, '[')
	for first := true; ; first = false {
		more, ok := w.more(']', first)
		if !more {
			w.dst = append(w.dst, ']')
			return ok
		}
		if !first {
			w.dst = append(w.dst, ',')
		}
		if !ok || !w.value(depth+1) {
			return false
		}
	}
}

func (w *scriptWriter) object(depth int) bool {
	w.i++
	w.dst = append(w.dst, '{')
	mine := len(w.members)
	for first := true; ; first = false {
		more, ok := w.more('}', first)
		if !more {
			w.arrange(w.members[mine:])
			w.members = w.members[:mine]
			w.dst = append(w.dst, '}')
			return ok
		}
		if !first {
			w.dst = append(w.dst, ',')
		}
		name, named := w.text()
		if !ok || !named || !w.eat(':') {
			return false
		}
		m := member{from: len(w.dst)}
		w.dst = appendQuoted(w.dst, name)
		m.colon = len(w.dst)
		m.index = arrayIndex(w.dst[m.from+1 : m.colon-1])
		w.dst = append(w.dst, ':')
		if !w.value(depth + 1) {
			return false
		}
		m.to = len(w.dst)
		w.members = append(w.members, m)
	}
}

// arrange brings the members of the object that was written last into JavaScript's order: array indexes
// by their size, then the others as they came. Of several with one name the value of the last counts, in
// the place of the first.
func (w *scriptWriter) arrange(list []member) {
	byIndex := func(a, b member) int { return cmp.Compare(a.index, b.index) }
	_, _, twice := sameName(w.dst, list)
	if !twice && slices.IsSortedFunc(list, byIndex) {
		return
	}
	start := list[0].from
	if twice {
		list = lastOfEach(w.dst, list)
	}
	slices.SortStableFunc(list, byIndex)
	w.scratch = w.scratch[:0]
	for i, m := range list {
		if i > 0 {
			w.scratch = append(w.scratch, ',')
		}
		w.scratch = append(w.scratch, w.dst[m.from:m.to]...)
	}
	w.dst = append(w.dst[:start], w.scratch...)
}

// sameName finds two members whose names in b are the same bytes.
func sameName(b []byte, list []member) (one, other member, found bool) {
	const few = 16 // so many are faster compared each with each
	if len(list) <= few {
		for i, m := range list {
			for _, n := range list[:i] {
				if m.colon-m.from == n.colon-n.from && string(b[m.from:m.colon]) == string(b[n.from:n.colon]) {
					return n, m, true
				}
			}
		}
		return one, other, false
	}
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, byName(b))
	for i := 1; i < len(sorted); i++ {
		one, other = sorted[i-1], sorted[i]
		if bytes.Equal(b[one.from:one.colon], b[other.from:other.colon]) {
			return one, other, true
		}
	}
	return one, other, false
}

// byName orders members by their names in b, and those of one name as they came.
func byName(b []byte) func(m, n member) int {
	return func(m, n member) int {
		return cmp.Or(bytes.Compare(b[m.from:m.colon], b[n.from:n.colon]), cmp.Compare(m.from, n.from))
	}
}

// lastOfEach puts the last member of each name where the first one stood and leaves the others out.
func lastOfEach(b []byte, list []member) []member {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, byName(b))
	last := make(map[int]member, len(list)) // by where the first one was written
	for len(sorted) > 0 {
		n := 1
		for first := sorted[0]; n < len(sorted) && bytes.Equal(b[first.from:first.colon], b[sorted[n].from:sorted[n].colon]); n++ {
		}
		last[sorted[0].from] = sorted[n-1]
		sorted = sorted[n:]
	}
	kept := list[:0]
	for _, m := range list {
		if l, ok := last[m.from]; ok {
			kept = append(kept, l)
		}
	}
	return kept
}

// arrayIndex is the number that a name is, if JavaScript takes it for an array index: no sign, no zeros
// in front, less than 2^32 - 1.
func arrayIndex(name []byte) uint32 {
	if len(name) == 0 || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return notIndex
	}
	var n uint64
	for _, c := range name {
		if c < '0' || c > '9' {
			return notIndex
		}
		n = 10*n + uint64(c-'0')
	}
	return uint32(min(n, notIndex))
}

// appendQuoted writes a text, given as what stands between its quotes, as JavaScript does: no more escapes
// than JSON needs, and half of a surrogate pair as an escape, because nothing else can say it.
func appendQuoted(dst, inner []byte) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(inner); {
		run := bytes.IndexByte(inner[i:], '\\')
		if run < 0 {
			run = len(inner) - i
		}
		if run > 0 {
			dst = append(dst, inner[i:i+run]...)
			i += run
			continue
		}
		var r rune
		r, i = unit(inner, i)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' && shortEscapes[r] != 0:
			dst = append(dst, '\\', shortEscapes[r])
		case r < ' ' || isSurrogate(r):
			const digits = "0123456789abcdef"
			dst = append(dst, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

var shortEscapes = [' ']byte{'\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

// appendNumber writes a number as JavaScript does (ECMA-262, section 6.1.6.1.20): the shortest digits that
// are the same float64. One beyond float64 is Infinity to JSON.parse, and null to JSON.stringify.
func appendNumber(dst, number []byte) []byte {
	f, _ := strconv.ParseFloat(string(number), 64)
	switch size := math.Abs(f); {
	case math.IsInf(f, 0):
		return append(dst, "null"...)
	case size == 0: // minus zero too
		return append(dst, '0')
	case 1e-6 <= size && size < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	default:
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		// Go writes two digits of exponent at least: 1e-07.
		if n := len(dst); n-start > 4 && dst[n-4] == 'e' && dst[n-2] == '0' {
			dst[n-2] = dst[n-1]
			dst = dst[:n-1]
		}
		return dst
	}
}
