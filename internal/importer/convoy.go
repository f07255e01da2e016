package importer

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare/internal/shape"
)

// convoyFields is where members of a webhook come from in Convoy's endpoints.
var convoyFields = map[string]string{
	"event_types": "filter_config/event_types", "timeout": "http_timeout", "secret": "secrets", "headers": "authentication", "format": "content_type",
	"notification_emails": "support_email",
}

// subscription is what a subscription says about its endpoint.
type subscription struct {
	types  []string
	faults []string
	notes  []string
}

// readConvoy reads endpoints, as GET /api/v1/projects/{id}/endpoints answers them, and subscriptions as
// GET …/subscriptions does: these say which events an endpoint wants.
func readConvoy(o *Options, text []byte) ([]*plan, error) {
	list, err := records(text, func(r *record) bool {
		return r.has("endpoint_metadata") || r.has("uid") && (r.has("url") || r.has("target_url"))
	})
	if err != nil {
		return nil, err
	}
	subscribed := make(map[string]*subscription)
	var endpoints []*record
	for _, r := range list {
		if !r.has("endpoint_metadata") {
			endpoints = append(endpoints, r)
			continue
		}
		var endpoint struct {
			UID string `json:"uid"`
		}
		r.take("endpoint_metadata", "an object", &endpoint)
		s := subscribed[endpoint.UID]
		if s == nil {
			s = &subscription{}
			subscribed[endpoint.UID] = s
		}
		s.add(r)
	}
	plans := make([]*plan, len(endpoints))
	for i, r := range endpoints {
		plans[i] = o.convoy(r, subscribed)
	}
	return plans, nil
}

// add takes in one of an endpoint's subscriptions.
func (s *subscription) add(r *record) {
	var config struct {
		EventTypes []string        `json:"event_types"`
		Filter     json.RawMessage `json:"filter"`
	}
	r.take("filter_config", "an object with event_types", &config)
	if len(config.EventTypes) == 0 {
		config.EventTypes = []string{"*"}
	}
	s.types = append(s.types, config.EventTypes...)
	where := "of its subscription in line " + strconv.Itoa(r.line)
	if narrows(config.Filter) {
		s.faults = append(s.faults, "the filter "+where+" is not read: it would get more than before. Make the webhook by hand, with a filter of Fanfare's")
	}
	if r.has("function") && r.text("function") != "" {
		s.faults = append(s.faults, "the function "+where+" changes what is sent, which Fanfare does not do")
	}
	for _, field := range []string{"retry_config", "rate_limit_config"} {
		if r.has(field) {
			s.notes = append(s.notes, "the "+field+" "+where+" is not carried over")
		}
	}
	for _, f := range r.faults {
		s.faults = append(s.faults, f.String()+" "+where)
	}
}

// narrows reports whether any of a filter's parts says something.
func narrows(filter json.RawMessage) bool {
	var parts map[string]json.RawMessage
	if json.Unmarshal(filter, &parts) != nil {
		return false
	}
	for name, part := range parts {
		var inner map[string]json.RawMessage
		if name == "is_flattened" || string(part) == "null" || json.Unmarshal(part, &inner) == nil && len(inner) == 0 {
			continue
		}
		return true
	}
	return false
}

func (o *Options) convoy(r *record, subscribed map[string]*subscription) *plan {
	body := webhook{Name: cut(r.text("name")), URL: r.text("url"), Payload: "raw"}
	if body.Name == "" {
		body.Name = cut(r.text("title")) // of older versions, as what follows
	}
	if body.URL == "" {
		body.URL = r.text("target_url")
	}
	id := r.text("uid")
	switch s := subscribed[id]; {
	case s != nil:
		body.EventTypes = o.types(s.types...)
		for _, text := range s.faults {
			r.fault("", "%s", text)
		}
		for _, text := range s.notes {
			r.note("", "%s", text)
		}
	case o.Wanted != nil:
		body.EventTypes = o.Wanted
	default:
		r.fault("", "the export does not say which events it wants: put Convoy's list of subscriptions behind that of endpoints, or say which")
	}
	if slices.Contains(body.EventTypes, "*") {
		body.EventTypes = []string{"*"}
	}
	convoySignature(r, &body)
	convoyHeaders(r, &body)
	switch kind := r.text("content_type"); kind {
	case "", shape.JSON:
	case shape.Form:
		body.Format = "form"
	default:
		r.note("content_type", "%s is not known: sent as %s", kind, shape.JSON)
	}
	convoyPace(r, &body)
	if email := r.text("support_email"); email != "" {
		body.NotificationEmails = []string{email}
	}
	if text := r.text("description"); text != "" {
		body.Metadata = map[string]string{"description": text}
	}
	p := o.plan(r, id, r.text("owner_id"), body, convoyFields)
	if status := r.text("status"); status != "" && status != "active" {
		p.disabled = status + " in Convoy"
	}
	r.rest(func(field string) bool {
		var empty any
		json.Unmarshal(r.members[field], &empty)
		return empty == "" || slices.Contains([]string{
			"created_at", "updated_at", "deleted_at", "project_id", "events", "failure_rate", "cb_state", "period_failure_rate", "success_count",
			"failure_count", "retry_count",
		}, field)
	})
	p.notes, p.faults = r.notes, r.faults
	return p
}

