package schema

import "slices"

// What a schema may cost: how much work it makes of each value of an event, whatever the event is like.
const (
	maxEvaluations = 256  // subschemas that judge one value
	maxSteps       = 2000 // of patterns that one text is matched with
	maxUnique      = 16   // comparisons of an array's elements
)

// factor is how much work a schema makes of data, at most.
type factor struct {
	evaluations int // per value
	steps       int // per byte of text
	unique      int // per array
}

// cost computes how much work the schema can make of an event, and refuses what makes too much.
//
// A schema S that judges a value n makes itself and those that judge the same value judge it, L(S) in all,
// and each child of n be judged by others. If none of those makes more than a(T) of each value at and below
// the child, S makes no more of each value at and below n than the greatest of L(S) and, for any child, the
// sum of the a(T) that judge it. That is computed for values without children, then for those with children
// and so on, until nothing rises any more or events cannot be deeper.
func (o *outline) cost() (f factor, faults []Fault) {
	if circle := o.circle(); circle >= 0 {
		return f, []Fault{{o.nodes[circle].pointer, InvalidRef, "leads back to itself without going into the data"}}
	}
	var ok bool
	var shapes []shape
	if shapes, ok = o.shapes(); ok {
		for _, w := range []struct {
			most   int
			result *int
			own    func(n *node) int
		}{
			{maxEvaluations, &f.evaluations, func(n *node) int { return n.weight }},
			{maxSteps, &f.steps, func(n *node) int { return n.steps }},
			{maxUnique, &f.unique, func(n *node) int {
				if n.unique {
					return 1
				}
				return 0
			}},
		} {
			*w.result = o.worst(shapes, w.most, w.own)
			ok = ok && *w.result <= w.most
		}
	}
	if !ok {
		faults = []Fault{{"", TooCostly, "can make too much work of an event: fewer alternatives and references on one level, or fewer patterns"}}
	}
	return f, faults
}

// circle finds a subschema that judges a value only by judging it again, -1 if there is none.
func (o *outline) circle() int {
	const (
		open = 1 + iota
		done
	)
	state := make([]int8, len(o.nodes))
	var visit func(i int) int
	visit = func(i int) int {
		if state[i] != 0 {
			if state[i] == open {
				return i
			}
			return -1
		}
		state[i] = open
		for _, j := range o.nodes[i].same {
			if at := visit(j); at >= 0 {
				return at
			}
		}
		state[i] = done
		return -1
	}
	for i := range o.nodes {
		if at := visit(i); at >= 0 {
			return at
		}
	}
	return -1
}

// shape is what a subschema does to a value and its children, with all that judge the same value.
type shape struct {
	all      []int   // every subschema that judges the value, as often as it does
	children [][]int // for each child that may be of a kind of its own, all that judge it
}

// maxShapes bounds the work of computing a schema's cost: subschemas that judge a child, and looks at one
// for them.
const maxShapes = 50_000

// shapes are the outline's, by subschema. It is not ok if they are too large.
func (o *outline) shapes() (list []shape, ok bool) {
	list = make([]shape, len(o.nodes))
	room := maxShapes
	var collect func(all []int, i int) []int
	collect = func(all []int, i int) []int {
		all = append(all, i)
		for _, j := range o.nodes[i].same {
			if len(all) > maxEvaluations {
				break
			}
			all = collect(all, j)
		}
		return all
	}
	for i := range o.nodes {
		s := &list[i]
		if s.all = collect(nil, i); len(s.all) > maxEvaluations {
			return nil, false
		}
		if room = o.children(s, room); room < 0 {
			return nil, false
		}
	}
	return list, true
}

// children fills in what judges each child of a value: members by their names, other members, their names,
// elements by their places and other elements. It answers what is left of the room, below 0 if it did not
// do.
func (o *outline) children(s *shape, room int) int {
	names := make(map[string]bool)
	places := 0
	for _, i := range s.all {
		for name := range o.nodes[i].properties {
			names[name] = true
		}
		places = max(places, len(o.nodes[i].prefix))
	}
	if room -= (len(names) + places + 3) * len(s.all); room < 0 {
		return room
	}
	add := func(judges func(n *node) []int) {
		var list []int
		for _, i := range s.all {
			if room < 0 {
				return
			}
			more := judges(&o.nodes[i])
			list, room = append(list, more...), room-len(more)
		}
		if len(list) > 0 {
			s.children = append(s.children, list)
		}
	}
	other := func(n *node) []int {
		return append(present(n.additional, n.leftover), n.patterns...)
	}
	for name := range names {
		add(func(n *node) []int {
			if sub, ok := n.properties[name]; ok {
				return append([]int{sub}, n.patterns...)
			}
			return other(n)
		})
	}
	add(other)
	add(func(n *node) []int { return present(n.names) })
	for place := range places + 1 {
		add(func(n *node) []int {
			if place < len(n.prefix) {
				return present(n.prefix[place], n.contains)
			}
			return present(n.items, n.remaining, n.contains)
		})
	}
	return room
}

// present leaves out what is -1.
func present(subschemas ...int) []int {
	return slices.DeleteFunc(slices.Clone(subschemas), func(i int) bool { return i < 0 })
}

// worst computes how much work of a kind the whole schema makes of each value; beyond most it is only more
// than that.
func (o *outline) worst(shapes []shape, most int, own func(n *node) int) int {
	var (
		local = make([]int, len(shapes))
		a     = make([]int, len(shapes)) // by subschema, for values of the depth so far
		next  = make([]int, len(shapes))
	)
	for i := range shapes {
		for _, j := range shapes[i].all {
			local[i] = min(local[i]+own(&o.nodes[j]), most+1)
		}
	}
	copy(a, local)
	for range maxDepth {
		for i := range shapes {
			next[i] = local[i]
			for _, judges := range shapes[i].children {
				sum := 0
				for _, j := range judges {
					sum = min(sum+a[j], most+1)
				}
				next[i] = max(next[i], sum)
			}
		}
		if slices.Equal(a, next) || next[0] > most {
			break
		}
		a, next = next, a
	}
	return max(a[0], next[0])
}
