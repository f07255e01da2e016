package api

import (
	"net/http"

	"github.com/fanfare-webhooks/fanfare"
)

// hints say what the owner of a webhook can do about a failed request.
var hints = map[fanfare.ErrorCode]string{
	fanfare.ErrDNS:     "Look for a typing error in the host's name, and whether it has an A or AAAA record that everybody can resolve.",
	fanfare.ErrConnect: "See whether the server runs, listens on the port of the URL, and is not behind a firewall that keeps us out.",
	fanfare.ErrTLS: "The certificate must be valid today and for the host's name, and be sent with its chain up to an authority that browsers trust. " +
		"Try: openssl s_client -connect HOST:443 -servername HOST",
	fanfare.ErrTimeout: "See whether the server can be reached and has time. An endpoint should answer with 2xx first and do its work afterwards; " +
		"else give the webhook a longer timeout.",
	fanfare.ErrBlocked:  "Only addresses of the public Internet are called, and those that the operator has opened. For a server on your own machine use 'fanfare listen'.",
	fanfare.ErrRedirect: "Redirects are not followed: put the address that the Location header names into the webhook's URL.",
	fanfare.ErrProtocol: "What came back is no sound HTTP response. See whether the port speaks HTTP, and what stands between.",
	fanfare.ErrRequest:  "This event cannot be sent in the way that the webhook is set up: the detail says why.",
	fanfare.ErrOwn:      "This is a fault of the service itself. There is nothing to change.",
	fanfare.ErrStatus:   "Only 2xx counts as received. The start of the response may say why the endpoint refused.",
}

// statusHints say more about statuses that have one common cause.
var statusHints = map[int]string{
	http.StatusUnauthorized: "The endpoint wants credentials: add the header that it expects to the webhook's headers, or let requests through whose signature is right.",
	http.StatusForbidden: "The endpoint, or a firewall or proxy before it, refuses the request. Let requests through whose signature is right, " +
		"or add the header that it expects to the webhook's headers.",
	http.StatusNotFound:              "The server has nothing at this path: look for a typing error in the webhook's URL.",
	http.StatusMethodNotAllowed:      "The endpoint takes another method: change the endpoint, or the webhook's method.",
	http.StatusGone:                  "The endpoint says that it is gone for good, which disables a webhook. Enable it again when the endpoint is back.",
	http.StatusRequestEntityTooLarge: "The endpoint, or a proxy before it, takes only smaller bodies.",
	http.StatusUnsupportedMediaType:  "The endpoint takes another content type: change the endpoint, or the webhook's format.",
	http.StatusTooManyRequests:       "The endpoint is asked too often: give the webhook a rate_limit or a lower max_in_flight.",
}

// hint is what can be done about a failed attempt; "" for one that did not fail.
func hint(a *fanfare.Attempt) string {
	switch {
	case a.Error != fanfare.ErrStatus:
		return hints[a.Error]
	case statusHints[a.Status] != "":
		return statusHints[a.Status]
	case a.Status >= 500:
		return "The endpoint failed by itself: its own log says why."
	}
	return hints[fanfare.ErrStatus]
}
