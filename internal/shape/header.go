package shape

import (
	"fmt"
	"slices"
	"strings"
)

// The limits of a webhook's own headers.
const (
	MaxHeaders     = 32
	MaxHeaderName  = 128      // bytes
	MaxHeaderValue = 4 << 10  // bytes, as it is given
	MaxHeaderBytes = 16 << 10 // names and values of one webhook
)

// Header is one of a webhook's own headers, as it is given.
type Header struct {
	Name   string
	Value  string // may hold placeholders; see [Compile]
	Secret bool   // the value is sensitive
	Kept   bool   // sensitive, and not given: it stays as it is
}

// ParseHeaders reads a JSON object of headers, or names every fault of it. A value is a string, or, if it
// is sensitive, {"secret": "…"}; {"secret": null} stands for the value that is there. After those have been
// filled in, [CheckHeaders] has the last word.
func ParseHeaders(raw []byte) ([]Header, []Fault) {
	var list []Header
	var faults []Fault
	fault := func(at, code, detail string) { faults = append(faults, Fault{at, code, detail}) }
	text := func(at string, value []byte) string {
		s, sound := unquote(value[1 : len(value)-1])
		if !sound {
			fault(at, invalidText, "contains half of a surrogate pair")
		}
		return s
	}
	err := eachMember(raw, func(quoted, value []byte) {
		name, _ := unquote(quoted) // an unsound one is "", which is no name
		h := Header{Name: name}
		at := pointer(name)
		switch value[0] {
		case '"':
			h.Value = text(at, value)
		case '{':
			h.Secret = true
			given := 0
			eachMember(value, func(quoted, value []byte) {
				key, _ := unquote(quoted)
				switch {
				case key != "secret":
					fault(at+pointer(key), unknownField, "is not a member of this object")
					return
				case given > 0:
					fault(at+"/secret", duplicateField, "stands here twice")
				case value[0] == '"':
					h.Value = text(at+"/secret", value)
				case value[0] == 'n':
					h.Kept = true
				default:
					fault(at+"/secret", wrongType, "must be a string, or null to keep the one that is there")
				}
				given++
			})
			if given == 0 {
				fault(at+"/secret", required, "is required")
			}
		default:
			fault(at, wrongType, `must be a string or {"secret": "…"}`)
		}
		list = append(list, h)
	})
	if err != nil {
		return nil, []Fault{{"", wrongType, "must be an object"}}
	}
	return list, append(faults, CheckHeaders(list)...)
}

// CheckHeaders names what is wrong with headers, each and together. A value that is kept counts as empty.
func CheckHeaders(list []Header) (faults []Fault) {
	if len(list) > MaxHeaders {
		return []Fault{{"", tooMany, fmt.Sprintf("has more than %d headers", MaxHeaders)}}
	}
	total := 0
	seen := make(map[string]bool, len(list))
	for _, h := range list {
		total += len(h.Name) + len(h.Value)
		at := pointer(h.Name)
		if f := CheckHeaderName(h.Name); f != nil {
			f.Pointer = at
			faults = append(faults, *f)
		}
		if lower := strings.ToLower(h.Name); seen[lower] {
			faults = append(faults, Fault{at, duplicateField, "stands here twice; case does not matter"})
		} else {
			seen[lower] = true
		}
		if h.Secret {
			at += "/secret"
		}
		if f := checkValue(h.Value); f != nil {
			f.Pointer = at
			faults = append(faults, *f)
		}
	}
	if total > MaxHeaderBytes {
		faults = append(faults, Fault{"", tooLong, fmt.Sprintf("has more than %d bytes", MaxHeaderBytes)})
	}
	return faults
}

// CheckHeaderName says what is wrong with a name that a webhook wants to use for a header of its own; nil:
// nothing. Case does not matter.
func CheckHeaderName(name string) *Fault {
	switch {
	case name == "" || strings.ContainsFunc(name, notToken):
		return &Fault{Code: invalidFormat, Detail: "is not the name of a header: letters, digits and !#$%&'*+-.^_`|~"}
	case len(name) > MaxHeaderName:
		return &Fault{Code: tooLong, Detail: fmt.Sprintf("has more than %d bytes", MaxHeaderName)}
	}
	lower := strings.ToLower(name)
	for _, r := range refused {
		if slices.Contains(r.names, lower) || slices.ContainsFunc(r.prefixes, func(p string) bool { return strings.HasPrefix(lower, p) }) {
			return &Fault{Code: invalidValue, Detail: "may not be set: " + r.why}
		}
	}
	return nil
}

