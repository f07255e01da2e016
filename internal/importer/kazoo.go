package importer

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/fanfare-webhooks/fanfare/internal/shape"
)

// kazooFields is where members of a webhook come from in Kazoo's documents.
var kazooFields = map[string]string{
	"url": "uri", "event_types": "hook", "method": "http_verb", "headers": "custom_request_headers", "filter": "include_internal_legs",
}

// readKazoo reads webhook documents, as a database or GET /v2/accounts/…/webhooks/{id} has them.
func readKazoo(o *Options, text []byte) ([]*plan, error) {
	list, err := records(text, func(r *record) bool { return r.has("hook") && (r.has("uri") || r.has("name")) })
	if err != nil {
		return nil, err
	}
	plans := make([]*plan, len(list))
	for i, r := range list {
		plans[i] = o.kazoo(r)
	}
	return plans, nil
}

func (o *Options) kazoo(r *record) *plan {
	id, owner := r.text("_id"), r.text("pvt_account_id")
	if id == "" {
		id = r.text("id")
	}
	if owner == "" {
		owner = r.text("account_id")
	}
	body := webhook{
		Name: cut(r.text("name")), URL: r.text("uri"), IncludeSubaccounts: r.boolean("include_subaccounts", false),
		Payload: "raw", CustomData: r.object("custom_data"),
	}
	if hook := r.text("hook"); hook == "all" {
		body.EventTypes = []string{"*"}
	} else {
		body.EventTypes = o.types(hook)
	}
	if !r.has("http_verb") && !r.has("format") {
		r.note("http_verb", "neither it nor format is in the export, as in a summary: taken for Kazoo's defaults, post and form-data")
	}
	switch verb := strings.ToLower(r.text("http_verb")); verb {
	case "", "post":
	case "get", "put":
		body.Method = strings.ToUpper(verb)
	default:
		r.fault("http_verb", "is none of get, post, put")
	}
	switch format := r.text("format"); format {
	case "", "form-data":
		body.Format = "form"
	case "json":
	default:
		r.fault("format", "is none of form-data, json")
	}
	for _, name := range []string{"type", "action"} {
		if _, ok := body.CustomData[name]; ok {
			r.note("custom_data/"+name, "left out, as Kazoo does")
			delete(body.CustomData, name)
		}
	}
	body.Modifiers = kazooModifiers(r)
	if !r.boolean("include_internal_legs", true) {
		body.Filter = json.RawMessage(`{"$or":[{"data":{"is_internal_leg":{"$exists":false}}},{"data":{"is_internal_leg":{"$ne":true}}}]}`)
	}
	body.Headers = kazooHeaders(r, id, owner)
	if r.has("retries") && r.integer("retries") == 0 {
		body.RetrySchedule = &[]string{}
	}
	if group := r.text("group"); group != "" {
		body.Metadata = map[string]string{"group": group}
	}
	p := o.plan(r, id, owner, body, kazooFields)
	if why := r.text("pvt_disabled_message"); !r.boolean("enabled", true) {
		if p.disabled = "disabled in Kazoo"; why != "" {
			p.disabled += ": " + why
		}
	}
	r.rest(func(field string) bool {
		return strings.HasPrefix(field, "_") || strings.HasPrefix(field, "pvt_") || field == "id" || field == "account_id" || field == "disable_reason"
	})
	p.notes, p.faults = r.notes, r.faults
	return p
}

// kazooModifiers are texts and lists of them. One that allows everything narrows nothing.
func kazooModifiers(r *record) map[string]any {
	var raw map[string]json.RawMessage
	if !r.take("modifiers", "an object", &raw) {
		return nil
	}
	modifiers := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		var one string
		var several []string
		switch {
		case json.Unmarshal(raw[name], &one) == nil:
			several = []string{one}
		case json.Unmarshal(raw[name], &several) != nil:
			r.fault("modifiers/"+name, "must be a string or an array of strings")
		}
		if len(several) > 0 && !slices.Contains(several, "all") {
			modifiers[name] = several
		}
	}
	return modifiers
}

// kazooHeaders are the webhook's own, but those that it may not set, and the two that Kazoo adds. Receivers
// know the ids by which Kazoo called the webhook and its account.
func kazooHeaders(r *record, id, owner string) map[string]any {
	own := r.object("custom_request_headers")
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if f := shape.CheckHeaderName(name); f != nil {
			r.note("custom_request_headers/"+name, "left out: %s", f.Detail)
			delete(own, name)
		}
	}
	all := headers(own, soundsSecret)
	if all == nil {
		all = make(map[string]any)
	}
	for name, value := range map[string]string{"X-Hook-ID": id, "X-Account-ID": owner} {
		if slices.ContainsFunc(slices.Collect(maps.Keys(all)), func(other string) bool { return strings.EqualFold(other, name) }) {
			continue
		}
		if value == "" {
			value = map[string]string{"X-Hook-ID": "{webhook_id}", "X-Account-ID": "{account_id}"}[name]
		}
		all[name] = value
	}
	return all
}
