package api

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/retry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

const (
	maxPatterns        = 200 // event types of one webhook
	minTimeout         = time.Second
	maxTimeout         = 60 * time.Second
	defaultTimeout     = 30 * time.Second
	maxInFlight        = 1000
	defaultMaxInFlight = 32
	maxRateCount       = 100_000
	minRatePer         = time.Second
	maxRatePer         = 24 * time.Hour
)

// webhookEdit is what a body asks to change, member by member.
type webhookEdit struct {
	s        *Server
	sets     []func(*fanfare.Webhook)
	patterns []string         // of event_types; nil: not named
	narrowed bool             // modifiers are named
	filtered bool             // a filter is
	optioned bool             // one of the options is, other than headers
	headers  []shape.Header   // nil: not named
	choices  []filter.Choice  // of modifiers
	secret   signature.Secret // zero: not given
	policy   *[]byte          // the health policy; nil: not named
}

func (e *webhookEdit) set(f func(*fanfare.Webhook)) { e.sets = append(e.sets, f) }

func (e *webhookEdit) apply(w *fanfare.Webhook) {
	for _, f := range e.sets {
		f(w)
	}
}

func (e *webhookEdit) fields(create bool) []field {
	secret := field{name: "secret", take: e.takeSecret}
	if !create {
		secret.take = func(v value) { v.fault(codeImmutable, "is changed by secrets/rotate") }
	}
	return append(e.options(), []field{
		{name: "url", required: create, take: e.takeURL},
		{name: "event_types", required: create, take: e.takeEventTypes},
		{name: "modifiers", take: e.takeModifiers},
		{name: "filter", take: e.takeFilter},
		{name: "name", take: func(v value) {
			var name string
			if !v.null() {
				name, _ = v.text(maxName)
			}
			e.set(func(w *fanfare.Webhook) { w.Name = name })
		}},
		{name: "include_subaccounts", take: func(v value) {
			var include bool
			if !v.null() {
				include, _ = v.boolean()
			}
			e.set(func(w *fanfare.Webhook) { w.IncludeSubaccounts = include })
		}},
		{name: "timeout", take: func(v value) {
			timeout := defaultTimeout
			if !v.null() {
				timeout, _ = v.duration(minTimeout, maxTimeout)
			}
			e.set(func(w *fanfare.Webhook) { w.Timeout = timeout })
		}},
		{name: "retry_schedule", take: e.takeSchedule},
		{name: "max_in_flight", take: func(v value) {
			n := defaultMaxInFlight
			if !v.null() {
				n, _ = v.integer(1, maxInFlight)
			}
			e.set(func(w *fanfare.Webhook) { w.MaxInFlight = n })
		}},
		{name: "rate_limit", take: e.takeRateLimit},
		{name: "notification_emails", take: func(v value) {
			emails := v.emails()
			e.set(func(w *fanfare.Webhook) { care(w).Emails = emails })
		}},
		{name: "health_policy", take: func(v value) {
			policy := v.healthPolicy()
			e.policy = &policy
			e.set(func(w *fanfare.Webhook) { care(w).Policy = policy })
		}},
		{name: "metadata", take: func(v value) {
			raw := v.metadata()
			e.set(func(w *fanfare.Webhook) { w.Metadata = *raw })
		}},
		secret,
		{name: "id"},
		{name: "version"},
		{name: "account_id"},
		{name: "enabled"},
		{name: "disabled"},
		{name: "health"},
		{name: "created_at"},
		{name: "updated_at"},
	}...)
}

// care is how a webhook's failures are taken, to be changed.
func care(w *fanfare.Webhook) *fanfare.Care {
	if w.Care == nil {
		w.Care = new(fanfare.Care)
	}
	return w.Care
}

// checkPolicy refuses a health policy that is not what had has, unless the call may write one.
func (e *webhookEdit) checkPolicy(c *call, had *fanfare.Care) error {
	var policy []byte
	if had != nil {
		policy = had.Policy
	}
	if e.policy == nil || bytes.Equal(*e.policy, policy) || c.mayWritePolicy() {
		return nil
	}
	return errPolicy
}

func (e *webhookEdit) takeURL(v value) {
	url, ok := v.text(egress.MaxURL)
	if !ok {
		return
	}
	e.s.checkURL(v, url)
	e.set(func(w *fanfare.Webhook) { w.URL = url })
}