// refused are the headers that are not a webhook's to set.
var refused = []struct {
	names, prefixes []string // lower case
	why             string
}{
	{
		[]string{
			"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "host", "http2-settings",
			"accept-encoding", "max-forwards", "via", "date", "range",
		},
		[]string{"proxy-"},
		"it says how the request travels",
	},
	{[]string{"user-agent"}, []string{"webhook-", "x-fanfare-"}, "Fanfare sets it"},
	{nil, []string{"content-"}, "it describes the body, which Fanfare writes"},
	// Clients and proxies take it for leave to send a POST twice.
	{[]string{"idempotency-key", "x-idempotency-key"}, nil, "webhook-id is the key that stays the same on every repeat"},
	{[]string{"cookie", "cookie2", "set-cookie", "set-cookie2"}, nil, "cookies are not sent"},
	{[]string{"forwarded", "x-real-ip"}, []string{"x-forwarded-"}, "it says where a request comes from"},
}

// tokenBytes is what names are made of (RFC 9110, section 5.6.2).
const tokenBytes = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func notToken(r rune) bool { return !strings.ContainsRune(tokenBytes, r) }

// checkValue holds values to RFC 9110, section 5.5, and to ASCII, which is all that receivers agree on.
func checkValue(value string) *Fault {
	switch {
	case len(value) > MaxHeaderValue:
		return &Fault{Code: tooLong, Detail: fmt.Sprintf("has more than %d bytes", MaxHeaderValue)}
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
		return &Fault{Code: invalidText, Detail: "contains control characters or characters that are not ASCII"}
	case strings.Trim(value, " \t") != value:
		return &Fault{Code: invalidFormat, Detail: "begins or ends with space, which is not sent"}
	}
	for _, p := range split(value) {
		if p.place == unknown {
			return &Fault{Code: invalidValue, Detail: fmt.Sprintf("has the placeholder %s, which is none of %s", p.text, placeholderNames)}
		}
	}
	return nil
}

// Values are what placeholders stand for in one request. None of them holds what could end a header.
type Values struct {
	WebhookID string
	AccountID string // the webhook's
	EventID   string
	EventType string
	Attempt   string // 1-based
}

// Template is the value of a header, ready to be filled in.
type Template struct {
	parts []part
	plain string // the value, if it has no placeholders
}

// part is a piece of a value.
type part struct {
	place placeholder
	text  string // as it stands there
}

type placeholder uint8

const (
	literal placeholder = iota
	unknown
	webhookID
	accountID
	eventID
	eventType
	attempt
)

var placeholders = map[string]placeholder{
	"{webhook_id}": webhookID, "{account_id}": accountID, "{event_id}": eventID, "{event_type}": eventType, "{attempt}": attempt,
}

const placeholderNames = "{webhook_id}, {account_id}, {event_id}, {event_type} and {attempt}"

// Compile makes a template of a value that was checked. {webhook_id}, {account_id}, {event_id}, {event_type}
// and {attempt} are placeholders; a brace that does not enclose small letters and _ is only a brace.
func Compile(value string) Template {
	parts := split(value)
	if !slices.ContainsFunc(parts, func(p part) bool { return p.place > unknown }) {
		return Template{plain: value}
	}
	return Template{parts: parts}
}

// Fill puts values in the place of placeholders.
func (t *Template) Fill(v *Values) string {
	if t.parts == nil {
		return t.plain
	}
	var b strings.Builder
	for _, p := range t.parts {
		switch p.place {
		case webhookID:
			b.WriteString(v.WebhookID)
		case accountID:
			b.WriteString(v.AccountID)
		case eventID:
			b.WriteString(v.EventID)
		case eventType:
			b.WriteString(v.EventType)
		case attempt:
			b.WriteString(v.Attempt)
		default:
			b.WriteString(p.text)
		}
	}
	return b.String()
}

// split parts a value into literals and placeholders.
func split(value string) (parts []part) {
	start := 0
	for i := 0; i < len(value); i++ {
		if value[i] != '{' {
			continue
		}
		name := value[i+1:]
		n := strings.IndexFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
		if n <= 0 || name[n] != '}' {
			continue
		}
		if i > start {
			parts = append(parts, part{text: value[start:i]})
		}
		text := value[i : i+n+2]
		place, ok := placeholders[text]
		if !ok {
			place = unknown
		}
		parts = append(parts, part{place, text})
		i += n + 1
		start = i + 1
	}
	if start < len(value) {
		parts = append(parts, part{text: value[start:]})
	}
	return parts
}
