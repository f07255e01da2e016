package app

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/catalog"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
)

func TestTheDemoCatalogIsSound(t *testing.T) {
	types, wrong := catalog.Parse(demoCatalog)
	if len(wrong) > 0 || !slices.ContainsFunc(types, func(e fanfare.EventType) bool { return e.Schema != nil }) {
		t.Errorf("%d types, %v", len(types), wrong)
	}
	for _, e := range types {
		declared, faults := filter.ParseDeclared(e.Modifiers)
		if len(faults) > 0 || len(declared) == 0 {
			t.Errorf("%s: %v", e.Name, faults)
		}
		var samples []json.RawMessage
		if err := json.Unmarshal(e.Samples, &samples); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		for _, m := range declared {
			var values []filter.Scalar
			for _, v := range m.Values {
				values = append(values, filter.TextScalar(v))
			}
			d := filter.NoPaths().Draft()
			place := d.Add(m.Pointer)
			for _, sample := range samples {
				r := filter.Read(filter.Event{Data: sample})
				r.Scan(d.Done())
				if !r.In(place, values) {
					t.Errorf("%s: a sample has no value that the modifier %s allows", e.Name, m.Name)
				}
				r.Close()
			}
		}
	}
}
