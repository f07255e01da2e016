package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// attempt is what one call of Do knows about its connection. net/http dials in a goroutine of its own
// that keeps the values of the request's context but not its deadline, and that may outlive the
// request: the attempt travels in the context for that, and is safe for both.
type attempt struct {
	parent   context.Context // the caller's: if it ended, whatever failed is our own fault
	timeout  time.Duration
	deadline time.Time

	hooks     httptrace.ClientTrace
	resolving atomic.Bool          // a name server has been asked and has not answered
	conn      atomic.Pointer[conn] // what the request was written to; nil: not connected yet
	readMark  atomic.Int64         // conn's count of bytes before the request
	reused    atomic.Bool          // conn had carried a request before
	reading   atomic.Bool          // the response's header is complete
}

type attemptKey struct{}

// trace hangs a on the context.
func (a *attempt) trace(ctx context.Context) context.Context {
	a.hooks.DNSStart = func(httptrace.DNSStartInfo) { a.resolving.Store(true) }
	a.hooks.DNSDone = func(info httptrace.DNSDoneInfo) {
		var unresolved *net.DNSError
		a.resolving.Store(info.Err != nil && !(errors.As(info.Err, &unresolved) && unresolved.IsNotFound))
	}
	a.hooks.GotConn = func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*conn); ok {
			a.readMark.Store(c.read.Load())
			a.conn.Store(c)
			a.reused.Store(info.Reused)
		}
	}
	return httptrace.WithClientTrace(context.WithValue(ctx, attemptKey{}, a), &a.hooks)
}

// answered reports whether the receiver sent anything since the request was given its connection.
func (a *attempt) answered() bool {
	c := a.conn.Load()
	return c != nil && c.read.Load() > a.readMark.Load()
}

// conn counts what arrives.
type conn struct {
	net.Conn
	read atomic.Int64
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (c *Client) dialPlain(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := withAttemptDeadline(ctx)
	defer cancel()
	raw, err := c.dial(ctx, addr, !c.allowHTTP)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: raw}, nil
}

func (c *Client) dialTLS(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := withAttemptDeadline(ctx)
	defer cancel()
	raw, err := c.dial(ctx, addr, false)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr)
	config := c.tls.Clone()
	config.ServerName = strings.TrimSuffix(host, ".")
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, tlsFault(err)
	}
	return &conn{Conn: secure}, nil
}

// withAttemptDeadline ends a dial when the attempt that asked for it must end: what is left behind
// after that would be sockets that no limit counts.
func withAttemptDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		return context.WithDeadline(ctx, a.deadline)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

var (
	errBlocked  = errors.New("address not allowed")
	errTooMany  = errors.New("too many addresses")
	errLoopback = errors.New("http to an address that is not loopback")
)

// dial connects to the addresses of a name in turn, IPv6 and IPv4 side by side (RFC 8305), skipping
// those that the rule closes. Its error is a *failure or the context's.
func (c *Client) dial(ctx context.Context, addr string, onlyLoopback bool) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, requestFault("the host and port cannot be read")
	}
	_, err = netip.ParseAddr(host)
	isName := err != nil
	host = strings.TrimSuffix(host, ".")
	if isName {
		addr = net.JoinHostPort(lookupName(host), port)
	}

	var (
		began        = time.Now()
		closed, open atomic.Int32
	)
	dialer := net.Dialer{
		Resolver: c.resolver,
		// Control runs between socket and connect, for each address: nothing has been sent yet.
		Control: func(_, address string, _ syscall.RawConn) error {
			if err := c.mayDial(address, onlyLoopback); err != nil {
				closed.Add(1)
				return err
			}
			if open.Add(1) > maxAddresses {
				return errTooMany
			}
			return nil
		},
	}
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	var notResolved *net.DNSError
	if isName && (!errors.As(err, &notResolved) || notResolved.IsNotFound) {
		c.resolverAnswered.Store(time.Now().UnixNano())
	}
	switch {
	case err == nil:
		return raw, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case notResolved != nil:
		return nil, c.dnsFault(host, notResolved, began)
	case open.Load() == 0 && closed.Load() > 0:
		return nil, blockedFault(isName)
	}
	return nil, connectFault(err)
}

// lookupName ends a name with a dot: the search list of our resolver's configuration is about our own
// network. A name of one label comes here only if a local network is open; it stays as it is, for the
// hosts file and the search list.
func lookupName(name string) string {
	if strings.Contains(name, ".") {
		return name + "."
	}
	return name
}

// mayDial decides on the address that is about to be connected to.
func (c *Client) mayDial(address string, onlyLoopback bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !c.rule.permits(ap.Addr()) || !c.rule.permitsPort(ap.Port()) {
		return errBlocked
	}
	if onlyLoopback && !ap.Addr().Unmap().IsLoopback() {
		return errLoopback
	}
	return nil
}

// nameServerDialer notes when a name server cannot be asked for want of a socket: package net's error
// for the lookup does not say so.
func (c *Client) nameServerDialer(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil && isOurs(err) {
			c.resolverStarved.Store(time.Now().UnixNano())
		}
		return conn, err
	}
}

// resolverPatience is how long one answer of our resolver vouches for it.
const resolverPatience = time.Minute

// resolverWorks reports whether it answered anybody of late. If it did, a name that it fails to resolve
// has broken name servers of its own; if not, the fault is ours.
func (c *Client) resolverWorks() bool {
	return time.Since(time.Unix(0, c.resolverAnswered.Load())) < resolverPatience
}
