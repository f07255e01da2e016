// Package app wires a node together: it reads the configuration, connects, starts every part in order
// and stops them in the opposite one.
//
// It hides which part needs which, and what `fanfare dev` does to have all of it on one machine.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/catalog"
	"github.com/fanfare-webhooks/fanfare/internal/disabler"
	"github.com/fanfare-webhooks/fanfare/internal/echo"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/outbox"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/tail"
	"github.com/fanfare-webhooks/fanfare/internal/version"
	"github.com/fanfare-webhooks/fanfare/migrations"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// App is a running node.
type App struct {
	PublicAddr string // host:port of the API
	AdminAddr  string // host:port of the admin listener

	log    *slog.Logger
	public net.Listener
	server *http.Server
	stops  []func(context.Context) error
	failed chan error // a part that ended by itself

	// ballast is memory that is never touched, and so costs none, but that the garbage collector counts as
	// live: it lets a small heap grow by that much between two collections.
	ballast []byte
}

// ballastSize keeps collections some tens of milliseconds apart at full load; without it they are a
// quarter of the CPU.
const ballastSize = 16 << 20

// Start brings a node up to where it answers requests. Its listeners are open when it returns; requests
// are answered from [App.Serve] on.
func Start(ctx context.Context, c *Config, log *slog.Logger) (a *App, err error) {
	a = &App{log: log, failed: make(chan error, 4)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
		}
	}()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	if err := prepareDatabase(ctx, c, log); err != nil {
		return a, err
	}
	s, err := store.Open(ctx, store.Options{URL: c.DatabaseURL, MaxConns: int32(c.MaxConns), Events: api.EventBodies(), Log: log})
	if err != nil {
		return a, err
	}
	a.onStop(func(context.Context) error { s.Close(); return nil })
	warning, err := s.CheckDurable(ctx)
	if err != nil {
		return a, err
	}
	if warning != "" {
		log.Warn(warning)
	}

	if err := applyBuiltIn(ctx, s, log); err != nil {
		return a, err
	}
	if c.Catalog != "" {
		steps, err := s.ApplyCatalog(ctx, fanfare.OriginFile, c.eventTypes)
		if err != nil {
			return a, fmt.Errorf("FANFARE_CATALOG: %w", err)
		}
		log.Info("the catalog file is applied", "file", c.Catalog, "changes", catalog.Summary(steps))
	}

	out, err := egress.New(egress.Options{
		Allow: c.allow, Deny: c.deny, AllowHTTP: c.AllowHTTP, AllowLoopback: c.allowLoopback,
		UserAgent: "Fanfare/" + version.Number, Log: log,
	})
	if err != nil {
		return a, err
	}
	a.onStop(func(context.Context) error { out.Close(); return nil })

	a.ballast = make([]byte, ballastSize)
	reg := registry.New(s, c.keyring, registry.Options{Log: log, Registerer: metrics})
	accounts := tail.Accounts{Tree: func() tail.Tree { return reg.Snapshot() }, CatchUp: reg.CatchUp}
	end := tail.New(s, accounts, tail.Options{Log: log, Registerer: metrics})
	d := dispatcher.New(s, reg, out, dispatcher.Options{
		Slots: c.MaxInFlight, Grace: c.Grace, Retention: c.retention, Keyring: c.keyring, Committed: end.Wake, Log: log, Registerer: metrics,
	})
	// First, so that an operator can watch the start and the end.
	if err := a.serveAdmin(c, newAdmin(s, reg, d, metrics)); err != nil {
		return a, err
	}
	if err := loadRegistry(ctx, reg); err != nil {
		return a, err
	}
	a.background("registry", reg.Run)
	if err := d.Start(ctx); err != nil {
		return a, err
	}
	a.background("dispatcher", d.Run)
	events := outbox.New(s, store.OutboxEvent, outbox.Events(d, log), outbox.Options{Before: s.TellExhaustions, Term: 20 * time.Second, Log: log})
	a.background("outbox", events.Run)
	policies := func() disabler.Policies { return reg.Snapshot() }
	a.background("disabler", disabler.New(s, policies, disabler.Options{Disabled: d.CountDisabled, Log: log}).Run)
	a.background("tail", end.Run)

	o := api.Options{
		Store: s, Registry: reg, Publisher: d, Tail: end, Keyring: c.keyring, URLs: out, PlatformKey: c.PlatformKey,
		MinRetryStep: c.minRetryStep, Log: log, Registerer: metrics,
	}
	if c.Echo {
		e := echo.New()
		a.onStop(func(context.Context) error { e.Close(); return nil })
		o.Echo = e
	}
	handler, err := api.New(o)
	if err != nil {
		return a, err
	}
	if err := a.listen(c, pages(c, handler, api.EnablePage(s, c.keyring, log))); err != nil {
		return a, err
	}
	a.startMail(c, s)
	// Before the server waits for the answers that are under way.
	a.onStop(func(context.Context) error { end.Stop(); return nil })
	return a, nil
}

