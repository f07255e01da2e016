package retry

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare"
)

// RuleGone is the rule of evidence that is the receiver's own word; no policy asks for it.
const RuleGone HealthRule = "gone"

// Evidence is what an endpoint is disabled for, as it is kept and shown.
type Evidence struct {
	Rule         HealthRule `json:"rule"`
	Attempts     int        `json:"attempts"` // within Window
	Failures     int        `json:"failures"`
	FailureRatio float64    `json:"failure_ratio"`
	Window       *Duration  `json:"window"`              // nil: a single answer was enough
	Exhausted    int        `json:"exhausted,omitempty"` // deliveries given up since the last success
	FailingSince *Time      `json:"failing_since"`       // nil: not known
	Samples      []Sample   `json:"samples"`
}

// Sample is an attempt that failed.
type Sample struct {
	EventID      string             `json:"event_id"`
	AttemptID    string             `json:"attempt_id"`
	StartedAt    Time               `json:"started_at"`
	Status       *int               `json:"status"` // nil: no response
	Error        *fanfare.ErrorCode `json:"error"`
	ResponseBody string             `json:"response_body"` // the start of it, as far as it is text
}

// Time is written as the API has times: in UTC, with milliseconds.
type Time struct{ time.Time }

// MarshalJSON is for [encoding/json].
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// NewEvidence is the evidence of a judgement, without samples.
func NewEvidence(j HealthJudgement) Evidence {
	e := Evidence{Rule: j.Rule, Attempts: j.Count.Attempts, Failures: j.Count.Failures, Samples: []Sample{}}
	if e.Attempts > 0 {
		e.FailureRatio = float64(e.Failures*10_000/e.Attempts) / 10_000
	}
	if j.Within > 0 {
		e.Window = (*Duration)(&j.Within)
	}
	if j.Rule == RuleExhausted {
		e.Exhausted = j.Exhausted
	}
	if !j.Since.IsZero() {
		e.FailingSince = &Time{j.Since}
	}
	return e
}

// JSON is the form in which evidence is kept.
func (e Evidence) JSON() []byte {
	if e.Samples == nil {
		e.Samples = []Sample{}
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // numbers, times and text have a form
	}
	return text
}

// ParseEvidence reads it back.
func ParseEvidence(text []byte) (e Evidence, err error) {
	err = json.Unmarshal(text, &e)
	return e, err
}

// NewSample is an attempt as evidence. The response's body may hold anything.
func NewSample(event, attempt string, started time.Time, status int, code fanfare.ErrorCode, body []byte) Sample {
	s := Sample{EventID: event, AttemptID: attempt, StartedAt: Time{started}, ResponseBody: excerpt(body)}
	if status > 0 {
		s.Status = &status
	}
	if code != "" {
		s.Error = &code
	}
	return s
}

// maxExcerpt is how many bytes of a response are evidence.
const maxExcerpt = 200

// excerpt is the start of a text on one line. What is not text has none.
func excerpt(body []byte) string {
	if len(body) > maxExcerpt {
		body = body[:maxExcerpt]
		for n := 0; n < utf8.UTFMax && !utf8.Valid(body); n++ { // a character was cut
			body = body[:len(body)-1]
		}
	}
	if !utf8.Valid(body) {
		return ""
	}
	return strings.Join(strings.FieldsFunc(string(body), func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
}
