package importer

import (
	"encoding/json"
	"slices"
	"strings"
)

// svixFields is where members of a webhook come from in Svix's endpoints.
var svixFields = map[string]string{"event_types": "filterTypes", "name": "description", "rate_limit": "rateLimit"}

// readSvix reads endpoints, as GET /api/v1/app/{app_id}/endpoint answers them. The secret and the headers,
// which Svix answers elsewhere, count if they were put into them, under the names secret (or key) and headers.
func readSvix(o *Options, text []byte) ([]*plan, error) {
	list, err := records(text, func(r *record) bool { return r.has("url") && r.has("id") })
	if err != nil {
		return nil, err
	}
	plans := make([]*plan, len(list))
	for i, r := range list {
		plans[i] = o.svix(r)
	}
	return plans, nil
}

func (o *Options) svix(r *record) *plan {
	body := webhook{
		Name: cut(r.text("description")), URL: r.text("url"), Payload: "raw", Signature: json.RawMessage(`{"scheme":"standard"}`),
		Metadata: r.object("metadata"),
	}
	types := r.texts("filterTypes")
	types = append(types, r.texts("eventTypes")...) // of older versions
	if len(types) == 0 {
		types = []string{"*"}
	}
	body.EventTypes = o.types(types...)
	if len(r.texts("channels")) > 0 {
		r.fault("channels", "Fanfare has none: it would get more than before. Make each channel a modifier or a filter, and the webhook by hand")
	}
	if uid := r.text("uid"); uid != "" {
		if body.Metadata == nil {
			body.Metadata = make(map[string]string)
		}
		body.Metadata["uid"] = uid
	}
	for _, field := range []string{"rateLimit", "throttleRate"} {
		if n := r.integer(field); n > 0 {
			body.RateLimit = &rateLimit{n, "1s"}
		}
	}
	hidden := r.texts("sensitive")
	body.Headers = headers(r.object("headers"), func(name string) bool { return slices.Contains(hidden, name) || soundsSecret(name) })
	for _, name := range hidden {
		if _, ok := body.Headers[name]; !ok {
			r.note("headers/"+name, "not carried over: Svix does not tell its value")
		}
	}
	for _, field := range []string{"key", "secret"} {
		if secret := r.text(field); secret != "" {
			if body.Secret = secret; !strings.HasPrefix(secret, "whs") {
				body.Secret = "whsec_" + secret // which Svix leaves out at will
			}
		}
	}
	if body.Secret == "" {
		r.note("secret", "not in the export: a new one is made, and the receiver must learn it")
	}
	p := o.plan(r, r.text("id"), "", body, svixFields)
	if r.boolean("disabled", false) {
		p.disabled = "disabled in Svix"
	}
	r.rest(func(field string) bool { return slices.Contains([]string{"createdAt", "updatedAt", "version"}, field) })
	p.notes, p.faults = r.notes, r.faults
	return p
}
