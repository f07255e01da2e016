package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// maxRegistryAge is how old a ready node's registry may be.
const maxRegistryAge = 15 * time.Second

// newAdmin serves what only operators may see. It answers within a second also when Postgres is away.
func newAdmin(s *store.Store, reg *registry.Registry, d *dispatcher.Dispatcher, metrics *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.Healthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := d.Ready()
		if age := time.Since(reg.PolledAt()); age > maxRegistryAge {
			err = errors.Join(err, fmt.Errorf("the registry is %s old", age.Round(time.Second)))
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if perr := s.Ping(ctx); perr != nil {
			err = errors.Join(err, errors.New("Postgres does not answer"))
		}
		answer(w, err)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (a *App) serveAdmin(c *Config, handler http.Handler) error {
	l, err := net.Listen("tcp", c.AdminListen)
	if err != nil {
		return fmt.Errorf("open the admin listener: %w", err)
	}
	a.AdminAddr = l.Addr().String()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("admin listener: %w", err)
		}
	}()
	a.onStop(func(context.Context) error {
		err := server.Close()
		<-done
		return err
	})
	return nil
}
