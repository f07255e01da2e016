// Package egress is the only place that opens a socket to a tenant's host.
//
// It hides name resolution, dialling, TLS, connection reuse and what an address may be, and it bounds
// what a hostile receiver can cost: one deadline from the dial to the last byte, 64 KiB of response
// headers, 64 KiB of body, one request on the wire, no redirect followed, nothing decompressed. Which
// addresses may be called is decided where the socket opens, on the address that is dialled, so no
// spelling of a URL and no answer of a name server gets around it.
//
// It speaks HTTP/1.1 only: under HTTP/2 one connection carries the requests of many deliveries, and a
// receiver that resets or stalls it would touch them all.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHeaderRead = 64 << 10 // of a response, 1xx responses included
	maxBodyRead   = 64 << 10

	idleTimeout  = 90 * time.Second
	maxIdle      = 4096 // connections, all hosts
	maxIdleHost  = 64
	maxSessions  = 4096 // TLS sessions kept for resumption
	maxAddresses = 8    // of one name that a dial tries
)

// Options say what may be called. The zero value allows https to the public Internet.
type Options struct {
	Allow     []netip.Prefix // opens ranges beyond the public Internet
	Deny      []netip.Prefix // closes ranges; wins over everything
	DenyPorts []uint16       // closes ports on every host

	AllowHTTP     bool // http URLs, everywhere
	AllowLoopback bool // loopback, with http: for development

	UserAgent string

	// DialNameServer connects to a name server; nil: as the system's configuration says.
	DialNameServer func(ctx context.Context, network, address string) (net.Conn, error)
	RootCAs        *x509.CertPool // nil: the system's
}

// Client calls receivers. It may be used by many goroutines.
type Client struct {
	rule      *rule
	allowHTTP bool
	userAgent []string

	resolver  *net.Resolver
	tls       *tls.Config
	transport *http.Transport

	buffers sync.Pool // of *[copyBytes]byte

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
		userAgent: []string{o.UserAgent},
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            o.RootCAs,
			NextProtos:         []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(maxSessions),
		},
		buffers: sync.Pool{New: func() any { return new([copyBytes]byte) }},
	}
	// PreferGo, because the C library's resolver reads 127.1 and 0x7f000001 as addresses.
	c.resolver = &net.Resolver{PreferGo: true, Dial: c.nameServerDialer(o.DialNameServer)}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.transport = &http.Transport{
		Proxy:                  nil, // a proxy of the environment would dial in our place
		DialContext:            c.dialPlain,
		DialTLSContext:         c.dialTLS,
		Protocols:              protocols,
		DisableCompression:     true, // 50 KB of gzip are 50 MB
		MaxResponseHeaderBytes: maxHeaderRead,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdleHost,
		IdleConnTimeout:        idleTimeout,
	}
	return c, nil
}

// Close closes the connections that are idle. Call it when no request is under way.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do makes one attempt: at most one request reaches a receiver. It returns by the request's deadline
// or soon after ctx ends, whatever the receiver does, and keeps nothing of r but r.Header (see
// [Request]). It never panics.
func (c *Client) Do(ctx context.Context, r *Request) Result {
	res := Result{StartedAt: time.Now()}
	if f := c.attempt(ctx, r, &res); f != nil {
		res.Error, res.Detail, res.OwnFault = f.code, f.detail, f.own
	}
	res.Duration = time.Since(res.StartedAt)
	return res
}

// attempt fills res; the failure is nil if a complete response was read.
func (c *Client) attempt(ctx context.Context, r *Request, res *Result) *failure {
	u, faults := c.parse(r.URL)
	if faults != nil {
		return &failure{code: worst(faults), detail: joinFaults(faults)}
	}
	if f := c.prepareHeader(r); f != nil {
		return f
	}
	a := &attempt{parent: ctx, timeout: r.Timeout, deadline: res.StartedAt.Add(r.Timeout)}
	ctx, cancel := context.WithDeadline(a.trace(ctx), a.deadline)
	defer cancel()

	resp, err := c.transport.RoundTrip(newHTTPRequest(ctx, r, u))
	if err != nil {
		return c.explain(a, ctx, err)
	}
	defer resp.Body.Close()
	res.Status = resp.StatusCode
	res.Header = headerLines(resp.Header)
	res.RetryAfter = retryAfter(resp.Header)
	if resp.StatusCode < 200 { // 101: a switch that nobody asked for; net/http passes no other
		return protocolFault("the receiver answered with status " + resp.Status)
	}
	a.reading.Store(true)
	res.Body, err = c.readBody(resp)
	if err != nil {
		return c.explain(a, ctx, err)
	}
	return nil
}

// readBody reads at most maxBodyRead bytes, and keeps the first keptFailure or keptSuccess of them. A
// body that ends before its Content-Length or its last chunk is an error, if it ends below the bound;
// beyond it the connection is closed and the response counts as complete.
func (c *Client) readBody(resp *http.Response) ([]byte, error) {
	keep := keptFailure
	if resp.StatusCode < 300 {
		keep = keptSuccess
	}
	buf := c.buffers.Get().(*[copyBytes]byte)
	defer c.buffers.Put(buf)

	var kept []byte
	for total := 0; total < maxBodyRead; {
		n, err := resp.Body.Read(buf[:min(copyBytes, maxBodyRead-total)])
		if room := keep - len(kept); n > 0 && room > 0 {
			kept = append(kept, buf[:min(n, room)]...)
		}
		total += n
		if err != nil {
			if err == io.EOF { // bare: the end that the response announced
				return kept, nil
			}
			return kept, err
		}
	}
	return kept, nil
}
