// Package shape writes an event as a receiver expects it: the body, or the query of a GET, and a webhook's
// own headers.
//
// It hides how JSON is written anew without changing what it says: custom data put among the members of
// an event's data, JSON as JavaScript would write it, JSON as a form; and what a webhook may say in a
// header. It does no I/O and keeps nothing between calls: the same event in the same shape is always the
// same bytes.
//
// Data is JSON that was checked when it was published. Text that is not is refused, never a crash.
package shape

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// Shape says how an event is written. It never changes once it is in use, and may be used by many
// goroutines. Its zero value and nil are the default: the envelope as JSON, data byte for byte as published.
type Shape struct {
	Query      bool // for the query of a GET: a form, whatever Form says
	Form       bool // application/x-www-form-urlencoded instead of JSON
	Raw        bool // data alone, without the envelope
	ECMAScript bool // JSON exactly as JSON.stringify(JSON.parse(body)) gives it; a form is the same with and without
	Custom     *Custom
}

// The content types of a body.
const (
	JSON = "application/json"
	Form = "application/x-www-form-urlencoded"
)

// ContentType is the media type of what [Shape.Write] gives; "" for a query.
func (s *Shape) ContentType() string {
	switch {
	case s == nil || !s.Query && !s.Form:
		return JSON
	case s.Query:
		return ""
	default:
		return Form
	}
}

// Write gives the body of a request about an event, or what is appended to the query of its URL (see
// [Query]): the bytes that are signed. They may be those of the event's data: nobody may write to them.
// OccurredAt, or else the time in the id, is the envelope's timestamp.
//
// An error says why the event cannot have this shape, in words for the webhook's owner; it will never be
// otherwise for this event.
func (s *Shape) Write(e *fanfare.Event) ([]byte, error) {
	if s == nil {
		return envelope(e, e.Data), nil
	}
	data := e.Data
	var err error
	if s.Custom != nil {
		if data, err = s.Custom.put(data); err != nil {
			return nil, err
		}
	}
	switch {
	case s.Query || s.Form:
		return s.form(e, data)
	case s.ECMAScript:
		if data, err = ecmascript(data); err != nil {
			return nil, err
		}
	}
	if s.Raw {
		return data, nil
	}
	return envelope(e, data), nil
}

// envelope needs no escaping: none of its values but data could hold what needs it. In this form it is
// also what JavaScript would write.
func envelope(e *fanfare.Event, data []byte) []byte {
	b := make([]byte, 0, len(data)+len(e.Type)+192)
	b = append(b, `{"id":"`...)
	b = appendUUID(b, e.ID)
	b = append(b, `","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","timestamp":"`...)
	b = appendTime(b, e)
	b = append(b, `","account_id":"`...)
	b = appendUUID(b, e.AccountID)
	b = append(b, `","data":`...)
	b = append(b, data...)
	return append(b, '}')
}

func appendTime(b []byte, e *fanfare.Event) []byte {
	at := e.OccurredAt
	if at.IsZero() {
		at = e.CreatedAt()
	}
	return at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
}

func appendUUID(b []byte, id uuid.UUID) []byte {
	b = hex.AppendEncode(b, id[:4])
	for _, part := range [...][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return b
}

// Query appends what a shape wrote to the query of a URL, which may have one, and has no fragment.
func Query(url string, written []byte) string {
	if len(written) == 0 {
		return url
	}
	join := "&"
	switch i := strings.IndexByte(url, '?'); {
	case i < 0:
		join = "?"
	case i == len(url)-1 || url[len(url)-1] == '&':
		join = ""
	}
	return url + join + string(written)
}

// Fault is one thing that is wrong with what a webhook's owner gave.
type Fault struct {
	Pointer string // where, from the beginning of what was given (RFC 6901)
	Code    string // for programs, in the API's words: duplicate_field, invalid_format, …
	Detail  string // for people: "must be a string"
}

func (f Fault) String() string { return fmt.Sprintf("%s %s", f.Pointer, f.Detail) }

// The codes of faults.
const (
	duplicateField = "duplicate_field"
	wrongType      = "wrong_type"
	tooLong        = "too_long"
	tooMany        = "too_many"
	invalidText    = "invalid_text"
	invalidFormat  = "invalid_format"
	invalidValue   = "invalid_value"
	unknownField   = "unknown_field"
	required       = "required"
)

var errNotJSON = errors.New("the data is not JSON")
