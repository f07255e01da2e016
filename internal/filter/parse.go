package filter

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parser turns a filter into a tree and collects what is wrong with it.
type parser struct {
	faults     []Fault
	conditions int
}

// parse answers a nil tree for a filter without any condition, and a tree that means nothing if there
// are faults.
func parse(raw []byte, most int) (*tree, []Fault) {
	raw = bytes.Trim(raw, " \t\r\n")
	if faults := wellFormed(raw, most, MaxDepth); faults != nil {
		return nil, faults
	}
	p := &parser{}
	if raw[0] != '{' {
		p.fault("", WrongType, "must be an object")
		return nil, p.faults
	}
	if len(bytes.Trim(raw[1:len(raw)-1], " \t\r\n")) == 0 {
		return nil, nil
	}
	t := p.object(raw, "", nil)
	if p.conditions > MaxConditions {
		p.fault("", TooMany, fmt.Sprintf("has more than %d conditions", MaxConditions))
	}
	return t, p.faults
}

func (p *parser) fault(at string, c Code, detail string) {
	p.faults = append(p.faults, Fault{at, c, detail})
}

// step is at with one more step, of a length that an answer can bear.
func step(at, name string) string {
	const most = 200
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return at + "/" + escapeStep(name)
}

// object reads an object of conditions on the value at path, all of which must hold.
func (p *parser) object(raw []byte, at string, path []string) *tree {
	t := &tree{op: opAnd, at: at}
	seen := make(map[string]bool)
	eachMember(raw, func(name string, sound bool, value []byte) {
		here := step(at, name)
		switch {
		case !sound:
			p.fault(here, InvalidText, "contains half of a surrogate pair")
			return
		case seen[name]:
			p.fault(here, DuplicateField, "stands here twice")
			return
		}
		seen[name] = true
		var kid *tree
		if strings.HasPrefix(name, "$") {
			kid = p.operator(name, value, here, path)
		} else {
			kid = p.member(name, value, here, path)
		}
		if kid != nil {
			t.kids = append(t.kids, kid)
		}
	})
	switch {
	case len(seen) == 0:
		p.fault(at, TooFew, "has no condition")
		return nil
	case len(t.kids) == 1:
		return t.kids[0]
	}
	return t
}

// member reads what is asked of the member that name names.
func (p *parser) member(name string, value []byte, at string, path []string) *tree {
	switch {
	case len(path) == 0 && name != "type" && name != "data" && name != "account_id":
		p.fault(at, UnknownField, "is not a part of an event: there are type, data and account_id")
		return nil
	case len(path) == 1 && path[0] != "data":
		p.fault(at, UnknownField, "cannot be in "+path[0]+", which is a text")
		return nil
	}
	path = append(slices.Clip(path), name)
	switch value[0] {
	case '{':
		return p.object(value, at, path)
	case '[':
		p.fault(at, WrongType, "must be a value or an object; $in takes a list")
		return nil
	}
	p.conditions++
	return p.leaf(opEq, value, at, path)
}

// operator reads what stands under a name that begins with $.
func (p *parser) operator(name string, value []byte, at string, path []string) *tree {
	op, known := operators[name]
	if !known {
		p.fault(at, UnknownField, "is not an operator: there are "+operatorNames)
		return nil
	}
	switch op {
	case opAnd, opOr:
		return p.combine(op, value, at, path)
	case opNot:
		if value[0] != '{' {
			p.fault(at, WrongType, "must be an object")
			return nil
		}
		kid := p.object(value, at, path)
		if kid == nil {
			return nil
		}
		return &tree{op: op, at: at, kids: []*tree{kid}}
	}
	p.conditions++
	if len(path) == 0 {
		p.fault(at, InvalidValue, "has no value to look at: name one, such as data, and put this into it")
		return nil
	}
	if op == opIn || op == opNin {
		return p.oneOf(op, value, at, path)
	}
	return p.leaf(op, value, at, path)
}

func (p *parser) combine(op op, value []byte, at string, path []string) *tree {
	t := &tree{op: op, at: at}
	if value[0] != '[' {
		p.fault(at, WrongType, "must be an array of objects")
		return nil
	}
	n := 0
	eachElement(value, func(i int, value []byte) {
		n++
		here := at + "/" + strconv.Itoa(i)
		if value[0] != '{' {
			p.fault(here, WrongType, "must be an object")
			return
		}
		if kid := p.object(value, here, path); kid != nil {
			t.kids = append(t.kids, kid)
		}
	})
	if n == 0 {
		p.fault(at, TooFew, "must have at least one object")
	}
	return t
}

