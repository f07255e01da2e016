package filter

import (
	"bytes"
	"slices"
)

// verdict is what a condition comes to. The order is that of $and, which is as good as its worst part,
// and $or, which is as good as its best.
type verdict int8

const (
	fails verdict = iota
	unknown
	holds
)

func verdictOf(is bool) verdict {
	if is {
		return holds
	}
	return fails
}

// Match says whether a filter holds for the event, whose places it has under these numbers in the set
// that was scanned last.
func (r *Reader) Match(f *Filter, places []int32) bool {
	r.work = maxWork
	return len(f.program) == 0 || r.eval(f, places, 0) == holds
}

// In says whether at a place stands one of some scalars, which are sorted, or an array that has one.
func (r *Reader) In(n int32, set []Scalar) bool {
	r.work = maxWork
	p, s := r.at(n)
	return s == present && r.isIn(p, set) == holds
}

func (r *Reader) eval(f *Filter, places []int32, i int) verdict {
	in := &f.program[i]
	switch in.op {
	case opAnd:
		v := holds
		for k := i + 1; k < int(in.end) && v != fails; k = int(f.program[k].end) {
			v = min(v, r.eval(f, places, k))
		}
		return v
	case opOr:
		v := fails
		for k := i + 1; k < int(in.end) && v != holds; k = int(f.program[k].end) {
			v = max(v, r.eval(f, places, k))
		}
		return v
	case opNot:
		return holds - r.eval(f, places, i+1)
	default:
		v, _ := r.leaf(in, places[in.place])
		return v
	}
}

// leaf decides one condition, and says what there is at its place.
func (r *Reader) leaf(in *instr, n int32) (verdict, state) {
	p, s := r.at(n)
	if in.op == opExists && s != unclear {
		return verdictOf((s == present) == (in.value == yes)), s
	}
	if s != present {
		return unknown, s
	}
	switch in.op {
	case opEq:
		return r.isEqual(p, in.value), s
	case opNe:
		return holds - r.isEqual(p, in.value), s
	case opIn:
		return r.isIn(p, in.set), s
	case opNin:
		return holds - r.isIn(p, in.set), s
	case opContains:
		return r.contains(p, in.value), s
	}
	if p.kind != in.value.kind() {
		return unknown, s
	}
	content, operand := r.content(p), in.value.content()
	switch in.op {
	case opStartsWith:
		return verdictOf(len(content) >= len(operand) && string(content[:len(operand)]) == operand), s
	case opEndsWith:
		return verdictOf(len(content) >= len(operand) && string(content[len(content)-len(operand):]) == operand), s
	}
	order := compare(content, operand)
	switch in.op {
	case opGt:
		return verdictOf(order > 0), s
	case opGte:
		return verdictOf(order >= 0), s
	case opLt:
		return verdictOf(order < 0), s
	default:
		return verdictOf(order <= 0), s
	}
}

// yes is the scalar true.
var yes = Scalar([]byte{byte(kindBoolean), 't'})

// compare is bytes.Compare for a text on one side.
func compare(a []byte, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return int(a[i]) - int(b[i])
		}
	}
	return len(a) - len(b)
}

func equal(k kind, content []byte, s Scalar) bool {
	return k == s.kind() && len(content) == len(s)-1 && string(content) == s.content()
}

func (r *Reader) isEqual(p *place, s Scalar) verdict {
	if p.kind != kindNone {
		return verdictOf(equal(p.kind, r.content(p), s))
	}
	if !r.isArray(p) {
		return fails
	}
	found, ok := r.elements(p, func(k kind, content []byte) bool { return equal(k, content, s) })
	if !ok {
		return unknown
	}
	return verdictOf(found)
}

func (r *Reader) isIn(p *place, set []Scalar) verdict {
	if p.kind != kindNone {
		return verdictOf(inSet(p.kind, r.content(p), set))
	}
	if !r.isArray(p) {
		return fails
	}
	found, ok := r.elements(p, func(k kind, content []byte) bool { return inSet(k, content, set) })
	if !ok {
		return unknown
	}
	return verdictOf(found)
}

// inSet looks a scalar up in a sorted set.
func inSet(k kind, content []byte, set []Scalar) bool {
	_, found := slices.BinarySearchFunc(set, content, func(s Scalar, content []byte) int {
		if s.kind() != k {
			return int(s.kind()) - int(k)
		}
		return -compare(content, s.content())
	})
	return found
}

// contains decides whether a text has a part, or an array an element.
func (r *Reader) contains(p *place, s Scalar) verdict {
	switch {
	case p.kind == kindNone && r.isArray(p):
		return r.isEqual(p, s)
	case p.kind != kindText || s.kind() != kindText:
		return unknown
	}
	content := r.content(p)
	if r.work -= len(content); r.work < 0 {
		return unknown
	}
	return verdictOf(bytes.Contains(content, []byte(s.content())))
}

// Failed is the condition that kept a filter from matching.
type Failed struct {
	Pointer string // into the filter
	Detail  string // for people: "does not hold"
}

// Explain reads a filter, which may have faults, and decides it. If it does not match, failed names the
// first condition to blame: of several that must hold the first that does not, and a $or or $not as a
// whole.
func Explain(raw []byte, e Event) (match bool, failed *Failed, faults []Fault) {
	t, faults := parse(raw, MaxSize)
	if len(faults) > 0 {
		return false, nil, faults
	}
	f, at := compile(t)
	d := NoPaths().Draft()
	places := d.Bind(f)
	r := Read(e)
	defer r.Close()
	r.Scan(d.Done())
	if r.Match(f, places) {
		return true, nil, nil
	}
	i, v := r.blame(f, places)
	return false, &Failed{Pointer: at[i], Detail: r.why(&f.program[i], v, places)}, nil
}

// blame finds the part of a filter that does not hold, below every $and, and what it comes to.
func (r *Reader) blame(f *Filter, places []int32) (i int, v verdict) {
	r.work = maxWork
	v = r.eval(f, places, 0)
	for f.program[i].op == opAnd {
		r.work = maxWork
		self, end := i, int(f.program[i].end)
		for i++; i < end; i = int(f.program[i].end) {
			if v = r.eval(f, places, i); v != holds {
				break
			}
		}
		if i == end { // by itself it holds: it was the work before it that was too much
			return self, unknown
		}
	}
	return i, v
}

func (r *Reader) why(in *instr, v verdict, places []int32) string {
	const tooMuch = "there is too much to look through in the event"
	switch in.op {
	case opAnd:
		return tooMuch
	case opOr:
		return "none of these holds"
	case opNot:
		if v == unknown {
			return "cannot be decided, and then its opposite cannot either"
		}
		return "what must not hold, holds"
	}
	r.work = maxWork
	again, s := r.leaf(in, places[in.place])
	switch {
	case s == missing && in.op != opExists:
		return "the event has no such value"
	case s == unclear:
		return "the event has two values of that name"
	case v == unknown && (r.work < 0 || again != unknown):
		return tooMuch
	case v == unknown:
		return "the event's value is of a type that this does not compare"
	}
	return "does not hold"
}
