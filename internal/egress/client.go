// Package egress is the only place that opens a socket to a tenant's host.
//
// It hides name resolution, dialling, TLS, connection reuse and what an address may be, and it bounds
// what a hostile receiver can cost: one deadline from the dial to the last byte, 64 KiB of response
// headers, 64 KiB of body, one request on the wire, no redirect followed, nothing decompressed. Which
// addresses may be called is decided where the socket opens, on the address that is dialled, so no
// spelling of a URL and no answer of a name server gets around it.
//
// An attempt runs in its caller's goroutine, and an idle connection is watched by none and holds no buffer:
// what has happened to it is looked at when it is to be used again.
//
// It speaks HTTP/1.1 only: under HTTP/2 one connection carries the requests of many deliveries, and a
// receiver that resets or stalls it would touch them all.
package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	idleTimeout  = 90 * time.Second
	maxIdle      = 4096 // connections, all hosts
	maxIdleHost  = 64
	maxSessions  = 4096 // TLS sessions kept for resumption
	maxAddresses = 8    // of one name that a dial tries

	sendBuffer = 16 << 10 // a request of this size goes out in one write
	readBuffer = 4 << 10  // held while a receiver is waited for
)

// Options say what may be called. The zero value allows https to the public Internet.
type Options struct {
	Allow     []netip.Prefix // opens ranges beyond the public Internet
	Deny      []netip.Prefix // closes ranges; wins over everything
	DenyPorts []uint16       // closes ports on every host

	AllowHTTP     bool // http URLs, everywhere
	AllowLoopback bool // loopback, with http: for development

	UserAgent string
	Log       *slog.Logger // told of our own bugs only; nil: slog's default

	// DialNameServer connects to a name server; nil: as the system's configuration says.
	DialNameServer func(ctx context.Context, network, address string) (net.Conn, error)
	RootCAs        *x509.CertPool // nil: the system's
}

// Client calls receivers. It may be used by many goroutines.
type Client struct {
	rule      *rule
	allowHTTP bool
	userAgent string
	log       *slog.Logger

	resolver *net.Resolver
	tls      *tls.Config
	targets  targets
	idle     *pool

	sendBuffers sync.Pool // of *[sendBuffer]byte
	readBuffers sync.Pool // of *[readBuffer]byte

	// Unix nanoseconds of when our resolver last
	resolverAnswered atomic.Int64 // gave an answer, good or NXDOMAIN
	resolverStarved  atomic.Int64 // had no socket to ask with
}

// New makes a client. The error names every option that is wrong.
func New(o Options) (*Client, error) {
	rule, err := newRule(&o)
	if o.UserAgent == "" || !validHeaderValue(o.UserAgent) {
		err = errors.Join(err, errors.New("egress: the user agent is not a header value"))
	}
	if err != nil {
		return nil, err
	}
	c := &Client{
		rule:      rule,
		allowHTTP: o.AllowHTTP,
		userAgent: o.UserAgent,
		log:       cmp.Or(o.Log, slog.Default()),
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.RootCAs,
			NextProtos:         []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(maxSessions),
		},
		idle:        newPool(maxIdle, maxIdleHost, idleTimeout),
		sendBuffers: sync.Pool{New: func() any { return new([sendBuffer]byte) }},
		readBuffers: sync.Pool{New: func() any { return new([readBuffer]byte) }},
	}
	// PreferGo, because the C library's resolver reads 127.1 and 0x7f000001 as addresses.
	c.resolver = &net.Resolver{PreferGo: true, Dial: c.nameServerDialer(o.DialNameServer)}
	return c, nil
}

// Close closes the connections that are idle. Call it when no request is under way.
func (c *Client) Close() { c.idle.closeAll() }