// applyBuiltIn puts the service's own event types into the catalog. A name that somebody else's type has
// already stays theirs: a node must start all the same.
func applyBuiltIn(ctx context.Context, s *store.Store, log *slog.Logger) error {
	types := api.OperationalTypes()
	_, err := s.ApplyCatalog(ctx, fanfare.OriginPlatform, types)
	var taken *store.NotMineError
	if errors.As(err, &taken) {
		log.Warn("the catalog has event types by the names of the service's own; rename them to get these", "names", taken.Names)
		types = slices.DeleteFunc(types, func(t fanfare.EventType) bool { return slices.Contains(taken.Names, t.Name) })
		_, err = s.ApplyCatalog(ctx, fanfare.OriginPlatform, types)
	}
	return err
}

// Serve answers requests until ctx ends or a part fails, and then stops the node.
func (a *App) Serve(ctx context.Context) error {
	go func() {
		if err := a.server.Serve(a.public); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("public listener: %w", err)
		}
	}()
	var err error
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case err = <-a.failed:
	}
	return errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
}

// Stop runs the stops newest first, all of them, and joins their errors.
func (a *App) Stop(ctx context.Context) (err error) {
	for _, stop := range slices.Backward(a.stops) {
		err = errors.Join(err, stop(ctx))
	}
	a.stops = nil
	return err
}

func (a *App) onStop(stop func(context.Context) error) { a.stops = append(a.stops, stop) }

// background runs a part until it is stopped.
func (a *App) background(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			a.failed <- fmt.Errorf("%s ended by itself: %w", name, err)
		}
		done <- err
	}()
	a.onStop(func(context.Context) error {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		return nil
	})
}

// drainTime is how long clients may take to get the answers that they wait for at a stop.
const drainTime = 20 * time.Second

func (a *App) listen(c *Config, handler http.Handler) (err error) {
	if a.public, err = net.Listen("tcp", c.Listen); err != nil {
		return fmt.Errorf("open the public listener: %w", err)
	}
	a.PublicAddr = a.public.Addr().String()
	a.server = api.NewHTTPServer(handler)
	a.server.ErrorLog = slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)
	a.onStop(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTime)
		defer cancel()
		if err := a.server.Shutdown(ctx); err != nil {
			return errors.Join(a.server.Close(), a.public.Close())
		}
		return closed(a.public.Close()) // the server may never have had it
	})
	return nil
}

// closed is err unless it only says that something is closed already.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// prepareDatabase waits for Postgres and sees to its schema.
func prepareDatabase(ctx context.Context, c *Config, log *slog.Logger) error {
	check := func() error {
		if c.Migrate {
			applied, err := migrations.Up(ctx, c.DatabaseURL)
			for _, m := range applied {
				log.Info("migrated", "version", m.Version, "file", m.Name)
			}
			return err
		}
		return migrations.Check(ctx, c.DatabaseURL)
	}
	const tries = 6
	for try, wait := 1, time.Second; ; try, wait = try+1, 2*wait {
		err := check()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, migrations.ErrPending):
			return errors.New("the database is not migrated: run 'fanfare migrate up', or start with FANFARE_MIGRATE=true")
		case !store.Unreachable(err):
			return err
		case try == tries:
			return fmt.Errorf("Postgres cannot be reached: %s", oneLine(err))
		}
		log.Warn("Postgres cannot be reached; trying again", "in", wait.String(), "error", oneLine(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func parseLevel(text string) (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(text))
	return level, err
}

// Level is what is logged.
func (c *Config) Level() slog.Level {
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return slog.LevelInfo
	}
	return level
}
