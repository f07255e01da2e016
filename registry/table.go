package registry

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
)

// table finds choosers by hashes, any number by one and any number of hashes for one. It never changes;
// an edit copies the parts that it touches and the list of them.
type table struct {
	parts [][]row // by the highest bits of the hash; each is sorted. A power of two, or none
	len   int
}

type row struct {
	hash    uint64
	chooser *chooser
}

func (a row) compare(b row) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.chooser.webhook.ID[:], b.chooser.webhook.ID[:]))
}

// How many rows a part has on average when parts are made, and how far that may change.
const (
	partRows    = 32
	fewPartRows = 4
	maxPartRows = 128
)

func (t *table) part(hash uint64) int {
	return int(hash >> 1 >> (63 - bits.TrailingZeros(uint(len(t.parts)))))
}

// find gives the rows with a hash, sorted by webhook.
func (t *table) find(hash uint64) []row {
	if t.len == 0 {
		return nil
	}
	rows := t.parts[t.part(hash)]
	i, found := slices.BinarySearchFunc(rows, hash, func(r row, hash uint64) int { return cmp.Compare(r.hash, hash) })
	if !found {
		return nil
	}
	end := i + 1
	if end < len(rows) && rows[end].hash == hash { // mostly there is one
		n, _ := slices.BinarySearchFunc(rows[end:], hash, func(r row, hash uint64) int {
			if r.hash > hash {
				return 0
			}
			return -1
		})
		end += n
	}
	return rows[i:end]
}

// edit is the table without the rows that gone lists, which it has, and with added. It sorts both.
func (t *table) edit(gone, added []row) table {
	slices.SortFunc(gone, row.compare)
	slices.SortFunc(added, row.compare)
	next := table{len: t.len - len(gone) + len(added)}
	switch n := len(t.parts); {
	case next.len == 0:
		return table{}
	case n == 0 || next.len > n*maxPartRows || next.len < n*fewPartRows && n > 1:
		next.parts = make([][]row, 1<<bits.Len(uint(next.len/partRows)))
		next.fill(merge(slices.Concat(t.parts...), gone, added))
		return next
	}
	next.parts = slices.Clone(t.parts)
	for len(gone)+len(added) > 0 {
		p := len(next.parts)
		for _, rows := range [][]row{gone, added} {
			if len(rows) > 0 {
				p = min(p, next.part(rows[0].hash))
			}
		}
		var lessGone, moreAdded int
		for lessGone < len(gone) && next.part(gone[lessGone].hash) == p {
			lessGone++
		}
		for moreAdded < len(added) && next.part(added[moreAdded].hash) == p {
			moreAdded++
		}
		next.parts[p] = merge(next.parts[p], gone[:lessGone], added[:moreAdded])
		gone, added = gone[lessGone:], added[moreAdded:]
	}
	return next
}

// fill spreads sorted rows over empty parts.
func (t *table) fill(rows []row) {
	for len(rows) > 0 {
		p, n := t.part(rows[0].hash), 1
		for n < len(rows) && t.part(rows[n].hash) == p {
			n++
		}
		t.parts[p], rows = slices.Clone(rows[:n]), rows[n:]
	}
}

// merge is rows without gone and with added, all sorted.
func merge(rows, gone, added []row) []row {
	merged := make([]row, 0, len(rows)-len(gone)+len(added))
	for _, r := range rows {
		if len(gone) > 0 && r == gone[0] {
			gone = gone[1:]
			continue
		}
		for len(added) > 0 && added[0].compare(r) < 0 {
			merged, added = append(merged, added[0]), added[1:]
		}
		merged = append(merged, r)
	}
	return append(merged, added...)
}
