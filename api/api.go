// Package api is the REST API: what a client can ask for, who may, and how faults are told.
//
// It hides HTTP, JSON and the routes' library; keys, scopes and the tree check; idempotency keys and
// cursors; and the one mapping of errors to answers. openapi.yaml is its contract, and the tests hold
// every route, request and answer to it.
package api

//go:generate go run ./internal/docpage -spec openapi.yaml -out docs.gen.html

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/echo"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/tail"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// Publisher takes events and makes them durable. It may be called by many goroutines.
type Publisher interface {
	// Admit answers the error with which a publish of the account would be refused now for want of room,
	// [dispatcher.ErrOverloaded] or [dispatcher.ErrAccountOverloaded], so that a body need not be read. The
	// nil account stands for any. It may take its time, but not beyond the end of ctx.
	Admit(ctx context.Context, account uuid.UUID) error

	// Publish answers without an error only when every publication is committed and flushed, with a
	// receipt for each in order. With an error none is stored, or, with [dispatcher.ErrUnavailable] or
	// when ctx has ended, it is not known: all of them or none. A publication whose key is known under
	// the same hash is not stored again: its receipt is the first one. The bytes of Data are the
	// publisher's from then on, and are never written to again by the caller.
	Publish(ctx context.Context, publications []dispatcher.Publication) ([]dispatcher.Receipt, error)

	// Test stores an event that only this webhook sees, sends it now, once, and answers with the attempt
	// on record, whatever came back. The error is [store.ErrNotFound] if there is no such webhook.
	Test(ctx context.Context, account, webhook uuid.UUID, eventType string, data []byte) (*fanfare.Attempt, error)
}

// URLChecker says what is wrong with a webhook's URL; nil: nothing.
type URLChecker interface {
	CheckURL(raw string) []egress.Fault
}

// Options are what the API needs. Everything but what says otherwise is required.
type Options struct {
	Store        *store.Store
	Registry     *registry.Registry
	Publisher    Publisher
	Tail         *tail.Tail
	Keyring      *seal.Keyring
	URLs         URLChecker
	Echo         *echo.Echo            // nil: there is no echo receiver
	PlatformKey  string                // a fixed platform key with every scope; "": none
	MinRetryStep time.Duration         // the platform's floor for steps of a retry schedule
	MaxWebhooks  int                   // of an account; 0: 10,000
	Log          *slog.Logger          // nil: nothing is logged
	Registerer   prometheus.Registerer // nil: nothing is measured
}

// Server answers the API's requests. It is an [http.Handler]; see [NewHTTPServer].
type Server struct {
	store        *store.Store
	registry     *registry.Registry
	publisher    Publisher
	tail         *tail.Tail
	keyring      *seal.Keyring
	urls         URLChecker
	echo         *echo.Echo
	platform     *[32]byte // the hash of the fixed platform key
	platformKey  *fanfare.Key
	minRetryStep time.Duration
	maxWebhooks  int
	log          *slog.Logger
	metrics      *metrics
	router       *mux.Router
}

// New makes a server.
func New(o Options) (*Server, error) {
	s := &Server{
		store:        o.Store,
		registry:     o.Registry,
		publisher:    o.Publisher,
		tail:         o.Tail,
		keyring:      o.Keyring,
		urls:         o.URLs,
		echo:         o.Echo,
		minRetryStep: o.MinRetryStep,
		maxWebhooks:  o.MaxWebhooks,
		log:          o.Log,
		metrics:      newMetrics(o.Registerer),
	}
	if s.store == nil || s.registry == nil || s.publisher == nil || s.tail == nil || s.keyring == nil || s.urls == nil {
		return nil, errors.New("api: an option is missing")
	}
	if len(o.PlatformKey) > maxKey {
		return nil, errors.New("api: the platform key is too long")
	}
	if o.PlatformKey != "" {
		hash := HashKey(o.PlatformKey)
		s.platform = &hash
		s.platformKey = &fanfare.Key{Name: "platform", Scopes: fanfare.Scopes()}
	}
	if s.maxWebhooks == 0 {
		s.maxWebhooks = 10_000
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.router = s.newRouter()
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.router.ServeHTTP(w, r) }

// Limits of a connection: no client can hold one for ever by being slow. A test send may take a webhook's whole timeout before its answer begins.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	answerTimeout = 150 * time.Second
	idleTimeout   = 120 * time.Second
	maxHeader     = 32 << 10
)

// NewHTTPServer is an [http.Server] for handler, with bounds for clients that are slow or worse.
func NewHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
}
