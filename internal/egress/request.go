package egress

import (
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

const (
	keptFailure    = 4 << 10
	keptSuccess    = 256
	maxHeaderKept  = 8 << 10
	maxRetryAfter  = 128
	maxDetail      = 240
	defaultTimeout = 30 * time.Second
)

// Request is what a receiver is sent. Do changes nothing of it, and reads nothing of it once it has returned.
type Request struct {
	Method string // POST, PUT or GET
	URL    string // checked as by [Client.CheckURL], but for the length

	// Header is sent in this order and spelling, after Host, User-Agent and Content-Length. What would
	// change how the request travels (Connection, Accept-Encoding, Expect and their like) is left out, and
	// so is Idempotency-Key, which intermediaries take for leave to repeat a request.
	Header []Field

	Body    []byte
	Timeout time.Duration // from the dial to the last byte; 0: 30 s
}

// Field is one line of a header.
type Field struct{ Name, Value string }

// Result is what came back.
type Result struct {
	StartedAt time.Time
	Duration  time.Duration

	Status     int    // 0: no response
	Header     []byte // "Name: value\r\n" lines in the receiver's order and spelling, whole lines up to 8 KiB
	RetryAfter string // the header's value as it came, up to 128 bytes
	Body       []byte // the first 4 KiB, or 256 bytes of a 2xx

	// Error is "" if a complete response was read: package retry judges its status. Otherwise it is one
	// of ErrDNS, ErrConnect, ErrTLS, ErrTimeout, ErrBlocked, ErrProtocol, ErrRequest and ErrOwn; Status,
	// Header and Body then hold what had come until then.
	Error  fanfare.ErrorCode
	Detail string // one line for the webhook's owner: no address of ours, no secret, no userinfo

	// OwnFault is true with ErrOwn: our resolver answers nobody, our sockets or file descriptors ran out,
	// we have no root certificates, or ctx ended. The receiver had no part in it.
	OwnFault bool

	// Stale is true with ErrConnect if the request went out on a kept-alive connection that the receiver
	// closed before a byte of a response: most likely its idle timeout ran out as we wrote. It may have read
	// the request, or not. The other idle connections to it are closed by now, so that the next attempt
	// has a new one.
	Stale bool
}

func checkRequest(r *Request) *failure {
	switch r.Method {
	case "POST", "PUT", "GET":
	default:
		return requestFault("the method is not POST, PUT or GET")
	}
	for _, f := range r.Header {
		if !validHeaderName(f.Name) {
			return requestFault("a header's name is not a token")
		}
		if !validHeaderValue(f.Value) {
			return requestFault("the value of header " + f.Name + " contains control characters")
		}
	}
	return nil
}

// appendHead writes everything of a request but its body.
func appendHead(b []byte, t *target, r *Request) []byte {
	b = append(b, r.Method...)
	b = append(b, t.head...)
	if len(r.Body) > 0 || r.Method != "GET" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.Body)), 10)
		b = append(b, "\r\n"...)
	}
	for _, f := range r.Header {
		if ours(f.Name) {
			continue
		}
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// ours reports whether a header is not for the caller to set.
func ours(name string) bool {
	for _, o := range [...]string{
		"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "HTTP2-Settings",
		"Idempotency-Key", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"TE", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "X-Idempotency-Key",
	} {
		if len(o) == len(name) && strings.EqualFold(o, name) {
			return true
		}
	}
	return false
}

// token holds the bytes of a header's name (RFC 9110, section 5.6.2).
var token = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

func validHeaderName[T string | []byte](name T) bool {
	for i := range len(name) {
		if !token[name[i]] {
			return false
		}
	}
	return len(name) > 0
}

// validHeaderValue reports whether v is free of control characters but tab (RFC 9110, section 5.5).
func validHeaderValue[T string | []byte](v T) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
