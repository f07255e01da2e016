package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/filter"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/shape"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// options are the members of a webhook that say how its requests are made.
func (e *webhookEdit) options() []field {
	return []field{
		{name: "method", take: func(v value) {
			method := v.method()
			e.option(func(o *fanfare.Options) { o.Method = method })
		}},
		{name: "format", take: func(v value) {
			form := v.second("json", "form")
			e.option(func(o *fanfare.Options) { o.Form = form })
		}},
		{name: "payload", take: func(v value) {
			raw := v.second("envelope", "raw")
			e.option(func(o *fanfare.Options) { o.Raw = raw })
		}},
		{name: "json", take: func(v value) {
			ecmascript := v.second("verbatim", "ecmascript")
			e.option(func(o *fanfare.Options) { o.ECMAScript = ecmascript })
		}},
		{name: "custom_data", take: func(v value) {
			var custom *shape.Custom
			if !v.null() {
				var wrong []shape.Fault
				custom, wrong = shape.ParseCustom(v.raw)
				v.shapeFaults(wrong)
			}
			e.option(func(o *fanfare.Options) { o.CustomData = custom.JSON() })
		}},
		{name: "headers", take: func(v value) {
			e.headers = []shape.Header{}
			if !v.null() {
				var wrong []shape.Fault
				e.headers, wrong = shape.ParseHeaders(v.raw)
				v.shapeFaults(wrong)
			}
		}},
		{name: "signature", take: func(v value) {
			schemes := v.schemes()
			e.option(func(o *fanfare.Options) { o.Signature = schemes })
		}},
	}
}

// option changes how a webhook's requests are made.
func (e *webhookEdit) option(change func(*fanfare.Options)) {
	e.optioned = true
	e.set(func(w *fanfare.Webhook) { change(optionsOf(w)) })
}

func optionsOf(w *fanfare.Webhook) *fanfare.Options {
	if w.Options == nil {
		w.Options = new(fanfare.Options)
	}
	return w.Options
}

// method reads how requests are made; "" is POST.
func (v value) method() string {
	if v.null() {
		return ""
	}
	method, _ := v.choice(http.MethodPost, http.MethodPut, http.MethodGet)
	if method == http.MethodPost {
		return ""
	}
	return method
}

// second reads a choice between two words, of which the first is the default.
func (v value) second(first, second string) bool {
	if v.null() {
		return false
	}
	word, _ := v.choice(first, second)
	return word == second
}

func (v value) shapeFaults(wrong []shape.Fault) {
	for _, f := range wrong {
		v.f.at(v.at+f.Pointer, code(f.Code), f.Detail)
	}
}

// fit completes a webhook that was changed: secrets of headers are sealed or stay as they are. It names
// what does not go together.
func (e *webhookEdit) fit(w *fanfare.Webhook, f *faults) {
	if e.headers != nil {
		value{at: "/headers", f: f}.shapeFaults(e.setHeaders(w))
	}
	if e.headers == nil && !e.optioned || w.Options == nil {
		return
	}
	e.clashes(w, "", f)
}

// clashes names the headers of a receiver's own that its signature uses too; at is the pointer to the receiver.
func (e *webhookEdit) clashes(w *fanfare.Webhook, at string, f *faults) {
	for _, s := range e.s.signedBy(w.Options, w.AccountID) {
		for _, name := range headersOf(&s) {
			for _, h := range w.Options.Headers {
				if !strings.EqualFold(h.Name, name) {
					continue
				}
				pointer := at + "/signature"
				if e.headers != nil {
					pointer = at + "/headers/" + escapePointer(h.Name)
				}
				f.at(pointer, codeDuplicateField, h.Name+" is a header of the receiver's own and one of its signature")
			}
		}
	}
}

