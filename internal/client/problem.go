package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
)

// Problem is what a call was answered with instead of success (RFC 9457).
type Problem struct {
	Status int
	Code   string
	Detail string // for people; "": the answer is not the API's
	Errors []Fault
	Oldest string // a cursor, of cursor_expired
	Latest string // a cursor, of cursor_ahead
}

// Fault is one thing that is wrong with a request: at a place in its body, or in a parameter.
type Fault struct {
	Pointer   string // a JSON Pointer (RFC 6901); "": the body, unless Parameter says otherwise
	Parameter string
	Detail    string // for people, to follow what it is about: "is no cursor"
}

func (p *Problem) Error() string {
	text := fmt.Sprintf("%d %s", p.Status, cmp.Or(p.Detail, http.StatusText(p.Status)))
	for _, e := range p.Errors {
		text += fmt.Sprintf(" %s %s.", cmp.Or(e.Pointer, e.Parameter, "The body"), e.Detail)
	}
	return text
}

// problem reads an answer that is no success. What is in between may answer something else: then its
// status is all that counts.
func (c *Client) problem(status int, text []byte) error {
	var p Problem
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		return c.foreign(&Problem{Status: status})
	}
	p.Status = status
	return &p
}
