package egress

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is a connection to a receiver. While it is idle it holds no buffer but those of crypto/tls.
type conn struct {
	io.ReadWriter // TLS, or the wire itself
	wire          *wire

	origin    string
	interrupt func() // makes every Read and Write fail, now and until the next deadline is set

	// For the pool, while it is idle.
	idleSince    time.Time
	older, newer *conn // of all
	below        *conn // of its origin, the next older
	height       int   // of its origin, how many are below
}

// newConn wraps what net.Dialer has opened for "tcp".
func newConn(tcp net.Conn, origin string) (*conn, error) {
	w := &wire{TCPConn: tcp.(*net.TCPConn)}
	raw, err := w.SyscallConn()
	if err != nil {
		return nil, err
	}
	w.raw, w.glance = raw, w.readAvailable
	longAgo := time.Unix(1, 0)
	return &conn{
		ReadWriter: w, wire: w, origin: origin,
		interrupt: func() { w.SetDeadline(longAgo) },
	}, nil
}

// close sends no TLS alert before it closes: crypto/tls gives a receiver that does not read five seconds to
// take one. Nothing that we send depends on it: a request ends by its length.
func (c *conn) close() { c.wire.Close() }

// quiet reports whether an idle connection may carry a request: the receiver has neither closed it nor
// sent anything. What it sends unasked would be read as the answer to the next request.
func (c *conn) quiet() bool {
	c.wire.glancing = true
	n, err := c.Read(c.wire.unasked[:])
	c.wire.glancing = false
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// wire is a TCP connection that can be asked for what has arrived, without waiting, from above TLS: a
// record that says nothing about HTTP, like a new session ticket, is not yet an unasked response, and
// what TLS has read ahead is.
type wire struct {
	*net.TCPConn
	raw      syscall.RawConn
	glancing bool // Read does not wait
	unasked  [1]byte

	// The arguments and results of readAvailable.
	glance func(fd uintptr)
	p      []byte
	n      int
	err    error
}

// Read fails with os.ErrDeadlineExceeded when there is nothing to read and the wire is glancing: TLS
// takes that for a pause.
func (w *wire) Read(p []byte) (int, error) {
	if !w.glancing {
		return w.TCPConn.Read(p)
	}
	w.p = p
	err := w.raw.Control(w.glance)
	w.p = nil
	switch {
	case err != nil:
		return 0, err
	case w.err == syscall.EAGAIN:
		return 0, os.ErrDeadlineExceeded
	case w.err != nil:
		return 0, w.err
	case w.n == 0:
		return 0, io.EOF
	}
	return w.n, nil
}

// readAvailable relies on package net's sockets being non-blocking.
func (w *wire) readAvailable(fd uintptr) {
	for {
		w.n, w.err = syscall.Read(int(fd), w.p)
		if w.err != syscall.EINTR {
			return
		}
	}
}
