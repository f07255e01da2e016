package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// rawConnections is how many requests of the yardstick are under way at once.
const rawConnections = 64

// raw is the yardstick: how many POSTs of size bytes a second net/http makes to itself on this machine,
// at this minute, with nothing else to do. It is 0 if there is no time for it.
func raw(ctx context.Context, size int, d time.Duration) (perSecond float64, err error) {
	if d == 0 || ctx.Err() != nil {
		return 0, nil
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("open the raw receiver: %w", err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // the client sees what went wrong
		}),
		ReadHeaderTimeout: callTimeout,
	}
	var serving, clients sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until Close
	defer serving.Wait()
	defer server.Close()

	client := newHTTP(rawConnections)
	defer client.CloseIdleConnections()
	url, body := "http://"+listener.Addr().String()+"/", bytes.Repeat([]byte("x"), size)
	var n atomic.Int64
	begin := time.Now()
	for range rawConnections {
		clients.Go(func() {
			for ctx.Err() == nil && time.Since(begin) < d { // who has begun may end
				if post(ctx, client, url, body) {
					n.Add(1)
				}
			}
		})
	}
	clients.Wait()
	return float64(n.Load()) / time.Since(begin).Seconds(), nil
}

func post(ctx context.Context, client *http.Client, url string, body []byte) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	response, err := client.Do(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return err == nil && response.StatusCode == http.StatusOK
}
