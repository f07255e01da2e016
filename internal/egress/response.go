package egress

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	maxHeaderRead = 64 << 10 // of a response, 1xx responses included
	maxBodyRead   = 64 << 10
)

// reader reads one response off a connection. It holds to RFC 9112 where a message's end is concerned: what
// could be read in two ways is an error. Of its errors, a *failure says what is wrong with the response;
// the others are the connection's.
type reader struct {
	from    io.Reader
	buf     []byte // grows to maxHeaderRead for a large head
	at, end int    // buf[at:end] has arrived and has not been read
	arrived bool   // anything has

	headRoom int // how many bytes of heads may still come
	head     head

	// Of the body.
	bodyRoom int // how many bytes of it may still come
	sideRoom int // how many bytes of chunk extensions and trailers may still come
	keep     int // how many bytes more to keep
	kept     []byte
}

// head is a response up to its body.
type head struct {
	status     int // 0: not read yet
	lines      []byte
	retryAfter string
	hasRetry   bool

	old     bool   // HTTP/1.0
	closes  bool   // the connection ends with the response
	chunked bool   // what the body is sent in
	length  int64  // of the body; -1: not announced
	lenText []byte // as it came
}

func newReader(from io.Reader, buf []byte) reader {
	return reader{from: from, buf: buf, headRoom: maxHeaderRead, bodyRoom: maxBodyRead, sideRoom: maxChunkSide}
}

// response reads the response into res. Without an error it is complete, or the body as long as is read.
func (r *reader) response(res *Result) error {
	for {
		b, err := r.readHead()
		if err != nil {
			return err
		}
		if err := r.head.parse(b); err != nil {
			return err
		}
		if s := r.head.status; s < 100 || s > 199 || s == 101 {
			break
		}
	}
	res.Status, res.Header, res.RetryAfter = r.head.status, r.head.lines, r.head.retryAfter
	if r.head.status < 200 { // 101: a switch that nobody asked for
		return protocolFault(fmt.Sprintf("the receiver answered with status %03d", r.head.status))
	}
	r.keep = keptFailure
	if r.head.status < 300 {
		r.keep = keptSuccess
	}
	err := r.readBody()
	res.Body = r.kept
	return err
}

// reusable reports whether the connection may carry another request after a complete response.
func (r *reader) reusable() bool { return !r.head.closes && r.at == r.end }