// checkURL names what is wrong with a receiver's URL.
func (s *Server) checkURL(v value, url string) {
	for _, f := range s.urls.CheckURL(url) {
		c := codeInvalidURL
		if f.Code == fanfare.ErrBlocked {
			c = codeURLNotAllowed
		}
		v.fault(c, f.Detail)
	}
}

func (e *webhookEdit) takeEventTypes(v value) {
	patterns := []string{}
	if !v.list(maxPatterns, func(v value) {
		p, ok := v.text(maxTypeName + len(".*"))
		if ok && !validPattern(p) {
			v.fault(codeInvalidFormat, "is not an event type, prefix.* or *")
		}
		patterns = append(patterns, p)
	}) {
		return
	}
	if len(patterns) == 0 {
		v.fault(codeTooFew, "must name at least one event type")
	}
	e.patterns = patterns
	e.set(func(w *fanfare.Webhook) { w.EventTypes = patterns })
}

func (e *webhookEdit) takeModifiers(v value) {
	var raw []byte
	if !v.null() {
		var wrong []filter.Fault
		raw = v.raw
		e.choices, wrong = filter.ParseChoices(raw)
		v.filterFaults(wrong)
	}
	e.narrowed = true
	e.set(func(w *fanfare.Webhook) { wish(w, func(wishes *fanfare.Wishes) { wishes.Modifiers = raw }) })
}

// wish changes what a webhook wants of events.
func wish(w *fanfare.Webhook, change func(*fanfare.Wishes)) {
	if w.Wishes == nil {
		w.Wishes = new(fanfare.Wishes)
	}
	change(w.Wishes)
}

func (e *webhookEdit) takeFilter(v value) {
	e.filtered = true
	var raw, canonical []byte
	if !v.null() && v.filter() {
		raw, canonical = v.raw, filter.Canonical(v.raw)
		if _, err := filter.ParseStored(canonical); err != nil { // then no node could read it
			v.fault(codeTooLong, "is too long in the form in which it is stored")
		}
	}
	e.set(func(w *fanfare.Webhook) {
		wish(w, func(wishes *fanfare.Wishes) { wishes.Filter, wishes.Canonical = raw, canonical })
	})
}

func (e *webhookEdit) takeSchedule(v value) {
	schedule := retry.Default
	if !v.null() {
		before := len(v.f.list)
		var texts []string
		if !v.list(1000, func(v value) {
			if v.raw[0] != '"' {
				v.wrong(`a string such as "5m"`)
				return
			}
			text, _ := unquote(v.raw)
			texts = append(texts, text)
		}) || len(v.f.list) > before {
			return
		}
		parsed, wrong := retry.ParseSchedule(texts, e.s.minRetryStep)
		for _, f := range wrong {
			at := v.at
			if f.Step >= 0 {
				at += "/" + strconv.Itoa(f.Step)
			}
			v.f.at(at, codeInvalidValue, f.Message)
		}
		schedule = parsed
	}
	e.set(func(w *fanfare.Webhook) { w.RetrySchedule = slices.Clone(schedule) })
}

func (e *webhookEdit) takeRateLimit(v value) {
	var limit fanfare.RateLimit
	if !v.null() {
		v.object(
			field{name: "count", required: true, take: func(v value) { limit.Count, _ = v.integer(1, maxRateCount) }},
			field{name: "per", required: true, take: func(v value) { limit.Per, _ = v.duration(minRatePer, maxRatePer) }},
		)
	}
	e.set(func(w *fanfare.Webhook) { w.RateLimit = limit })
}

// checkCatalog holds exact names against the catalog and names those that are archived, with their
// pointers. Before it says that one is not known, or archived, it asks Postgres.
func (e *webhookEdit) checkCatalog(c *call) (archived map[string]string, err error) {
	unknown := func() bool {
		archived = make(map[string]string)
		snapshot := e.s.registry.Snapshot()
		missing := false
		for i, p := range e.patterns {
			if !validName(p) {
				continue
			}
			t := snapshot.EventType(p)
			missing = missing || t == nil
			if t != nil && t.Archived() {
				archived[p] = "/event_types/" + strconv.Itoa(i)
			}
		}
		return missing
	}
	if !unknown() && len(archived) == 0 {
		return nil, nil
	}
	if err := e.s.registry.CatchUp(c.r.Context()); err != nil {
		return nil, err
	}
	if unknown() {
		snapshot := e.s.registry.Snapshot()
		for i, p := range e.patterns {
			if snapshot.EventType(p) == nil && validName(p) {
				c.faults.at("/event_types/"+strconv.Itoa(i), codeUnknownType, "is not in the catalog")
			}
		}
	}
	return archived, nil
}

