// Package registry knows which webhooks want an event, whom a key belongs to and what the catalog
// holds, in memory and in step with Postgres.
//
// It hides how: an immutable snapshot behind an atomic pointer, replaced by one that shares what did not
// change; an index of each account's webhooks; a log of changes that is asked for on a hint, in any case
// twice a second, and whenever somebody has to be certain.
package registry

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// Options of a registry. The zero value is fine.
type Options struct {
	Poll       time.Duration // how often changes are asked for without a hint; 0: 500 ms
	Tick       time.Duration // hints that come within it are one; 0: 50 ms
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// How long Postgres may take before it counts as away.
const (
	askTimeout     = 5 * time.Second  // for whether anything changed: one small statement
	changesTimeout = 30 * time.Second // for what changed
	loadTimeout    = 5 * time.Minute  // for everything
)

// Registry holds the newest snapshot. It may be used by many goroutines.
type Registry struct {
	store   Source
	keyring *seal.Keyring
	options Options
	log     *slog.Logger
	metrics *metrics

	current  atomic.Pointer[Snapshot]
	polledAt atomic.Pointer[time.Time]

	// Whoever has the turn polls, replaces current and may use what follows.
	turns  *turns
	mark   store.RegistryMark // of current
	away   bool               // Postgres did not answer the last poll
	warned map[uuid.UUID]bool // webhooks that the log was told of for their secrets
	told   map[uuid.UUID]bool // webhooks and accounts that it was told of for what cannot be read
	closed map[string]bool    // event types that it was told of for their modifiers
	mute   map[uuid.UUID]bool // accounts that it was told of for their signing secrets
	loose  map[string]bool    // and for their schema
}

// New makes a registry that knows nothing; see [Registry.Load].
func New(s Source, k *seal.Keyring, o Options) *Registry {
	if o.Poll == 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Tick == 0 {
		o.Tick = 50 * time.Millisecond
	}
	r := &Registry{
		store:   s,
		keyring: k,
		options: o,
		log:     o.Log,
		turns:   newTurns(),
		warned:  make(map[uuid.UUID]bool),
		told:    make(map[uuid.UUID]bool),
		closed:  make(map[string]bool),
		mute:    make(map[uuid.UUID]bool),
		loose:   make(map[string]bool),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.metrics = newMetrics(o.Registerer, r.PolledAt)
	r.current.Store(new(Snapshot))
	return r
}

// Snapshot is the newest one. It is empty before [Registry.Load] has returned.
func (r *Registry) Snapshot() *Snapshot { return r.current.Load() }

// PolledAt is when the poll began that the newest snapshot rests on: everything that was committed by
// then is in it. It is zero before [Registry.Load] has returned, and carries the monotonic clock.
func (r *Registry) PolledAt() time.Time {
	if at := r.polledAt.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Load reads everything.
func (r *Registry) Load(ctx context.Context) error {
	return r.turns.own(ctx, func(ctx context.Context) error { return r.poll(ctx, r.load) })
}

// CatchUp returns when everything that was committed before this call is in the snapshot, or with an
// error. Callers at the same time share one question to Postgres, and none waits for Run.
func (r *Registry) CatchUp(ctx context.Context) error {
	return r.turns.next(ctx, func(ctx context.Context) error { return r.poll(ctx, r.ask) })
}

// Run keeps the snapshot in step until ctx ends. It survives that Postgres is away, and then reads on
// from where it was.
func (r *Registry) Run(ctx context.Context) error {
	hints := make(chan struct{}, 1)
	var listener sync.WaitGroup
	listener.Go(func() { r.listen(ctx, hints) })
	defer listener.Wait()
	for {
		_ = r.CatchUp(ctx) // poll has logged it
		if !sleep(ctx, r.options.Tick, nil) || !sleep(ctx, r.options.Poll-r.options.Tick, hints) {
			return nil
		}
	}
}

// listen turns notifications into hints until ctx ends. A lost connection costs nothing but time, and
// whether Postgres is away is for the polls to say.
func (r *Registry) listen(ctx context.Context, hints chan<- struct{}) {
	for {
		_ = r.store.Listen(ctx, store.RegistryChannel, func() {
			r.metrics.listening.Set(1)
			select {
			case hints <- struct{}{}:
			default: // one is waiting
			}
		})
		r.metrics.listening.Set(0)
		if !sleep(ctx, r.options.Poll, nil) {
			return
		}
	}
}

// sleep waits for d, or less if there is a hint. It answers false if ctx ended.
func sleep(ctx context.Context, d time.Duration, hint <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hint:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// poll reads, and tells the log when Postgres goes away and when it is back.
func (r *Registry) poll(ctx context.Context, read func(context.Context) error) error {
	began := time.Now()
	err := read(ctx)
	switch {
	case err == nil:
		if r.away {
			r.log.InfoContext(ctx, "registry: Postgres answers again")
		}
		r.away = false
		r.polledAt.Store(&began)
	case ctx.Err() == nil && !r.away:
		r.away = true
		r.log.WarnContext(ctx, "registry: changes cannot be read", "error", err)
	}
	return err
}

// ask reads what changed, if anything did.
func (r *Registry) ask(ctx context.Context) error {
	head, err := r.head(ctx)
	if err != nil {
		return err
	}
	if head.Version == r.mark.Version && head.At.Equal(r.mark.At) {
		return nil
	}
	began := time.Now()
	short, cancel := context.WithTimeout(ctx, changesTimeout)
	defer cancel()
	u := newUpdate(r.Snapshot(), r.keyring, r.unreadable)
	mark, ok, err := r.store.RegistryChanges(short, r.mark, u)
	switch {
	case err != nil:
		return err
	case !ok:
		return r.load(ctx)
	}
	r.publish(u, mark, updateChanges, began)
	return nil
}

func (r *Registry) head(ctx context.Context) (store.RegistryMark, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return r.store.RegistryHead(ctx)
}

func (r *Registry) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	began := time.Now()
	u := newUpdate(new(Snapshot), r.keyring, r.unreadable)
	mark, err := r.store.LoadRegistry(ctx, u)
	if err != nil {
		return err
	}
	r.publish(u, mark, updateLoad, began)
	return nil
}

func (r *Registry) publish(u *update, mark store.RegistryMark, kind string, began time.Time) {
	next := u.done(mark.Version)
	r.mark = mark
	r.current.Store(next)
	r.metrics.webhooks.Set(float64(next.webhooks.len))
	r.metrics.unreadable.Set(float64(next.unreadable))
	r.metrics.unchecked.Set(float64(next.unchecked))
	r.metrics.updates.WithLabelValues(kind).Inc()
	r.metrics.seconds.Observe(time.Since(began).Seconds())
	for id, err := range u.unusable {
		if !r.told[id] {
			r.told[id] = true
			r.log.Error("registry: a webhook counts as disabled", "webhook_id", id, "error", err)
		}
	}
	for id, err := range u.mute {
		if !r.mute[id] {
			r.mute[id] = true
			r.log.Error("registry: an account's signing secret cannot be opened", "account_id", id, "error", err)
		}
	}
	for id, err := range u.unsigned {
		if !r.told[id] {
			r.told[id] = true
			r.log.Error("registry: an account's webhooks are signed as above it", "account_id", id, "error", err)
		}
	}
	for name, err := range u.closedTypes {
		if !r.closed[name] {
			r.closed[name] = true
			r.log.Error("registry: no webhook that sets a modifier gets events of a type", "event_type", name, "error", err)
		}
	}
	for name, err := range u.unchecked {
		if !r.loose[name] {
			r.loose[name] = true
			r.log.Error("registry: events of a type are not checked", "event_type", name, "error", err)
		}
	}
}

// unreadable tells the log, once, of a webhook with a secret that is closed to us.
func (r *Registry) unreadable(webhook uuid.UUID, err error) {
	if !r.warned[webhook] {
		r.warned[webhook] = true
		r.log.Error("registry: a webhook's secret cannot be opened", "webhook_id", webhook, "error", err)
	}
}
