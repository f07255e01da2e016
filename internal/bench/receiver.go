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

// maxBody bounds what a receiver reads: the largest data and its envelope.
const maxBody = maxSize + 64<<10

// receivers answer 200 to whatever they get, and hold it against the ledger. Each has an address of its
// own, as a node's real receivers have.
type receivers struct {
	ledger  *ledger
	urls    []string
	secrets []atomic.Pointer[signature.Secret] // nil: the webhook is not made yet
	account atomic.Pointer[string]             // whose webhooks they are; nil: not known yet
	typ     string                             // of every event
	ok      []byte                             // the answer to everything

	serving   sync.WaitGroup
	mu        sync.Mutex
	listeners []net.Listener // guarded by mu, like the rest
	open      map[net.Conn]bool
	closed    bool
}

func newReceivers(l *ledger, n int, eventType string) *receivers {
	return &receivers{
		ledger: l, secrets: make([]atomic.Pointer[signature.Secret], n), typ: eventType, open: make(map[net.Conn]bool),
		// What net/http would answer, so that the node has as much to read as from a real receiver.
		ok: []byte("HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\nContent-Length: 0\r\n\r\n"),
	}
}

// receive opens n receivers of events of that type.
func receive(l *ledger, n int, eventType string) (*receivers, error) {
	in := newReceivers(l, n, eventType)
	for i := range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			in.close()
			return nil, fmt.Errorf("open a receiver: %w", err)
		}
		in.urls = append(in.urls, fmt.Sprintf("http://%s/%d", listener.Addr(), i))
		in.listeners = append(in.listeners, listener)
		in.serving.Go(func() { in.accept(listener) })
	}
	return in, nil
}

// close ends the receivers. What is under way is cut off.
func (in *receivers) close() {
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
	in.mu.Lock()
	in.open[c] = true
	closed := in.closed
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		delete(in.open, c)
	}()
	for d := newDelivery(c); !closed; {
		path, body, err := d.request(maxBody)
		at := time.Now()
		if err != nil {
			if errors.Is(err, errMessage) || errors.Is(err, errLength) {
				in.ledger.surprise("a receiver got " + err.Error())
			}
			return // it did not arrive
		}
		in.check(d, path, body, at)
		if _, err := c.Write(in.ok); err != nil || d.closes() {
			return
		}
	}
}
