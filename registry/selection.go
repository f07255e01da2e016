package registry

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
)

// selection finds those webhooks of an account that look into events: the ones with a filter or with
// modifiers. It never changes.
//
// A webhook that needs some value somewhere, as most of them do, is found by that value: each stands
// under the one of its equalities that fewest others stood under when it came. The rest are asked one by
// one. Either way a hash is only a hint, and each webhook that is found decides on the event itself. What
// they look at is read in one pass for all of them.
type selection struct {
	paths     *filter.Paths
	steps     int   // of the filters that are here; paths may hold those of former ones too
	asked     int   // how many webhooks are found by nothing, so that each event asks them
	all       table // by webhook
	own       table // by pattern key and, in the dimension of the webhook, value
	inherited table // those of own that want the events of descendants too
	dims      []dimension
}

// chooser is a webhook that looks into events. It never changes.
type chooser struct {
	webhook *Webhook
	places  []int32 // of its filter, in the selection's paths
	dim     dim
	values  []filter.Scalar // one of which an event must have in dim
}

// dim is what webhooks are found by: a place in events, or a modifier. The zero value stands for those
// that are found by nothing.
type dim struct {
	place    int32 // counted from 1
	modifier string
}

type dimension struct {
	dim
	webhooks int // that stand here
}

// maxRows bounds in how many rows a webhook may stand to be found by a value.
const maxRows = 64

// What paths may hold of filters that are gone: so much, and so many times what is needed.
const (
	spareSteps = 64
	spareRatio = 4
)

var hashSeed = maphash.MakeSeed()

func hashText(text string) uint64 { return maphash.String(hashSeed, text) }

func hashID(id uuid.UUID) uint64 { return maphash.Bytes(hashSeed, id[:]) }

// join makes one hash of several.
func join(parts ...uint64) uint64 {
	var b [24]byte
	for i, p := range parts {
		binary.LittleEndian.PutUint64(b[8*i:], p)
	}
	return maphash.Bytes(hashSeed, b[:8*len(parts)])
}

func (d dim) hash() uint64 {
	if d.modifier != "" {
		return hashText(d.modifier)
	}
	return uint64(d.place)
}

// anyValue stands for the value of a modifier that an event type does not declare.
const anyValue = 0x616e79

// rows appends the rows of a chooser in own and inherited. It must say the same as long as it lives.
func (c *chooser) rows(dst []row) []row {
	under := c.dim.hash()
	for _, key := range patternKeys(c.webhook.EventTypes) {
		k := hashText(key)
		switch {
		case c.dim == dim{}:
			dst = append(dst, row{join(k, 0), c})
			continue
		case c.dim.modifier != "":
			dst = append(dst, row{join(k, under, anyValue), c})
		}
		for _, v := range c.values {
			dst = append(dst, row{join(k, under, v.Hash()), c})
		}
	}
	return dst
}

// edit is the selection without some webhooks and with others. Those for whose filters there is no room
// are left out and listed. A nil one is empty, and so is one that is left with nothing.
func (s *selection) edit(gone map[uuid.UUID]bool, added []*Webhook) (next *selection, over []*Webhook) {
	if s == nil {
		s = &selection{paths: filter.NoPaths()}
	}
	var leaving []*chooser
	for id := range gone {
		if c := s.chooser(id); c != nil {
			leaving = append(leaving, c)
		}
	}
	steps, asked := s.steps, s.asked
	for _, c := range leaving {
		steps -= c.steps()
		asked -= c.asked()
	}
	var kept []*Webhook
	if s.paths.Len() > spareSteps+spareRatio*steps || !s.roomy(added) { // begin anew, without what nobody looks at any more
		for c := range s.choosers {
			if !gone[c.webhook.ID] {
				kept = append(kept, c.webhook)
			}
		}
		s, leaving, steps, asked = &selection{paths: filter.NoPaths()}, nil, 0, 0
	}
	if len(kept)+len(added)+len(leaving) == 0 {
		return s.orNil(), nil
	}
	b := builder{before: s, draft: s.paths.Draft(), dims: slices.Clone(s.dims), pending: make(map[uint64]int)}
	for _, c := range leaving {
		b.remove(c)
	}
	for i, w := range slices.Concat(kept, added) {
		if i >= len(kept) && !w.wishes.fits(b.draft, hardPlaces) {
			over = append(over, w)
			continue
		}
		c := b.add(w)
		steps += c.steps()
		asked += c.asked()
	}
	next = &selection{
		paths:     b.draft.Done(),
		steps:     steps,
		asked:     asked,
		all:       s.all.edit(b.all.gone, b.all.added),
		own:       s.own.edit(b.own.gone, b.own.added),
		inherited: s.inherited.edit(b.inherited.gone, b.inherited.added),
		dims:      slices.DeleteFunc(b.dims, func(d dimension) bool { return d.webhooks == 0 }),
	}
	return next.orNil(), over
}

