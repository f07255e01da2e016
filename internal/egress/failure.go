package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fanfare-webhooks/fanfare"
)

// failure is why there is no complete response. Its detail is composed here: the texts of package net
// hold addresses of ours and of our name servers.
type failure struct {
	code   fanfare.ErrorCode
	detail string
	own    bool
	stale  bool
}

func (f *failure) Error() string { return string(f.code) + ": " + f.detail }

func ownFault(detail string) *failure {
	return &failure{code: fanfare.ErrOwn, detail: detail, own: true}
}

func requestFault(detail string) *failure { return &failure{code: fanfare.ErrRequest, detail: detail} }

func protocolFault(detail string) *failure {
	return &failure{code: fanfare.ErrProtocol, detail: oneLine(detail)}
}

func blockedFault(isName bool) *failure {
	if isName {
		return &failure{code: fanfare.ErrBlocked, detail: "the host resolves only to addresses that may not be called"}
	}
	return &failure{code: fanfare.ErrBlocked, detail: "the address is not one that may be called"}
}

// dnsFault explains a lookup that began at the given time.
func (c *Client) dnsFault(host string, err *net.DNSError, began time.Time) *failure {
	switch {
	case err.IsNotFound:
		return &failure{code: fanfare.ErrDNS, detail: oneLine("the host " + host + " does not exist or has no address")}
	case c.resolverStarved.Load() >= began.UnixNano() || !c.resolverWorks():
		return ownFault("our name resolution failed")
	}
	return &failure{code: fanfare.ErrDNS, detail: oneLine("the name servers of " + host + " do not answer")}
}

func connectFault(err error) *failure {
	if isOurs(err) {
		return ownFault("we ran out of sockets")
	}
	return &failure{code: fanfare.ErrConnect, detail: "no connection: " + reason(err)}
}

// reason is the system's words for a failed connection, without the addresses around them.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return "connection timed out"
	}
	return "failed"
}

func tlsFault(err error) *failure {
	var (
		noRoots x509.SystemRootsError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		op      *net.OpError
		detail  string
	)
	switch {
	case errors.As(err, &noRoots):
		return ownFault("we have no root certificates")
	case errors.As(err, &cert):
		detail = cert.Err.Error()
	case errors.As(err, &record):
		detail = "the receiver does not speak TLS"
	case isAlert(err):
		errors.As(err, &op)
		detail = "the receiver refused the handshake: " + op.Err.Error()
	case errors.As(err, &op): // its text holds our address
		detail = "the connection broke during the handshake: " + reason(err)
	case isEOF(err):
		detail = "the receiver closed the connection during the handshake"
	default:
		detail = "the handshake failed: " + err.Error()
	}
	return &failure{code: fanfare.ErrTLS, detail: oneLine(detail)}
}

// explain turns an error of a dial or of an exchange into a failure.
func (c *Client) explain(ctx context.Context, a *attempt, err error) *failure {
	var (
		f  *failure
		op *net.OpError
	)
	switch {
	case ctx.Err() != nil:
		return ownFault("we stopped before the receiver had answered")
	case errors.As(err, &f):
		return f
	case errors.Is(err, errResolving) && !c.resolverWorks():
		return ownFault("our name resolution did not answer" + a.within())
	case errors.Is(err, errResolving) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return a.timedOut()
	case isAlert(err): // TLS 1.3 refuses a client after the handshake
		return tlsFault(err)
	case isOurs(err):
		return ownFault("we ran out of sockets")
	case !a.answered && a.reused:
		return &failure{code: fanfare.ErrConnect, detail: "the receiver closed a kept-alive connection without answering", stale: true}
	case !a.answered:
		return &failure{code: fanfare.ErrConnect, detail: "the receiver closed the connection without answering"}
	case errors.As(err, &op): // its text holds our address
		return protocolFault("the connection broke within the response: " + reason(err))
	case isEOF(err) || errors.Is(err, io.ErrUnexpectedEOF):
		return protocolFault("the connection ended within the response")
	}
	return protocolFault("the response could not be read: " + err.Error())
}

func (a *attempt) timedOut() *failure {
	detail := "no connection, or no TLS handshake,"
	switch {
	case a.reading:
		detail = "the response did not end"
	case a.connected:
		detail = "no response"
	}
	return &failure{code: fanfare.ErrTimeout, detail: detail + a.within()}
}

func (a *attempt) within() string { return " within " + a.timeout.Round(time.Millisecond).String() }

// panicked blames the receiver if it may have had a part in it: our own fault would be repeated for ever.
func (a *attempt) panicked() *failure {
	if a.connected {
		return protocolFault("the response could not be read: internal error")
	}
	return ownFault("internal error")
}

// isOurs reports whether this machine lacks something: descriptors, buffers, memory, local ports.
func isOurs(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// isAlert reports whether the receiver sent a TLS alert: crypto/tls gives them as this operation.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// worst is the code for a URL with these faults: blocked says more than request.
func worst(faults []Fault) fanfare.ErrorCode {
	for _, f := range faults {
		if f.Code == fanfare.ErrBlocked {
			return fanfare.ErrBlocked
		}
	}
	return fanfare.ErrRequest
}

func joinFaults(faults []Fault) string {
	details := make([]string, len(faults))
	for i, f := range faults {
		details[i] = f.Detail
	}
	return oneLine(strings.Join(details, "; "))
}

// oneLine makes text that a receiver may have had a part in safe to show and to store: valid UTF-8,
// printable, one line, at most maxDetail bytes.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxDetail {
		return s
	}
	cut := maxDetail - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
