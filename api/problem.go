package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// code is a problem for programs. The spec lists them all.
type code string

const (
	codeMalformed       code = "malformed_json"
	codeIncomplete      code = "incomplete_body"
	codeUnauthorized    code = "unauthorized"
	codeScope           code = "insufficient_scope"
	codePlatform        code = "platform_key_required"
	codeNotAllowed      code = "not_allowed"
	codeNotFound        code = "not_found"
	codeMethod          code = "method_not_allowed"
	codeKeyReused       code = "idempotency_key_reused"
	codeHasChildren     code = "has_children"
	codeInUse           code = "in_use"
	codePlatformType    code = "platform_event_type"
	codeCursorExpired   code = "cursor_expired"
	codeCursorAhead     code = "cursor_ahead"
	codeVersion         code = "version_mismatch"
	codeTooLarge        code = "too_large"
	codeMediaType       code = "unsupported_media_type"
	codeInvalid         code = "invalid_request"
	codeUnknownField    code = "unknown_field"
	codeDuplicateField  code = "duplicate_field"
	codeUnknownParam    code = "unknown_parameter"
	codeDuplicateParam  code = "duplicate_parameter"
	codeRequired        code = "required"
	codeWrongType       code = "wrong_type"
	codeTooLong         code = "too_long"
	codeTooMany         code = "too_many"
	codeTooFew          code = "too_few"
	codeTooDeep         code = "too_deep"
	codeOutOfRange      code = "out_of_range"
	codeInvalidText     code = "invalid_text"
	codeInvalidFormat   code = "invalid_format"
	codeInvalidValue    code = "invalid_value"
	codeInvalidCursor   code = "invalid_cursor"
	codeInvalidURL      code = "invalid_url"
	codeURLNotAllowed   code = "url_not_allowed"
	codeInvalidSecret   code = "invalid_secret"
	codeImmutable       code = "immutable"
	codeCycle           code = "cycle"
	codeUnknownAccount  code = "unknown_account"
	codeUnknownType     code = "unknown_event_type"
	codeArchivedType    code = "archived_event_type"
	codeTooManyWebhooks code = "too_many_webhooks"
	codeManyConditions  code = "too_many_conditions"
	codeInvalidRef      code = "invalid_reference"
	codeTooCostly       code = "too_costly"
	codeViolation       code = "schema_violation"
	codeOverloaded      code = "overloaded"
	codeTooFast         code = "too_fast"
	codeUnavailable     code = "unavailable"
	codeInternal        code = "internal"
)

// problem is an answer that says what went wrong (RFC 9457). It is an error, so that a handler can
// return one.
type problem struct {
	status     int
	code       code
	detail     string // for people; nothing that they may not know
	retryAfter int    // seconds; 0: not worth repeating
	allow      string // methods; "" unless status is 405
	oldest     string // a cursor; "" unless another has expired
	latest     string // a cursor; "" unless another is ahead of the log
	faults     []fault
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.status, p.code, p.detail) }

// fault is one thing that is wrong with a request. At most one of pointer, param and header is set.
type fault struct {
	inBody  bool   // pointer counts, even if it is "", the whole body
	pointer string // RFC 6901
	param   string
	header  string
	code    code
	detail  string
}

// maxFaults bounds an answer: a body may hold a hundred thousand.
const maxFaults = 100

// faults collects everything that is wrong with a request. The zero value is ready.
type faults struct{ list []fault }

func (f *faults) add(x fault) {
	if len(f.list) < maxFaults {
		f.list = append(f.list, x)
	}
}

func (f *faults) at(pointer string, c code, detail string) {
	f.add(fault{inBody: true, pointer: pointer, code: c, detail: detail})
}

func (f *faults) param(name string, c code, detail string) {
	f.add(fault{param: name, code: c, detail: detail})
}

func (f *faults) header(name string, c code, detail string) {
	f.add(fault{header: name, code: c, detail: detail})
}

// err is nil without faults.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	p := &problem{status: http.StatusUnprocessableEntity, code: f.list[0].code, faults: f.list}
	for _, x := range f.list {
		if x.code != p.code {
			p.code = codeInvalid
		}
	}
	p.detail = "The request has " + strconv.Itoa(len(f.list)) + " faults."
	if len(f.list) == maxFaults {
		p.detail = "The request has " + strconv.Itoa(maxFaults) + " faults or more; these are the first."
	}
	if len(f.list) == 1 {
		p.detail = "The request has one fault."
	}
	return p
}

// refuse is a 422 for one fault in the body.
func refuse(pointer string, c code, detail string) error {
	var f faults
	f.at(pointer, c, detail)
	return f.err()
}

