package egress

import (
	"cmp"
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

// connect opens a connection, TLS included, or fails with a *failure, errResolving or ctx's error.
func (c *Client) connect(ctx context.Context, t *target) (*conn, error) {
	tcp, err := c.dial(ctx, t.addr, !t.secure && !c.allowHTTP)
	if err != nil {
		return nil, err
	}
	cn, err := newConn(tcp, t.origin)
	if err != nil {
		tcp.Close()
		return nil, connectFault(err)
	}
	if !t.secure {
		return cn, nil
	}
	host, _, _ := net.SplitHostPort(t.addr)
	config := c.tls.Clone()
	config.ServerName = strings.TrimSuffix(host, ".")
	secure := tls.Client(cn.wire, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		cn.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, tlsFault(err)
	}
	cn.ReadWriter = secure
	return cn, nil
}

var (
	errBlocked  = errors.New("address not allowed")
	errTooMany  = errors.New("too many addresses")
	errLoopback = errors.New("http to an address that is not loopback")

	errResolving = errors.New("the name was being looked up")
)

// dial connects to the addresses of a name in turn, IPv6 and IPv4 side by side (RFC 8305), skipping
// those that the rule closes. Its error is a *failure, errResolving or the context's.
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
		resolving    atomic.Bool // a name server has been asked and has not answered
	)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { resolving.Store(true) },
		DNSDone: func(info httptrace.DNSDoneInfo) {
			var unresolved *net.DNSError
			resolving.Store(info.Err != nil && !(errors.As(info.Err, &unresolved) && unresolved.IsNotFound))
		},
	})
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
	case ended(ctx) != nil && resolving.Load():
		return nil, errResolving
	case ended(ctx) != nil:
		return nil, ended(ctx)
	case notResolved != nil:
		return nil, c.dnsFault(host, notResolved, began)
	case open.Load() == 0 && closed.Load() > 0:
		return nil, blockedFault(isName)
	}
	return nil, connectFault(err)
}

// ended is ctx's error. Sockets have its deadline, too, and may be a moment ahead of it.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return cmp.Or(ctx.Err(), context.DeadlineExceeded)
	}
	return ctx.Err()
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