// convoySignature keeps the secret with which Convoy signs, the last that counts, and the header that it has
// by default.
func convoySignature(r *record, body *webhook) {
	var secrets []struct {
		Value     string     `json:"value"`
		ExpiresAt *time.Time `json:"expires_at"`
		DeletedAt *time.Time `json:"deleted_at"`
	}
	r.take("secrets", "an array of objects", &secrets)
	valid := 0
	for _, s := range secrets {
		if s.Value != "" && s.ExpiresAt == nil && s.DeletedAt == nil {
			body.Secret = s.Value
			valid++
		}
	}
	body.Signature = json.RawMessage(`{"scheme":"hmac-sha256","header":"X-Convoy-Signature","encoding":"hex"}`)
	if r.boolean("advanced_signatures", false) {
		r.note("advanced_signatures", "Convoy signs the time too, in a way of its own; the webhook is signed as without, over the body alone")
	}
	switch n := utf8.RuneCountInString(body.Secret); {
	case n == 0:
		r.note("secrets", "none is in the export: a new one is made, and the receiver must learn it")
	case n < 16 || n > 256:
		r.note("secrets", "the secret does not have 16 to 256 characters: a new one is made, and the receiver must learn it")
		body.Secret = ""
	case valid > 1:
		r.note("secrets", "only the last one is kept")
	}
}

// convoyHeaders authenticate the webhook to its receiver.
func convoyHeaders(r *record, body *webhook) {
	var auth struct {
		Type   string `json:"type"`
		APIKey *struct {
			Name  string `json:"header_name"`
			Value string `json:"header_value"`
		} `json:"api_key"`
		Basic *struct {
			User     string `json:"username"`
			Password string `json:"password"`
		} `json:"basic_auth"`
	}
	r.take("authentication", "an object", &auth)
	switch {
	case auth.Type == "api_key" && auth.APIKey != nil && auth.APIKey.Name != "":
		body.Headers = map[string]any{auth.APIKey.Name: sensitive{auth.APIKey.Value}}
	case auth.Type == "basic_auth" && auth.Basic != nil:
		basic := base64.StdEncoding.EncodeToString([]byte(auth.Basic.User + ":" + auth.Basic.Password))
		body.Headers = map[string]any{"Authorization": sensitive{"Basic " + basic}}
	case auth.Type != "" && auth.Type != "api_key":
		r.fault("authentication", "%s is not something that Fanfare can do: the receiver would refuse everything", auth.Type)
	}
	if r.has("mtls_client_cert") {
		r.fault("mtls_client_cert", "Fanfare has no client certificates: the receiver would refuse everything")
	}
}

// convoyPace reads the timeout and the rate limit.
func convoyPace(r *record, body *webhook) {
	const longest = 60 // seconds
	if timeout := r.seconds("http_timeout"); timeout > longest {
		r.note("http_timeout", "%d s is longer than may be: %d s", timeout, longest)
		body.Timeout = strconv.Itoa(longest) + "s"
	} else if timeout > 0 {
		body.Timeout = strconv.Itoa(timeout) + "s"
	}
	if count, per := r.integer("rate_limit"), r.seconds("rate_limit_duration"); count > 0 {
		body.RateLimit = &rateLimit{count, strconv.Itoa(max(per, 1)) + "s"}
	}
}

// seconds reads a number of seconds, which older versions of Convoy write as a text with a unit.
func (r *record) seconds(field string) (n int) {
	if !r.has(field) || json.Unmarshal(r.members[field], &n) == nil {
		return n
	}
	var text string
	if json.Unmarshal(r.members[field], &text) == nil {
		if text = strings.TrimSpace(text); text == "" {
			return 0
		}
		if d, err := time.ParseDuration(text); err == nil {
			return int(d.Seconds())
		}
	}
	r.fault(field, "must be a number of seconds")
	return 0
}
