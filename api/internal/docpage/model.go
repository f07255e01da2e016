package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

type model struct {
	Title, Summary string
	Intro          template.HTML
	Groups         []group
	Schemas        []schema
	Codes          []string
}

type group struct {
	Name, ID   string
	Text       template.HTML
	Operations []operation
}

type operation struct {
	ID, Path  string
	Methods   []string
	Summary   string
	Text      template.HTML
	Scope     string // "": needs no key
	Params    []property
	Body      *content
	Responses []response
	Curl      string
}

type content struct {
	Type     template.HTML
	Inline   []property // of a schema that has no name
	Example  string
	Optional bool
}

type response struct {
	Status  string
	Text    template.HTML
	Type    template.HTML
	Example string
}

type schema struct {
	Name       string
	Text       template.HTML
	Type       template.HTML
	Properties []property
	Example    string
}

type property struct {
	Name     string
	In       string // of a parameter
	Type     template.HTML
	Text     template.HTML
	Required bool
	Note     string // bounds, default
}

func newModel(doc *openapi3.T, spec string) *model {
	m := &model{Title: doc.Info.Title, Summary: doc.Info.Summary, Intro: markup(doc.Info.Description)}
	var all []operation
	tags := make(map[string][]operation)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, newOperation(path, method, item, op))
			all[len(all)-1].ID = op.OperationID
		}
	}
	byPlace(all, spec, func(o operation) string { return "operationId: " + o.ID + "\n" })
	for _, o := range all {
		tag := doc.Paths.Value(o.Path).GetOperation(o.Methods[0]).Tags[0]
		list := tags[tag]
		// Methods of one path that do the same are one entry.
		if n := len(list); n > 0 && list[n-1].Path == o.Path && list[n-1].Summary == o.Summary {
			list[n-1].Methods = append(list[n-1].Methods, o.Methods...)
			continue
		}
		tags[tag] = append(list, o)
	}
	for _, t := range doc.Tags {
		m.Groups = append(m.Groups, group{t.Name, "tag-" + strings.ReplaceAll(t.Name, " ", "-"), markup(t.Description), tags[t.Name]})
	}
	for name, ref := range doc.Components.Schemas {
		if name == "Code" {
			for _, c := range ref.Value.Enum {
				m.Codes = append(m.Codes, fmt.Sprint(c))
			}
			continue
		}
		m.Schemas = append(m.Schemas, newSchema(name, ref.Value))
	}
	byPlace(m.Schemas, spec, func(s schema) string { return "\n    " + s.Name + ":\n" })
	return m
}

// byPlace sorts as the spec's text does, which the parsed spec has forgotten.
func byPlace[T any](list []T, spec string, mark func(T) string) {
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(strings.Index(spec, mark(a)), strings.Index(spec, mark(b))) })
}

func newOperation(path, method string, item *openapi3.PathItem, op *openapi3.Operation) operation {
	o := operation{Path: path, Methods: []string{method}, Summary: op.Summary, Text: markup(op.Description)}
	if op.Security == nil {
		o.Scope, _ = op.Extensions["x-fanfare-scope"].(string)
	}
	for _, p := range append(slices.Clone(item.Parameters), op.Parameters...) {
		p := p.Value
		prop := newProperty(p.Name, p.Schema, p.Required)
		prop.In, prop.Text = p.In, markup(p.Description)
		o.Params = append(o.Params, prop)
	}
	if op.RequestBody != nil {
		body := op.RequestBody.Value
		media := body.Content.Get("application/json")
		o.Body = &content{Type: typeOf(media.Schema), Example: example(media), Optional: !body.Required}
		if media.Schema.Ref == "" {
			o.Body.Inline = properties(media.Schema.Value)
		}
	}
	for status, ref := range op.Responses.Map() {
		r := response{Status: status, Text: markup(*ref.Value.Description)}
		for _, media := range ref.Value.Content {
			if media.Schema != nil && media.Schema.Ref != "" {
				r.Type = typeOf(media.Schema)
				r.Example = example(media)
			}
		}
		if len(status) == 3 && status >= "400" {
			r.Example = "" // all problems look alike
		}
		o.Responses = append(o.Responses, r)
	}
	slices.SortFunc(o.Responses, func(a, b response) int { return cmp.Compare(a.Status, b.Status) })
	o.Curl = curl(&o, method)
	return o
}

func newSchema(name string, s *openapi3.Schema) schema {
	out := schema{Name: name, Text: markup(s.Description), Properties: properties(s)}
	if s.Example != nil {
		out.Example = pretty(s.Example)
	}
	if !slices.ContainsFunc(out.Properties, func(p property) bool { return !p.Required }) {
		for i := range out.Properties { // what is always there need not be said of each
			out.Properties[i].Required = false
		}
	}
	if len(out.Properties) == 0 {
		p := newProperty(name, &openapi3.SchemaRef{Value: s}, false)
		out.Type = p.Type
		if p.Note != "" {
			out.Type += template.HTML(" · " + template.HTMLEscapeString(p.Note))
		}
	}
	return out
}

