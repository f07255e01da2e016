//go:build unix

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Case is one load of the standard set.
type Case struct {
	Name   string // of the committed figures; it never means another load
	Title  string
	Config Config // but for its target
}

// Standard is the set of loads whose figures are committed. The quick one is made of the same loads, but
// so short and so small that its figures say nothing: it shows that the set runs.
func Standard(quick bool) []Case {
	load := Config{
		EventType: "invoice.paid", Webhooks: 1, Size: 512, Keep: true,
		Warmup: 2 * time.Second, Duration: 10 * time.Second, Raw: 2 * time.Second,
	}
	accounts, total, hanging := 1000, 100_000, 40*time.Second // longer than an endpoint hangs, and is given up
	if quick {
		load.Warmup, load.Duration, load.Raw = 200*time.Millisecond, 500*time.Millisecond, 100*time.Millisecond
		accounts, total, hanging = 4, 80, load.Duration
	}
	var all []Case
	add := func(name, title string, change func(*Config)) {
		c := load
		change(&c)
		all = append(all, Case{Name: name, Title: title, Config: c})
	}
	add("closed-32", "1 webhook, 32 publishers", func(c *Config) { c.Publishers = 32 })
	add("closed-128", "1 webhook, 128 publishers", func(c *Config) { c.Publishers = 128 })
	add("closed-32-to-10", "10 webhooks, 32 publishers", func(c *Config) { c.Publishers, c.Webhooks = 32, 10 })
	add("batch-100", "1 webhook, 2 publishers, batches of 100", func(c *Config) { c.Publishers, c.Batch = 2, 100 })
	add("open-100", "1 webhook, 100 events/s", func(c *Config) { c.Rate = 100 })
	add("open-5000", "1 webhook, 5,000 events/s", func(c *Config) { c.Rate = 5000 })
	add("open-1000-to-10", "10 webhooks, 1,000 events/s", func(c *Config) { c.Rate, c.Webhooks = 1000, 10 })
	add("one-hangs", "9 webhooks beside one that hangs 30 s, 20 events/s", func(c *Config) {
		c.Rate, c.Webhooks, c.Hanging, c.Hang, c.Duration = 20, 9, 1, 30*time.Second, hanging
	})
	many := fmt.Sprintf("%d webhooks in %d accounts, 32 publishers, ", total, accounts)
	add("many-1", many+"1 webhook each event", func(c *Config) {
		c.Publishers, c.Accounts, c.WebhooksTotal = 32, accounts, total
	})
	add("many-10", many+"10 webhooks each event", func(c *Config) {
		c.Publishers, c.Accounts, c.WebhooksTotal, c.Webhooks = 32, accounts, total, 10
	})
	return all
}

// Set is cases to run. Those with accounts of their own must have the same number of them and of webhooks,
// which they share.
type Set struct {
	Cases  []Case
	Runs   int       // of each case
	Binary string    // whose `dev` is the node
	Share  bool      // of one node by all; else each run has a new one, except of the cases that share webhooks
	Log    io.Writer // gets a line a run
}

// Figures runs every case and returns the figures of those that had a run, in the cases' order. The runs of one case are not in a row
// if they need not be, because a machine's speed wanders. A broken promise is part of the error and ends
// nothing; another error, or the end of ctx, leaves less than was asked for.
func (s *Set) Figures(ctx context.Context) ([]*Figures, error) {
	r := setRun{Set: s, reports: make(map[string][]*Report)}
	err := r.run(ctx)
	var all []*Figures
	for _, c := range s.Cases {
		if reports := r.reports[c.Name]; len(reports) > 0 {
			all = append(all, summarize(c, reports))
		}
	}
	return all, errors.Join(append(r.broken, err)...)
}

// setRun is a run of a set.
type setRun struct {
	*Set
	node    *Node // nil: each has a new one
	reports map[string][]*Report
	broken  []error // promises
}

func (r *setRun) run(ctx context.Context) (err error) {
	var alone, together []Case
	for _, c := range r.Cases {
		c.Config.Keep = !r.Share
		if c.Config.Accounts > 0 {
			together = append(together, c)
		} else {
			alone = append(alone, c)
		}
	}
	if r.Share {
		if r.node, err = StartNode(ctx, r.Binary); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.node.Stop()) }()
	}
	if err := r.alone(ctx, alone); err != nil {
		return err
	}
	return r.together(ctx, together)
}

func (r *setRun) alone(ctx context.Context, cases []Case) error {
	for range r.Runs {
		for _, c := range cases {
			err := r.onNode(ctx, func(t Target) error {
				c.Config.Target = t
				report, err := Run(ctx, c.Config)
				return r.note(ctx, c, report, err)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *setRun) together(ctx context.Context, cases []Case) error {
	if len(cases) == 0 {
		return nil
	}
	return r.onNode(ctx, func(t Target) (err error) {
		p := cases[0].Config.plan()
		for _, c := range cases[1:] {
			p.layouts = append(p.layouts, newLayout(&c.Config))
		}
		fmt.Fprintf(r.Log, "Making %d webhooks …\n", p.layouts[0].webhooks())
		s, err := build(ctx, t, p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.end(ctx)) }()
		for range r.Runs {
			for _, c := range cases {
				c.Config.Target = t
				report, err := s.run(ctx, c.Config)
				if err := r.note(ctx, c, report, err); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// onNode calls f with a node to measure.
func (r *setRun) onNode(ctx context.Context, f func(Target) error) error {
	if r.node != nil {
		return f(r.node.Target)
	}
	node, err := StartNode(ctx, r.Binary)
	if err != nil {
		return err
	}
	return errors.Join(f(node.Target), node.Stop())
}

// note keeps a whole report.
func (r *setRun) note(ctx context.Context, c Case, report *Report, err error) error {
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	r.reports[c.Name] = append(r.reports[c.Name], report)
	fmt.Fprintf(r.Log, "%-16s %9.1f deliveries/s, %.3f of raw, p50 %.2f ms, p99 %.2f ms\n",
		c.Name, report.DeliveriesPerSecond, report.RawRatio, report.Latency.P50, report.Latency.P99)
	if err := report.Err(); err != nil {
		r.broken = append(r.broken, fmt.Errorf("%s: %w", c.Name, err))
	}
	return nil
}
