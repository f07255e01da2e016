package api

import (
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/tail"
	"github.com/fanfare-webhooks/fanfare/retry"
)

// maxWait is well below what proxies and clients allow for an answer.
const maxWait = 30 * time.Second

// sinceLatest is the place behind the newest event.
const sinceLatest = "latest"

func (s *Server) syncEvents(c *call) (answer, error) {
	q := tail.Query{
		AccountID: c.account, Descendants: c.boolParam("descendants"), Types: c.typesParam("types"),
		After: s.logPlaceParam(c), Limit: c.limitParam(), Wait: c.waitParam(),
	}
	if err := c.faults.err(); err != nil {
		return answer{}, err
	}
	page, done, err := s.tail.Read(c.r.Context(), q)
	if c.r.Context().Err() != nil {
		if err == nil {
			done()
		}
		panic(http.ErrAbortHandler) // nobody hears the answer, and nothing has failed
	}
	if err != nil {
		return answer{}, s.logProblem(c, err)
	}
	if q.Wait > 0 {
		// The account or the key may have been deleted in the meantime.
		if err := s.admit(c); err != nil {
			done()
			return answer{}, err
		}
	}
	size := 1 << 10
	for i := range page.Events {
		size += len(page.Events[i].Data) + 1<<10
	}
	w := writer{make([]byte, 0, size)} // it does not grow: that would take twice the memory
	w.open()
	w.list("data")
	for i := range page.Events {
		w.open()
		writeEvent(&w, &page.Events[i], true)
		w.close()
	}
	w.endList()
	w.text("cursor", s.sealPosition(c.account, page.Read))
	w.boolean("caught_up", page.CaughtUp)
	w.close()
	return answer{status: http.StatusOK, body: w.b, written: done}, nil
}

// A place in the log is good for an account, whatever is asked for there.
var logPlaces = listID("log")

func (s *Server) sealPosition(account uuid.UUID, p fanfare.Position) string {
	return s.sealCursor(account, logPlaces, binary.BigEndian.AppendUint64(nil, uint64(p)))
}

// logPlaceParam reads where in the log to begin: a sealed position, or any event's id, which is one too.
func (s *Server) logPlaceParam(c *call) fanfare.Position {
	text, ok := c.param("since")
	switch {
	case !ok:
		return store.FromOldest
	case text == sinceLatest:
		return store.FromLatest
	}
	if id, ok := parseID(text); ok && id.Version() == 7 && id.Variant() == uuid.RFC4122 {
		if p := fanfare.PositionOf(id); p >= 0 {
			return p
		}
		return math.MaxInt64 // thousands of years ahead
	}
	place, ok := s.openCursor(c.account, logPlaces, text)
	if !ok || len(place) != 8 {
		c.faults.param("since", codeInvalidCursor, "is neither a cursor of this account, nor an event's id, nor "+sinceLatest)
		return 0
	}
	return fanfare.Position(binary.BigEndian.Uint64(place))
}

func (c *call) waitParam() time.Duration {
	text, ok := c.param("wait")
	if !ok {
		return 0
	}
	d, err := retry.ParseDuration(text)
	switch {
	case err != nil:
		c.faults.param("wait", codeInvalidFormat, `is no duration such as "30s"`)
	case d < 0 || d > maxWait:
		c.faults.param("wait", codeOutOfRange, "must be from 0s to "+retry.FormatDuration(maxWait))
	}
	return d
}

// logProblem says why the log cannot be followed, and where it can.
func (s *Server) logProblem(c *call, err error) error {
	var expired *store.ExpiredError
	var ahead *store.AheadError
	switch {
	case errors.As(err, &expired):
		return &problem{
			status: http.StatusGone, code: codeCursorExpired, oldest: s.sealPosition(c.account, expired.Oldest),
			detail: "The log does not reach back to the cursor any more: events may be missed. It can be followed from oldest on.",
		}
	case errors.As(err, &ahead):
		return &problem{
			status: http.StatusConflict, code: codeCursorAhead, latest: s.sealPosition(c.account, ahead.Latest),
			detail: "The log has not come as far as the cursor, which is another log's, or of a time that was lost. The newest event is at latest.",
		}
	case errors.Is(err, tail.ErrAway), errors.Is(err, tail.ErrFull):
		return errUnavailable
	case errors.Is(err, tail.ErrTooMany):
		return &problem{
			status: http.StatusTooManyRequests, code: codeTooFast, retryAfter: 1,
			detail: "The account has more calls that wait than its share: wait with fewer at once.",
		}
	}
	return err
}
