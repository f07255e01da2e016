package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// record is an object of an export, with what was found wrong with it.
type record struct {
	line    int
	members map[string]json.RawMessage // without those that are null
	read    map[string]bool            // those that somebody asked for
	notes   []finding
	faults  []finding
}

func (r *record) note(field, format string, args ...any) {
	r.notes = append(r.notes, finding{field, fmt.Sprintf(format, args...)})
}

func (r *record) fault(field, format string, args ...any) {
	r.faults = append(r.faults, finding{field, fmt.Sprintf(format, args...)})
}

// has reports whether the record has the member, and counts it as read.
func (r *record) has(field string) bool {
	r.read[field] = true
	_, ok := r.members[field]
	return ok
}

// take reads a member into v, whose type want names for people. It answers false, with v as it was, if the
// record has none or it is of another type, which is a fault.
func (r *record) take(field, want string, v any) bool {
	if !r.has(field) {
		return false
	}
	if json.Unmarshal(r.members[field], v) != nil {
		r.fault(field, "must be %s", want)
		return false
	}
	return true
}

func (r *record) text(field string) (s string) {
	r.take(field, "a string", &s)
	return s
}

func (r *record) boolean(field string, otherwise bool) bool {
	is := otherwise
	r.take(field, "true or false", &is)
	return is
}

func (r *record) integer(field string) (n int) {
	r.take(field, "an integer", &n)
	return n
}

func (r *record) texts(field string) (list []string) {
	r.take(field, "an array of strings", &list)
	return list
}

// object reads a member that is an object of strings. Values of other types are faults, each of its own.
func (r *record) object(field string) map[string]string {
	var raw map[string]json.RawMessage
	if !r.take(field, "an object", &raw) || len(raw) == 0 {
		return nil
	}
	object := make(map[string]string, len(raw))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		var text string
		if json.Unmarshal(raw[name], &text) != nil || raw[name][0] != '"' {
			r.fault(field+"/"+name, "must be a string")
		}
		object[name] = text
	}
	return object
}

// rest notes what nobody has asked for, but for what is of no use elsewhere.
func (r *record) rest(useless func(field string) bool) {
	for _, field := range slices.Sorted(maps.Keys(r.members)) {
		if !r.read[field] && !useless(field) {
			r.note(field, "not carried over")
		}
	}
}

// containers are the members in which the answers of APIs and databases hold what was asked for.
var containers = []string{"data", "content", "rows", "docs", "doc", "endpoints"}

// records finds the objects of an export: one, an array of them, or an answer that holds them, any number of
// these after one another. isOne knows an object that is wanted; whatever else is in the export is passed by.
func records(text []byte, isOne func(*record) bool) (list []*record, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		at := int(d.InputOffset()) - len(raw)
		if err != nil {
			if len(bytes.TrimSpace(text[min(int(d.InputOffset()), len(text)):])) == 0 && list != nil {
				return list, nil
			}
			return nil, notJSON(text, err)
		}
		if list == nil {
			list = []*record{}
		}
		list = find(text, raw, at, isOne, list)
	}
}

// notJSON says where a text stops being JSON.
func notJSON(text []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("line %d: the export is not JSON: %w", lineOf(text, int(syntax.Offset)), err)
	}
	return fmt.Errorf("line %d: the export is not JSON, or ends too early", lineOf(text, len(text)))
}

func lineOf(text []byte, at int) int { return 1 + bytes.Count(text[:min(at, len(text))], []byte("\n")) }

// find adds the objects of value, which stands in text at at.
func find(text []byte, value json.RawMessage, at int, isOne func(*record) bool, list []*record) []*record {
	d := json.NewDecoder(bytes.NewReader(value))
	open, _ := d.Token()
	next := func() (json.RawMessage, int) {
		var raw json.RawMessage
		_ = d.Decode(&raw) // it was read once
		return raw, at + int(d.InputOffset()) - len(raw)
	}
	switch open {
	case json.Delim('['):
		for d.More() {
			raw, at := next()
			list = find(text, raw, at, isOne, list)
		}
	case json.Delim('{'):
		r := &record{line: lineOf(text, at), members: make(map[string]json.RawMessage), read: make(map[string]bool)}
		places := make(map[string]int)
		for d.More() {
			name, _ := d.Token()
			field := name.(string)
			raw, at := next()
			if string(raw) != "null" {
				r.members[field], places[field] = raw, at
			}
		}
		if isOne(r) {
			return append(list, r)
		}
		for _, field := range containers {
			if raw, ok := r.members[field]; ok {
				list = find(text, raw, places[field], isOne, list)
			}
		}
	}
	return list
}

// read makes plans of an export.
func read(o *Options, text []byte) ([]*plan, error) {
	switch o.Source {
	case "kazoo":
		return readKazoo(o, text)
	case "svix":
		return readSvix(o, text)
	case "convoy":
		return readConvoy(o, text)
	}
	return nil, fmt.Errorf("%q is none of %s", o.Source, strings.Join(Sources(), ", "))
}

// plan makes a plan of what was read of a record, but for what was found wrong with it; owner is the account that the export names for it.
func (o *Options) plan(r *record, id, owner string, body webhook, fields map[string]string) *plan {
	p := &plan{line: r.line, id: o.Source + "/" + id, account: o.Account, body: body, fields: fields, name: body.Name}
	if id == "" {
		r.fault("id", "is required")
	}
	if body.URL == "" {
		r.fault(fields["url"], "is required")
	}
	if p.name == "" {
		p.name = body.URL
	}
	if o.Accounts != nil {
		switch account, ok := o.Accounts[owner]; {
		case owner == "":
			r.fault("", "the export does not say whose it is")
		case !ok:
			r.fault("", "the accounts that were given have none for %s", owner)
		default:
			p.account = account
		}
	}
	if o.Signature != nil {
		p.body.Signature = o.Signature
	}
	if p.body.Metadata == nil {
		p.body.Metadata = make(map[string]string)
	}
	p.body.Metadata[marker] = p.id
	return p
}

// cut shortens a name to what a webhook may have.
func cut(name string) string {
	const most = 200 // characters
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return name
}

// headers are a webhook's own, of which some are sensitive.
func headers(given map[string]string, isSensitive func(name string) bool) map[string]any {
	if len(given) == 0 {
		return nil
	}
	all := make(map[string]any, len(given))
	for name, value := range given {
		if isSensitive(name) {
			all[name] = sensitive{value}
		} else {
			all[name] = value
		}
	}
	return all
}

// soundsSecret guesses by a header's name that its value is nobody's business.
func soundsSecret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"auth", "token", "key", "secret", "password", "credential"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}