// setHeaders puts the headers that were given in the place of those that are there.
func (e *webhookEdit) setHeaders(w *fanfare.Webhook) (wrong []shape.Fault) {
	given := slices.Clone(e.headers) // the edit may be done once more
	sealed := make([][]byte, len(given))
	had := optionsOf(w).Headers
	for i := range given {
		h := &given[i]
		if !h.Kept {
			continue
		}
		at := slices.IndexFunc(had, func(before fanfare.Header) bool {
			return strings.EqualFold(before.Name, h.Name) && before.Sealed != nil
		})
		if at < 0 {
			wrong = append(wrong, shape.Fault{
				Pointer: "/" + escapePointer(h.Name) + "/secret", Code: string(codeInvalidValue), Detail: "is null, and there is no secret to keep",
			})
			continue
		}
		sealed[i] = had[at].Sealed
		if value, err := e.s.keyring.Open(headerPlace(w, h.Name), sealed[i]); err == nil {
			h.Value = string(value) // counts
		}
	}
	list := make([]fanfare.Header, len(given))
	for i, h := range given {
		list[i] = fanfare.Header{Name: h.Name, Value: h.Value}
		if !h.Secret {
			continue
		}
		if list[i].Value = ""; sealed[i] == nil {
			sealed[i] = e.s.keyring.Seal(headerPlace(w, h.Name), []byte(h.Value))
		}
		list[i].Sealed = sealed[i]
	}
	w.Options.Headers = list
	return append(wrong, shape.CheckHeaders(given)...)
}

func headerPlace(w *fanfare.Webhook, name string) seal.Place {
	return seal.Place{Account: w.AccountID, Object: w.ID, Column: registry.HeaderColumn(name)}
}

// takeSecret reads a secret that a receiver holds already. What it may be depends on what signs.
func (e *webhookEdit) takeSecret(v value) {
	if v.null() {
		return
	}
	text, ok := v.text(1000)
	if !ok {
		return
	}
	var err error
	if e.secret, err = signature.SecretFromText(text); err != nil {
		v.fault(codeInvalidSecret, "must be whsec_ followed by the base64 of 24 to 64 bytes, or for HMAC schemes any text of 16 to 256 characters")
	}
}

// checkSecret wants an HMAC scheme for a secret that only such a scheme knows what to do with. It answers a
// [*misfitError].
func (e *webhookEdit) checkSecret(w *fanfare.Webhook) error {
	if _, err := signature.ParseSecret(e.secret.Text()); err == nil || e.secret.Text() == "" {
		return nil
	}
	hmac := func(s signature.Scheme) bool { return s.Algorithm != signature.Standard }
	if slices.ContainsFunc(e.s.signedBy(w.Options, w.AccountID), hmac) {
		return nil
	}
	return &misfitError{"/secret", []filter.Fault{{
		Code: filter.Code(codeInvalidSecret), Detail: "must be whsec_ followed by the base64 of 24 to 64 bytes, unless an HMAC scheme signs",
	}}}
}

func writeOptions(w *writer, hook *fanfare.Webhook, signed []signature.Scheme) {
	var o fanfare.Options
	if hook.Options != nil {
		o = *hook.Options
	}
	pick := func(name string, second bool, words [2]string) {
		word := words[0]
		if second {
			word = words[1]
		}
		w.text(name, word)
	}
	if o.Method == "" {
		o.Method = http.MethodPost
	}
	w.text("method", o.Method)
	pick("format", o.Form, [2]string{"json", "form"})
	pick("payload", o.Raw, [2]string{"envelope", "raw"})
	pick("json", o.ECMAScript, [2]string{"verbatim", "ecmascript"})
	w.raw("custom_data", o.CustomData, "{}")
	w.object("headers")
	for _, h := range o.Headers {
		w.separate()
		w.quoted(h.Name)
		w.b = append(w.b, ':')
		if h.Sealed != nil {
			w.b = append(w.b, `{"secret":null}`...)
		} else {
			w.quoted(h.Value)
		}
	}
	w.close()
	if signed == nil {
		w.null("signature")
	} else {
		w.schemes("signature", signed)
	}
}
