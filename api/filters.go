package api

import (
	"fmt"
	"net/http"

	"github.com/fanfare-webhooks/fanfare/internal/filter"
)

// filter adds the faults of a filter and says whether it has none.
func (v value) filter() bool {
	_, wrong := filter.Parse(v.raw)
	v.filterFaults(wrong)
	return len(wrong) == 0
}

// filterFaults adds faults of what v is, at their places below it.
func (v value) filterFaults(wrong []filter.Fault) {
	for _, f := range wrong {
		v.f.at(v.at+f.Pointer, code(f.Code), f.Detail)
	}
}

// testFilter decides a filter on an event that need not exist.
func (s *Server) testFilter(c *call) (answer, error) {
	var given []byte
	var event filter.Event
	err := c.decode(
		field{name: "filter", required: true, take: func(v value) { given, _ = v.raw, v.filter() }},
		field{name: "event", required: true, take: func(v value) {
			v.object(
				field{name: "data", required: true, take: func(v value) {
					switch {
					case v.raw[0] != '{':
						v.wrong("an object")
					case len(v.raw) > maxData:
						v.fault(codeTooLong, fmt.Sprintf("has more than %d bytes", maxData))
					}
					event.Data = v.raw
				}},
				field{name: "type", take: func(v value) {
					if v.null() {
						return
					}
					var ok bool
					if event.Type, ok = v.text(maxTypeName); ok && !validName(event.Type) {
						v.fault(codeInvalidFormat, detailType)
					}
				}},
				field{name: "account_id", take: func(v value) {
					if !v.null() {
						event.AccountID, _ = v.id()
					}
				}},
				field{name: "id"}, field{name: "idempotency_key"}, field{name: "occurred_at"}, field{name: "created_at"},
			)
		}},
	)
	if err != nil {
		return answer{}, err
	}
	match, failed, _ := filter.Explain(given, event)
	var w writer
	w.open()
	w.boolean("match", match)
	if failed == nil {
		w.null("failed")
	} else {
		w.object("failed")
		w.text("pointer", failed.Pointer)
		w.text("detail", failed.Detail)
		w.close()
	}
	w.close()
	return answer{status: http.StatusOK, body: w.b}, nil
}
