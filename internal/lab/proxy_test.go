package lab

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between the nodes and Postgres, and makes Postgres's answers late or stops them.
type proxy struct {
	delay atomic.Int64 // nanoseconds
	stall sync.RWMutex // locked: nothing is answered

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

// behindProxy has the nodes that are started from now on reach Postgres through a proxy.
func (l *lab) behindProxy() *proxy {
	l.Helper()
	u, err := url.Parse(l.url)
	l.ok(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.ok(err)
	p, to := &proxy{conns: make(map[net.Conn]bool)}, u.Host
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { p.carry(client, to) })
		}
	})
	l.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	u.Host = listener.Addr().String()
	l.env["FANFARE_DATABASE_URL"] = u.String()
	return p
}

func (p *proxy) carry(client net.Conn, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var ways sync.WaitGroup
	hangUp := func() {
		client.Close()
		server.Close()
	}
	ways.Go(func() { defer hangUp(); _, _ = io.Copy(server, client) }) // until either side hangs up
	ways.Go(func() { defer hangUp(); p.answer(client, server) })
	ways.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// answer passes on what Postgres says, late. What comes in the meantime is late by as much, not by more:
// it is the way that is long, not narrow.
func (p *proxy) answer(client, server net.Conn) {
	type piece struct {
		at    time.Time
		bytes []byte
	}
	pieces := make(chan piece, 1024)
	var sending sync.WaitGroup
	sending.Go(func() {
		for s := range pieces {
			if wait := time.Until(s.at); wait > 0 {
				<-time.After(wait)
			}
			p.stall.RLock()
			_, err := client.Write(s.bytes)
			p.stall.RUnlock()
			if errors.Is(err, net.ErrClosed) {
				continue // read on until the sender of pieces ends
			}
		}
	})
	for {
		b := make([]byte, 32<<10)
		n, err := server.Read(b)
		if n > 0 {
			pieces <- piece{time.Now().Add(time.Duration(p.delay.Load())), b[:n]}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	sending.Wait()
}
