package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// The ways in which an endpoint can fail.
const (
	Fail500    = "500"    // answers 500 at once
	FailRefuse = "refuse" // lets nobody connect
)

// bad are endpoints that do not do their part, beside the healthy ones that are measured. Nothing needs
// to arrive at them.
type bad struct {
	hanging, failing int // how many
	hang             time.Duration
	refuse           bool
	urls             []string // first of the hanging, then of the failing ones
	refusing         []*refusal
	ok, fail         []byte // answers: of a hanging one in the end, of a failing one
	*badCount
}

// badCount is what bad endpoints got.
type badCount struct{ held, released, cut, failed atomic.Int64 }

func newBad(c *Config) bad {
	return bad{
		hanging: c.Hanging, failing: c.Failing, hang: c.Hang, refuse: c.FailWith == FailRefuse,
		ok: answer("200 OK"), fail: answer("500 Internal Server Error"), badCount: new(badCount),
	}
}

// The paths of bad endpoints.
const (
	pathHang = "/hang"
	pathFail = "/fail"
)

// openBad gives each bad endpoint its address.
func (in *receivers) openBad() error {
	b := &in.bad
	for range b.hanging {
		if err := in.listen(&b.urls, pathHang); err != nil {
			return err
		}
	}
	for range b.failing {
		if !b.refuse {
			if err := in.listen(&b.urls, pathFail); err != nil {
				return err
			}
			continue
		}
		r, err := newRefusal()
		if err != nil {
			return fmt.Errorf("reserve an address that refuses: %w", err)
		}
		b.refusing = append(b.refusing, r)
		b.urls = append(b.urls, "http://"+r.address+pathFail)
	}
	return nil
}

func (b *bad) close() (err error) {
	for _, r := range b.refusing {
		err = errors.Join(err, r.close())
	}
	b.refusing = nil
	return err
}

// is reports whether a path is that of a bad endpoint.
func (b *bad) is(path []byte) bool { return string(path) == pathHang || string(path) == pathFail }

// answer is what a bad endpoint answers, nil if nothing.
func (b *bad) answer(path []byte, c net.Conn, w *wire) []byte {
	if string(path) == pathFail {
		b.failed.Add(1)
		return b.fail
	}
	b.held.Add(1)
	return b.hold(c, w)
}

// hold waits for as long as a hanging endpoint does, and answers nil if the node goes before.
func (b *bad) hold(c net.Conn, w *wire) []byte {
	if c.SetReadDeadline(time.Now().Add(b.hang)) != nil {
		return nil
	}
	// Nothing may come before the answer: what ends the wait early is the end of the connection.
	_, err := w.in.Peek(1)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		if !errors.Is(err, net.ErrClosed) { // else we closed it
			b.cut.Add(1)
		}
		return nil
	}
	b.released.Add(1)
	if c.SetReadDeadline(time.Time{}) != nil {
		return nil
	}
	return b.ok
}

// report is nil if there are no bad endpoints.
func (b *bad) report() *Bad {
	if b.hanging+b.failing == 0 {
		return nil
	}
	r := &Bad{Hanging: b.hanging, Held: int(b.held.Load()), Released: int(b.released.Load()), CutOff: int(b.cut.Load())}
	if b.hanging > 0 {
		r.HangSeconds = b.hang.Seconds()
	}
	r.Failing, r.Failed = b.failing, int(b.failed.Load())
	if b.failing > 0 {
		r.FailWith = Fail500
		if b.refuse {
			r.FailWith = FailRefuse
		}
	}
	return r
}
