package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxIdle is how long a connection may have been idle and is still used: less than any server keeps it,
// since a call on one that has just been closed would count as a fault.
const maxIdle = 5 * time.Second

// publisher makes the publish calls of a load over connections that it keeps. It is not net/http's
// client, which takes several times the CPU of the machine that is being measured.
type publisher struct {
	url     *url.URL
	base    string        // of the paths of calls
	timeout time.Duration // of a call
	auth    string

	mu     sync.Mutex
	idle   []*link // guarded by mu; the last one used is the last
	all    map[*link]bool
	closed bool
}

// link is a connection of the publisher, used by one call at a time.
type link struct {
	net.Conn
	wire *wire
	body []byte // of the next request
	out  []byte // the request
	used time.Time
}

func newPublisher(t Target) (*publisher, error) {
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no http or https URL", t.URL)
	}
	return &publisher{
		url: u, base: strings.TrimSuffix(u.EscapedPath(), "/"), timeout: callTimeout, auth: "Bearer " + t.Key,
		all: make(map[*link]bool),
	}, nil
}

// close ends all connections, and the calls under way on them.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for l := range p.all {
		l.Close()
	}
	clear(p.all)
	p.idle = nil
}

// get takes an idle connection or makes one.
func (p *publisher) get() (*link, error) {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return p.dial()
		}
		l := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if time.Since(l.used) < maxIdle {
			return l, nil
		}
		p.drop(l)
	}
}

// put gives a connection back that has no call under way.
func (p *publisher) put(l *link) {
	l.used = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.idle = append(p.idle, l)
	}
}

func (p *publisher) drop(l *link) {
	l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, l)
}

func (p *publisher) dial() (*link, error) {
	port := p.url.Port()
	if port == "" {
		port = p.url.Scheme // a service's name will do
	}
	address := net.JoinHostPort(p.url.Hostname(), port)
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	var conn net.Conn
	var err error
	if p.url.Scheme == "https" {
		conn, err = (&tls.Dialer{}).DialContext(ctx, "tcp", address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	l := &link{Conn: conn, wire: newWire(conn)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	p.all[l] = true
	return l, nil
}

// post publishes n events: body appends the request's to its argument, and took is called with the
// number and the id of each event that the node took. fault says what went wrong, "" if nothing did: an
// HTTP status, or timeout, connection or answer.
func (p *publisher) post(path string, n int, body func([]byte) []byte, took func(i int, id []byte)) (fault string) {
	l, err := p.get()
	if err != nil {
		return kindOf(err)
	}
	l.body = body(l.body[:0])
	status, answer, err := l.call(p, path)
	if err != nil {
		p.drop(l)
		return kindOf(err)
	}
	if status != http.StatusAccepted {
		fault = strconv.Itoa(status)
	} else if !receipts(answer, n, took) {
		fault = "answer"
	}
	if l.wire.closes() {
		p.drop(l)
	} else {
		p.put(l)
	}
	return fault
}

// call makes one request of l.body. The answer is valid until the next call.
func (l *link) call(p *publisher, path string) (status int, answer []byte, err error) {
	l.out = append(l.out[:0], "POST "...)
	l.out = append(l.out, p.base...)
	l.out = append(l.out, path...)
	l.out = append(l.out, " HTTP/1.1\r\nHost: "...)
	l.out = append(l.out, p.url.Host...)
	l.out = append(l.out, "\r\nAuthorization: "...)
	l.out = append(l.out, p.auth...)
	l.out = append(l.out, "\r\nUser-Agent: fanfare-bench\r\nContent-Type: application/json\r\nContent-Length: "...)
	l.out = strconv.AppendInt(l.out, int64(len(l.body)), 10)
	l.out = append(l.out, "\r\n\r\n"...)
	l.out = append(l.out, l.body...)
	if err := l.SetDeadline(time.Now().Add(p.timeout)); err != nil {
		return 0, nil, err
	}
	if _, err := l.Write(l.out); err != nil {
		return 0, nil, err
	}
	return l.wire.response(maxAnswer)
}

func kindOf(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "connection"
}

const idLength = len("00000000-0000-0000-0000-000000000000")

// receipts reads the ids from the answer to a publish call of n events: of one receipt, or of a batch's
// {"data": […]}. It reports whether there are n. An answer that begins each receipt with its id, as
// Fanfare's do, is only scanned.
func receipts(answer []byte, n int, took func(i int, id []byte)) bool {
	const begin = `{"id":"`
	ids := make([][]byte, 0, 16) // on the stack
	for rest := answer; ; {
		at := bytes.Index(rest, []byte(begin))
		if at < 0 {
			break
		}
		rest = rest[at+len(begin):]
		if len(rest) <= idLength || rest[idLength] != '"' {
			break
		}
		ids, rest = append(ids, rest[:idLength]), rest[idLength:]
	}
	if len(ids) != n {
		if ids = parseReceipts(answer); len(ids) != n {
			return false
		}
	}
	for i, id := range ids {
		took(i, id)
	}
	return true
}

func parseReceipts(answer []byte) (ids [][]byte) {
	type receipt struct{ ID string }
	var a struct {
		receipt
		Data []receipt
	}
	if json.Unmarshal(answer, &a) != nil {
		return nil
	}
	if a.Data == nil {
		a.Data = []receipt{a.receipt}
	}
	if slices.Contains(a.Data, receipt{}) {
		return nil
	}
	for _, r := range a.Data {
		ids = append(ids, []byte(r.ID))
	}
	return ids
}
