package shape

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The limits of custom data.
const (
	MaxCustom        = 8 << 10 // bytes, in the form that is stored
	MaxCustomMembers = 64
)

// Custom is a webhook's custom data: members with texts as values that take the place of those with the
// same names in an event's data, or are added to it. It never changes.
type Custom struct {
	members []byte   // "name":"value" pairs, comma in between, as JavaScript would write them
	names   [][]byte // in members, with their quotes
}

// ParseCustom reads custom data, a JSON object of strings, or names every fault of it. It is nil for an
// object without members: there is nothing to add.
func ParseCustom(raw []byte) (*Custom, []Fault) {
	c := &Custom{}
	var faults []Fault
	fault := func(pointer, code, detail string) { faults = append(faults, Fault{pointer, code, detail}) }
	var from []int // of the names in c.members
	err := eachMember(raw, func(name, value []byte) {
		text, sound := unquote(name)
		at := pointer(text)
		if !sound {
			fault(at, invalidText, "contains half of a surrogate pair")
			return
		}
		if value[0] != '"' {
			fault(at, wrongType, "must be a string")
			return
		}
		if _, sound := unquote(value[1 : len(value)-1]); !sound {
			fault(at, invalidText, "contains half of a surrogate pair")
			return
		}
		if len(from) > MaxCustomMembers { // too many in any case: what comes is not compared with all before
			return
		}
		if len(from) > 0 {
			c.members = append(c.members, ',')
		}
		start := len(c.members)
		c.members = appendQuoted(c.members, name)
		for _, name := range c.names {
			if bytes.Equal(name, c.members[start:]) {
				fault(at, duplicateField, "stands here twice")
			}
		}
		from = append(from, start)
		c.names = append(c.names, c.members[start:len(c.members):len(c.members)])
		c.members = appendQuoted(append(c.members, ':'), value[1:len(value)-1])
	})
	switch {
	case err != nil:
		fault("", wrongType, "must be an object")
	case len(from) > MaxCustomMembers:
		fault("", tooMany, fmt.Sprintf("has more than %d members", MaxCustomMembers))
	case len(c.members)+len("{}") > MaxCustom:
		fault("", tooLong, fmt.Sprintf("has more than %d bytes", MaxCustom))
	}
	if len(faults) > 0 || len(from) == 0 {
		return nil, faults
	}
	// Growing moved the members away under their names.
	for i, start := range from {
		c.names[i] = c.members[start : start+len(c.names[i])]
	}
	return c, nil
}

// JSON is the object that was given, without what does not count in it; nil for no custom data.
func (c *Custom) JSON() []byte {
	if c == nil {
		return nil
	}
	return slices.Concat([]byte{'{'}, c.members, []byte{'}'})
}

// put writes the top level of an event's data anew: members that the custom data does not name as they
// are, byte for byte and in their order, then the custom data.
func (c *Custom) put(data []byte) ([]byte, error) {
	b := make([]byte, 1, len(data)+len(c.members)+2)
	b[0] = '{'
	r := reader{b: data}
	if !r.eat('{') {
		return nil, errNotJSON
	}
	var scratch []byte
	for first := true; ; first = false {
		more, ok := r.more('}', first)
		if !ok {
			return nil, errNotJSON
		}
		if !more {
			break
		}
		r.space()
		start := r.i
		name, ok := r.text()
		if !ok || !r.eat(':') || !r.value() {
			return nil, errNotJSON
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			scratch = appendQuoted(scratch[:0], name)
			name = scratch[1 : len(scratch)-1]
		}
		if !c.has(name) {
			b = append(append(b, data[start:r.i]...), ',')
		}
	}
	if !r.end() {
		return nil, errNotJSON
	}
	return append(append(b, c.members...), '}'), nil
}

func (c *Custom) has(name []byte) bool {
	for _, own := range c.names {
		if len(own) == len(name)+2 && bytes.Equal(own[1:len(own)-1], name) {
			return true
		}
	}
	return false
}

// eachMember goes through an object: what stands between the quotes of each name, and each value.
func eachMember(object []byte, do func(name, value []byte)) error {
	if !utf8.Valid(object) {
		return errNotJSON
	}
	r := reader{b: object}
	if !r.eat('{') {
		return errNotJSON
	}
	for first := true; ; first = false {
		more, ok := r.more('}', first)
		if !ok {
			return errNotJSON
		}
		if !more {
			break
		}
		name, ok := r.text()
		if !ok || !r.eat(':') {
			return errNotJSON
		}
		r.space()
		start := r.i
		if !r.value() {
			return errNotJSON
		}
		do(name, object[start:r.i:r.i])
	}
	if !r.end() {
		return errNotJSON
	}
	return nil
}

// pointer makes a name a JSON Pointer of one step, cut to a length that an answer can bear.
func pointer(name string) string {
	const most = 200
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
