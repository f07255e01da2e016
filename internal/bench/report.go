package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/version"
)

// Report is what a run found. Rates, latencies and Process are of what was published after the warmup;
// Checks are of everything.
type Report struct {
	Started time.Time    `json:"started"`
	Build   version.Info `json:"build"` // of the program that measured
	Machine Machine      `json:"machine"`
	Config  Summary      `json:"config"`
	Ended   Ended        `json:"ended"`

	Events              int     `json:"events"`           // acknowledged
	Reached             int     `json:"webhooks_reached"` // that were due an event, with the warmup's
	EventsPerSecond     float64 `json:"events_per_second"`
	Deliveries          int     `json:"deliveries"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"` // until the last one arrived

	Latency Quantiles `json:"latency"`      // when the event was due → arrived; the closed loop: when it was sent
	Publish Quantiles `json:"publish"`      // the publish call alone
	Lag     Quantiles `json:"loader_delay"` // when the event was due → sent: the loader's share of Latency

	Checks        Checks         `json:"checks"`
	PublishErrors map[string]int `json:"publish_errors"` // by HTTP status, or timeout, connection, answer

	FirstFaults []string `json:"first_faults,omitempty"` // what was wrong with the first deliveries that were not right

	Backlog Backlog `json:"backlog"`
	Bad     *Bad    `json:"bad_endpoints,omitempty"`

	Process        *Process `json:"process,omitempty"`                     // on Linux, if the node runs on this machine
	SQLPerDelivery *float64 `json:"sql_statements_per_delivery,omitempty"` // if the node counts them
	LoaderCPU      *float64 `json:"loader_cpu_seconds_per_10k,omitempty"`  // of this program, per 10,000 deliveries

	Stolen *float64 `json:"stolen_share,omitempty"` // on Linux: of the machine's CPU time, what its host gave to others

	RawBefore    float64 `json:"raw_before_per_second,omitempty"` // plain POSTs on this machine, right before the load
	RawAfter     float64 `json:"raw_after_per_second,omitempty"`  // and right after
	RawPerSecond float64 `json:"raw_per_second,omitempty"`        // their mean
	RawRatio     float64 `json:"raw_ratio,omitempty"`             // DeliveriesPerSecond ÷ RawPerSecond
}

// Backlog is what was still to be delivered when the load ended: it grows while a node does not keep up.
type Backlog struct {
	Deliveries int     `json:"deliveries"`
	Share      float64 `json:"share"` // of all that were due, with the warmup's
}

// Bad is what the endpoints got that did not do their part. Nothing of it is in the other figures.
type Bad struct {
	Hanging     int     `json:"hanging,omitempty"`      // webhooks
	HangSeconds float64 `json:"hang_seconds,omitempty"` // that each held a request
	Held        int     `json:"held,omitempty"`         // requests that came to them
	Released    int     `json:"released,omitempty"`     // answered 200 in the end
	CutOff      int     `json:"cut_off,omitempty"`      // by the node, before that

	Failing  int    `json:"failing,omitempty"` // webhooks
	FailWith string `json:"fail_with,omitempty"`
	Failed   int    `json:"failed,omitempty"` // requests that came to them; of those that refuse nothing is known
}

// Machine is where it ran.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
}

// Summary is what was asked for.
type Summary struct {
	Mode            string  `json:"mode"` // open, closed
	Rate            float64 `json:"rate,omitempty"`
	Publishers      int     `json:"publishers,omitempty"`
	Batch           int     `json:"batch,omitempty"`
	Webhooks        int     `json:"webhooks"` // that get each event
	Accounts        int     `json:"accounts,omitempty"`
	WebhooksTotal   int     `json:"webhooks_total,omitempty"`
	Size            int     `json:"size"`
	WarmupSeconds   float64 `json:"warmup_seconds"`
	DurationSeconds float64 `json:"duration_seconds"`
}

// Ended says how the wait for deliveries ended.
type Ended string

// The ends of a run.
const (
	Complete    Ended = "complete"    // everything arrived
	Quiet       Ended = "quiet"       // for 10 s nothing arrived: what is missing is lost
	Late        Ended = "late"        // deliveries still arrived after 2 min
	Interrupted Ended = "interrupted" // ctx ended
)

