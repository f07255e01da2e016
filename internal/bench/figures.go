package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/version"
)

// Figures are what the runs of a case of the standard set found.
type Figures struct {
	Case     string       `json:"case"`
	Title    string       `json:"title"`
	Measured string       `json:"measured"` // the day
	Build    version.Info `json:"build"`
	Machine  Machine      `json:"machine"`
	Runs     int          `json:"runs"`
	Open     bool         `json:"open"` // loop: its rate was given

	Raw        Spread  `json:"raw_per_second"`
	Deliveries Spread  `json:"deliveries_per_second"`
	Ratio      Spread  `json:"raw_ratio"`
	P50        Spread  `json:"p50_ms"`
	P99        Spread  `json:"p99_ms"`
	Lag        Spread  `json:"loader_delay_p99_ms"`
	Backlog    Spread  `json:"backlog_share"`
	Server     *Spread `json:"server_cpu_seconds_per_10k,omitempty"`
	Postgres   *Spread `json:"postgres_cpu_seconds_per_10k,omitempty"`
	Loader     *Spread `json:"loader_cpu_seconds_per_10k,omitempty"`
	SQL        *Spread `json:"sql_statements_per_delivery,omitempty"`
	Memory     *Spread `json:"server_peak_rss_bytes,omitempty"`
	Stolen     *Spread `json:"stolen_share,omitempty"`
}

// Spread is what several runs found of one thing.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// noise is by how much a median may differ from an older one and mean nothing, as a share of that.
const noise = 0.15

// summarize makes the figures of a case from the reports of its runs, one at least.
func summarize(c Case, reports []*Report) *Figures {
	of := func(get func(*Report) float64) Spread {
		var all []float64
		for _, r := range reports {
			all = append(all, get(r))
		}
		return spread(all)
	}
	ofKnown := func(get func(*Report) *float64) *Spread {
		var all []float64
		for _, r := range reports {
			if v := get(r); v != nil {
				all = append(all, *v)
			}
		}
		if len(all) == 0 {
			return nil
		}
		return new(spread(all))
	}
	ofProcess := func(get func(*Process) *float64) *Spread {
		return ofKnown(func(r *Report) *float64 {
			if r.Process == nil {
				return nil
			}
			return get(r.Process)
		})
	}
	first := reports[0]
	return &Figures{
		Case: c.Name, Title: c.Title, Measured: first.Started.Format(time.DateOnly), Build: first.Build, Machine: first.Machine,
		Runs: len(reports), Open: c.Config.Rate > 0,
		Raw:        of(func(r *Report) float64 { return r.RawPerSecond }),
		Deliveries: of(func(r *Report) float64 { return r.DeliveriesPerSecond }),
		Ratio:      of(func(r *Report) float64 { return r.RawRatio }),
		P50:        of(func(r *Report) float64 { return r.Latency.P50 }),
		P99:        of(func(r *Report) float64 { return r.Latency.P99 }),
		Lag:        of(func(r *Report) float64 { return r.Lag.P99 }),
		Backlog:    of(func(r *Report) float64 { return r.Backlog.Share }),
		Server:     ofProcess(func(p *Process) *float64 { return &p.ServerCPU }),
		Postgres:   ofProcess(func(p *Process) *float64 { return p.PostgresCPU }),
		Memory:     ofProcess(func(p *Process) *float64 { return new(float64(p.PeakRSS)) }),
		Loader:     ofKnown(func(r *Report) *float64 { return r.LoaderCPU }),
		SQL:        ofKnown(func(r *Report) *float64 { return r.SQLPerDelivery }),
		Stolen:     ofKnown(func(r *Report) *float64 { return r.Stolen }),
	}
}

// spread is of at least one value. The median of an even number is the mean of the two in the middle.
func spread(all []float64) Spread {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	return Spread{Median: (all[(n-1)/2] + all[n/2]) / 2, Low: all[0], High: all[n-1]}
}

