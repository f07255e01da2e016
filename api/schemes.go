package api

import (
	"encoding/json"
	"strings"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/signature"
)

const (
	maxSchemes = 3
	maxPrefix  = 64 // characters
)

// presets are names for schemes that receivers know; what is stored and shown is what they stand for.
var presets = map[string]func() signature.Scheme{
	"github": signature.GitHub,
	"stripe": signature.Stripe,
	"hex": func() signature.Scheme {
		return signature.Scheme{Algorithm: signature.HMACSHA256, Encoding: signature.Hex}
	},
}

// schemes reads one signature scheme or a list of them, in the form that is stored; null is nil.
func (v value) schemes() []byte {
	if v.null() {
		return nil
	}
	before := len(v.f.list)
	var list []signature.Scheme
	switch v.raw[0] {
	case '{':
		list = append(list, v.scheme())
	case '[':
		seen := make(map[string]bool)
		if !v.list(maxSchemes, func(v value) {
			s := v.scheme()
			list = append(list, s)
			for _, name := range headersOf(&s) {
				if seen[name] {
					v.fault(codeDuplicateField, "uses a header that another one uses: "+name)
				}
				seen[name] = true
			}
		}) {
			return nil
		}
		if len(list) == 0 {
			v.fault(codeTooFew, "must have at least one scheme")
		}
	default:
		v.wrong("an object or an array of objects")
	}
	if len(v.f.list) > before {
		return nil
	}
	stored, err := json.Marshal(list)
	if err != nil {
		panic(err) // texts only
	}
	return stored
}

func (v value) scheme() (s signature.Scheme) {
	var name, header, encoding, prefix, timestamp value
	keep := func(to *value) func(value) { return func(v value) { *to = v } }
	v.object(
		field{name: "scheme", required: true, take: keep(&name)},
		field{name: "header", take: keep(&header)},
		field{name: "encoding", take: keep(&encoding)},
		field{name: "prefix", take: keep(&prefix)},
		field{name: "timestamp", take: keep(&timestamp)},
	)
	if !name.given() {
		return s
	}
	word, ok := name.choice("standard", "hmac-sha256", "hmac-sha512", "github", "stripe", "hex")
	if !ok {
		return s
	}
	not := func(why string, members ...value) {
		for _, m := range members {
			if m.given() && !m.null() {
				m.fault(codeInvalidValue, why)
			}
		}
	}
	preset, isPreset := presets[word]
	switch {
	case word == "standard":
		not("is fixed by Standard Webhooks", header, encoding, prefix, timestamp)
		return signature.Scheme{Algorithm: signature.Standard}
	case isPreset:
		not("is fixed by the preset; choose hmac-sha256 to set it", encoding, prefix, timestamp)
		s = preset()
	default:
		s = signature.Scheme{Algorithm: signature.Algorithm(word), Encoding: signature.Hex}
		if encoding.given() && !encoding.null() {
			word, _ := encoding.choice(string(signature.Hex), string(signature.Base64))
			s.Encoding = signature.Encoding(word)
		}
		if prefix.given() && !prefix.null() {
			s.Prefix = prefix.prefix()
		}
		if timestamp.given() && !timestamp.null() {
			s.Timestamp = timestamp.timestamp()
		}
		if s.Timestamp != nil && s.Timestamp.Prefix != "" && strings.Contains(s.Prefix, ",") {
			prefix.fault(codeInvalidValue, "contains a comma, which parts the signatures from the time")
		}
	}
	if header.given() && !header.null() {
		s.Header = header.headerName()
	} else if s.Header == "" {
		v.f.at(v.at+"/header", codeRequired, "is required")
	}
	if t := s.Timestamp; t != nil && t.Header != "" && strings.EqualFold(t.Header, s.Header) {
		timestamp.fault(codeDuplicateField, "uses the header of the signature; to have both in one, give the prefix of the time")
	}
	return s
}

// timestamp reads how the time of an attempt is sent that is part of what is signed.
func (v value) timestamp() *signature.Timestamp {
	var t signature.Timestamp
	var header, prefix value
	v.object(
		field{name: "header", take: func(v value) { header = v }},
		field{name: "prefix", take: func(v value) { prefix = v }},
	)
	switch {
	case v.raw[0] != '{':
		return nil
	case header.given() == prefix.given():
		v.fault(codeInvalidValue, "must have either the header of the time or, to have it in that of the signature, its prefix")
	case header.given():
		t.Header = header.headerName()
	default:
		if t.Prefix = prefix.prefix(); t.Prefix == "" {
			prefix.fault(codeInvalidValue, "must not be empty")
		}
		if strings.Contains(t.Prefix, ",") {
			prefix.fault(codeInvalidValue, "contains a comma, which parts the signatures from the time")
		}
	}
	return &t
}

// headerName reads the name of a header that may be set.
func (v value) headerName() string {
	name, ok := v.text(shape.MaxHeaderName)
	if !ok {
		return ""
	}
	if f := shape.CheckHeaderName(name); f != nil {
		v.fault(code(f.Code), f.Detail)
	}
	return name
}

// prefix reads what may stand before a signature or a time.
func (v value) prefix() string {
	text, _ := v.text(maxPrefix)
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		v.fault(codeInvalidText, "contains control characters or characters that are not ASCII")
	}
	if strings.HasPrefix(text, " ") {
		v.fault(codeInvalidText, "begins with a space, which is not sent")
	}
	return text
}

// headersOf are the names of the headers that a scheme writes, in lower case.
func headersOf(s *signature.Scheme) []string {
	names := []string{strings.ToLower(s.Header)}
	if s.Algorithm == signature.Standard {
		names[0] = signature.HeaderSignature
	}
	if s.Timestamp != nil && s.Timestamp.Header != "" {
		names = append(names, strings.ToLower(s.Timestamp.Header))
	}
	return names
}

// schemesOf reads schemes as they are stored, which those that cannot be read are not, nor those that were never
// written: both are as Standard Webhooks has it.
func schemesOf(stored []byte) []signature.Scheme {
	var list []signature.Scheme
	if len(stored) == 0 || json.Unmarshal(stored, &list) != nil {
		return []signature.Scheme{{Algorithm: signature.Standard}}
	}
	return list
}

// signedBy are the schemes that sign for a webhook: its own, or what its account has by default.
func (s *Server) signedBy(o *fanfare.Options, account uuid.UUID) []signature.Scheme {
	if o != nil && o.Signature != nil {
		return schemesOf(o.Signature)
	}
	if list := s.registry.Snapshot().Schemes(account); list != nil {
		return list
	}
	return schemesOf(nil)
}

// schemes is one scheme, or a list of several.
func (w *writer) schemes(name string, list []signature.Scheme) {
	w.name(name)
	if len(list) != 1 {
		w.b = append(w.b, '[')
		defer w.endList()
	}
	for _, s := range list {
		if len(list) == 1 {
			w.b = append(w.b, '{')
		} else {
			w.open()
		}
		w.text("scheme", string(s.Algorithm))
		if s.Algorithm != signature.Standard {
			w.text("header", s.Header)
			w.text("encoding", string(s.Encoding))
			w.text("prefix", s.Prefix)
			switch t := s.Timestamp; {
			case t == nil:
				w.null("timestamp")
			case t.Header != "":
				w.object("timestamp")
				w.text("header", t.Header)
				w.close()
			default:
				w.object("timestamp")
				w.text("prefix", t.Prefix)
				w.close()
			}
		}
		w.close()
	}
}
