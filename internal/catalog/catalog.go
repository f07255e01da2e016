// Package catalog reads the operator's catalog file: event types, as YAML or JSON.
//
// It hides both syntaxes, what of YAML is not for such a file, and how a fault finds the line that it is
// on. What an entry may say is the API's to decide.
package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
)

// The limits of a catalog file.
const (
	MaxSize   = 4 << 20 // bytes
	maxTypes  = 2000
	maxFaults = 100
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	Line    int    // counted from 1; 0: not known
	Pointer string // where, as a JSON Pointer (RFC 6901); "": the file
	Detail  string // for people: "must be an object"
}

func (f Fault) String() string {
	text := f.Detail
	if f.Pointer != "" {
		text = f.Pointer + " " + text
	}
	if f.Line > 0 {
		text = fmt.Sprintf("line %d: %s", f.Line, text)
	}
	return text
}

// Load reads a file. The error names every fault of one that is not sound, one a line.
func Load(path string) ([]fanfare.EventType, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	types, faults := Parse(text)
	var all []error
	for _, f := range faults {
		all = append(all, fmt.Errorf("%s: %s", path, f))
	}
	return types, errors.Join(all...)
}

// Parse reads the text of a file, {"event_types": {"call.ended": {…}}}, and names every fault of one that is
// not sound. The event types come in the order of names.
func Parse(text []byte) ([]fanfare.EventType, []Fault) {
	if len(text) > MaxSize {
		return nil, []Fault{{Detail: fmt.Sprintf("has more than %d bytes", MaxSize)}}
	}
	root, ok := readJSON(text)
	if !ok {
		var fault *Fault
		if root, fault = readYAML(text); fault != nil {
			return nil, []Fault{*fault}
		}
	}
	var r reader
	types := r.file(root)
	slices.SortFunc(types, func(a, b fanfare.EventType) int { return strings.Compare(a.Name, b.Name) })
	return types, r.faults
}

// reader goes through a file and collects what is wrong with it.
type reader struct {
	path   []string // to where it is
	faults []Fault
}

func (r *reader) fault(line int, detail string) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, Fault{line, pointerTo(r.path), detail})
	}
}

// at runs do one step further down.
func (r *reader) at(step string, do func()) {
	r.path = append(r.path, step)
	do()
	r.path = r.path[:len(r.path)-1]
}

func (r *reader) file(root *yaml.Node) (types []fanfare.EventType) {
	var list *yaml.Node
	r.members(root, func(key, value *yaml.Node) {
		if key.Value != "event_types" {
			r.fault(key.Line, "is not a member of a catalog file")
			return
		}
		list = value
	})
	r.at("event_types", func() {
		if list == nil {
			if len(r.faults) == 0 {
				r.fault(root.Line, "is required")
			}
			return
		}
		if len(list.Content)/2 > maxTypes {
			r.fault(list.Line, fmt.Sprintf("has more than %d event types", maxTypes))
			return
		}
		r.members(list, func(key, value *yaml.Node) {
			if t, ok := r.eventType(key, value); ok {
				types = append(types, t)
			}
		})
	})
	return types
}

// eventType reads an entry. What is wrong with it is on the line of the deepest member that the fault's
// pointer leads to.
func (r *reader) eventType(key, value *yaml.Node) (t fanfare.EventType, ok bool) {
	if isNull(value) { // "call.ended:" and nothing else
		value = &yaml.Node{Kind: yaml.MappingNode, Line: key.Line}
	}
	before := len(r.faults)
	body := r.appendJSON(nil, value, maxDepth)
	if len(r.faults) > before {
		return t, false
	}
	t, wrong := api.ParseEventType(key.Value, body)
	at := pointerTo(r.path)
	for _, w := range wrong {
		if len(r.faults) < maxFaults {
			r.faults = append(r.faults, Fault{lineOf(key, value, w.Pointer), at + w.Pointer, w.Detail})
		}
	}
	return t, len(wrong) == 0
}

// lineOf is the line of what a pointer leads to below the value of a key, or of the last step there is.
func lineOf(key, value *yaml.Node, pointer string) int {
	line := key.Line
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		next, at := child(value, strings.NewReplacer("~1", "/", "~0", "~").Replace(step))
		if next == nil {
			break
		}
		line, value = at, next
	}
	return line
}

// child is a member or an element, nil if there is none, and the line that it begins on.
func child(n *yaml.Node, name string) (value *yaml.Node, line int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && 0 <= i && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

// pointerTo is a JSON Pointer whose steps are of a length that a message can bear.
func pointerTo(path []string) string {
	const most = 200
	var b strings.Builder
	for _, step := range path {
		if len(step) > most {
			step = strings.ToValidUTF8(step[:most], "") + "…"
		}
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
	}
	return b.String()
}
