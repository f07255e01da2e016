package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
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
	server  *http.Server
	serving sync.WaitGroup
}

func newReceivers(l *ledger, n int) *receivers {
	in := &receivers{ledger: l, secrets: make([]atomic.Pointer[signature.Secret], n)}
	mux := http.NewServeMux()
	mux.HandleFunc("/{webhook}", in.serve)
	in.server = &http.Server{Handler: mux, ReadHeaderTimeout: callTimeout}
	return in
}

// receive opens n receivers.
func receive(l *ledger, n int) (*receivers, error) {
	in := newReceivers(l, n)
	for i := range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			in.close()
			return nil, fmt.Errorf("open a receiver: %w", err)
		}
		in.urls = append(in.urls, fmt.Sprintf("http://%s/%d", listener.Addr(), i))
		in.serving.Go(func() { _ = in.server.Serve(listener) }) // until close
	}
	return in, nil
}

// close ends the receivers. What is under way is cut off.
func (in *receivers) close() {
	_ = in.server.Close()
	in.serving.Wait()
}

func (in *receivers) serve(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	at := time.Now()
	if err != nil {
		return // it did not arrive
	}
	webhook, err := strconv.Atoi(r.PathValue("webhook"))
	if err != nil || webhook < 0 || webhook >= len(in.secrets) {
		in.ledger.unexpected.Add(1)
		return
	}
	var envelope struct {
		ID   string          `json:"id"`
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(body, &envelope) != nil || envelope.ID != r.Header.Get(signature.HeaderID) {
		in.ledger.unexpected.Add(1)
		return
	}
	in.ledger.arrive(webhook, envelope.ID, string(envelope.Data), at, in.verify(webhook, r.Header, body, at) == nil)
}

var errNoSecret = errors.New("no secret is known")

func (in *receivers) verify(webhook int, h http.Header, body []byte, at time.Time) error {
	secret := in.secrets[webhook].Load()
	if secret == nil {
		return errNoSecret
	}
	return signature.Verify(h, body, at, *secret)
}