func (s *selection) orNil() *selection {
	if s.all.len == 0 {
		return nil
	}
	return s
}

// steps is what the chooser's filter may add to paths.
func (c *chooser) steps() int {
	if f := c.webhook.wishes.filter; f != nil {
		return f.Steps()
	}
	return 0
}

// asked is 1 if the chooser is found by nothing and wants anything of events, else 0.
func (c *chooser) asked() int {
	if c.dim == (dim{}) && c.webhook.wishes.demanding() {
		return 1
	}
	return 0
}

// chooser is that of a webhook, nil if there is none. The selection may be nil.
func (s *selection) chooser(id uuid.UUID) *chooser {
	if s == nil {
		return nil
	}
	for _, r := range s.all.find(hashID(id)) {
		if r.chooser.webhook.ID == id {
			return r.chooser
		}
	}
	return nil
}

// choosers goes through all of a selection, which may be nil.
func (s *selection) choosers(yield func(*chooser) bool) {
	if s == nil {
		return
	}
	for _, part := range s.all.parts {
		for _, r := range part {
			if !yield(r.chooser) {
				return
			}
		}
	}
}

// builder collects what happens to the tables of a selection.
type builder struct {
	before              *selection
	draft               *filter.Draft
	dims                []dimension
	all, own, inherited struct{ gone, added []row }
	pending             map[uint64]int // rows that were added to own, by hash
}

func (b *builder) remove(c *chooser) {
	b.all.gone = append(b.all.gone, row{hashID(c.webhook.ID), c})
	rows := c.rows(nil)
	b.own.gone = append(b.own.gone, rows...)
	if c.webhook.IncludeSubaccounts {
		b.inherited.gone = append(b.inherited.gone, rows...)
	}
	b.count(c.dim, -1)
}

func (b *builder) add(w *Webhook) *chooser {
	c := &chooser{webhook: w}
	var equalities []filter.Equality
	if f := w.wishes.filter; f != nil {
		c.places = b.draft.Bind(f)
		equalities = f.Equalities()
	}
	best, fewest := *c, math.MaxInt
	try := func(d dim, values []filter.Scalar) {
		c.dim, c.values = d, values
		if others := b.others(c); others < fewest {
			best, fewest = *c, others
		}
	}
	for _, e := range equalities {
		try(dim{place: c.places[e.Place] + 1}, e.Values)
	}
	for _, m := range w.wishes.modifiers {
		try(dim{modifier: m.Name}, m.Values)
	}
	*c = best
	b.all.added = append(b.all.added, row{hashID(w.ID), c})
	rows := c.rows(nil)
	for _, r := range rows {
		b.pending[r.hash]++
	}
	b.own.added = append(b.own.added, rows...)
	if w.IncludeSubaccounts {
		b.inherited.added = append(b.inherited.added, rows...)
	}
	b.count(c.dim, 1)
	return c
}

// findable says whether a webhook may stand under each of its values.
func findable(values []filter.Scalar, patterns []string) bool {
	return len(values)*len(patternKeys(patterns)) <= maxRows
}

// others is how many webhooks stand where a chooser would, at the most crowded of its values.
func (b *builder) others(c *chooser) (most int) {
	if !findable(c.values, c.webhook.EventTypes) {
		return math.MaxInt
	}
	under := c.dim.hash()
	for _, key := range patternKeys(c.webhook.EventTypes) {
		k := hashText(key)
		for _, v := range c.values {
			h := join(k, under, v.Hash())
			most = max(most, len(b.before.own.find(h))+b.pending[h])
		}
	}
	return most
}

