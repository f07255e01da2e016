package retry_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/retry"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestJudge(t *testing.T) {
	type answer = retry.Answer
	delivered := retry.Outcome{Verdict: fanfare.VerdictDelivered, Charged: true}
	again := func(code fanfare.ErrorCode, after time.Duration) retry.Outcome {
		return retry.Outcome{Verdict: fanfare.VerdictRetry, Error: code, RetryAfter: after, Charged: true}
	}
	reject := func(code fanfare.ErrorCode) retry.Outcome {
		return retry.Outcome{Verdict: fanfare.VerdictReject, Error: code, Charged: true}
	}
	own := retry.Outcome{Verdict: fanfare.VerdictRetry, Error: fanfare.ErrOwn}
	gone := retry.Outcome{Verdict: fanfare.VerdictGone, Error: fanfare.ErrStatus, Charged: true}
	for _, test := range []struct {
		name   string
		answer answer
		want   retry.Outcome
	}{
		{"200", answer{Status: 200}, delivered},
		{"204", answer{Status: 204}, delivered},
		{"299", answer{Status: 299}, delivered},
		{"200 with a Retry-After", answer{Status: 200, RetryAfter: "60"}, delivered},
		{"101", answer{Status: 101}, again(fanfare.ErrProtocol, 0)},
		{"199", answer{Status: 199}, again(fanfare.ErrProtocol, 0)},
		{"no answer and no error", answer{}, again(fanfare.ErrProtocol, 0)},
		{"300", answer{Status: 300}, again(fanfare.ErrRedirect, 0)},
		{"302", answer{Status: 302}, again(fanfare.ErrRedirect, 0)},
		{"399", answer{Status: 399}, again(fanfare.ErrRedirect, 0)},
		{"400", answer{Status: 400}, again(fanfare.ErrStatus, 0)},
		{"404", answer{Status: 404}, again(fanfare.ErrStatus, 0)},
		{"410", answer{Status: 410}, gone},
		{"410 with a Retry-After", answer{Status: 410, RetryAfter: "60"}, gone},
		{"429", answer{Status: 429}, again(fanfare.ErrStatus, 0)},
		{"429 with a Retry-After", answer{Status: 429, RetryAfter: "90"}, again(fanfare.ErrStatus, 90*time.Second)},
		{"500 with a Retry-After", answer{Status: 500, RetryAfter: "90"}, again(fanfare.ErrStatus, 0)},
		{"503 with a Retry-After", answer{Status: 503, RetryAfter: "Sat, 21 Nov 2026 13:00:00 GMT"}, again(fanfare.ErrStatus, time.Hour)},
		{"503 with a body cut short", answer{Status: 503, RetryAfter: "90", Error: fanfare.ErrTimeout}, again(fanfare.ErrTimeout, 90*time.Second)},
		{"302 with a Retry-After", answer{Status: 302, RetryAfter: "90"}, again(fanfare.ErrRedirect, 0)},
		{"999", answer{Status: 999}, again(fanfare.ErrStatus, 0)},
		{"200 with a body cut short", answer{Status: 200, Error: fanfare.ErrProtocol}, again(fanfare.ErrProtocol, 0)},
		{"410 with a body cut short", answer{Status: 410, Error: fanfare.ErrProtocol}, again(fanfare.ErrProtocol, 0)},
		{"no name", answer{Error: fanfare.ErrDNS}, again(fanfare.ErrDNS, 0)},
		{"no connection", answer{Error: fanfare.ErrConnect}, again(fanfare.ErrConnect, 0)},
		{
			"a kept-alive connection that was closed",
			answer{Error: fanfare.ErrConnect, Stale: true},
			retry.Outcome{Verdict: fanfare.VerdictRetry, Error: fanfare.ErrConnect, Prompt: true},
		},
		{"no handshake", answer{Error: fanfare.ErrTLS}, again(fanfare.ErrTLS, 0)},
		{"no answer in time", answer{Error: fanfare.ErrTimeout}, again(fanfare.ErrTimeout, 0)},
		{"a blocked address", answer{Error: fanfare.ErrBlocked}, reject(fanfare.ErrBlocked)},
		{"no possible request", answer{Error: fanfare.ErrRequest}, reject(fanfare.ErrRequest)},
		{"our own fault", answer{Error: fanfare.ErrOwn}, own},
		{"our own fault after an answer", answer{Status: 200, Error: fanfare.ErrOwn}, own},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := retry.Judge(test.answer, noon); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestParseRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                                 0,
		"0":                                0,
		"1":                                time.Second,
		" 90\t":                            90 * time.Second,
		"00090":                            90 * time.Second,
		"21600":                            6 * time.Hour,
		"21601":                            6 * time.Hour,
		"9999999999":                       6 * time.Hour,
		"9223372037":                       6 * time.Hour, // overflows as nanoseconds
		"9223372036854775808":              6 * time.Hour, // overflows as seconds
		"-1":                               0,
		"+1":                               0,
		"1e300":                            0,
		"1.5":                              0,
		"0x10":                             0,
		"NaN":                              0,
		"Inf":                              0,
		"90, 120":                          0,
		"90\x00":                           0,
		"١٢":                               0,
		"Sat, 21 Nov 2026 12:01:30 GMT":    90 * time.Second,
		"Saturday, 21-Nov-26 12:01:30 GMT": 90 * time.Second,
		"Sat Nov 21 12:01:30 2026":         90 * time.Second,
		"Sat, 21 Nov 2026 12:00:00 GMT":    0,
		"Sat, 21 Nov 2026 11:59:59 GMT":    0,
		"Thu, 01 Jan 1970 00:00:00 GMT":    0,
		"Mon, 01 Jan 0001 00:00:00 GMT":    0,
		"Sun, 22 Nov 2026 12:00:00 GMT":    6 * time.Hour,
		"Fri, 31 Dec 9999 23:59:59 GMT":    6 * time.Hour,
		"Sat, 99 Nov 2026 12:01:30 GMT":    0,
		"2026-11-21T12:01:30Z":             0,
	} {
		if got := retry.ParseRetryAfter(header, noon); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, header := range []string{"120", "-1", "9999999999", "1e300", noon.Add(time.Hour).Format(http.TimeFormat)} {
		f.Add(header, noon.Unix())
	}
	f.Fuzz(func(t *testing.T, header string, now int64) {
		if got := retry.ParseRetryAfter(header, time.Unix(now, 0)); got < 0 || got > 6*time.Hour {
			t.Fatalf("got %v", got)
		}
	})
}
