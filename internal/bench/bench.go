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
	URL     string // of the API
	Key     string // may publish to Account and write its webhooks
	Account string // an id, or "me"
	PID     int    // of the node, if it runs on this machine; 0: no figures of processes
}

// Config is what a run does. It is bounded: by its times, and by the number of deliveries it can keep
// account of.
type Config struct {
	Target    Target
	EventType string // in the node's catalog
	Webhooks  int    // each gets every event, at a receiver of its own
	Size      int    // of an event's data, in bytes

	// Rate is the open loop: so many events a second, sent when they are due, whatever became of those
	// before. 0 is the closed loop: Publishers send one event after the other.
	Rate       float64
	Publishers int

	Warmup   time.Duration // load before Duration, checked but not in the figures
	Duration time.Duration
	Raw      time.Duration // of the yardstick; 0: none
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
	fault(c.Warmup < 0 || c.Raw < 0 || c.Duration <= 0 || c.Warmup+c.Duration+c.Raw > time.Hour, "times: not negative, an hour in all")
	fault(c.due()*c.Webhooks > maxDeliveries, fmt.Sprintf("rate, duration and webhooks: %d deliveries at most", maxDeliveries))
	return errors.Join(faults...)
}

// due is how many events the open loop sends.
func (c *Config) due() int { return int(c.Rate * (c.Warmup + c.Duration).Seconds()) }

// Run measures. If ctx ends it reports what there is by then. It deletes the webhooks that it made; if only
// that fails, there is a report beside the error.
func Run(ctx context.Context, c Config) (r *Report, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	// The loader collects its garbage on the CPUs of what it measures. It makes little, and may keep it.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	publisher, err := newPublisher(c.Target)
	if err != nil {
		return nil, err
	}
	defer publisher.close()
	client := newClient(c.Target, c.EventType)
	defer client.close()
	events := maxDeliveries / c.Webhooks
	if c.Rate > 0 {
		events = c.due()
	}
	l := newLedger(events, c.Webhooks, c.Size)
	in, err := receive(l, c.Webhooks, c.EventType)
	if err != nil {
		return nil, err
	}
	defer in.close()
	hooks, err := client.createWebhooks(ctx, in)
	defer func() { err = errors.Join(err, client.deleteWebhooks(context.WithoutCancel(ctx), hooks)) }()
	if err != nil {
		return nil, err
	}

	r = &Report{Started: time.Now().UTC(), Build: version.Get(), Machine: machine(), Config: c.summary()}
	warm := watch(ctx, l, c.Target.PID, c.Warmup)
	end := l.load(ctx, c, publisher)
	r.Ended = l.drain(ctx)
	r.Process, r.LoaderCPU = warm().until(observe(c.Target.PID, l))
	pause(ctx, settle)
	if c.Raw > 0 && ctx.Err() == nil {
		if r.RawPerSecond, err = raw(ctx, c.Size, c.Raw); err != nil {
			return nil, err
		}
	}
	in.close() // what comes from here on does not count
	l.report(r, c.Warmup, end)
	return r, nil
}

func machine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
}

func (c *Config) summary() Summary {
	s := Summary{
		Mode: "open", Rate: c.Rate, Webhooks: c.Webhooks, Size: c.Size,
		WarmupSeconds: c.Warmup.Seconds(), DurationSeconds: c.Duration.Seconds(),
	}
	if c.Rate == 0 {
		s.Mode, s.Publishers = "closed", c.Publishers
	}
	return s
}

// watch observes the node's processes when the warmup is over, and not at all if ctx ends before. The
// answer waits for that.
func watch(ctx context.Context, l *ledger, pid int, warmup time.Duration) func() *observation {
	var o *observation
	var done sync.WaitGroup
	done.Go(func() {
		if pause(ctx, warmup) {
			o = observe(pid, l)
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
