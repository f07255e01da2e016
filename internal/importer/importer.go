// Package importer makes webhooks of what other senders export: Kazoo's webhook documents, and the lists of
// endpoints of Svix and Convoy as their APIs answer them.
//
// It hides what those exports look like and what their fields mean, which of it Fanfare can do, and how an
// import that was cut short goes on: each webhook remembers in its metadata what it was made of, and what
// is there already is left alone. It talks to a node over its REST API, as any client does.
package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/fanfare-webhooks/fanfare/internal/client"
)

// Options of an import.
type Options struct {
	client.Target                   // whose webhooks they become, with the scopes read and write; without a URL nothing is asked, which takes DryRun
	Source        string            // kazoo, svix or convoy
	Accounts      map[string]string // by the ids that the export names; nil: all become Account's
	Types         map[string]string // event types: the export's name → Fanfare's, which may be a pattern
	Wanted        []string          // event types of what does not say which it wants; nil: such a thing is not imported
	Signature     json.RawMessage   // signature schemes of every webhook; nil: what its receiver knows
	DryRun        bool              // say what would be done, and do nothing
}

// Sources lists what can be imported.
func Sources() []string { return []string{"kazoo", "svix", "convoy"} }

// ErrIncomplete says that something of the export was not imported. The report says what.
var ErrIncomplete = errors.New("not everything was imported")

// marker is the member of a webhook's metadata that says what it was made of.
const marker = "imported_from"

// Import reads an export and makes webhooks of it, one after the other, in the export's order. It writes a
// report that names each by its line in the export, what of it could not be carried over, and why it was
// not imported if it was not. The error is [ErrIncomplete], or why there was no going on: what was imported
// until then stays, and another import goes on from there.
func Import(ctx context.Context, o Options, export io.Reader, report io.Writer) error {
	text, err := io.ReadAll(io.LimitReader(export, maxExport+1))
	if err != nil {
		return err
	}
	if len(text) > maxExport {
		return fmt.Errorf("the export has more than %d MiB: split it", maxExport>>20)
	}
	plans, err := read(&o, text)
	if err != nil {
		return err
	}
	if len(plans) == 0 {
		return errors.New("the export has no webhooks in it")
	}
	i := importing{Options: o, report: report, there: make(map[string]map[string]existing)}
	if o.URL != "" {
		c, err := client.New(o.Target)
		if err != nil {
			return err
		}
		defer c.Close()
		i.node = &node{c}
	}
	for _, p := range plans {
		if err := i.one(ctx, p); err != nil {
			i.sum()
			return fmt.Errorf("line %d: %w", p.line, err)
		}
	}
	i.sum()
	if i.refused > 0 {
		return ErrIncomplete
	}
	return nil
}

const maxExport = 256 << 20 // bytes

// plan is what is to become of one thing in an export.
type plan struct {
	line     int
	name     string // for people
	id       string // in the export's world, after its source: kazoo/5f3a…
	account  string
	body     webhook
	disabled string    // why it is to be disabled; "": it is not
	notes    []finding // what is not as it was
	faults   []finding // why it cannot be imported
	fields   map[string]string
}

// finding is something about a field of the export.
type finding struct{ field, text string }

// webhook is the body of a creation.
type webhook struct {
	Name               string            `json:"name,omitempty"`
	URL                string            `json:"url"`
	EventTypes         []string          `json:"event_types"`
	Modifiers          map[string]any    `json:"modifiers,omitempty"`
	Filter             json.RawMessage   `json:"filter,omitempty"`
	IncludeSubaccounts bool              `json:"include_subaccounts,omitempty"`
	Method             string            `json:"method,omitempty"`
	Format             string            `json:"format,omitempty"`
	Payload            string            `json:"payload"`
	CustomData         map[string]string `json:"custom_data,omitempty"`
	Headers            map[string]any    `json:"headers,omitempty"`
	Signature          json.RawMessage   `json:"signature,omitempty"`
	Timeout            string            `json:"timeout,omitempty"`
	RetrySchedule      *[]string         `json:"retry_schedule,omitempty"`
	RateLimit          *rateLimit        `json:"rate_limit,omitempty"`
	NotificationEmails []string          `json:"notification_emails,omitempty"`
	Metadata           map[string]string `json:"metadata"`
	Secret             string            `json:"secret,omitempty"`
}

type rateLimit struct {
	Count int    `json:"count"`
	Per   string `json:"per"`
}

// sensitive is the value of a header that nobody may read back.
type sensitive struct {
	Secret string `json:"secret"`
}

// importing is an import at work.
type importing struct {
	Options
	node    *node // nil: nobody is asked
	report  io.Writer
	there   map[string]map[string]existing // by account and by what it was made of
	made    int
	kept    int
	refused int
}

