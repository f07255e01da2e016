package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	t := page{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.load(r)
	t.line("published", "%d events, %.1f/s", r.Events, r.EventsPerSecond)
	t.line("delivered", "%d, %.1f/s", r.Deliveries, r.DeliveriesPerSecond)
	t.quantiles("publish → arrival", r.Latency)
	t.quantiles("publish call", r.Publish)
	if r.Config.Mode == "open" {
		t.quantiles("loader's own delay", r.Lag)
	}
	t.line("outstanding", "%d deliveries when the load ended, %.2f %%", r.Backlog.Deliveries, 100*r.Backlog.Share)
	t.checks(r)
	t.bad(r.Bad)
	t.costs(r)
	if r.Stolen != nil {
		t.line("stolen", "%.1f %% of the CPU time went to other machines of the host", 100**r.Stolen)
	}
	if r.RawPerSecond > 0 {
		t.line("raw HTTP", "%.0f/s here (%.0f before, %.0f after); deliveries ÷ raw %.3f",
			r.RawPerSecond, r.RawBefore, r.RawAfter, r.RawRatio)
	}
	return t.Flush()
}

// page is a report in the making: names on the left, what they are on the right.
type page struct{ *tabwriter.Writer }

func (t page) line(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }

func (t page) quantiles(name string, q Quantiles) {
	t.line(name, "p50 %.2f  p90 %.2f  p99 %.2f  max %.2f ms", q.P50, q.P90, q.P99, q.Max)
}

func (t page) load(r *Report) {
	c := r.Config
	t.line("build", "%s (%s), %s/%s, %d CPUs", r.Build.Version, r.Build.Go, r.Machine.OS, r.Machine.Arch, r.Machine.CPUs)
	if c.Mode == "open" {
		t.line("load", "open loop, %g events/s for %g s after %g s", c.Rate, c.DurationSeconds, c.WarmupSeconds)
	} else {
		t.line("load", "closed loop, %d publishers for %g s after %g s", c.Publishers, c.DurationSeconds, c.WarmupSeconds)
	}
	if c.Batch > 0 {
		t.line("", "in batches of %d", c.Batch)
	}
	if c.Accounts > 0 {
		t.line("webhooks", "%d for each event, of %d in %d accounts; %d reached", c.Webhooks, c.WebhooksTotal, c.Accounts, r.Reached)
	} else {
		t.line("webhooks", "%d for each event", c.Webhooks)
	}
	t.line("size", "%d bytes of data", c.Size)
}

func (t page) checks(r *Report) {
	k := r.Checks
	t.line("checked", "%d deliveries of %d events: %d lost, %d duplicated, %d unexpected, %d bad signatures",
		k.Arrived, k.Acknowledged, k.Lost, k.Duplicated, k.Unexpected, k.BadSignature)
	for _, text := range r.FirstFaults {
		t.line("", "%s", text)
	}
	if r.Ended != Complete {
		t.line("ended", "%s, %d deliveries outstanding", r.Ended, k.Outstanding)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.PublishErrors)) {
		t.line("publish errors", "%s: %d", kind, r.PublishErrors[kind])
	}
	if k.Unconfirmed > 0 {
		t.line("", "%d deliveries of events whose publish call had failed", k.Unconfirmed)
	}
}

func (t page) bad(b *Bad) {
	if b == nil {
		return
	}
	if b.Hanging > 0 {
		t.line("hanging", "%d webhooks, %g s each: %d requests, %d answered in the end, %d cut off",
			b.Hanging, b.HangSeconds, b.Held, b.Released, b.CutOff)
	}
	switch {
	case b.Failing > 0 && b.FailWith == FailRefuse:
		t.line("failing", "%d webhooks refuse connections", b.Failing)
	case b.Failing > 0:
		t.line("failing", "%d webhooks answer %s: %d requests", b.Failing, b.FailWith, b.Failed)
	}
}

func (t page) costs(r *Report) {
	if p := r.Process; p != nil {
		t.line("CPU per 10,000", "%.2f s server", p.ServerCPU)
		if p.PostgresCPU != nil {
			t.line("", "%.2f s Postgres", *p.PostgresCPU)
		}
	}
	if r.LoaderCPU != nil {
		t.line("loader per 10,000", "%.2f s", *r.LoaderCPU)
	}
	if r.SQLPerDelivery != nil {
		t.line("SQL statements", "%.3f a delivery", *r.SQLPerDelivery)
	}
	if p := r.Process; p != nil {
		since := "of this load"
		if p.PeakSince == PeakOfNode {
			since = "since the node started"
		}
		t.line("peak memory", "%.1f MiB server, %s", float64(p.PeakRSS)/(1<<20), since)
	}
}