// readHead gives a status line, the header and the empty line that ends it. The bytes are the caller's
// until more is read.
func (r *reader) readHead() ([]byte, error) {
	for seen := 0; ; {
		b := r.buf[r.at:r.end]
		n := headLen(b, seen)
		if n > r.headRoom || n == 0 && len(b) >= r.headRoom {
			return nil, protocolFault("the response's headers exceeded " + strconv.Itoa(maxHeaderRead) + " bytes")
		}
		if n > 0 {
			r.at += n
			r.headRoom -= n
			return b[:n], nil
		}
		if !startsAsHTTP(b) { // it may never send a line's end
			return nil, malformed("HTTP response", b)
		}
		seen = len(b)
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// headLen finds the end of the empty line, or 0. It has looked at the first bytes before.
func headLen(b []byte, seen int) int {
	for i := max(seen-2, 0); ; i++ {
		lf := bytes.IndexByte(b[i:], '\n')
		if lf < 0 {
			return 0
		}
		i += lf
		switch next := b[i+1:]; {
		case len(next) > 0 && next[0] == '\n':
			return i + 2
		case len(next) > 1 && next[0] == '\r' && next[1] == '\n':
			return i + 3
		}
	}
}

const version1 = "HTTP/1."

func startsAsHTTP(b []byte) bool {
	return string(b[:min(len(b), len(version1))]) == version1[:min(len(b), len(version1))]
}

// fill reads what has arrived, at least a byte.
func (r *reader) fill() error {
	switch {
	case r.at == r.end:
		r.at, r.end = 0, 0
	case r.end < len(r.buf):
	case r.at > 0:
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	default:
		r.buf = append(r.buf, make([]byte, min(len(r.buf), maxHeaderRead-len(r.buf)))...)
	}
	n, err := r.from.Read(r.buf[r.end:])
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	r.end += n
	r.arrived = true
	return nil
}

// parse reads what readHead gave, and writes in it.
func (h *head) parse(b []byte) error {
	status, b := nextLine(b)
	*h = head{length: -1}
	var ok bool
	if h.status, h.old, ok = parseStatusLine(status); !ok {
		return malformed("HTTP response", status)
	}
	h.closes = h.old
	h.lines = make([]byte, 0, min(len(b), maxHeaderKept))
	full := false
	for {
		var line []byte
		if line, b = nextField(b); len(line) == 0 {
			break
		}
		name, value, ok := parseField(line)
		if !ok {
			return malformed("header line", line)
		}
		if f := h.note(name, value); f != nil {
			return f
		}
		if full = full || len(h.lines)+len(name)+len(value)+len(": \r\n") > maxHeaderKept; !full {
			h.lines = append(append(append(append(h.lines, name...), ": "...), value...), "\r\n"...)
		}
	}
	if h.chunked && h.length >= 0 {
		return protocolFault("the response has both Transfer-Encoding and Content-Length")
	}
	return nil
}

// nextLine cuts off a line. It ends with CR LF or, as RFC 9112 lets a recipient have it, LF.
func nextLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest
}

// nextField cuts off a line with those that continue it: where they were folded it puts spaces.
func nextField(b []byte) (line, rest []byte) {
	for i := 0; ; i++ {
		lf := bytes.IndexByte(b[i:], '\n')
		if lf < 0 {
			return b, nil
		}
		i += lf
		if i+1 == len(b) || b[i+1] != ' ' && b[i+1] != '\t' {
			return bytes.TrimSuffix(b[:i], []byte("\r")), b[i+1:]
		}
		b[i] = ' '
		if i > 0 && b[i-1] == '\r' {
			b[i-1] = ' '
		}
	}
}

// parseStatusLine reads "HTTP/1.1 200 OK". The reason may be missing, and is no use to anybody.
func parseStatusLine(line []byte) (status int, old, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(version1))
	if !ok || len(rest) < len("1 200") || rest[0] < '0' || rest[0] > '9' || rest[1] != ' ' {
		return 0, false, false
	}
	code := bytes.TrimLeft(rest[1:], " ")
	if len(code) < 3 || len(code) > 3 && code[3] != ' ' {
		return 0, false, false
	}
	for _, c := range code[:3] {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		status = status*10 + int(c-'0')
	}
	return status, rest[0] == '0', true
}

// parseField reads "Name: value". The space around a value is no part of it.
func parseField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	return name, value, ok && validHeaderName(name) && validHeaderValue(value)
}

// note takes from a field what the reader itself must know.
func (h *head) note(name, value []byte) *failure {
	switch {
	case is(name, "Content-Length"):
		if h.length >= 0 && !bytes.Equal(value, h.lenText) {
			return protocolFault("the response has two different Content-Length headers")
		}
		n, err := strconv.ParseUint(string(value), 10, 63) // takes no sign
		if err != nil {
			return malformed("Content-Length", value)
		}
		h.length, h.lenText = int64(n), value
	case is(name, "Transfer-Encoding"):
		// HTTP/1.0 does not know it: one that sends it does not know what it sends.
		if h.chunked || h.old || !is(value, "chunked") {
			return malformed("Transfer-Encoding", value)
		}
		h.chunked = true
	case is(name, "Connection"):
		for option := range bytes.SplitSeq(value, []byte(",")) {
			if is(bytes.Trim(option, " \t"), "close") {
				h.closes = true
			}
		}
	case is(name, "Retry-After") && !h.hasRetry:
		h.retryAfter, h.hasRetry = string(value[:min(len(value), maxRetryAfter)]), true
	}
	return nil
}

func is(b []byte, s string) bool {
	return len(b) == len(s) && strings.EqualFold(string(b), s)
}

func malformed(what string, b []byte) *failure {
	return protocolFault(fmt.Sprintf("malformed %s %q", what, b[:min(len(b), 80)]))
}