// leaf reads a condition with one operand.
func (p *parser) leaf(op op, value []byte, at string, path []string) *tree {
	switch k := kindOf(value); {
	case op == opExists && k != kindBoolean:
		p.fault(at, WrongType, "must be true or false")
	case op >= opGt && op <= opLte && k != kindNumber && k != kindText:
		p.fault(at, WrongType, "must be a number or a text")
	case (op == opStartsWith || op == opEndsWith) && k != kindText:
		p.fault(at, WrongType, "must be a text")
	case k == kindNone:
		p.fault(at, WrongType, "must be a text, a number, true, false or null")
	default:
		return &tree{op: op, at: at, path: path, value: p.scalar(value, at)}
	}
	return nil
}

// oneOf reads a condition with a list of operands.
func (p *parser) oneOf(op op, value []byte, at string, path []string) *tree {
	if value[0] != '[' {
		p.fault(at, WrongType, "must be an array")
		return nil
	}
	t := &tree{op: op, at: at, path: path}
	n := 0
	eachElement(value, func(i int, value []byte) {
		n++
		here := at + "/" + strconv.Itoa(i)
		if kindOf(value) == kindNone {
			p.fault(here, WrongType, "must be a text, a number, true, false or null")
			return
		}
		t.set = append(t.set, p.scalar(value, here))
	})
	if n == 0 {
		p.fault(at, TooFew, "must have at least one value")
	}
	slices.Sort(t.set)
	t.set = slices.Compact(t.set)
	return t
}

func (p *parser) scalar(raw []byte, at string) Scalar {
	if kindOf(raw) == kindNumber {
		if n := parseNumeral(raw); !n.zero() && (n.exponent-1 > maxExponent || n.exponent-1 < -maxExponent) {
			p.fault(at, OutOfRange, "has an exponent beyond a billion")
		}
	}
	s, sound := scalarOf(raw)
	if !sound {
		p.fault(at, InvalidText, "contains half of a surrogate pair")
	}
	return s
}

// Canonical writes a filter that [Parse] has found sound in the one form that all its spellings share:
// no space, members in order, numbers and escapes as short as they go, {"$eq": x} as x, the values of
// $in and $nin sorted and each once. It means the same.
func Canonical(raw []byte) []byte {
	return appendCanonical(nil, bytes.Trim(raw, " \t\r\n"), false)
}

// appendCanonical writes a value; named says that it stands under the name of a member, where a value
// may be written without $eq.
func appendCanonical(dst, raw []byte, named bool) []byte {
	switch kindOf(raw) {
	case kindText:
		text, _ := appendText(nil, raw[1:len(raw)-1])
		return appendQuoted(dst, string(text))
	case kindNumber:
		return appendPlain(dst, raw)
	case kindNone:
	default:
		return append(dst, raw...)
	}
	if raw[0] == '[' {
		dst = append(dst, '[')
		eachElement(raw, func(i int, value []byte) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCanonical(dst, value, false)
		})
		return append(dst, ']')
	}
	type entry struct {
		name  string
		value []byte
	}
	var entries []entry
	eachMember(raw, func(name string, _ bool, value []byte) { entries = append(entries, entry{name, value}) })
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	if named && len(entries) == 1 && entries[0].name == "$eq" {
		return appendCanonical(dst, entries[0].value, false)
	}
	dst = append(dst, '{')
	for i, e := range entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, e.name), ':')
		if e.name == "$in" || e.name == "$nin" {
			dst = appendSet(dst, e.value)
		} else {
			dst = appendCanonical(dst, e.value, !strings.HasPrefix(e.name, "$"))
		}
	}
	return append(dst, '}')
}

func appendSet(dst, raw []byte) []byte {
	forms := make(map[Scalar][]byte)
	var order []Scalar
	eachElement(raw, func(_ int, value []byte) {
		s, _ := scalarOf(value)
		if forms[s] == nil {
			forms[s] = appendCanonical(nil, value, false)
			order = append(order, s)
		}
	})
	slices.Sort(order)
	dst = append(dst, '[')
	for i, s := range order {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, forms[s]...)
	}
	return append(dst, ']')
}
