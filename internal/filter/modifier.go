package filter

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The limits of modifiers.
const (
	MaxModifiers   = 20 // of an event type or a webhook
	maxValues      = 200
	maxChoices     = 100 // values that a webhook names for one modifier
	maxName        = 64
	maxValue       = 256  // characters
	maxDescription = 1000 // characters
	maxPointer     = 512  // bytes
	maxSteps       = 16
	maxDeclaration = 128 << 10 // bytes of all modifiers of an event type
	maxChosen      = 64 << 10  // bytes of a webhook's modifiers
	modifierDepth  = 4
)

// Pointer is a JSON Pointer (RFC 6901), step by step.
type Pointer []string

// Declared is a modifier as an event type declares it.
type Declared struct {
	Name     string
	Pointer  Pointer  // into the event's data
	Values   []string // what a webhook may set, sorted; none: anything
	Required bool     // a webhook that names the event type must set it
}

// ParseDeclared reads the modifiers of an event type, {"object_type": {"path": "/object/type",
// "description": "…", "values": {"user": "A user"}, "required": false}}, and names every fault. What it
// answers is in the order of names.
func ParseDeclared(raw []byte) ([]Declared, []Fault) {
	p := &parser{}
	raw = bytes.Trim(raw, " \t\r\n")
	if !p.outer(raw, maxDeclaration) {
		return nil, p.faults
	}
	var list []Declared
	p.members(raw, "", func(name string, value []byte, at string) {
		d := Declared{Name: name}
		if !validModifier(name) {
			p.fault(at, InvalidFormat, fmt.Sprintf("must be lower-case letters, digits and _, at most %d", maxName))
		}
		if value[0] != '{' {
			p.fault(at, WrongType, "must be an object")
			return
		}
		pathed := false
		p.members(value, at, func(member string, value []byte, at string) {
			switch member {
			case "path":
				pathed = true
				d.Pointer = p.pointer(value, at)
			case "description":
				p.text(value, at, maxDescription)
			case "values":
				d.Values = p.values(value, at)
			case "required":
				if kindOf(value) != kindBoolean {
					p.fault(at, WrongType, "must be true or false")
				}
				d.Required = value[0] == 't'
			default:
				p.fault(at, UnknownField, "is not a member of a modifier")
			}
		})
		if !pathed {
			p.fault(at+"/path", Required, "is required")
		}
		list = append(list, d)
	})
	if len(list) > MaxModifiers {
		p.fault("", TooMany, fmt.Sprintf("has more than %d modifiers", MaxModifiers))
	}
	slices.SortFunc(list, func(a, b Declared) int { return strings.Compare(a.Name, b.Name) })
	return list, p.faults
}

// outer checks what holds for all modifiers together.
func (p *parser) outer(raw []byte, most int) bool {
	p.faults = wellFormed(raw, most, modifierDepth)
	if p.faults == nil && raw[0] != '{' {
		p.fault("", WrongType, "must be an object")
	}
	return p.faults == nil
}

// members goes through the members of an object whose names are sound and stand there once.
func (p *parser) members(object []byte, at string, do func(name string, value []byte, at string)) {
	seen := make(map[string]bool)
	eachMember(object, func(name string, sound bool, value []byte) {
		here := step(at, name)
		switch {
		case !sound:
			p.fault(here, InvalidText, "contains half of a surrogate pair")
		case seen[name]:
			p.fault(here, DuplicateField, "stands here twice")
		default:
			seen[name] = true
			do(name, value, here)
		}
	})
}

func validModifier(name string) bool {
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return len(name) > 0 && len(name) <= maxName
}

func (p *parser) text(raw []byte, at string, most int) (string, bool) {
	if kindOf(raw) != kindText {
		p.fault(at, WrongType, "must be a string")
		return "", false
	}
	b, sound := appendText(nil, raw[1:len(raw)-1])
	text := string(b)
	switch {
	case !sound || strings.Contains(text, "\x00"):
		p.fault(at, InvalidText, "contains half of a surrogate pair or U+0000")
	case utf8.RuneCountInString(text) > most:
		p.fault(at, TooLong, fmt.Sprintf("is longer than %d characters", most))
	default:
		return text, true
	}
	return "", false
}

func (p *parser) pointer(raw []byte, at string) Pointer {
	text, ok := p.text(raw, at, maxPointer)
	if !ok {
		return nil
	}
	pointer, ok := ParsePointer(text)
	if !ok {
		p.fault(at, InvalidFormat, fmt.Sprintf("must be a JSON Pointer such as /object/type, of at most %d steps", maxSteps))
	}
	return pointer
}

// ParsePointer reads a JSON Pointer to something within an object, of a length that modifiers may have.
func ParsePointer(text string) (Pointer, bool) {
	steps := strings.Split(text, "/")
	if steps[0] != "" || len(steps) == 1 || len(steps) > maxSteps+1 || len(text) > maxPointer {
		return nil, false
	}
	pointer := make(Pointer, 0, len(steps)-1)
	for _, s := range steps[1:] {
		for i := range len(s) {
			if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
				return nil, false
			}
		}
		pointer = append(pointer, strings.NewReplacer("~1", "/", "~0", "~").Replace(s))
	}
	return pointer, true
}

