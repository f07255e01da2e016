package bench

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

const (
	// maxBody bounds what a receiver reads: the largest data and its envelope.
	maxBody = maxSize + 64<<10

	// maxListeners is from how many webhooks on they share addresses: each listener takes a port.
	maxListeners = 1000
)

// receivers answer 200 to whatever they get, and hold it against the ledger of the load. Each webhook has
// an address of its own, as a node's real receivers have, as far as that goes.
type receivers struct {
	ledger   atomic.Pointer[ledger]             // nil: nothing is published yet
	secrets  []atomic.Pointer[signature.Secret] // by webhook; nil: it is not made yet
	accounts []atomic.Pointer[string]           // ids; nil: not known yet
	urls     []string                           // of the listeners
	bad      bad
	ok       []byte // the answer to everything

	serving   sync.WaitGroup
	mu        sync.Mutex
	listeners []net.Listener // guarded by mu, like the rest
	open      map[net.Conn]bool
	closed    bool
}

func newReceivers(p *plan) *receivers {
	w := &p.layouts[0]
	return &receivers{
		secrets: make([]atomic.Pointer[signature.Secret], w.webhooks()), accounts: make([]atomic.Pointer[string], w.accounts),
		bad: p.bad, open: make(map[net.Conn]bool), ok: answer("200 OK"),
	}
}

// answer is what net/http would send, so that the node has as much to read as from a real receiver.
func answer(status string) []byte {
	return []byte("HTTP/1.1 " + status + "\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\nContent-Length: 0\r\n\r\n")
}

// receive opens the receivers.
func receive(p *plan) (in *receivers, err error) {
	in = newReceivers(p)
	for range min(len(in.secrets), maxListeners) {
		if err := in.listen(&in.urls, ""); err != nil {
			return nil, errors.Join(err, in.close())
		}
	}
	if err := in.openBad(); err != nil {
		return nil, errors.Join(err, in.close())
	}
	return in, nil
}

// listen opens a receiver and appends its URL, with that path.
func (in *receivers) listen(urls *[]string, path string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("open a receiver: %w", err)
	}
	*urls = append(*urls, "http://"+listener.Addr().String()+path)
	in.mu.Lock()
	in.listeners = append(in.listeners, listener)
	in.mu.Unlock()
	in.serving.Go(func() { in.accept(listener) })
	return nil
}

// url is where a webhook is delivered.
func (in *receivers) url(webhook int) string {
	return fmt.Sprintf("%s/%d", in.urls[webhook%len(in.urls)], webhook)
}

// close ends the receivers. What is under way is cut off.
func (in *receivers) close() (err error) {
	in.mu.Lock()
	in.closed = true
	for _, l := range in.listeners {
		l.Close()
	}
	for c := range in.open {
		c.Close()
	}
	in.mu.Unlock()
	in.serving.Wait()
	return in.bad.close()
}

func (in *receivers) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, say
			time.Sleep(refused)
			continue
		}
		in.serving.Go(func() { in.serve(c) })
	}
}

// serve answers the requests of one connection until it ends.
func (in *receivers) serve(c net.Conn) {
	defer c.Close()
	if !in.enter(c) {
		return
	}
	defer in.leave(c)
	for d := newDelivery(c); ; {
		path, body, err := d.request(maxBody)
		at := time.Now()
		if err != nil {
			in.unreadable(err)
			return
		}
		text := in.ok
		if l := in.ledger.Load(); in.bad.is(path) {
			if text = in.bad.answer(path, c, d.wire); text == nil {
				return
			}
		} else if l != nil {
			in.check(l, d, path, body, at)
		}
		if _, err := c.Write(text); err != nil || d.closes() {
			return
		}
	}
}

// enter reports whether a connection may be served, and has close end it.
func (in *receivers) enter(c net.Conn) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.open[c] = !in.closed
	return !in.closed
}

func (in *receivers) leave(c net.Conn) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.open, c)
}

// unreadable notes a request that came, but is none. What was cut off did not come.
func (in *receivers) unreadable(err error) {
	if l := in.ledger.Load(); l != nil && (errors.Is(err, errMessage) || errors.Is(err, errLength)) {
		l.surprise("a receiver got " + err.Error())
	}
}
