package api

import (
	"strings"
	"testing"

	"github.com/fanfare-webhooks/fanfare"
)

func TestEveryFailureComesWithWhatCanBeDoneAboutIt(t *testing.T) {
	if len(hints) != len(errorCodes) {
		t.Errorf("%d hints for %d codes", len(hints), len(errorCodes))
	}
	for _, code := range errorCodes {
		if h := hint(&fanfare.Attempt{Error: fanfare.ErrorCode(code), Status: 400}); len(h) < 30 {
			t.Errorf("%s: %q", code, h)
		}
	}
	for status, word := range map[int]string{
		400: "2xx", 401: "credentials", 404: "path", 410: "gone", 422: "2xx", 429: "rate_limit", 500: "its own log", 503: "its own log",
	} {
		if h := hint(&fanfare.Attempt{Error: fanfare.ErrStatus, Status: status}); !strings.Contains(h, word) {
			t.Errorf("%d: %q", status, h)
		}
	}
	if h := hint(&fanfare.Attempt{Status: 200}); h != "" {
		t.Errorf("success: %q", h)
	}
}
