package filter

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Paths are the places that any number of filters look at, numbered, as a tree of names: one pass over
// an event finds them all. They never change.
type Paths struct{ nodes []node }

// node is a place.
type node struct {
	parent   int32
	name     string
	index    int32   // that name is in an array; -1: it is none
	kids     []int32 // by name
	mask     uint64  // of the kids' names, see maskOf
	elements []int32 // the kids with an index, by that
}

// The places that every set has.
const (
	placeData = iota
	placeType
	placeAccount
	ownPlaces
)

// NoPaths has no place but an event's own.
func NoPaths() *Paths {
	return &Paths{nodes: []node{{parent: -1}, {parent: -1}, {parent: -1}}}
}

// Len is how many places there are.
func (p *Paths) Len() int { return len(p.nodes) - ownPlaces }

// maskOf is a bit that tells most names apart.
func maskOf[T string | []byte](name T) uint64 {
	if len(name) == 0 {
		return 1
	}
	return 1 << ((uint(len(name))*7 + uint(name[0])) & 63)
}

// kid is the place of a member of the object at n; -1: nobody looks at it.
func (p *Paths) kid(n int32, name []byte) int32 {
	at := &p.nodes[n]
	low, high := 0, len(at.kids)
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch k := at.kids[mid]; {
		case p.nodes[k].name == string(name):
			return k
		case p.nodes[k].name < string(name):
			low = mid + 1
		default:
			high = mid
		}
	}
	return -1
}

// Count is how many places these are, with all that they are in.
func (p *Paths) Count(lists iter.Seq[[]int32]) (n int) {
	seen := make([]bool, len(p.nodes))
	for list := range lists {
		for _, at := range list {
			for ; at >= ownPlaces && !seen[at]; at = p.nodes[at].parent {
				seen[at] = true
				n++
			}
		}
	}
	return n
}

// Draft is a set of paths in the making, out of another one that it leaves as it is.
type Draft struct {
	paths *Paths
	mine  map[int32]bool // whose kids are the draft's own; nil: nothing was added
}

// Draft begins a set with the places of p, under the same numbers.
func (p *Paths) Draft() *Draft { return &Draft{paths: p} }

// Done ends the draft. If nothing was added it is the set that it began with.
func (d *Draft) Done() *Paths { return d.paths }

// Bind adds the places of a filter and says how each is numbered.
func (d *Draft) Bind(f *Filter) []int32 {
	places := make([]int32, len(f.paths))
	for i, path := range f.paths {
		switch path[0] {
		case "type":
			places[i] = placeType
		case "account_id":
			places[i] = placeAccount
		default:
			places[i] = d.add(path[1:])
		}
	}
	return places
}

// Len is how many places there are by now.
func (d *Draft) Len() int { return d.paths.Len() }

// Grown is how many places there are after [Draft.Bind] at most.
func (d *Draft) Grown(f *Filter) int {
	n := d.paths.Len()
	for _, path := range f.paths {
		at := int32(placeData)
		for i, name := range path[1:] {
			if at = d.paths.kid(at, []byte(name)); at < 0 {
				n += len(path) - 1 - i
				break
			}
		}
	}
	return n
}

// Add adds the place that a pointer names and says how it is numbered.
func (d *Draft) Add(p Pointer) int32 { return d.add(p) }

func (d *Draft) add(path []string) int32 {
	n := int32(placeData)
	for _, name := range path {
		kid := d.paths.kid(n, []byte(name))
		if kid < 0 {
			kid = d.grow(n, name)
		}
		n = kid
	}
	return n
}

func (d *Draft) grow(parent int32, name string) int32 {
	if d.mine == nil {
		d.mine = make(map[int32]bool)
		d.paths = &Paths{nodes: slices.Clone(d.paths.nodes)}
	}
	p := d.paths
	kid := int32(len(p.nodes))
	p.nodes = append(p.nodes, node{parent: parent, name: strings.Clone(name), index: index(name)})
	at := &p.nodes[parent]
	if !d.mine[parent] {
		d.mine[parent] = true
		at.kids, at.elements = slices.Clone(at.kids), slices.Clone(at.elements)
	}
	i, _ := slices.BinarySearchFunc(at.kids, name, func(k int32, name string) int { return strings.Compare(p.nodes[k].name, name) })
	at.kids = slices.Insert(at.kids, i, kid)
	at.mask |= maskOf(name)
	if x := p.nodes[kid].index; x >= 0 {
		i, _ := slices.BinarySearchFunc(at.elements, x, func(k, x int32) int { return cmp.Compare(p.nodes[k].index, x) })
		at.elements = slices.Insert(at.elements, i, kid)
	}
	return kid
}

// index reads an index of an array as RFC 6901 writes it, of at most four digits; -1 if it is none.
func index(name string) int32 {
	if name == "" || len(name) > 4 || name[0] == '0' && len(name) > 1 {
		return -1
	}
	n := int32(0)
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return -1
		}
		n = n*10 + int32(name[i]-'0')
	}
	return n
}