// one brings one plan to its end and reports it. An error ends the import.
func (i *importing) one(ctx context.Context, p *plan) error {
	if len(p.faults) > 0 {
		i.refuse(p)
		return nil
	}
	there, err := i.existing(ctx, p.account)
	if err != nil {
		return err
	}
	if old, known := there[p.id]; known {
		return i.keep(ctx, p, old)
	}
	if i.DryRun {
		there[p.id] = existing{ID: "this import makes it"}
		i.made++
		i.say(p, "would be created: %s", p.body.shown())
		return nil
	}
	id, refused, err := i.node.create(ctx, p.account, &p.body)
	if err != nil {
		return err
	}
	if refused != nil {
		for _, f := range refused.Errors {
			p.faults = append(p.faults, p.refused(f.Pointer, f.Detail))
		}
		if len(refused.Errors) == 0 {
			p.faults = append(p.faults, finding{"", refused.Detail})
		}
		i.refuse(p)
		return nil
	}
	there[p.id] = existing{ID: id}
	if p.disabled != "" {
		if err := i.node.disable(ctx, p.account, id, p.disabled); err != nil {
			return fmt.Errorf("disable webhook %s: %w", id, err)
		}
	}
	i.made++
	i.say(p, "created %s%s", id, disabledToo(p))
	return nil
}

// keep leaves alone what is there, unless an earlier import ended before it had disabled it.
func (i *importing) keep(ctx context.Context, p *plan, old existing) error {
	i.kept++
	p.notes = nil // they were told when it was made
	if p.disabled == "" || !old.Enabled || old.Version != 1 {
		i.say(p, "is there already: %s", old.ID)
		return nil
	}
	if i.DryRun {
		i.say(p, "is there already: %s; would be disabled", old.ID)
		return nil
	}
	if err := i.node.disable(ctx, p.account, old.ID, p.disabled); err != nil {
		return fmt.Errorf("disable webhook %s: %w", old.ID, err)
	}
	i.say(p, "is there already: %s; disabled", old.ID)
	return nil
}

func disabledToo(p *plan) string {
	if p.disabled == "" {
		return ""
	}
	return ", disabled"
}

// existing are the webhooks of an account that an import made.
func (i *importing) existing(ctx context.Context, account string) (map[string]existing, error) {
	if there, asked := i.there[account]; asked {
		return there, nil
	}
	there := make(map[string]existing)
	if i.node != nil {
		var err error
		if there, err = i.node.imported(ctx, account); err != nil {
			return nil, fmt.Errorf("list the webhooks of account %s: %w", account, err)
		}
	}
	i.there[account] = there
	return there, nil
}

func (i *importing) refuse(p *plan) {
	i.refused++
	p.notes = nil // of no use yet
	i.say(p, "NOT IMPORTED")
	for _, f := range p.faults {
		fmt.Fprintf(i.report, "  %s\n", f)
	}
}

func (i *importing) say(p *plan, format string, args ...any) {
	fmt.Fprintf(i.report, "line %d: %s: %s\n", p.line, p.name, fmt.Sprintf(format, args...))
	for _, n := range p.notes {
		fmt.Fprintf(i.report, "  note: %s\n", n)
	}
}

func (i *importing) sum() {
	did := "created"
	if i.DryRun {
		did = "would be created"
	}
	fmt.Fprintf(i.report, "%d %s, %d there already, %d not imported\n", i.made, did, i.kept, i.refused)
}

func (f finding) String() string {
	if f.field == "" {
		return f.text
	}
	return f.field + ": " + f.text
}

// refused is a fault of the body, in the words of the export.
func (p *plan) refused(pointer, detail string) finding {
	member, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	if n, err := strconv.Atoi(rest); err == nil && member == "event_types" && n < len(p.body.EventTypes) {
		detail, rest = p.body.EventTypes[n]+" "+detail, ""
	}
	if field, ok := p.fields[member]; ok {
		member = field
	}
	if rest != "" {
		member += "/" + rest
	}
	return finding{member, detail}
}

// shown is the body without what is secret.
func (w webhook) shown() string {
	if w.Secret != "" {
		w.Secret = "…"
	}
	headers := make(map[string]any, len(w.Headers))
	for name, value := range w.Headers {
		if _, ok := value.(sensitive); ok {
			value = sensitive{"…"}
		}
		headers[name] = value
	}
	w.Headers = headers
	text, err := json.Marshal(w)
	if err != nil {
		panic(err) // it was made of texts
	}
	return string(text)
}

// types are the event types that stand for those of the export.
func (o *Options) types(names ...string) []string {
	list := make([]string, 0, len(names))
	for _, name := range names {
		if other, ok := o.Types[name]; ok {
			name = other
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}