func (b *builder) count(d dim, n int) {
	if d == (dim{}) {
		return
	}
	i := slices.IndexFunc(b.dims, func(x dimension) bool { return x.dim == d })
	if i < 0 {
		i = len(b.dims)
		b.dims = append(b.dims, dimension{dim: d})
	}
	b.dims[i].webhooks += n
}

// look is an event that is being matched.
type look struct {
	eventType string
	known     *EventType // what the catalog says of it; nil: nothing
	keys      []uint64   // hashes of the pattern keys that choose it
	data      *filter.Reader
	modifiers *filter.Reader // has scanned the places that the event type declares
	hashes    []uint64
}

var looks = sync.Pool{New: func() any { return new(look) }}

func newLook(account uuid.UUID, eventType string, known *EventType, data []byte) *look {
	l := looks.Get().(*look)
	e := filter.Event{Type: eventType, AccountID: account, Data: data}
	l.eventType, l.known, l.keys = eventType, known, l.keys[:0]
	if fanfare.Operational(eventType) {
		l.keys = append(l.keys, hashText(operationalKey(eventType)))
	} else {
		l.keys = append(l.keys, hashText(""))
		for i := range len(eventType) {
			if eventType[i] == '.' {
				l.keys = append(l.keys, hashText(eventType[:i+1]))
			}
		}
		l.keys = append(l.keys, hashText(eventType))
	}
	l.data, l.modifiers = filter.Read(e), filter.Read(e)
	if known != nil && known.paths != nil {
		l.modifiers.Scan(known.paths)
	}
	return l
}

func (l *look) close() {
	l.data.Close()
	l.modifiers.Close()
	l.data, l.modifiers, l.known, l.eventType = nil, nil, nil, ""
	if cap(l.hashes) > 1024 {
		l.hashes = nil
	}
	looks.Put(l)
}

// match appends the webhooks of one of the selection's tables that want the event, each once.
func (s *selection) match(dst []*Webhook, t *table, l *look) []*Webhook {
	if t.len == 0 {
		return dst
	}
	l.data.Scan(s.paths)
	for _, key := range l.keys {
		dst = l.take(dst, t.find(join(key, 0)))
	}
	for i := range s.dims {
		d := s.dims[i].dim
		l.findValues(d)
		if len(l.hashes) == 0 {
			continue
		}
		before, under := len(dst), d.hash()
		for _, key := range l.keys {
			for _, value := range l.hashes {
				dst = l.take(dst, t.find(join(key, under, value)))
			}
		}
		if len(l.hashes) > 1 { // several elements of an array may lead to one webhook
			found := dst[before:]
			slices.SortFunc(found, func(a, b *Webhook) int { return strings.Compare(string(a.ID[:]), string(b.ID[:])) })
			dst = dst[:before+len(slices.Compact(found))]
		}
	}
	return dst
}

// findValues reads the hashes of what the event has in a dimension, each once.
func (l *look) findValues(d dim) {
	l.hashes = l.hashes[:0]
	if d.modifier == "" {
		l.hashes = l.data.Hashes(l.hashes, d.place-1)
	} else if place, declared := l.known.place(d.modifier); !declared {
		l.hashes = append(l.hashes, anyValue)
	} else if place >= 0 {
		l.hashes = l.modifiers.Hashes(l.hashes, place)
	}
	if len(l.hashes) > 1 { // or an array would ask a webhook as often as it has its value
		slices.Sort(l.hashes)
		l.hashes = slices.Compact(l.hashes)
	}
}

// take appends those of rows that want the event.
func (l *look) take(dst []*Webhook, rows []row) []*Webhook {
	for i := range rows {
		if l.wanted(rows[i].chooser) {
			dst = append(dst, rows[i].chooser.webhook)
		}
	}
	return dst
}

func (l *look) wanted(c *chooser) bool {
	w := c.webhook.wishes
	if w.filter != nil && !l.data.Match(w.filter, c.places) {
		return false
	}
	for i := range w.modifiers {
		m := &w.modifiers[i]
		if place, declared := l.known.place(m.Name); declared && (place < 0 || !l.modifiers.In(place, m.Values)) {
			return false
		}
	}
	return chosen(c.webhook.EventTypes, l.eventType)
}