// Change says how f compares with older figures of the same case, by what the case is about: deliveries ÷
// raw of a closed loop, p50 of an open one. It is marked if it is beyond the noise.
func (f *Figures) Change(older *Figures) string {
	if older == nil {
		return "new"
	}
	now, then, what, sign := f.Ratio.Median, older.Ratio.Median, "÷ raw", 1.0
	if f.Open {
		now, then, what, sign = f.P50.Median, older.P50.Median, "p50", -1
	}
	if then == 0 {
		return "new"
	}
	by := now/then - 1
	text := fmt.Sprintf("%s %+.0f %%", what, 100*by)
	switch better := sign * by; {
	case better > noise:
		text += " better"
	case better < -noise:
		text += " WORSE"
	}
	return text
}

// Compare writes figures beside older ones, for people.
func Compare(w io.Writer, now, older []*Figures) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\t÷ raw\tcommitted\tchange\tp50 ms\tp99 ms\tCPU s per 10,000\tSQL\tMiB\tloader CPU s\toutstanding\tstolen")
	for _, f := range now {
		then := find(older, f.Case)
		committed := "–"
		if then != nil {
			committed = fmt.Sprintf("%.3f", then.Ratio.Median)
		}
		was := func(get func(*Figures) string) string {
			if then == nil || get(then) == "" {
				return get(f)
			}
			return get(f) + ", was " + get(then)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f %%\t%s\n", f.Title,
			f.Ratio.text(3), committed, f.Change(then),
			was(func(f *Figures) string { return fmt.Sprintf("%.1f", f.P50.Median) }),
			was(func(f *Figures) string { return fmt.Sprintf("%.1f", f.P99.Median) }),
			was((*Figures).cpu), was((*Figures).sql), was((*Figures).memory), f.Loader.median(2), 100*f.Backlog.Median, f.stolen())
	}
	return t.Flush()
}

// markdown writes figures as they stand in the documentation.
func markdown(w io.Writer, all []*Figures) {
	fmt.Fprintln(w, "| load | deliveries/s | ÷ raw | p50 ms | p99 ms | CPU s per 10,000: node + Postgres | SQL statements a delivery | "+
		"peak memory MiB | loader CPU s per 10,000 | outstanding at the end | stolen | raw/s | measured |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, f := range all {
		fmt.Fprintf(w, "| %s | %.0f | %s | %s | %s | %s | %s | %s | %s | %.2f %% | %s | %.0f–%.0f | %s, %s, %d CPUs, %d runs |\n",
			f.Title, f.Deliveries.Median, f.Ratio.text(3), f.P50.text(1), f.P99.text(1), f.cpu(), f.sql(), f.memory(),
			f.Loader.median(2), 100*f.Backlog.Median, f.stolen(), f.Raw.Low, f.Raw.High, f.Measured, f.Build.Version, f.Machine.CPUs, f.Runs)
	}
}

func (s Spread) text(decimals int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", decimals, s.Median, decimals, s.Low, decimals, s.High)
}

// median is "" of nothing.
func (s *Spread) median(decimals int) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%.*f", decimals, s.Median)
}

func (f *Figures) cpu() string {
	if f.Server == nil {
		return ""
	}
	if f.Postgres == nil {
		return f.Server.median(2)
	}
	return f.Server.median(2) + " + " + f.Postgres.median(2)
}

func (f *Figures) sql() string { return f.SQL.median(3) }

func (f *Figures) memory() string {
	if f.Memory == nil {
		return ""
	}
	return fmt.Sprintf("%.0f", f.Memory.Median/(1<<20))
}

// stolen is how much of the CPU time the machine's host gave to others.
func (f *Figures) stolen() string {
	if f.Stolen == nil {
		return ""
	}
	return fmt.Sprintf("%.0f %% (%.0f–%.0f)", 100*f.Stolen.Median, 100*f.Stolen.Low, 100*f.Stolen.High)
}

func find(all []*Figures, name string) *Figures {
	for _, f := range all {
		if f.Case == name {
			return f
		}
	}
	return nil
}
