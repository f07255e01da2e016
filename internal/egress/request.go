package egress

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-webhooks/fanfare"
)

const (
	copyBytes      = 4 << 10
	keptFailure    = 4 << 10
	keptSuccess    = 256
	maxHeaderKept  = 8 << 10
	maxRetryAfter  = 128
	maxDetail      = 240
	defaultTimeout = 30 * time.Second
)

// Request is what a receiver is sent.
type Request struct {
	Method string // POST, PUT or GET
	URL    string // checked as by [Client.CheckURL], but for the length

	// Header belongs to Do until it returns, and must not be shared with another request under way: Do
	// adds the user agent and takes out what would change how the request travels (Connection,
	// Accept-Encoding, Expect and their like) or make net/http repeat it (Idempotency-Key).
	Header http.Header

	Body    []byte        // read, never written; net/http may read it for a moment after Do has returned
	Timeout time.Duration // from the dial to the last byte; 0: 30 s
}

// Result is what came back.
type Result struct {
	StartedAt time.Time
	Duration  time.Duration

	Status     int    // 0: no response
	Header     []byte // "Name: value\r\n" lines in the order of the names, whole lines up to 8 KiB
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
}

// prepareHeader makes the request's header fit to be sent.
func (c *Client) prepareHeader(r *Request) *failure {
	if !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodGet}, r.Method) {
		return requestFault("the method is not POST, PUT or GET")
	}
	if r.Timeout <= 0 {
		r.Timeout = defaultTimeout
	}
	if r.Header == nil {
		r.Header = make(http.Header, 1)
	}
	for name, values := range r.Header {
		if ours(name) {
			delete(r.Header, name)
			continue
		}
		if !validHeaderName(name) {
			return requestFault("a header's name is not a token")
		}
		for _, v := range values {
			if !validHeaderValue(v) {
				return requestFault("the value of header " + name + " contains control characters")
			}
		}
	}
	r.Header["User-Agent"] = c.userAgent
	return nil
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

// newHTTPRequest builds a request that net/http sends at most once. It repeats a request on its own in
// two cases. Where a kept-alive connection turns out dead before a byte was written, nothing was sent:
// that is welcome, and GetBody allows it. Where bytes were written it repeats a GET that has no body or
// that it can rewind, though the receiver may have had it: so a GET gets a body that it cannot rewind.
func newHTTPRequest(ctx context.Context, r *Request, u *url.URL) *http.Request {
	req := &http.Request{
		Method:        r.Method,
		URL:           u,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        r.Header,
		Host:          u.Host,
		ContentLength: int64(len(r.Body)),
		Body:          newBody(r.Body),
	}
	if r.Method != http.MethodGet {
		if len(r.Body) == 0 {
			req.Body = http.NoBody
		}
		req.GetBody = func() (io.ReadCloser, error) { return newBody(r.Body), nil }
	}
	return req.WithContext(ctx)
}

// newBody is of a type that net/http knows to be in memory: for any other it sends the header in a
// packet of its own, ahead of the body.
func newBody(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// headerLines writes h as lines, in the order of the names. A name is a token, as net/http has checked;
// a carriage return inside a value becomes a space, so that every line is one header.
func headerLines(h http.Header) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	size := 0
	for _, name := range names {
		for _, v := range h[name] {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	out := make([]byte, 0, min(size, maxHeaderKept))
	for _, name := range names {
		for _, v := range h[name] {
			if len(out)+len(name)+len(v)+len(": \r\n") > maxHeaderKept {
				return out
			}
			out = append(append(out, name...), ": "...)
			start := len(out)
			out = append(out, v...)
			for i, c := range out[start:] {
				if c == '\r' || c == '\n' {
					out[start+i] = ' '
				}
			}
			out = append(out, "\r\n"...)
		}
	}
	return out
}

func retryAfter(h http.Header) string {
	v := h.Get("Retry-After")
	return v[:min(len(v), maxRetryAfter)]
}

// validHeaderName reports whether name is a token (RFC 9110, section 5.6.2).
func validHeaderName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return name != ""
}

// validHeaderValue reports whether v is free of control characters but tab (RFC 9110, section 5.5).
func validHeaderValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