// archivedFaults names the patterns that are archived, but for those in had.
func archivedFaults(f *faults, archived map[string]string, had []string) {
	for _, name := range slices.Sorted(maps.Keys(archived)) {
		if !slices.Contains(had, name) {
			f.at(archived[name], codeArchivedType, "is archived and takes no new webhooks")
		}
	}
}

// typesChanged is what a client is told when the catalog was changed on another node while the request was on
// its way: the types that it names are gone, or archived. Other errors stay as they are.
func (e *webhookEdit) typesChanged(err error) error {
	var late *store.ArchivedError
	switch {
	case errors.Is(err, store.ErrNoEventType):
		return errTypeGone
	case errors.As(err, &late):
		archived := make(map[string]string)
		for _, name := range late.Names {
			archived[name] = "/event_types/" + strconv.Itoa(slices.Index(e.patterns, name))
		}
		var f faults
		archivedFaults(&f, archived, nil)
		return f.err()
	}
	return err
}

// misfitError is that a webhook does not go with what the snapshot has: a catalog, or the account's other
// webhooks. The snapshot may be behind.
type misfitError struct {
	at     string // where the faults are
	faults []filter.Fault
}

func (e *misfitError) Error() string { return "the webhook does not go with what there is" }

// checkModifiers holds a webhook's modifiers against the event types that it chooses. It answers a
// [*misfitError].
func (e *webhookEdit) checkModifiers(choices []filter.Choice, patterns []string) error {
	if wrong := filter.CheckChoices(choices, e.s.registry.Snapshot().Chosen(patterns)); len(wrong) > 0 {
		return &misfitError{"/modifiers", wrong}
	}
	return nil
}

// checkRoom says whether the account can bear what a webhook wants of events. It answers a [*misfitError].
func (e *webhookEdit) checkRoom(w *fanfare.Webhook) error {
	full := e.s.registry.Snapshot().Full(w)
	if full == "" {
		return nil
	}
	at := "/filter"
	if w.Wishes.Filter == nil {
		at = "/modifiers"
	}
	return &misfitError{at, []filter.Fault{{Code: filter.Code(codeManyConditions), Detail: full}}}
}

// recheck calls check, and if it answers a [*misfitError] once more after asking Postgres for what changed.
// The faults go to f.
func (e *webhookEdit) recheck(c *call, f *faults, check func() error) error {
	err := check()
	var wrong *misfitError
	if !errors.As(err, &wrong) {
		return err
	}
	if err := e.s.registry.CatchUp(c.r.Context()); err != nil {
		return err
	}
	if err = check(); !errors.As(err, &wrong) {
		return err
	}
	value{at: wrong.at, f: f}.filterFaults(wrong.faults)
	return nil
}

// decode reads the body and holds it against the catalog; all faults come together.
func (e *webhookEdit) decode(c *call, create bool) (archived map[string]string, err error) {
	wrong := c.decode(e.fields(create)...)
	if wrong != nil && len(c.faults.list) == 0 { // no JSON
		return nil, wrong
	}
	if archived, err = e.checkCatalog(c); err != nil {
		return nil, err
	}
	if create {
		archivedFaults(&c.faults, archived, nil)
	}
	if create && len(e.patterns) > 0 {
		if err := e.recheck(c, &c.faults, func() error { return e.checkModifiers(e.choices, e.patterns) }); err != nil {
			return nil, err
		}
	}
	return archived, c.faults.err()
}

// edit changes a webhook that exists, unless what comes of it does not go with the catalog.
func (e *webhookEdit) edit(w *fanfare.Webhook, archived map[string]string) error {
	had := w.EventTypes
	e.apply(w)
	var f faults
	archivedFaults(&f, archived, had)
	if e.fit(w, &f); f.err() != nil {
		return f.err()
	}
	if e.patterns != nil || e.narrowed || e.filtered {
		if err := e.checkRoom(w); err != nil {
			return err
		}
	}
	if e.patterns == nil && !e.narrowed {
		return nil
	}
	choices := e.choices
	if !e.narrowed && w.Wishes != nil && len(w.Wishes.Modifiers) > 0 {
		var err error
		if choices, err = filter.ParseStoredChoices(w.Wishes.Modifiers); err != nil {
			return refuse("/modifiers", codeInvalidValue, "cannot be read any more: give them anew")
		}
	}
	return e.checkModifiers(choices, w.EventTypes)
}
