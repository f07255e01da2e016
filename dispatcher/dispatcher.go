// Package dispatcher is an event's whole life: it is taken in, committed, queued, sent, recorded,
// repeated when it failed and taken over when a node dies.
//
// It hides how an event that was acknowledged cannot be lost: what is in memory is only ever a copy of
// what an open group or a row of retries owes, and both name the incarnation that has them in hand.
//
// The way of the data is the order to read it in:
//
//	log.go      what the dispatcher asks of the database and of the world outside, and may rely on
//	publish.go  what a caller gives and gets; matching
//	admit.go    who is refused, and when, so that the others do not wait
//	commit.go   events that arrive together are one append to the log
//	queue.go    deliveries wait in turn: accounts, then webhooks, then age
//	aim.go      whose they are, and what the registry says of their receiver
//	room.go     how many of them are in memory, and who is asked for more
//	endpoint.go how much a receiver can bear, learned from its answers
//	oneoff.go   one-off destinations, which no webhook names
//	send.go     one attempt, from the queue's head to an outcome
//	health.go   what became of attempts, added up by webhook and minute
//	record.go   outcomes are written in lots, and groups settled
//	claim.go    retries come back when they are due
//	node.go     the incarnation and its lease, which fence all of the above
//	recover.go  what dead nodes, and this one's own lost writes, left behind
//	upkeep.go   partitions, old keys, the numbers an operator watches
package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/weaken"
	"github.com/fanfare-webhooks/fanfare/registry"
)

// Options bound a dispatcher. Zero values take the defaults.
type Options struct {
	Slots       int           // requests in flight; 1,000
	QueueDepth  int           // deliveries in memory; 100,000
	HookDepth   int           // deliveries of one webhook in memory; 1,000
	QueueBytes  int64         // payloads in memory; 64 MiB
	IngestDepth int           // events that wait for their commit; 10,000
	IngestBytes int64         // and their payloads; 64 MiB
	Grace       time.Duration // how long requests in flight may take at a shutdown; 65 s
	Retention   time.Duration // how long events are kept; 30 days
	Committed   func()        // is told of each commit to the log, and must not take its time; nil: nobody is
	Keyring     *seal.Keyring // seals one-off destinations; nil: there are none
	Log         *slog.Logger
	Registerer  prometheus.Registerer
}

func (o *Options) setDefaults() {
	setDefault(&o.Slots, 1000)
	setDefault(&o.QueueDepth, 100_000)
	setDefault(&o.HookDepth, 1000)
	setDefault(&o.QueueBytes, 64<<20)
	setDefault(&o.IngestDepth, 10_000)
	setDefault(&o.IngestBytes, 64<<20)
	setDefault(&o.Grace, 65*time.Second)
	setDefault(&o.Retention, 30*24*time.Hour)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Dispatcher is one node's part of the work.
type Dispatcher struct {
	opts     Options
	store    Log
	registry *registry.Registry
	egress   Receivers
	log      *slog.Logger
	metrics  *metrics

	node      *node
	incoming  *committer
	admission *admission
	queue     *queue
	recorder  *recorder
	due       *dueHeap
	health    *health

	senders    sync.WaitGroup  // attempts in flight, and what follows from them
	claiming   token           // held from a claim in Postgres until the recorder remembers it
	sendCtx    context.Context // ends when the grace of a shutdown does
	stopSends  context.CancelFunc
	progressed *progress
	flushFor   time.Duration // how long a stop tries to write the last outcomes
	watchCPUs  bool          // false: time is a test's, and how long goroutines wait for a CPU says nothing
}

// New prepares a dispatcher. It does nothing before [Dispatcher.Run].
func New(s Log, r *registry.Registry, e Receivers, o Options) *Dispatcher {
	o.setDefaults()
	due := newDueHeap()
	d := &Dispatcher{
		opts: o, store: s, registry: r, egress: e, log: o.Log,
		node:     newNode(),
		incoming: newCommitter(o.IngestDepth, o.IngestBytes),
		queue:    newQueue(o.Slots, o.QueueDepth, o.HookDepth, o.QueueBytes, due),
		recorder: newRecorder(),
		due:      due,

		claiming:   make(token, 1),
		progressed: newProgress(),
		flushFor:   flushDeadline,
		watchCPUs:  true,
	}
	d.admission = newAdmission(d.incoming, d.queue)
	d.health = newHealth(d.node.now, s.WriteHealth, d.logTrouble, func() { d.progressed.tick("health") })
	d.metrics = newMetrics(o.Registerer, d)
	d.sendCtx, d.stopSends = context.WithCancel(context.Background())
	return d
}

// Start joins as a node and makes the log ready to be written to. Publishing works when it returns. With
// clocks that differ by more than an hour it refuses.
func (d *Dispatcher) Start(ctx context.Context) error {
	if err := d.join(ctx); err != nil {
		return err
	}
	err := d.checkClocks()
	if err == nil {
		err = d.ensurePartitions(ctx)
	}
	if err == nil {
		err = d.renew(ctx) // making partitions may have taken as long as a lease
	}
	if errors.Is(err, store.ErrDead) {
		return d.join(ctx)
	}
	if err != nil {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTerm)
		defer cancel()
		return errors.Join(err, d.store.Leave(leave, d.node.id()))
	}
	return nil
}

