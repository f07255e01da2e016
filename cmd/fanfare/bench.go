package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
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
counts from when an event was due.

'fanfare bench standard' runs the loads whose figures are in docs/benchmarks.md.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&dir, "data", "", "directory of the 'fanfare dev' to measure")
	f.StringVar(&config.Target.URL, "url", "", "URL of the node to measure; it must reach this machine's loopback")
	f.StringVar(&config.Target.Key, "key", "", "API key for --url")
	f.StringVar(&config.Target.PlatformKey, "platform-key", "", "platform key for --url, if --accounts is given")
	f.StringVar(&config.Target.AdminURL, "admin-url", "", "URL of the admin listener of --url, for the count of SQL statements")
	f.StringVar(&config.Target.Account, "account", "me", "account that publishes and receives")
	f.StringVar(&config.EventType, "type", "invoice.paid", "event type, one that the node knows")
	f.Float64Var(&config.Rate, "rate", 100, "events a second")
	f.IntVar(&config.Publishers, "publishers", 0, "publish in a closed loop, this many at once")
	f.IntVar(&config.Batch, "batch", 0, "publish in batches of so many events; 0: one by one")
	f.IntVar(&config.Webhooks, "webhooks", 1, "webhooks that get each event")
	f.IntVar(&config.Accounts, "accounts", 0, "make so many accounts and spread events over them; 0: everything in --account")
	f.IntVar(&config.WebhooksTotal, "webhooks-total", 0, "webhooks in all --accounts together; each event goes to --webhooks of them, each in turn")
	f.IntVar(&config.Hanging, "hanging", 0, "additional webhooks whose receivers hold each request")
	f.DurationVar(&config.Hang, "hang", 30*time.Second, "for how long they hold it")
	f.IntVar(&config.Failing, "failing", 0, "additional webhooks whose receivers fail")
	f.StringVar(&config.FailWith, "fail-with", benchmark.Fail500, "how they fail: 500 or refuse (the connection)")
	f.IntVar(&config.Size, "size", 512, "bytes of an event's data")
	f.DurationVar(&config.Warmup, "warmup", 2*time.Second, "load before the figures begin")
	f.DurationVar(&config.Duration, "duration", 20*time.Second, "load that is measured")
	f.DurationVar(&config.Raw, "raw", 3*time.Second, "time for the machine's raw HTTP rate, before the load and again after it; 0: not measured")
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.MarkFlagsMutuallyExclusive("rate", "publishers")
	c.MarkFlagsMutuallyExclusive("data", "url")
	c.MarkFlagsRequiredTogether("url", "key")
	c.AddCommand(benchStandard())
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if f.Changed("publishers") {
			config.Rate = 0
		}
		if err := config.Check(); err != nil {
			return err
		}
		account := config.Target.Account
		switch {
		case dir != "":
			if config.Target, err = benchmark.FindNode(dir); err != nil {
				return err
			}
		case config.Target.URL == "":
			var node *benchmark.Node
			if node, err = privateNode(c.Context(), c.ErrOrStderr()); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, node.Stop()) }()
			config.Target, config.Keep = node.Target, true
		}
		config.Target.Account = account
		if config.Accounts > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "Making %d webhooks …\n", config.WebhooksTotal)
		}
		return runBench(c, config, asJSON)
	}
	return c
}

// privateNode starts a node that is there only to be measured.
func privateNode(ctx context.Context, log io.Writer) (*benchmark.Node, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(log, "Starting a node …")
	return benchmark.StartNode(ctx, binary)
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

func benchStandard() *cobra.Command {
	var (
		set           benchmark.Set
		only          []string
		docs          string
		quick, update bool
		asJSON        bool
	)
	c := &cobra.Command{
		Use:   "standard",
		Short: "Run the standard set of loads and compare with the committed figures",
		Long: `Run the standard set of loads on private nodes, and compare the medians with the figures that are
committed in docs/benchmarks.json. It takes about a quarter of an hour on a quiet machine. It fails if a delivery
was lost, repeated, changed or badly signed, not if figures are worse.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.IntVar(&set.Runs, "runs", 3, "runs of each load")
	f.BoolVar(&quick, "quick", false, "one short run of each, with few webhooks, on one node: shows that the set runs, measures nothing")
	f.StringSliceVar(&only, "only", nil, "names of loads: "+strings.Join(names(benchmark.Standard(false)), ", "))
	f.StringVar(&docs, "docs", "docs", "directory of the committed figures")
	f.BoolVar(&update, "update", false, "make these the committed figures")
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON, without the committed ones")
	c.MarkFlagsMutuallyExclusive("quick", "runs")
	c.MarkFlagsMutuallyExclusive("quick", "update")
	c.RunE = func(c *cobra.Command, _ []string) error {
		all := benchmark.Standard(quick)
		if quick {
			set.Runs, set.Share = 1, true
		}
		var err error
		if set.Cases, err = chosen(all, only); err != nil {
			return err
		}
		if set.Runs < 1 || set.Runs > 100 {
			return errors.New("--runs: 1 to 100")
		}
		committed, err := benchmark.ReadFigures(docs)
		if err != nil {
			return err
		}
		if set.Binary, err = os.Executable(); err != nil {
			return err
		}
		set.Log = c.ErrOrStderr()
		figures, runErr := set.Figures(c.Context())
		if asJSON {
			err = benchmark.WriteJSON(c.OutOrStdout(), figures)
		} else {
			err = benchmark.Compare(c.OutOrStdout(), figures, committed)
		}
		if update && runErr == nil && err == nil {
			err = benchmark.WriteFigures(docs, all, figures)
		}
		return errors.Join(runErr, err)
	}
	return c
}

func names(cases []benchmark.Case) (all []string) {
	for _, c := range cases {
		all = append(all, c.Name)
	}
	return all
}

// chosen are the cases with these names, all of them without names.
func chosen(all []benchmark.Case, only []string) (cases []benchmark.Case, err error) {
	for _, name := range only {
		if !slices.Contains(names(all), name) {
			return nil, fmt.Errorf("--only: there is no load %q", name)
		}
	}
	for _, c := range all {
		if len(only) == 0 || slices.Contains(only, c.Name) {
			cases = append(cases, c)
		}
	}
	return cases, nil
}
