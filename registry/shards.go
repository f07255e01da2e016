package registry

import "maps"

// parts is how many maps a set of shards has: enough for a copy of one to be nothing, few enough for a
// copy of the list to be nothing.
const parts = 4096

// shards is a map that never changes. Its keys are ids and hashes, whose bytes 14 and 15 are random.
type shards[K ~[16]byte | ~[32]byte, V any] struct {
	maps *[parts]map[K]V // nil: empty
	len  int
}

func part[K ~[16]byte | ~[32]byte](k K) int { return (int(k[14])<<8 | int(k[15])) % parts }

func (s *shards[K, V]) get(k K) (V, bool) {
	if s.maps == nil {
		var none V
		return none, false
	}
	v, ok := s.maps[part(k)][k]
	return v, ok
}

// draft is a new version of shards in the making. It copies a shard when it is first written to.
type draft[K ~[16]byte | ~[32]byte, V any] struct {
	base   shards[K, V] // what it began as
	next   shards[K, V]
	copied *[parts]bool // which shards of next are its own; nil: none, and next is base
}

func (s shards[K, V]) draft() draft[K, V] { return draft[K, V]{base: s, next: s} }

func (d *draft[K, V]) get(k K) (V, bool) { return d.next.get(k) }

func (d *draft[K, V]) set(k K, v V) {
	m := d.own(part(k))
	before := len(*m)
	(*m)[k] = v
	d.next.len += len(*m) - before
}

func (d *draft[K, V]) delete(k K) {
	if _, ok := d.next.get(k); !ok {
		return
	}
	delete(*d.own(part(k)), k)
	d.next.len--
}

func (d *draft[K, V]) own(i int) *map[K]V {
	if d.copied == nil {
		d.copied = new([parts]bool)
		d.next.maps = new([parts]map[K]V)
		if d.base.maps != nil {
			*d.next.maps = *d.base.maps
		}
	}
	m := &d.next.maps[i]
	if !d.copied[i] {
		d.copied[i] = true
		if *m = maps.Clone(*m); *m == nil {
			*m = make(map[K]V)
		}
	}
	return m
}

// done ends the draft: it must not be written to any more.
func (d *draft[K, V]) done() shards[K, V] { return d.next }
