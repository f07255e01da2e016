package lab

import (
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between the nodes and whom they talk to, Postgres or a receiver. It makes what comes back
// late or stops it, and breaks connections in every way that a network does.
type proxy struct {
	addr   string       // where it listens: host:port
	to     string       // host:port
	delay  atomic.Int64 // nanoseconds
	stall  sync.RWMutex // locked: nothing is answered
	broken atomic.Int64 // connections, as fates and breakOne have it
	// fates answers the fate of each connection that begins; nil: nobody breaks it.
	fates atomic.Pointer[func() fate]

	mu        sync.Mutex // guards crossings
	crossings map[*crossing]bool
}

// ending is how a connection breaks.
type ending int

const (
	hangUp  ending = iota // both sides are told that the other has ended
	reset                 // the connection is gone at once, with what was on its way
	silence               // half-open: each side believes that the other is there, and nothing passes
)

// fate is how a connection breaks: when so many bytes have passed on one of its ways.
type fate struct {
	there, back int64 // bytes to the server and from it; negative: any number
	how         ending
}

// forever is the fate of a connection that nobody breaks.
var forever = fate{there: -1, back: -1}

// errBroken ends the copying on a way of a connection that was broken.
var errBroken = errors.New("the proxy broke the connection")

// behindProxy has the nodes that are started from now on reach Postgres through a proxy.
func (l *lab) behindProxy() *proxy {
	l.Helper()
	u, err := url.Parse(l.url)
	l.ok(err)
	p := l.proxy(u.Host)
	u.Host = p.addr
	l.env["FANFARE_DATABASE_URL"] = u.String()
	return p
}

// behindProxy has the webhooks that are made from now on reach the endpoint through a proxy.
func (e *endpoint) behindProxy() *proxy {
	e.l.Helper()
	p := e.l.proxy(strings.TrimPrefix(e.url, "http://"))
	e.url = "http://" + p.addr
	return p
}

// proxy opens one to a server, until the lab ends.
func (l *lab) proxy(to string) *proxy {
	l.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.ok(err)
	p := &proxy{addr: listener.Addr().String(), to: to, crossings: make(map[*crossing]bool)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { p.carry(client.(*net.TCPConn)) })
		}
	})
	l.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		for c := range p.crossings {
			c.hangUp()
		}
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// crossing is a connection through a proxy.
type crossing struct {
	p              *proxy
	client, server *net.TCPConn
	there, back    way
	how            atomic.Int64 // an ending
	over           atomic.Bool  // it is broken
	silent         atomic.Bool  // and nobody is told
}

// way is one direction of a crossing. Only one goroutine writes to it.
type way struct {
	c    *crossing
	to   *net.TCPConn
	left atomic.Int64 // bytes until the crossing breaks; negative: it does not
}

func (p *proxy) carry(client *net.TCPConn) {
	conn, err := net.Dial("tcp", p.to)
	if err != nil {
		client.Close()
		return
	}
	server := conn.(*net.TCPConn)
	c := &crossing{p: p, client: client, server: server}
	c.there.c, c.there.to = c, server
	c.back.c, c.back.to = c, client
	end := forever
	if next := p.fates.Load(); next != nil {
		end = (*next)()
	}
	c.there.left.Store(end.there)
	c.back.left.Store(end.back)
	c.how.Store(int64(end.how))
	p.mu.Lock()
	p.crossings[c] = true
	p.mu.Unlock()
	var ways sync.WaitGroup
	ways.Go(func() { defer c.hangUp(); _, _ = io.Copy(&c.there, client) }) // until either side hangs up
	ways.Go(func() { defer c.hangUp(); c.answer() })
	ways.Wait()
	p.mu.Lock()
	delete(p.crossings, c)
	p.mu.Unlock()
}

func (c *crossing) hangUp() {
	c.client.Close()
	c.server.Close()
}

// breaks ends the crossing as its fate says.
func (c *crossing) breaks() {
	if !c.over.CompareAndSwap(false, true) {
		return
	}
	c.p.broken.Add(1)
	switch ending(c.how.Load()) {
	case silence:
		c.silent.Store(true)
		return
	case reset:
		_ = c.client.SetLinger(0)
		_ = c.server.SetLinger(0)
	}
	c.hangUp()
}

// Write passes on what the fate of the crossing lets through.
func (w *way) Write(b []byte) (int, error) {
	left := w.left.Load()
	switch {
	case w.c.silent.Load():
		return len(b), nil
	case left < 0:
		return w.to.Write(b)
	case int64(len(b)) < left:
		w.left.Add(-int64(len(b)))
		return w.to.Write(b)
	}
	n, err := w.to.Write(b[:left])
	if w.c.breaks(); w.c.silent.Load() {
		return len(b), nil
	}
	return n, errors.Join(err, errBroken)
}

// answer passes on what the server says, late. What comes in the meantime is late by as much, not by more:
// it is the way that is long, not narrow.
func (c *crossing) answer() {
	type piece struct {
		at    time.Time
		bytes []byte
	}
	pieces := make(chan piece, 1024)
	var sending sync.WaitGroup
	sending.Go(func() {
		var failed error
		for s := range pieces {
			if failed != nil {
				continue // read on until the sender of pieces ends
			}
			if wait := time.Until(s.at); wait > 0 {
				<-time.After(wait)
			}
			c.p.stall.RLock()
			_, failed = c.back.Write(s.bytes)
			c.p.stall.RUnlock()
		}
	})
	for {
		b := make([]byte, 32<<10)
		n, err := c.server.Read(b)
		if n > 0 {
			pieces <- piece{time.Now().Add(time.Duration(c.p.delay.Load())), b[:n]}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	sending.Wait()
}

// breakOne breaks one of the connections that there are, after so many bytes more on one of its ways. It
// answers false if there is none.
func (p *proxy) breakOne(end fate) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.crossings { // in no order
		if c.over.Load() {
			continue
		}
		c.how.Store(int64(end.how))
		if end.there == 0 || end.back == 0 {
			c.breaks()
			return true
		}
		c.there.left.Store(end.there)
		c.back.left.Store(end.back)
		return true
	}
	return false
}

// mend takes back what fates and breakOne have in store for the connections that there are, and ends those that
// are half-open, as TCP would find out.
func (p *proxy) mend() {
	p.fates.Store(nil)
	p.delay.Store(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.crossings {
		c.there.left.Store(-1)
		c.back.left.Store(-1)
		if c.silent.Load() {
			c.hangUp()
		}
	}
}
