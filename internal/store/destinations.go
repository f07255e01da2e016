package store

// places are those of one-off destinations in the rows of a statement, as the column "destination" has them:
// the index in the event's list, null for a webhook's row. It stays nil, which is nulls for all, while there
// are only webhooks.
type places []*int16

// put notes the place of row n, counted from 1, if it has one. Rows come in order.
func (p *places) put(n, place int) {
	if place == 0 && *p == nil {
		return
	}
	for len(*p) < n {
		*p = append(*p, nil)
	}
	var index *int16
	if place > 0 {
		i := int16(place - 1)
		index = &i
	}
	*p = append(*p, index)
}

// placeOf is the place that a column "destination" says; 0: none.
func placeOf(index *int16) int {
	if index == nil {
		return 0
	}
	return int(*index) + 1
}