// values reads {"user": "A user"}.
func (p *parser) values(raw []byte, at string) []string {
	if raw[0] != '{' {
		p.fault(at, WrongType, "must be an object")
		return nil
	}
	var list []string
	p.members(raw, at, func(name string, value []byte, at string) {
		if utf8.RuneCountInString(name) > maxValue {
			p.fault(at, TooLong, fmt.Sprintf("is longer than %d characters", maxValue))
		}
		p.text(value, at, maxDescription)
		list = append(list, name)
	})
	if len(list) > maxValues {
		p.fault(at, TooMany, fmt.Sprintf("has more than %d values", maxValues))
	}
	slices.Sort(list)
	return list
}

// Choice is what a webhook sets for one modifier: an event's value must be one of these.
type Choice struct {
	Name   string
	Values []Scalar // sorted
	given  []given
}

// given is a value as it was written, for faults.
type given struct {
	at   string
	text string // what Declared.Values calls it
}

// ParseChoices reads the modifiers of a webhook, {"object_type": ["user", "device"], "region": "eu"}, and
// names every fault. What it answers is in the order of names.
func ParseChoices(raw []byte) ([]Choice, []Fault) {
	p := &parser{}
	raw = bytes.Trim(raw, " \t\r\n")
	if !p.outer(raw, maxChosen) {
		return nil, p.faults
	}
	var list []Choice
	p.members(raw, "", func(name string, value []byte, at string) {
		c := Choice{Name: name}
		switch value[0] {
		case '{':
			p.fault(at, WrongType, "must be a value or a list of values")
			return
		case '[':
			eachElement(value, func(i int, value []byte) { p.choice(&c, value, fmt.Sprintf("%s/%d", at, i)) })
			if value[skipSpace(value, 1)] == ']' {
				p.fault(at, TooFew, "must have at least one value")
			}
			if len(c.given) > maxChoices {
				p.fault(at, TooMany, fmt.Sprintf("has more than %d values", maxChoices))
			}
		default:
			p.choice(&c, value, at)
		}
		slices.Sort(c.Values)
		c.Values = slices.Compact(c.Values)
		list = append(list, c)
	})
	if len(list) > MaxModifiers {
		p.fault("", TooMany, fmt.Sprintf("has more than %d modifiers", MaxModifiers))
	}
	slices.SortFunc(list, func(a, b Choice) int { return strings.Compare(a.Name, b.Name) })
	return list, p.faults
}

// ParseStoredChoices reads modifiers that were found sound when they were stored.
func ParseStoredChoices(raw []byte) ([]Choice, error) {
	list, faults := ParseChoices(raw)
	if len(faults) > 0 {
		return nil, fmt.Errorf("the modifiers cannot be read: %s", strings.TrimSpace(faults[0].String()))
	}
	for i := range list {
		list[i].given = nil
	}
	return list, nil
}

func (p *parser) choice(c *Choice, raw []byte, at string) {
	var text string
	switch kindOf(raw) {
	case kindNone, kindNull:
		p.fault(at, WrongType, "must be a string, a number, true or false")
		return
	case kindText:
		var ok bool
		if text, ok = p.text(raw, at, maxValue); !ok {
			return
		}
	case kindNumber:
		if len(raw) > maxValue {
			p.fault(at, TooLong, fmt.Sprintf("is longer than %d characters", maxValue))
			return
		}
		text = string(appendPlain(nil, raw))
	default:
		text = string(raw)
	}
	c.Values = append(c.Values, p.scalar(raw, at))
	c.given = append(c.given, given{at, text})
}

// Chosen is an event type that a webhook chooses, and how.
type Chosen struct {
	Name      string
	Exact     bool // by its name, not by a pattern
	Modifiers []Declared
}

// shown bounds how many allowed values a fault lists.
const shown = 20

// CheckChoices holds what a webhook sets against the event types that it chooses: each modifier must be
// declared by one of them, each value allowed by one that declares it, and nothing missing that a type
// chosen by its name requires.
func CheckChoices(choices []Choice, types []Chosen) []Fault {
	p := &parser{}
	for _, c := range choices {
		declared, open := false, false
		var allowed []string
		for _, t := range types {
			for _, d := range t.Modifiers {
				if d.Name == c.Name {
					declared, open = true, open || len(d.Values) == 0
					allowed = append(allowed, d.Values...)
				}
			}
		}
		slices.Sort(allowed)
		allowed = slices.Compact(allowed)
		if !declared {
			p.fault(step("", c.Name), UnknownField, "is declared by none of the chosen event types")
			continue
		}
		for _, g := range c.given {
			if _, ok := slices.BinarySearch(allowed, g.text); !ok && !open {
				p.fault(g.at, InvalidValue, "must be "+listed(allowed))
			}
		}
	}
	missing := make(map[string]bool)
	for _, t := range types {
		for _, d := range t.Modifiers {
			if set := slices.ContainsFunc(choices, func(c Choice) bool { return c.Name == d.Name }); t.Exact && d.Required && !set && !missing[d.Name] {
				missing[d.Name] = true
				p.fault(step("", d.Name), Required, "is required by "+t.Name)
			}
		}
	}
	return p.faults
}

func listed(values []string) string {
	quoted := make([]string, 0, shown)
	for _, v := range values[:min(len(values), shown)] {
		if len(v) > 100 {
			v = strings.ToValidUTF8(v[:100], "") + "…"
		}
		quoted = append(quoted, fmt.Sprintf("%q", v))
	}
	text := "one of " + strings.Join(quoted, ", ")
	if len(values) > shown {
		text += " and others"
	}
	return text
}
