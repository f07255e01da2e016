// Command go is a webhook receiver to start from: it verifies what it is sent, answers at once, works
// afterwards, and does the work of each event once.
//
//	SECRET=whsec_… go run ./examples/receivers/go
//
// LISTEN is the address to listen on, 127.0.0.1:8000 if it is not set. It hides nothing: it is there to be read.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fanfare-webhooks/fanfare/signature"
)

// event is what a webhook sends.
type event struct {
	ID   string          `json:"id"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

func main() {
	secret, err := signature.ParseSecret(os.Getenv("SECRET"))
	if err != nil {
		log.Fatalf("SECRET is the webhook's secret: %v", err)
	}
	// What was answered must not be lost: a real receiver writes the event to its database or its queue
	// before it answers. A channel is enough to show the order of things.
	todo := make(chan event, 1000)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hc", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "OK") })
	mux.Handle("POST /hooks", &signature.Handler{
		Secrets: []signature.Secret{secret},
		Next:    receive(todo),
		Refused: func(r *http.Request, err error) { log.Printf("refused a request from %s: %v", r.RemoteAddr, err) },
	})

	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8000"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s/hooks\n", listener.Addr())
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		work(todo)
	}()
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		server.Shutdown(context.Background())
		close(todo) // nobody adds to it any more
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-worked
}

// receive puts events by for work. It sees each only once, and only with a good signature.
func receive(todo chan<- event) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			http.Error(w, "not an event", http.StatusBadRequest)
			return
		}
		select {
		case todo <- e:
			w.WriteHeader(http.StatusAccepted)
		default: // it comes again
			http.Error(w, "too much to do", http.StatusServiceUnavailable)
		}
	})
}

// work does what the events are for.
func work(todo <-chan event) {
	for e := range todo {
		fmt.Printf("handled %s %s\n", e.ID, e.Type)
	}
}
