package schema

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// outline is a schema's subschemas and how they lead to each other.
type outline struct {
	nodes    []node
	at       map[string]int // by JSON Pointer
	anchors  map[string]int
	refs     []reference
	faults   []Fault
	programs int // steps of all patterns together
}

// node is one subschema.
type node struct {
	pointer string
	same    []int // judge the value that the schema itself judges

	properties map[string]int // judge the member of that name
	patterns   []int          // judge members whose name matches
	additional int            // judges members that none of the above did; -1: none
	leftover   int            // judges members that nothing did; -1: none
	names      int            // judges members' names; -1: none

	prefix    []int // judge one element each
	items     int   // judges the other elements; -1: none
	remaining int   // judges elements that nothing did; -1: none
	contains  int   // judges each element; -1: none

	weight int  // work on one value by itself, in evaluations
	steps  int  // of the patterns that a text is matched with
	unique bool // compares elements of an array
}

type reference struct {
	from    int
	pointer string
	to      string
}

// newOutline reads the structure of a schema. With an outline of nil the faults are not all.
func newOutline(doc any) (*outline, []Fault) {
	o := &outline{at: make(map[string]int), anchors: make(map[string]int)}
	if !o.bounded(doc, nil, 0) {
		return nil, o.faults
	}
	o.add(doc, "")
	if len(o.nodes) > maxSubschemas {
		return nil, []Fault{{"", TooMany, fmt.Sprintf("has more than %d subschemas", maxSubschemas)}}
	}
	if o.programs > maxPrograms {
		o.fault("", TooCostly, "has too many and too large patterns")
	}
	for _, r := range o.refs {
		if to, ok := o.resolve(r); ok {
			o.nodes[r.from].same = append(o.nodes[r.from].same, to)
		} else {
			o.fault(r.pointer, InvalidRef, "names no subschema of this document: write #, #/$defs/name or #anchor")
		}
	}
	return o, o.faults
}

func (o *outline) fault(at string, c Code, detail string) {
	if len(o.faults) < maxFaults {
		o.faults = append(o.faults, Fault{at, c, detail})
	}
}

// bounded says whether what is costly by itself, numbers, depth and long pointers, stays within limits.
// The steps lead to v.
func (o *outline) bounded(v any, steps []string, length int) bool {
	fail := func(c Code, detail string) bool {
		o.fault(pointerTo(steps), c, detail)
		return false
	}
	switch v := v.(type) {
	case json.Number:
		return plainNumber(v) || fail(TooLong, detailNumber)
	case map[string]any:
		if len(steps) == maxDepth {
			return fail(TooDeep, fmt.Sprintf("is nested more than %d levels deep", maxDepth))
		}
		for name, v := range v {
			if length+len(name) > maxPointer {
				return fail(TooLong, fmt.Sprintf("has a pointer of more than %d bytes", maxPointer))
			}
			if !o.bounded(v, append(steps, name), length+1+len(name)) {
				return false
			}
		}
	case []any:
		if len(steps) == maxDepth {
			return fail(TooDeep, fmt.Sprintf("is nested more than %d levels deep", maxDepth))
		}
		for i, v := range v {
			if !o.bounded(v, append(steps, strconv.Itoa(i)), length+8) {
				return false
			}
		}
	}
	return true
}

// add takes in a subschema and all below it, and answers its number. What is no schema is taken in as an
// empty one; that it is none, the metaschema says. One more than there may be is enough to be refused.
func (o *outline) add(v any, at string) int {
	i := len(o.nodes)
	if i > maxSubschemas {
		return i - 1
	}
	o.at[at] = i
	o.nodes = append(o.nodes, node{})
	n := node{pointer: at, additional: -1, leftover: -1, names: -1, items: -1, remaining: -1, contains: -1, weight: 1}
	object, _ := v.(map[string]any)
	for keyword, v := range object {
		o.keyword(&n, i, keyword, v)
	}
	o.nodes[i] = n
	return i
}

