package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// Request is how requests to a receiver are made: the options of a webhook, or of a one-off destination, in
// the form in which they are used. It never changes.
type Request struct {
	Method  string       // POST, PUT or GET
	Shape   *shape.Shape // nil: the envelope as JSON
	Headers []Header
	Schemes []signature.Scheme // nil: the account's default
}

// Header is a line of the header beyond those that every request has.
type Header struct {
	Name  string
	Value shape.Template
}

// NewRequest makes a Request of options, nil for none. open gives the value of a header that is sealed.
func NewRequest(o *fanfare.Options, open func(*fanfare.Header) (string, error)) (*Request, error) {
	if o == nil {
		return nil, nil
	}
	r := &Request{Method: o.Method}
	if r.Method == "" {
		r.Method = http.MethodPost
	}
	s := shape.Shape{Query: r.Method == http.MethodGet, Form: o.Form, Raw: o.Raw, ECMAScript: o.ECMAScript}
	if len(o.CustomData) > 0 {
		custom, faults := shape.ParseCustom(o.CustomData)
		if len(faults) > 0 {
			return nil, fmt.Errorf("the custom data cannot be read: %s", strings.TrimSpace(faults[0].String()))
		}
		s.Custom = custom
	}
	if s != (shape.Shape{}) {
		r.Shape = &s
	}
	var err error
	if r.Schemes, err = readSchemes(o.Signature); err != nil {
		return nil, err
	}
	for i := range o.Headers {
		h := &o.Headers[i]
		value := h.Value
		if h.Sealed != nil {
			if value, err = open(h); err != nil {
				return nil, fmt.Errorf("header %s: %w", h.Name, err)
			}
		}
		r.Headers = append(r.Headers, Header{h.Name, shape.Compile(value)})
	}
	return r, nil
}

// HeaderColumn is the place's column under which the value of a webhook's header is sealed, with the
// webhook's account and id.
func HeaderColumn(name string) string { return "webhooks.options/headers/" + strings.ToLower(name) }

// Request is how the webhook's requests are made; nil: as by default.
func (w *Webhook) Request() *Request { return w.request }

// Method is that of the webhook's requests.
func (w *Webhook) Method() string {
	if w.request == nil {
		return http.MethodPost
	}
	return w.request.Method
}

// takeOptions puts how a webhook's requests are made into the form that is used. One with a header that does
// not open is as one without a secret: nothing can be sent, by our own fault.
func (u *update) takeOptions(w *Webhook) {
	if w.Options == nil { // most often
		return
	}
	var closed error
	var err error
	w.request, err = NewRequest(w.Options, func(h *fanfare.Header) (string, error) {
		value, err := u.keyring.Open(seal.Place{Account: w.AccountID, Object: w.ID, Column: HeaderColumn(h.Name)}, h.Sealed)
		if err != nil {
			closed = err
		}
		return string(value), nil
	})
	w.Options = nil
	if err != nil {
		u.refuse(w, err)
	}
	if closed != nil {
		u.cannotOpen(w, closed)
	}
}

// readSchemes answers nil for nothing.
func readSchemes(stored []byte) (list []signature.Scheme, err error) {
	if len(stored) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(stored, &list); err != nil {
		return nil, fmt.Errorf("the signature schemes cannot be read: %w", err)
	}
	return list, nil
}

// schemes is how an account has its webhooks signed, and those below it. It never changes.
type schemes struct{ list []signature.Scheme }

// Schemes is how an account's webhooks are signed that do not say so themselves: as the account says, or the
// nearest above it that does. It is nil if none does: as Standard Webhooks has it.
func (s *Snapshot) Schemes(account uuid.UUID) []signature.Scheme {
	if s.schemed == 0 { // most often
		return nil
	}
	for a, ok := s.accounts.get(account); ok; a, ok = s.accounts.get(a.parent) {
		if a.schemes != nil {
			return a.schemes.list
		}
	}
	return nil
}
