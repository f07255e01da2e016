// Package bench measures a running node from outside: it publishes through the REST API, receives on
// loopback, holds every delivery against what was published, and reports figures.
//
// It hides what makes such figures wrong: latencies counted from when a late loader got round to an
// event, a loader's own timer, deliveries that nobody checked, and a machine that was slower today
// (which the raw HTTP rate of the same minute shows).
package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/version"
)

// Target is the node to measure.
type Target struct {
	URL         string // of the API
	Key         string // may publish to Account and write its webhooks
	Account     string // an id, or "me"
	PlatformKey string // "": there can be no accounts of a run's own
	AdminURL    string // of its metrics; "": no figures from there
	PID         int    // of the node, if it runs on this machine; 0: no figures of processes
}

// Config is what a run does. It is bounded: by its times, and by the number of deliveries it can keep
// account of.
type Config struct {
	Target    Target
	EventType string // in the node's catalog
	Webhooks  int    // that get each event
	Size      int    // of an event's data, in bytes

	// Accounts, if not 0, are made for the run, and WebhooksTotal webhooks in them, evenly. Events go round
	// the accounts, and within each round its webhooks, Webhooks of them each, by event types of their own.
	// 0: the webhooks are all in the target's account and get all events, at a receiver each.
	Accounts      int
	WebhooksTotal int

	// Webhooks beside those that are measured, whose receivers do not do their part: Hanging ones hold each
	// request for Hang, Failing ones do as FailWith says. Without accounts of its own they get every event.
	Hanging  int
	Hang     time.Duration
	Failing  int
	FailWith string

	// Rate is the open loop: so many events a second, sent when they are due, whatever became of those
	// before. 0 is the closed loop: Publishers send one event after the other.
	Rate       float64
	Publishers int
	Batch      int // events of a publish call; 0: each is published by itself

	Warmup   time.Duration // load before Duration, checked but not in the figures
	Duration time.Duration
	Raw      time.Duration // of the yardstick, before the load and again after it; 0: none

	// Keep leaves the accounts, event types and webhooks: the node is about to be thrown away.
	Keep bool
}

// maxDeliveries bounds a run, and what it remembers: 56 bytes an event and 8 a delivery.
const maxDeliveries = 4 << 20

const (
	maxInFlight = 1024             // publish calls of the open loop at once
	callTimeout = 30 * time.Second // of a publish call
	quiet       = 10 * time.Second // without an arrival: what is missing is lost
	maxDrain    = 2 * time.Minute  // waiting for deliveries, in all
	grace       = 2 * time.Second  // for calls and deliveries under way at an interrupt
	settle      = time.Second      // for repeats, after the last delivery that was due

	maxBatch  = 4 << 20 // bytes of a batch call that a node takes
	maxMember = 256     // bytes of an event in it beside its data
)

// Check names every fault of c.
func (c *Config) Check() error {
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New(text))
		}
	}
	fault(c.Webhooks < 1 || c.Webhooks > 1000, "webhooks: 1 to 1000")
	fault(c.Size < minSize || c.Size > maxSize, fmt.Sprintf("size: %d to %d bytes", minSize, maxSize))
	fault(c.Rate < 0 || c.Rate > 100_000, "rate: up to 100000 events a second")
	fault(c.Rate == 0 && (c.Publishers < 1 || c.Publishers > 10_000), "publishers: 1 to 10000, or a rate above 0")
	fault(c.Batch < 0 || c.Batch > 1000 || c.Batch*(c.Size+maxMember) > maxBatch,
		fmt.Sprintf("batch: up to 1000 events and %d bytes", maxBatch))
	fault(c.Warmup < 0 || c.Raw < 0 || c.Duration <= 0 || c.Warmup+c.Duration+2*c.Raw > time.Hour, "times: not negative, an hour in all")
	fault(c.due()*c.Webhooks > maxDeliveries, fmt.Sprintf("rate, duration and webhooks: %d deliveries at most", maxDeliveries))
	fault(c.Hanging < 0 || c.Failing < 0 || c.Hanging+c.Failing > 1000, "hanging and failing: 1000 webhooks at most")
	fault(c.Hanging > 0 && c.Hang <= 0, "hang: more than nothing")
	fault(c.Failing > 0 && c.FailWith != Fail500 && c.FailWith != FailRefuse, "fail with: "+Fail500+" or "+FailRefuse)
	fault(c.Accounts < 0 || c.Accounts > 10_000, "accounts: up to 10000")
	fault(c.Accounts == 0 && c.WebhooksTotal != 0, "webhooks in all: only with accounts of its own")
	fault(c.Accounts > 0 && !c.even(), "webhooks in all: up to 200000, as many in every account, each a multiple of the webhooks that get an event")
	return errors.Join(faults...)
}