// keyword takes in a member of a subschema.
func (o *outline) keyword(n *node, i int, keyword string, v any) {
	at := func() string { return n.pointer + "/" + escape(keyword) } // which is not worth making for all
	switch keyword {
	case "allOf", "anyOf", "oneOf":
		n.same = append(n.same, o.addList(v, at())...)
	case "not", "if", "then", "else":
		n.same = append(n.same, o.add(v, at()))
	case "dependentSchemas", "dependencies":
		for _, sub := range o.addMap(v, at()) {
			n.same = append(n.same, sub)
		}
	case "$ref", "$dynamicRef":
		if to, ok := v.(string); ok {
			o.refs = append(o.refs, reference{i, at(), to})
		}
	case "$anchor", "$dynamicAnchor":
		if name, ok := v.(string); ok {
			if _, taken := o.anchors[name]; taken {
				o.fault(at(), InvalidRef, "names another subschema, too")
			}
			o.anchors[name] = i
		}
	case "$id":
		if i > 0 {
			o.fault(at(), InvalidRef, "stands inside another schema: a document is one schema here")
		} else if u, err := url.Parse(fmt.Sprint(v)); err != nil || !u.IsAbs() || u.Fragment != "" {
			o.fault(at(), InvalidRef, "must be an absolute URI without a fragment")
		}
	case "$recursiveRef": // of an older dialect; the library would follow it all the same
		o.fault(at(), InvalidRef, "is not a keyword of this dialect: use $dynamicRef")
	case "$schema":
		if v != Dialect {
			o.fault(at(), InvalidValue, "must be "+Dialect)
		}

	case "properties":
		n.properties = o.addMap(v, at())
	case "patternProperties":
		for pattern, sub := range o.addMap(v, at()) {
			n.patterns = append(n.patterns, sub)
			n.steps += o.pattern(pattern, at()+"/"+escape(pattern))
		}
	case "additionalProperties":
		n.additional = o.add(v, at())
	case "unevaluatedProperties":
		n.leftover = o.add(v, at())
	case "propertyNames":
		n.names = o.add(v, at())
	case "prefixItems":
		n.prefix = o.addList(v, at())
	case "items":
		n.items = o.add(v, at())
	case "unevaluatedItems":
		n.remaining = o.add(v, at())
	case "contains":
		n.contains = o.add(v, at())
	case "$defs", "definitions":
		o.addMap(v, at())
	case "contentSchema": // nothing is judged by it
		o.add(v, at())

	case "pattern":
		if pattern, ok := v.(string); ok {
			n.steps += o.pattern(pattern, at())
		}
	case "format":
		if v == "regex" { // each text is compiled
			n.steps += maxProgram
		}
	case "uniqueItems":
		n.unique = v == true
	case "enum", "const", "required", "dependentRequired":
		n.weight += size(v) / 16
	}
}

func (o *outline) addList(v any, at string) (list []int) {
	subs, _ := v.([]any)
	for i, sub := range subs {
		list = append(list, o.add(sub, at+"/"+strconv.Itoa(i)))
	}
	return list
}

func (o *outline) addMap(v any, at string) map[string]int {
	subs, _ := v.(map[string]any)
	list := make(map[string]int, len(subs))
	for name, sub := range subs {
		list[name] = o.add(sub, at+"/"+escape(name))
	}
	return list
}

func (o *outline) pattern(pattern, at string) (steps int) {
	steps, err := measurePattern(pattern)
	if err != nil {
		o.fault(at, InvalidValue, err.Error())
	}
	o.programs += steps
	return steps
}

// resolve finds the subschema that a reference names.
func (o *outline) resolve(r reference) (to int, ok bool) {
	fragment, local := strings.CutPrefix(r.to, "#")
	name, err := url.PathUnescape(fragment)
	if !local || err != nil {
		return 0, false
	}
	if name == "" || name[0] == '/' {
		to, ok = o.at[name]
		return to, ok
	}
	to, ok = o.anchors[name]
	return to, ok
}

// size is how many values a value consists of.
func size(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, v := range v {
			n += 1 + size(v)
		}
	case []any:
		for _, v := range v {
			n += size(v)
		}
	}
	return n
}

// escape makes a name a step of a JSON Pointer.
func escape(name string) string {
	if !strings.ContainsAny(name, "~/") {
		return name
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