// Checks compares what arrived with what was published: each acknowledged event once at each webhook.
type Checks struct {
	Acknowledged int `json:"acknowledged"` // events, with the warmup's
	Arrived      int `json:"arrived"`      // pairs of event and webhook, each counted once
	Lost         int `json:"lost"`         // acknowledged and did not arrive
	Outstanding  int `json:"outstanding"`  // the same, where the run ended too early to call it lost
	Duplicated   int `json:"duplicated"`   // arrivals of a pair after its first
	Unexpected   int `json:"unexpected"`   // another id, data or address than was published
	BadSignature int `json:"bad_signature"`
	Unconfirmed  int `json:"unconfirmed"` // pairs that arrived, but the publish call had failed: no fault
}

// Quantiles are in milliseconds, by nearest rank. All are zero if nothing was measured.
type Quantiles struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Process is what the node used.
type Process struct {
	ServerCPU   float64  `json:"server_cpu_seconds_per_10k"`             // per 10,000 deliveries
	PostgresCPU *float64 `json:"postgres_cpu_seconds_per_10k,omitempty"` // if Postgres is the node's child
	PeakRSS     int64    `json:"server_peak_rss_bytes"`
	PeakSince   string   `json:"server_peak_rss_since"` // the load began, or the node started
}

// Since when a peak was measured: Linux may not let one process begin anew for another.
const (
	PeakOfLoad = "load"
	PeakOfNode = "start"
)

// Err is an error if a promise was broken: a delivery was lost, came twice, was not the event that was
// published, or was signed badly.
func (r *Report) Err() error {
	c := r.Checks
	if c.Lost+c.Duplicated+c.Unexpected+c.BadSignature == 0 {
		return nil
	}
	return fmt.Errorf("deliveries: %d lost, %d duplicated, %d unexpected, %d with a bad signature",
		c.Lost, c.Duplicated, c.Unexpected, c.BadSignature)
}

// report fills r from the ledger. The load ended at end.
func (l *ledger) report(r *Report, warmup, end time.Duration) {
	begin := l.start + warmup
	last := begin
	var latency, publish, lag []time.Duration
	for seq := range l.sent {
		e := &l.events[seq]
		measured := e.due >= begin && e.acknowledged
		if measured {
			r.Events++
			publish = append(publish, e.answered-e.sent)
			lag = append(lag, e.sent-e.due)
		}
		for place := range l.fanOut {
			at := l.arrival(seq, place)
			switch {
			case at == 0:
			case !e.acknowledged:
				r.Checks.Unconfirmed++
			case measured:
				latency = append(latency, at-e.due)
				last = max(last, at)
			}
		}
	}
	r.Deliveries = len(latency)
	r.EventsPerSecond = rate(r.Events, end-begin)
	r.DeliveriesPerSecond = rate(r.Deliveries, max(last, end)-begin)
	r.Latency, r.Publish, r.Lag = quantiles(latency), quantiles(publish), quantiles(lag)
	r.Checks.Acknowledged, r.Checks.Arrived = int(l.acknowledged.Load()), int(l.arrived.Load())
	r.Checks.Duplicated, r.Checks.Unexpected = int(l.duplicated.Load()), int(l.unexpected.Load())
	r.Checks.BadSignature = int(l.badSignature.Load())
	if missing := l.missing(); r.Ended == Quiet {
		r.Checks.Lost = missing
	} else {
		r.Checks.Outstanding = missing
	}
	r.PublishErrors, r.FirstFaults = l.faults, l.surprises
	if due := r.Checks.Acknowledged * l.fanOut; due > 0 {
		r.Backlog.Share = float64(r.Backlog.Deliveries) / float64(due)
	}
	r.Reached = l.reached()
	r.RawPerSecond = mean(r.RawBefore, r.RawAfter)
	if r.RawPerSecond > 0 {
		r.RawRatio = r.DeliveriesPerSecond / r.RawPerSecond
	}
}

// mean is the mean of what was measured: 0 was not.
func mean(a, b float64) float64 {
	if a == 0 || b == 0 {
		return a + b
	}
	return (a + b) / 2
}

func rate(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func quantiles(all []time.Duration) Quantiles {
	if len(all) == 0 {
		return Quantiles{}
	}
	slices.Sort(all)
	at := func(p float64) float64 {
		rank := int(math.Ceil(p * float64(len(all))))
		return float64(all[max(rank, 1)-1]) / float64(time.Millisecond)
	}
	return Quantiles{P50: at(0.50), P90: at(0.90), P99: at(0.99), Max: at(1)}
}

// JSON writes the report as one object.
func (r *Report) JSON(w io.Writer) error { return WriteJSON(w, r) }

// WriteJSON writes v in lines.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