// Do makes one attempt: at most one request reaches a receiver. It returns by the request's deadline
// or soon after ctx ends, whatever the receiver does. It never panics.
func (c *Client) Do(ctx context.Context, r *Request) Result {
	res := Result{StartedAt: time.Now()}
	if f := c.attempt(ctx, r, &res); f != nil {
		res.Error, res.Detail, res.OwnFault, res.Stale = f.code, f.detail, f.own, f.stale
	}
	res.Duration = time.Since(res.StartedAt)
	return res
}

// attempt is what one call of Do knows of its progress: it is what a failure is explained by.
type attempt struct {
	timeout  time.Duration
	deadline time.Time

	connected bool
	reused    bool // the connection had carried a request before
	answered  bool // the receiver has sent something since the request was written
	reading   bool // the response's header is complete
}

// attempt fills res; the failure is nil if a complete response was read.
func (c *Client) attempt(ctx context.Context, r *Request, res *Result) (f *failure) {
	a := attempt{timeout: r.Timeout}
	if a.timeout <= 0 {
		a.timeout = defaultTimeout
	}
	a.deadline = res.StartedAt.Add(a.timeout)
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("egress: panic", "panic", v, "stack", string(debug.Stack()))
			f = a.panicked()
		}
	}()
	t, f := c.target(r.Method, r.URL)
	if f == nil {
		f = checkRequest(r)
	}
	if f != nil {
		return f
	}
	cn, err := c.connection(ctx, t, &a)
	if err == nil {
		err = c.exchange(ctx, cn, t, r, res, &a)
	}
	if err == nil {
		return nil
	}
	if f = c.explain(ctx, &a, err); f.stale {
		c.idle.drop(t.origin)
	}
	return f
}

// connection gives one that is idle and fit for use, or opens one. Its deadline is set.
func (c *Client) connection(ctx context.Context, t *target, a *attempt) (*conn, error) {
	for cn := c.idle.take(t.origin); cn != nil; cn = c.idle.take(t.origin) {
		cn.wire.SetDeadline(a.deadline)
		if cn.quiet() {
			a.connected, a.reused = true, true
			return cn, nil
		}
		cn.close()
	}
	dialing, cancel := context.WithDeadline(ctx, a.deadline)
	defer cancel()
	cn, err := c.connect(dialing, t)
	if err != nil {
		return nil, err
	}
	cn.wire.SetDeadline(a.deadline)
	a.connected = true
	return cn, nil
}

// exchange sends the request and reads the response. The connection is not the caller's any more.
func (c *Client) exchange(ctx context.Context, cn *conn, t *target, r *Request, res *Result, a *attempt) (err error) {
	reusable := false
	stop := context.AfterFunc(ctx, cn.interrupt)
	defer func() {
		// One that the end of ctx has interrupted, or is about to, is no use to the next request.
		if stop() && reusable {
			c.idle.put(cn)
		} else {
			cn.close()
		}
	}()

	sendErr := c.send(cn, t, r)
	buf := c.readBuffers.Get().(*[readBuffer]byte)
	defer c.readBuffers.Put(buf)
	in := newReader(cn, buf[:])
	err = in.response(res)
	a.answered, a.reading = in.arrived, res.Status != 0
	// A receiver may refuse a request before it has read all of it: what it says then counts.
	if sendErr != nil && !in.arrived {
		return sendErr
	}
	reusable = err == nil && sendErr == nil && in.reusable()
	return err
}

// send writes the request: in one piece, unless the body is large.
func (c *Client) send(cn *conn, t *target, r *Request) error {
	buf := c.sendBuffers.Get().(*[sendBuffer]byte)
	defer c.sendBuffers.Put(buf)
	b := appendHead(buf[:0], t, r)
	rest := r.Body
	if room := cap(b) - len(b); room > 0 {
		n := min(room, len(rest))
		b, rest = append(b, rest[:n]...), rest[n:]
	}
	if _, err := cn.Write(b); err != nil || len(rest) == 0 {
		return err
	}
	_, err := cn.Write(rest)
	return err
}