// even reports whether the webhooks of c.Accounts are bounded and add up.
func (c *Config) even() bool {
	each := c.WebhooksTotal / c.Accounts
	return c.WebhooksTotal > 0 && c.WebhooksTotal <= 200_000 && c.WebhooksTotal%c.Accounts == 0 &&
		c.Webhooks > 0 && each <= 10_000 && each%c.Webhooks == 0
}

// due is how many events the open loop sends.
func (c *Config) due() int { return int(c.Rate * (c.Warmup + c.Duration).Seconds()) }

// batch is how many events a publish call has.
func (c *Config) batch() int { return max(c.Batch, 1) }

// Run measures. If ctx ends it reports what there is by then. It deletes the webhooks that it made; if only
// that fails, there is a report beside the error.
func Run(ctx context.Context, c Config) (r *Report, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s, err := build(ctx, c.Target, c.plan())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end(ctx)) }()
	return s.run(ctx, c)
}

// run measures one load on the site, which c must fit.
func (s *site) run(ctx context.Context, c Config) (r *Report, err error) {
	// The loader collects its garbage on the CPUs of what it measures. It makes little, and may keep it.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	events := maxDeliveries / c.Webhooks
	if c.Rate > 0 {
		events = c.due()
	}
	l := newLedger(events, newLayout(&c), c.Size)
	r = &Report{Started: time.Now().UTC(), Build: version.Get(), Machine: machine(), Config: c.summary()}
	if r.RawBefore, err = raw(ctx, c.Size, c.Raw); err != nil {
		return nil, err
	}
	s.in.ledger.Store(l)
	ofLoad := resetPeak(c.Target.PID)
	warm := s.watch(ctx, l, c.Target, c.Warmup)
	end := s.load(ctx, l, c)
	r.Backlog.Deliveries = max(int(l.outstanding()), 0)
	r.Ended = l.drain(ctx)
	warm().fill(r, s.observe(context.WithoutCancel(ctx), c.Target, l))
	if r.Process != nil && ofLoad {
		r.Process.PeakSince = PeakOfLoad
	}
	pause(ctx, settle)
	if r.RawAfter, err = raw(ctx, c.Size, c.Raw); err != nil {
		return nil, err
	}
	l.report(r, c.Warmup, end)
	r.Bad = s.in.bad.report()
	return r, nil
}

func machine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
}

func (c *Config) summary() Summary {
	s := Summary{
		Mode: "open", Rate: c.Rate, Batch: c.Batch, Webhooks: c.Webhooks, Size: c.Size,
		Accounts: c.Accounts, WebhooksTotal: c.WebhooksTotal,
		WarmupSeconds: c.Warmup.Seconds(), DurationSeconds: c.Duration.Seconds(),
	}
	if c.Rate == 0 {
		s.Mode, s.Publishers = "closed", c.Publishers
	}
	return s
}

// watch observes when the warmup is over, and not at all if ctx ends before. The answer waits for that.
func (s *site) watch(ctx context.Context, l *ledger, t Target, warmup time.Duration) func() *observation {
	var o *observation
	var done sync.WaitGroup
	done.Go(func() {
		if pause(ctx, warmup) {
			o = s.observe(ctx, t, l)
		}
	})
	return func() *observation { done.Wait(); return o }
}

// pause waits for d and reports whether ctx lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
