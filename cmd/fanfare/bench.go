package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	benchmark "github.com/fanfare-webhooks/fanfare/internal/bench"
)

func bench() *cobra.Command {
	var (
		config benchmark.Config
		dir    string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this build: publish, receive, check every delivery, print a report",
		Long: `Measure a node: publish through its API, receive on this machine, check every delivery, print a report.

Without --data or --url a private node is started with this very binary, and stopped at the end.
With --publishers each publisher waits for its answer before it sends again (the closed loop);
otherwise events are sent at --rate, however long the answers take (the open loop), and latency
counts from when an event was due.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&dir, "data", "", "directory of the 'fanfare dev' to measure")
	f.StringVar(&config.Target.URL, "url", "", "URL of the node to measure; it must reach this machine's loopback")
	f.StringVar(&config.Target.Key, "key", "", "API key for --url")
	f.StringVar(&config.Target.Account, "account", "me", "account that publishes and receives")
	f.StringVar(&config.EventType, "type", "invoice.paid", "event type, one that the node knows")
	f.Float64Var(&config.Rate, "rate", 100, "events a second")
	f.IntVar(&config.Publishers, "publishers", 0, "publish in a closed loop, this many at once")
	f.IntVar(&config.Webhooks, "webhooks", 1, "webhooks that get every event")
	f.IntVar(&config.Size, "size", 512, "bytes of an event's data")
	f.DurationVar(&config.Warmup, "warmup", 2*time.Second, "load before the figures begin")
	f.DurationVar(&config.Duration, "duration", 20*time.Second, "load that is measured")
	f.DurationVar(&config.Raw, "raw", 3*time.Second, "time for the machine's raw HTTP rate; 0: not measured")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.MarkFlagsMutuallyExclusive("rate", "publishers")
	c.MarkFlagsMutuallyExclusive("data", "url")
	c.MarkFlagsRequiredTogether("url", "key")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if f.Changed("publishers") {
			config.Rate = 0
		}
		if err := config.Check(); err != nil {
			return err
		}
		if dir != "" {
			account := config.Target.Account
			if config.Target, err = benchmark.FindNode(dir); err != nil {
				return err
			}
			config.Target.Account = account
		}
		if config.Target.URL == "" {
			return benchPrivateNode(c, config, asJSON)
		}
		return runBench(c, config, asJSON)
	}
	return c
}

// benchPrivateNode measures a node that is there only for that.
func benchPrivateNode(c *cobra.Command, config benchmark.Config, asJSON bool) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintln(c.ErrOrStderr(), "Starting a node …")
	node, err := benchmark.StartNode(c.Context(), binary)
	if err != nil {
		return err
	}
	account := config.Target.Account
	config.Target = node.Target
	config.Target.Account = account
	return errors.Join(runBench(c, config, asJSON), node.Stop())
}

func runBench(c *cobra.Command, config benchmark.Config, asJSON bool) error {
	report, err := benchmark.Run(c.Context(), config)
	if report == nil {
		return err
	}
	if asJSON {
		err = errors.Join(err, report.JSON(c.OutOrStdout()))
	} else {
		err = errors.Join(err, report.Text(c.OutOrStdout()))
	}
	return errors.Join(err, report.Err())
}