var (
	errMalformed     = &problem{status: http.StatusBadRequest, code: codeMalformed, detail: "The body is not JSON."}
	errIncomplete    = &problem{status: http.StatusBadRequest, code: codeIncomplete, detail: "The body did not arrive whole, or not in time."}
	errTooLarge      = &problem{status: http.StatusRequestEntityTooLarge, code: codeTooLarge, detail: "The body is too large."}
	errDataTooLarge  = &problem{status: http.StatusRequestEntityTooLarge, code: codeTooLarge, detail: "The data of an event is at most 256 KiB."}
	errBatchTooLarge = &problem{status: http.StatusRequestEntityTooLarge, code: codeTooLarge, detail: "A batch has at most 1,000 events."}
	errMediaType     = &problem{status: http.StatusUnsupportedMediaType, code: codeMediaType, detail: "The body must be JSON, in UTF-8 and without a content encoding, and say so: Content-Type: application/json."}
	errUnauthorized  = &problem{status: http.StatusUnauthorized, code: codeUnauthorized, detail: "This needs a valid key: Authorization: Bearer ffk_…"}
	errPlatform      = &problem{status: http.StatusForbidden, code: codePlatform, detail: "This needs a platform key."}
	errNotFound      = &problem{status: http.StatusNotFound, code: codeNotFound, detail: "There is no such thing here."}
	errNobodysMe     = &problem{status: http.StatusNotFound, code: codeNotFound, detail: "A platform key belongs to no account: name one by its id instead of me."}
	errNoRoute       = &problem{status: http.StatusNotFound, code: codeNotFound, detail: "There is nothing at this path."}
	errKeyReused     = &problem{status: http.StatusConflict, code: codeKeyReused, detail: "The idempotency key was used with another request."}
	errVersion       = &problem{status: http.StatusPreconditionFailed, code: codeVersion, detail: "The object has another version than If-Match says: read it again."}
	errOverloaded    = &problem{status: http.StatusServiceUnavailable, code: codeOverloaded, detail: "Too many events wait for their commit: try again.", retryAfter: 1}
	errTooFast       = &problem{status: http.StatusTooManyRequests, code: codeTooFast, detail: "The account publishes more than its share of what the service can take now: try again.", retryAfter: 1}
	errUnavailable   = &problem{status: http.StatusServiceUnavailable, code: codeUnavailable, detail: "The database cannot do it now: try again. What was asked may have been done.", retryAfter: 2}
	errInternal      = &problem{status: http.StatusInternalServerError, code: codeInternal, detail: "Internal error."}
)

// problemOf is the one place that turns an error into an answer. What it does not know is 500, and its
// text is for the log only.
func problemOf(err error) *problem {
	var p *problem
	var refused *dispatcher.RefusedError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refused):
		return problemOfRefusal(refused, "")
	case errors.Is(err, dispatcher.ErrOverloaded):
		return errOverloaded
	case errors.Is(err, dispatcher.ErrAccountOverloaded):
		return errTooFast
	case errors.Is(err, dispatcher.ErrUnavailable):
		return errUnavailable
	case errors.Is(err, store.ErrNotFound):
		return errNotFound
	case errors.Is(err, store.ErrVersion):
		return errVersion
	case errors.Is(err, store.ErrHasChildren):
		return &problem{status: http.StatusConflict, code: codeHasChildren, detail: "The account has sub-accounts: ?cascade=true deletes them too."}
	case errors.Is(err, store.ErrInUse):
		return &problem{status: http.StatusConflict, code: codeInUse, detail: "A webhook names the event type: archive it, or change the webhook first."}
	case errors.Is(err, store.ErrPlatformType):
		return &problem{status: http.StatusConflict, code: codePlatformType, detail: "The event type is the platform's own: it can be neither changed nor deleted."}
	case store.Unreachable(err):
		return errUnavailable
	default:
		return errInternal
	}
}

// problemOfRefusal says why a publication cannot be accepted; at is the pointer to it.
func problemOfRefusal(r *dispatcher.RefusedError, at string) *problem {
	var f faults
	switch r.Reason {
	case dispatcher.KeyReused:
		p := *errKeyReused
		f.at(at+"/idempotency_key", codeKeyReused, "was used with another event")
		p.faults = f.list
		return &p
	case dispatcher.UnknownAccount:
		if at == "" {
			return errNotFound
		}
		f.at(at+"/account_id", codeUnknownAccount, "is not an account within reach of the key")
	case dispatcher.UnknownEventType:
		f.at(at+"/type", codeUnknownType, "is not in the catalog")
	case dispatcher.InvalidData:
		dataFaults(&f, at, r.Faults)
	case dispatcher.TooManyWebhooks:
		f.at(at, codeTooManyWebhooks, "matches more than 10,000 webhooks")
	}
	p, ok := f.err().(*problem)
	if !ok {
		return errInternal
	}
	return p
}

// write answers with p.
func (p *problem) write(w http.ResponseWriter, requestID string) {
	h := w.Header()
	h["Content-Type"] = contentProblem
	switch {
	case p.status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case p.allow != "":
		h.Set("Allow", p.allow)
	case p.retryAfter > 0:
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	body := p.body(requestID)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.status)
	_, _ = w.Write(body)
}

func (p *problem) body(requestID string) []byte {
	var o writer
	o.open()
	o.text("type", "urn:fanfare:problem:"+string(p.code))
	o.text("title", http.StatusText(p.status))
	o.integer("status", int64(p.status))
	o.text("detail", p.detail)
	o.text("code", string(p.code))
	o.text("request_id", requestID)
	if p.oldest != "" {
		o.text("oldest", p.oldest)
	}
	if p.latest != "" {
		o.text("latest", p.latest)
	}
	if len(p.faults) > 0 {
		o.list("errors")
		for _, f := range p.faults {
			o.open()
			if f.inBody {
				o.text("pointer", f.pointer)
			}
			if f.param != "" {
				o.text("parameter", f.param)
			}
			if f.header != "" {
				o.text("header", f.header)
			}
			o.text("code", string(f.code))
			o.text("detail", f.detail)
			o.close()
		}
		o.endList()
	}
	o.close()
	return o.b
}
