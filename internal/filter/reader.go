package filter

import (
	"bytes"
	"encoding/hex"
	"sync"
)

// Event is what filters look at.
type Event struct {
	Type      string   // "": it has none
	AccountID [16]byte // zero: it has none
	Data      []byte   // a JSON object that was checked, and is not written to
}

// maxWork bounds how much of an event the conditions of one filter may look at beyond comparing single
// values: bytes, and elementWork for each element of an array. What is beyond cannot be decided.
const (
	maxWork     = 256 << 10
	elementWork = 32
)

// Reader finds the places of one event and decides filters on it. Get one with [Read].
type Reader struct {
	event     Event
	data      []byte
	paths     *Paths
	places    []place // by their numbers in paths
	round     uint32  // of scans; a place of another round was not found in this one
	ambiguous bool    // some place stands twice
	broken    bool    // the data is not JSON
	arena     []byte  // contents of scalars that do not stand in data as they are
	work      int
}

// place is what a scan found.
type place struct {
	round      uint32
	start, end uint32 // in data
	from, to   uint32 // the content of a scalar, in data or the arena
	kind       kind
	ambiguous  bool // the name stands in its object twice
	read       bool // kind, from and to are filled in
	inArena    bool
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// What a reader may keep for the next event. Making room for places anew costs an event more than all else.
const (
	keptPlaces = 40 << 10
	keptArena  = 64 << 10
)

// Read begins with an event. [Reader.Close] must follow.
func Read(e Event) *Reader {
	r := readers.Get().(*Reader)
	r.event, r.data, r.paths = e, e.Data, nil
	return r
}

// Close gives the reader back. It must not be used any more.
func (r *Reader) Close() {
	r.event, r.data, r.paths = Event{}, nil, nil
	if cap(r.places) > keptPlaces {
		r.places = nil
	}
	if cap(r.arena) > keptArena {
		r.arena = nil
	}
	readers.Put(r)
}

// Scan finds the places of a set, in one pass. What is asked of the reader then is about that set.
func (r *Reader) Scan(p *Paths) {
	r.paths, r.ambiguous, r.broken, r.arena = p, false, false, r.arena[:0]
	if r.round++; r.round == 0 || len(r.places) < len(p.nodes) {
		r.places, r.round = make([]place, len(p.nodes)), 1
	}
	if r.event.Type != "" {
		r.arena = append(r.arena, r.event.Type...)
		r.places[placeType] = place{round: r.round, kind: kindText, read: true, inArena: true, to: uint32(len(r.arena))}
	}
	if r.event.AccountID != [16]byte{} {
		from := uint32(len(r.arena))
		r.arena = appendUUID(r.arena, r.event.AccountID)
		r.places[placeAccount] = place{round: r.round, kind: kindText, read: true, inArena: true, from: from, to: uint32(len(r.arena))}
	}
	start := skipSpace(r.data, 0)
	if start == len(r.data) || r.data[start] != '{' {
		r.broken = true
		return
	}
	r.take(placeData, start)
}

func appendUUID(b []byte, id [16]byte) []byte {
	b = hex.AppendEncode(b, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return b
}

// take notes that the place n is at data[i] and goes behind the value.
func (r *Reader) take(n int32, i int) (end int) {
	if r.places[n].round == r.round {
		r.places[n].ambiguous, r.ambiguous = true, true
		return skipValue(r.data, i)
	}
	r.places[n] = place{round: r.round, start: uint32(i)}
	switch at := &r.paths.nodes[n]; {
	case i < len(r.data) && r.data[i] == '{' && len(at.kids) > 0:
		end = r.object(n, i)
	case i < len(r.data) && r.data[i] == '[' && len(at.elements) > 0:
		end = r.array(n, i)
	default:
		end = skipValue(r.data, i)
	}
	if end <= i {
		r.broken = true
	}
	r.places[n].end = uint32(end)
	return end
}

// object goes through the members of the object at data[i], which is the place n. Most of them are nobody's
// concern, and most have no space around them.
func (r *Reader) object(n int32, i int) (end int) {
	b, mask := r.data, r.paths.nodes[n].mask
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for i < len(b) && b[i] == '"' {
		end, escaped := skipString(b, i)
		if end >= len(b) {
			break
		}
		name := b[i+1 : end-1]
		if i = end; b[i] != ':' {
			if i = skipSpace(b, i); i == len(b) || b[i] != ':' {
				break
			}
		}
		if i++; i < len(b) && b[i] <= ' ' {
			i = skipSpace(b, i)
		}
		if escaped {
			mark := len(r.arena)
			r.arena, _ = appendText(r.arena, name)
			name = r.arena[mark:]
			r.arena = r.arena[:mark] // nothing is written there before kid has compared it
		}
		kid := int32(-1)
		if mask&maskOf(name) != 0 {
			kid = r.paths.kid(n, name)
		}
		if kid >= 0 {
			i = r.take(kid, i)
		} else {
			i = skipValue(b, i)
		}
		if i < len(b) && b[i] <= ' ' {
			i = skipSpace(b, i)
		}
		if i < len(b) && b[i] == '}' {
			return i + 1
		}
		if i == len(b) || b[i] != ',' {
			break
		}
		if i++; i < len(b) && b[i] <= ' ' {
			i = skipSpace(b, i)
		}
	}
	r.broken = true
	return len(b)
}

func (r *Reader) array(n int32, i int) (end int) {
	b := r.data
	i = skipSpace(b, i+1)
	wanted := r.paths.nodes[n].elements
	for at := int32(0); i < len(b) && b[i] != ']'; at++ {
		if r.paths.nodes[wanted[0]].index == at {
			i = r.take(wanted[0], i)
			if wanted = wanted[1:]; len(wanted) == 0 {
				return skipNested(b, i)
			}
		} else {
			i = skipValue(b, i)
		}
		i = skipSpace(b, i)
		if i < len(b) && b[i] == ',' {
			i = skipSpace(b, i+1)
		} else if i < len(b) && b[i] != ']' {
			break
		}
	}
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	r.broken = true
	return len(b)
}

// state says what there is at a place.
type state int

const (
	missing state = iota
	unclear       // it stands there twice, or within what does
	present
)

// at is what there is at a place.
func (r *Reader) at(n int32) (*place, state) {
	if r.broken {
		return nil, unclear
	}
	if r.ambiguous {
		for up := n; up >= 0; up = r.paths.nodes[up].parent {
			if r.places[up].round == r.round && r.places[up].ambiguous {
				return nil, unclear
			}
		}
	}
	p := &r.places[n]
	if p.round != r.round {
		return nil, missing
	}
	if !p.read {
		r.read(p)
	}
	return p, present
}

// read fills in what a scalar is. What stands in data as it is, is not copied.
func (r *Reader) read(p *place) {
	raw := r.data[p.start:p.end]
	p.read, p.kind = true, kindOf(raw)
	p.from, p.to = p.start, p.end
	switch p.kind {
	case kindNone, kindNull:
		p.to = p.from
	case kindBoolean:
		p.to = p.from + 1
	case kindText:
		p.from, p.to = p.start+1, max(p.start+1, p.end-1)
		if bytes.IndexByte(r.data[p.from:p.to], '\\') < 0 {
			return
		}
		fallthrough
	default:
		p.inArena, p.from = true, uint32(len(r.arena))
		r.arena, _, _ = appendContent(r.arena, raw)
		p.to = uint32(len(r.arena))
	}
}

// content is that of a scalar; it is good until the next place is read.
func (r *Reader) content(p *place) []byte {
	if p.inArena {
		return r.arena[p.from:p.to]
	}
	return r.data[p.from:p.to]
}

func (r *Reader) raw(p *place) []byte { return r.data[p.start:p.end] }

// isArray reports whether a place that is no scalar is an array.
func (r *Reader) isArray(p *place) bool { return p.kind == kindNone && r.data[p.start] == '[' }

// elements goes through the scalars of an array until do answers true, and says whether it did. It is
// not ok if the array is more than may be looked at.
func (r *Reader) elements(p *place, do func(k kind, content []byte) bool) (found, ok bool) {
	array := r.raw(p)
	for i := skipSpace(array, 1); i < len(array) && array[i] != ']'; {
		if r.work < 0 { // not even to see where the element ends
			return false, false
		}
		end := skipValue(array, i)
		if r.work -= elementWork + end - i; r.work < 0 {
			return false, false
		}
		if element := array[i:end]; kindOf(element) != kindNone {
			mark := len(r.arena)
			content, k, _ := appendContent(r.arena, element)
			r.arena = content[:mark] // keeps what has grown
			if do(k, content[mark:]) {
				return true, true
			}
		}
		i = skipSpace(array, end)
		if i < len(array) && array[i] == ',' {
			i = skipSpace(array, i+1)
		}
	}
	return false, true
}

// Hashes appends the hash of the scalar at a place, or of each in the array there: of all that an equality
// is compared with. If there is no such thing, or it cannot be decided what there is, it appends none: no
// equality holds there.
func (r *Reader) Hashes(dst []uint64, n int32) []uint64 {
	p, s := r.at(n)
	if s != present {
		return dst
	}
	if p.kind != kindNone {
		return append(dst, hashOf(p.kind, r.content(p)))
	}
	if !r.isArray(p) {
		return dst
	}
	// An equality that finds its value before too much was looked at holds; it has no more work than this
	// to do so, so what it finds is among these.
	r.work = maxWork
	r.elements(p, func(k kind, content []byte) bool {
		dst = append(dst, hashOf(k, content))
		return false
	})
	return dst
}