func properties(s *openapi3.Schema) (list []property) {
	names := slices.Sorted(maps.Keys(s.Properties))
	// Required ones first, in the order in which they are required.
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(place(s.Required, a), place(s.Required, b)) })
	for _, name := range names {
		list = append(list, newProperty(name, s.Properties[name], slices.Contains(s.Required, name)))
	}
	return list
}

func place(list []string, s string) int {
	if i := slices.Index(list, s); i >= 0 {
		return i
	}
	return len(list)
}

func newProperty(name string, ref *openapi3.SchemaRef, required bool) property {
	p := property{Name: name, Type: typeOf(ref), Required: required}
	s := ref.Value
	if ref.Ref == "" || s.Description != "" {
		p.Text = markup(s.Description)
	}
	if ref.Ref != "" {
		return p
	}
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	switch {
	case s.Min != nil && s.Max != nil:
		note("%v to %v", *s.Min, *s.Max)
	case s.Min != nil:
		note("at least %v", *s.Min)
	}
	if s.MaxLength != nil {
		note("at most %d characters", *s.MaxLength)
	}
	if s.MinItems > 0 {
		note("at least %d", s.MinItems)
	}
	if s.MaxItems != nil {
		note("at most %d entries", *s.MaxItems)
	}
	if s.Default != nil {
		raw, _ := json.Marshal(s.Default)
		note("default %s", raw)
	}
	p.Note = strings.Join(notes, ", ")
	return p
}

// typeOf says a schema in words, with links to those that have names.
func typeOf(ref *openapi3.SchemaRef) template.HTML {
	if ref == nil {
		return ""
	}
	if ref.Ref != "" {
		name := ref.Ref[strings.LastIndexByte(ref.Ref, '/')+1:]
		id := "schema-" + name
		if name == "Code" {
			id = "codes"
		}
		return template.HTML(fmt.Sprintf(`<a href="#%s">%[2]s</a>`, id, template.HTMLEscapeString(name)))
	}
	s := ref.Value
	var parts []string
	for _, one := range s.OneOf {
		parts = append(parts, string(typeOf(one)))
	}
	if len(s.Enum) > 0 {
		for _, v := range s.Enum {
			raw, _ := json.Marshal(v)
			parts = append(parts, "<code>"+template.HTMLEscapeString(string(raw))+"</code>")
		}
	} else if s.Type != nil {
		for _, t := range s.Type.Slice() {
			switch {
			case t == "array" && s.Items != nil:
				parts = append(parts, "list of "+string(typeOf(s.Items)))
			case s.Format != "" && t == "string":
				parts = append(parts, template.HTMLEscapeString(s.Format))
			default:
				parts = append(parts, t)
			}
		}
	}
	return template.HTML(strings.Join(parts, " or "))
}

func example(media *openapi3.MediaType) string {
	switch {
	case media.Example != nil:
		return pretty(media.Example)
	case media.Schema != nil && media.Schema.Value.Example != nil:
		return pretty(media.Schema.Value.Example)
	}
	return ""
}

func pretty(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func curl(o *operation, method string) string {
	var b strings.Builder
	b.WriteString("curl ")
	if method != "GET" {
		b.WriteString("-X " + method + " ")
	}
	b.WriteString(`"$FANFARE` + strings.NewReplacer("{", "$", "}", "").Replace(o.Path) + `"`)
	if o.Scope != "" {
		b.WriteString(" \\\n  -H \"Authorization: Bearer $FANFARE_KEY\"")
	}
	if o.Body != nil && o.Body.Example != "" {
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(o.Body.Example)) == nil {
			b.WriteString(" \\\n  -H \"Content-Type: application/json\" \\\n  -d '" + compact.String() + "'")
		}
	}
	return b.String()
}

var (
	codeMark = regexp.MustCompile("`([^`]+)`")
	boldMark = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	emMark   = regexp.MustCompile(`(^|[\s(])\*([^*\s][^*]*)\*`)
)

// markup knows as much of Markdown as the spec's texts use: paragraphs, `code`, **bold**, *emphasis*.
func markup(text string) template.HTML {
	var b strings.Builder
	for para := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if para == "" {
			continue
		}
		// Code is set aside first: stars in it are stars.
		var codes []string
		para = codeMark.ReplaceAllStringFunc(template.HTMLEscapeString(para), func(s string) string {
			codes = append(codes, "<code>"+s[1:len(s)-1]+"</code>")
			return "\x00"
		})
		para = boldMark.ReplaceAllString(para, "<strong>$1</strong>")
		para = emMark.ReplaceAllString(para, "$1<em>$2</em>")
		for _, c := range codes {
			para = strings.Replace(para, "\x00", c, 1)
		}
		b.WriteString("<p>" + para + "</p>")
	}
	return template.HTML(b.String())
}
