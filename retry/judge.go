package retry

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

// MaxRetryAfter is the longest wait that a receiver can ask for.
const MaxRetryAfter = 6 * time.Hour

// Answer is what came back from one attempt.
type Answer struct {
	Status     int               // 0: no response
	Error      fanfare.ErrorCode // what kept a response from being complete; "": nothing did
	RetryAfter string            // the response's header as it came
	Stale      bool              // the request met a kept-alive connection that the receiver was about to close
}

// Outcome is what an answer means.
type Outcome struct {
	Verdict    fanfare.Verdict
	Error      fanfare.ErrorCode // "" if delivered
	RetryAfter time.Duration     // the wait the receiver asked for; 0: none
	Charged    bool              // whether the attempt counts as a try, and for the webhook's health
	Prompt     bool              // of one that does not: it is repeated at once
}

// Judge says what an answer that ended at now means. Only a complete 2xx response is a success.
//
// A redirect is a failure that may be repeated: receivers redirect during a move or an outage too.
// A connection that was closed as we wrote says nothing about the receiver but that it had waited long
// enough. 410 says that the receiver wants nothing more. A blocked address or a request that cannot be made
// does not get better by repeating. A Retry-After counts with 429 and 503 only.
func Judge(a Answer, now time.Time) Outcome {
	outcome := Outcome{Verdict: fanfare.VerdictRetry, Error: a.Error, Charged: a.Error != fanfare.ErrOwn && !a.Stale, Prompt: a.Stale}
	if a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable {
		outcome.RetryAfter = ParseRetryAfter(a.RetryAfter, now)
	}
	switch {
	case a.Error == fanfare.ErrBlocked, a.Error == fanfare.ErrRequest:
		outcome.Verdict = fanfare.VerdictReject
	case a.Error != "":
	case a.Status < 200:
		// Neither an answer nor a reason why there is none.
		outcome.Error = fanfare.ErrProtocol
	case a.Status < 300:
		outcome.Verdict = fanfare.VerdictDelivered
	case a.Status < 400:
		outcome.Error = fanfare.ErrRedirect
	case a.Status == http.StatusGone:
		outcome.Verdict, outcome.Error = fanfare.VerdictGone, fanfare.ErrStatus
	default:
		outcome.Error = fanfare.ErrStatus
	}
	return outcome
}

// ParseRetryAfter reads a Retry-After header (RFC 9110, section 10.2.3), seconds or a date, into a wait
// from now of 0 to [MaxRetryAfter]. What is not one of the two is 0.
func ParseRetryAfter(header string, now time.Time) time.Duration {
	header = strings.Trim(header, " \t")
	if header != "" && span(header, func(c byte) bool { return '0' <= c && c <= '9' }) == len(header) {
		seconds, err := strconv.ParseInt(header, 10, 64)
		if err != nil || seconds > int64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter // before multiplying, which could overflow
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), MaxRetryAfter)
}
