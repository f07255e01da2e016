package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	maxTypes     = 100 // event types in one filter
)

// repeatable are the parameters that may stand more than once, or hold several values with commas.
var repeatable = []string{"event_type", "types", "state", "code", "status"}

// readQuery reads the query and adds a fault for each parameter that the route does not have.
func (c *call) readQuery() {
	if c.r.URL.RawQuery == "" {
		return
	}
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		c.faults.param("", codeInvalidFormat, "the query is not well formed")
	}
	names := make([]string, 0, len(q))
	for name := range q {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		shown := escapeParam(name)
		switch {
		case !slices.Contains(c.route.params, name):
			c.faults.param(shown, codeUnknownParam, "is not a parameter of this operation")
		case len(q[name]) > 1 && !slices.Contains(repeatable, name):
			c.faults.param(shown, codeDuplicateParam, "stands here twice")
		}
	}
	c.query = q
}

// escapeParam cuts a name to a length that an answer can bear.
func escapeParam(name string) string {
	const most = 100
	if len(name) > most {
		return name[:most] + "…"
	}
	return name
}

func (c *call) param(name string) (string, bool) {
	if v := c.query[name]; len(v) > 0 {
		return v[0], true
	}
	return "", false
}

func (c *call) boolParam(name string) bool {
	text, ok := c.param(name)
	if ok && text != "true" && text != "false" {
		c.faults.param(name, codeInvalidValue, "must be true or false")
	}
	return text == "true"
}

func (c *call) timeParam(name string) time.Time {
	text, ok := c.param(name)
	if !ok {
		return time.Time{}
	}
	t, sound := parseTime(text)
	if !sound {
		c.faults.param(name, codeInvalidFormat, "is not an RFC 3339 time")
	}
	return t
}

// listParam is every value of a parameter that may have several.
func (c *call) listParam(name string, most int, check func(string) bool, detail string) []string {
	var list []string
	for _, text := range c.query[name] {
		for part := range strings.SplitSeq(text, ",") {
			if len(list) == most {
				c.faults.param(name, codeTooMany, "has more than "+strconv.Itoa(most)+" values")
				return nil
			}
			if !check(part) {
				c.faults.param(name, codeInvalidValue, detail)
				return nil
			}
			list = append(list, part)
		}
	}
	return list
}

func (c *call) typesParam(name string) []string {
	return c.listParam(name, maxTypes, validPattern, "is not an event type, prefix.* or *")
}

func (c *call) statesParam(allowed ...fanfare.State) []fanfare.State {
	names := make([]string, len(allowed))
	for i, s := range allowed {
		names[i] = string(s)
	}
	given := c.listParam("state", 10, func(s string) bool { return slices.Contains(names, s) },
		"must be one or more of "+strings.Join(names, ", "))
	if len(given) == 0 {
		given = names
	}
	states := make([]fanfare.State, len(given))
	for i, s := range given {
		states[i] = fanfare.State(s)
	}
	return states
}

// idParam is not valid if the parameter is not there.
func (c *call) idParam(name string) uuid.NullUUID {
	text, ok := c.param(name)
	if !ok {
		return uuid.NullUUID{}
	}
	id, sound := parseID(text)
	if !sound {
		c.faults.param(name, codeInvalidFormat, "is no UUID")
	}
	return uuid.NullUUID{UUID: id, Valid: true}
}

var errorCodes = []string{"dns", "connect", "tls", "timeout", "blocked", "status", "redirect", "protocol", "request", "own"}

func (c *call) codesParam() (codes []fanfare.ErrorCode) {
	given := c.listParam("code", len(errorCodes), func(s string) bool { return slices.Contains(errorCodes, s) },
		"must be one or more of "+strings.Join(errorCodes, ", "))
	for _, text := range given {
		codes = append(codes, fanfare.ErrorCode(text))
	}
	return codes
}

// statusParam reads HTTP statuses and classes of them such as 5xx.
func (c *call) statusParam() (ranges []store.StatusRange) {
	c.listParam("status", 20, func(s string) bool {
		low, err := strconv.Atoi(strings.Replace(s, "xx", "00", 1))
		r := store.StatusRange{Low: low, High: low}
		if strings.HasSuffix(s, "xx") {
			r.High += 99
		}
		ranges = append(ranges, r)
		return err == nil && len(s) == 3 && low >= 100 && low <= 999
	}, "must be one or more statuses such as 404 or 5xx")
	return ranges
}

func (c *call) limitParam() int {
	text, ok := c.param("limit")
	if !ok {
		return defaultLimit
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		c.faults.param("limit", codeOutOfRange, "must be an integer from 1 to "+strconv.Itoa(maxLimit))
	}
	return n
}

// page is a piece of a list that a call asks for.
type page struct {
	s       *Server
	c       *call
	account uuid.UUID
	list    uuid.UUID // which list, with its filters
	limit   int
	place   []byte // where to read on; nil: from the start
}

// page reads limit and after, and answers every fault of the query. The list's name and filters are in
// what, so that a cursor is good for them only; width is the length of a place, 0: any.
func (s *Server) page(c *call, width int, what ...string) (*page, error) {
	p := &page{s: s, c: c, account: c.account, limit: c.limitParam()}
	for _, name := range c.route.params {
		if name == "limit" || name == "after" {
			continue
		}
		what = append(what, name)
		what = append(what, c.query[name]...)
	}
	p.list = listID(what...)
	if text, ok := c.param("after"); ok {
		place, ok := s.openCursor(p.account, p.list, text)
		if !ok || width > 0 && len(place) != width {
			c.faults.param("after", codeInvalidCursor, "is not the next of a page of this list with these filters")
		}
		p.place = place
	}
	return p, c.faults.err()
}

// id reads the n-th id of the place; nil from the start.
func (p *page) id(n int) uuid.UUID {
	if p.place == nil {
		return uuid.Nil
	}
	return uuid.UUID(p.place[16*n : 16*n+16])
}

// answer makes the page's answer of n rows. next is the place behind them, nil at the end of the list.
func (p *page) answer(n int, row func(w *writer, i int), next []byte) answer {
	var w writer
	w.open()
	w.list("data")
	for i := range n {
		w.open()
		row(&w, i)
		w.close()
	}
	w.endList()
	if next == nil {
		w.null("next")
	} else {
		w.text("next", p.s.sealCursor(p.account, p.list, next))
	}
	w.close()
	return answer{status: 200, body: w.b}
}

// cut drops the row beyond the page and gives the place behind the last one that stays, nil if there is no behind the last row of a page that is ordered by one id, nil if it is the last page.
// The rows were read with a limit of one more.
func cut[T any](p *page, rows []T, id func(*T) uuid.UUID) ([]T, []byte) {
	if len(rows) <= p.limit {
		return rows, nil
	}
	rows = rows[:p.limit]
	last := id(&rows[p.limit-1])
	return rows, last[:]
}