// CountDisabled counts webhooks that the disabler has switched off.
func (d *Dispatcher) CountDisabled(n int) {
	d.metrics.disabled.WithLabelValues(fanfare.DisabledByHealth).Add(float64(n))
}

// Run works until ctx ends, and then hands everything over that it has not done: requests in flight
// get Options.Grace to end, what is still queued becomes free retries, the lease is given back. It
// returns when all of that is on record, or Postgres cannot be reached for it.
func (d *Dispatcher) Run(ctx context.Context) error {
	defer d.stopSends()
	// Claims and takeovers end first, then commits, then requests, then records, then the lease:
	// each only when nothing can reach it any more.
	claims := newStage(ctx)
	claims.run(d.claimLoop)
	claims.run(d.recoverLoop)
	claims.run(d.upkeepLoop)
	claims.run(d.paceLoop)
	commits := newStage(context.WithoutCancel(ctx))
	commits.run(d.commitLoop)
	if d.watchCPUs {
		commits.run(d.delayLoop)
	}
	records := newStage(context.WithoutCancel(ctx))
	records.run(d.recordLoop)
	records.run(d.health.loop)
	leases := newStage(context.WithoutCancel(ctx))
	leases.run(d.leaseLoop)

	<-ctx.Done()
	// Whatever stands still, it ends: with Postgres away nothing can be recorded.
	giveUp := time.AfterFunc(d.opts.Grace+ingestDeadline+d.flushFor, d.recorder.abandon)
	defer giveUp.Stop()
	claims.stop()
	d.incoming.close()
	commits.stop()

	left := d.queue.close()
	d.awaitSenders()
	d.handOver(left)
	err := d.flushRecords()
	records.stop()
	leases.stop()
	if err == nil {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = d.store.Leave(leave, d.node.id())
	}
	return err
}

// awaitSenders gives requests in flight their grace, and then ends them.
func (d *Dispatcher) awaitSenders() {
	done := make(chan struct{})
	go func() { d.senders.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(d.opts.Grace):
		d.log.Warn("the grace for requests in flight is over", "in_flight", d.queue.inFlight())
		d.stopSends()
		<-done
	}
}

// handOver puts deliveries that were never tried on record as due now and free.
func (d *Dispatcher) handOver(left []*delivery) {
	for _, dl := range left {
		d.recorder.add(d.parked(dl))
	}
	if len(left) > 0 {
		d.log.Info("queued deliveries handed over", "deliveries", len(left))
	}
}

// stage is some loops that end together.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup
}

func newStage(ctx context.Context) *stage {
	s := &stage{}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

func (s *stage) run(loop func(context.Context)) {
	s.loops.Add(1)
	go func() { defer s.loops.Done(); loop(s.ctx) }()
}

func (s *stage) stop() { s.cancel(); s.loops.Wait() }

// token is a lock to be held across questions to Postgres. It is a channel, because a bubble of virtual time
// stands still while anybody waits for a mutex.
type token chan struct{}

func (t token) Lock() {
	if !weaken.Off(weaken.Claiming) {
		t <- struct{}{}
	}
}

func (t token) Unlock() {
	if !weaken.Off(weaken.Claiming) {
		<-t
	}
}

// delivery is one (event, webhook) pair in this process's hands, or an event and one of its one-off
// destinations. Whoever took it out of the queue is alone with it.
type delivery struct {
	event     *event
	webhook   uuid.UUID         // of a one-off destination: made by destinationID
	account   uuid.UUID         // the webhook's
	hook      *registry.Webhook // as the queue goes by it, and until then as it was when it was queued; nil: not known here
	owner     uuid.UUID         // the incarnation that took it in hand
	group     *group            // nil: it came from a row of retries
	due       time.Time         // without a group: of that row
	trigger   fanfare.Trigger
	number    int // requests made before
	tries     int // those that count against the schedule
	takeovers int
	firstAt   time.Time // the first attempt's start, or the publish
	queuedAt  time.Time // this process's clock
	endpoint  string    // how it was when this left the queue

	destination int // a one-off destination's place in its event's list, from 1; 0: a webhook's
}

// event is what all deliveries of one event share.
type event struct {
	id         uuid.UUID
	account    uuid.UUID
	typ        string
	data       []byte // nil: left in Postgres for want of memory
	occurredAt time.Time
	test       bool
	queued     int // deliveries in the queue; guarded by queue.mu

	destinations []byte // sealed; nil: none, or left in Postgres like data
}

// size is what an event's payload takes in memory.
func (e *event) size() int64 { return int64(len(e.data) + len(e.destinations)) }

// errStopping ends loops that wait for Postgres.
var errStopping = errors.New("the node is stopping")

// hostname names the node for people.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
