package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// maxDepth is how many arrays and objects an entry may have inside each other, as in the API.
const maxDepth = 64

// readJSON reads a file that is JSON, as the nodes that YAML is read as. It is not ok if it is none: then
// the other reader says what is wrong.
func readJSON(text []byte) (*yaml.Node, bool) {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	lines := lineCounter{text: text}
	root, err := jsonNode(d, &lines)
	if err != nil {
		return nil, false
	}
	_, err = d.ReadToken()
	return root, errors.Is(err, io.EOF)
}

// lineCounter knows lines of places that are asked for in their order.
type lineCounter struct {
	text []byte
	at   int
	line int // counted from 0
}

func (l *lineCounter) of(offset int64) int {
	l.line += bytes.Count(l.text[l.at:offset], []byte("\n"))
	l.at = int(offset)
	return l.line + 1
}

func jsonNode(d *jsontext.Decoder, lines *lineCounter) (*yaml.Node, error) {
	t, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: lines.of(d.InputOffset())}
	switch t.Kind() {
	case 'n':
		n.Tag = "!!null"
	case 't', 'f':
		n.Tag, n.Value = "!!bool", t.String()
	case '"':
		n.Tag, n.Value = "!!str", t.String()
	case '0':
		n.Tag, n.Value = "!!float", t.String()
	case '{', '[':
		n.Kind = yaml.SequenceNode
		if t.Kind() == '{' {
			n.Kind = yaml.MappingNode
		}
		for d.PeekKind() != '}' && d.PeekKind() != ']' {
			child, err := jsonNode(d, lines)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err = d.ReadToken()
	}
	return n, err
}

// readYAML reads a file's only document.
func readYAML(text []byte) (*yaml.Node, *Fault) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	err := d.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, &Fault{Detail: "is empty"}
	}
	if err == nil {
		if err = d.Decode(&more); err == nil {
			return nil, &Fault{Line: more.Line, Detail: "has more than one document"}
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, &Fault{Line: wrongLine(text, complaint(err)), Detail: "is not YAML: " + complaint(err)}
	}
	return document.Content[0], nil
}

// wrongLine is the first line with which the library complains as it does of the whole. The line that it
// gives itself is often that of what surrounds the mistake.
func wrongLine(text []byte, said string) int {
	at := sort.Search(len(text), func(i int) bool {
		end := len(text)
		if n := bytes.IndexByte(text[i:], '\n'); n >= 0 {
			end = i + n + 1
		}
		d := yaml.NewDecoder(bytes.NewReader(text[:end]))
		for {
			var document yaml.Node
			if err := d.Decode(&document); err != nil {
				return complaint(err) == said
			}
		}
	})
	return 1 + bytes.Count(text[:at], []byte("\n"))
}

// place is how the library begins its errors.
var place = regexp.MustCompile(`^yaml: (line \d+: )?`)

// complaint is an error of the library without its place.
func complaint(err error) string { return place.ReplaceAllString(err.Error(), "") }

// members goes through the members of an object whose names stand there once.
func (r *reader) members(n *yaml.Node, do func(key, value *yaml.Node)) {
	if !r.plain(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n.Line, "must be an object")
		return
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !r.plain(key) {
			continue
		}
		switch tag := key.ShortTag(); {
		case key.Kind != yaml.ScalarNode || tag == "!!null":
			r.fault(key.Line, "has a member without a name")
			continue
		case tag == "!!merge":
			r.fault(key.Line, "merges another object: write it out")
			continue
		}
		r.at(key.Value, func() {
			if seen[key.Value] {
				r.fault(key.Line, "stands here twice")
				return
			}
			seen[key.Value] = true
			do(key, value)
		})
	}
}

// plain refuses what of YAML has no place in a catalog: a small file must not stand for a large one.
func (r *reader) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fault(n.Line, "has an anchor or an alias: write it out")
	case n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str":
		r.fault(n.Line, "has a tag, which means nothing here")
	default:
		return true
	}
	return false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// appendJSON writes a value as JSON, in the order of the file.
func (r *reader) appendJSON(b []byte, n *yaml.Node, depth int) []byte {
	if depth == 0 && n.Kind != yaml.ScalarNode {
		r.fault(n.Line, fmt.Sprintf("is nested more than %d levels deep", maxDepth))
		return b
	}
	switch {
	case n.Kind == yaml.MappingNode:
		b = append(b, '{')
		r.members(n, func(key, value *yaml.Node) {
			b = append(r.appendText(separated(b), key), ':')
			b = r.appendJSON(b, value, depth-1)
		})
		return append(b, '}')
	case !r.plain(n):
		return b
	case n.Kind == yaml.SequenceNode:
		b = append(b, '[')
		for i, element := range n.Content {
			r.at(strconv.Itoa(i), func() { b = r.appendJSON(separated(b), element, depth-1) })
		}
		return append(b, ']')
	}
	switch n.ShortTag() {
	case "!!null":
		return append(b, "null"...)
	case "!!bool":
		return append(b, strings.ToLower(n.Value)...)
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) {
			r.fault(n.Line, "must be written as JSON writes numbers")
		}
		return append(b, n.Value...)
	default: // of a date, too, what is written there
		return r.appendText(b, n)
	}
}

func (r *reader) appendText(b []byte, n *yaml.Node) []byte {
	b, err := jsontext.AppendQuote(b, n.Value)
	if err != nil {
		r.fault(n.Line, "is not UTF-8")
	}
	return b
}

// separated puts a comma behind the member or element before.
func separated(b []byte) []byte {
	if c := b[len(b)-1]; c != '{' && c != '[' {
		return append(b, ',')
	}
	return b
}
