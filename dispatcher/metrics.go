package dispatcher

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

type metrics struct {
	published     prometheus.Counter
	deliveries    *prometheus.CounterVec
	attempts      *prometheus.CounterVec
	attemptTime   prometheus.Histogram
	startSeconds  map[string]prometheus.Observer // by how the endpoint was then
	latency       prometheus.Histogram
	commitSeconds prometheus.Histogram
	groupEvents   prometheus.Histogram
	lotOutcomes   prometheus.Histogram
	lotSeconds    prometheus.Histogram
	claimSeconds  prometheus.Histogram
	commitErrors  prometheus.Counter
	stale         prometheus.Counter
	parked        prometheus.Counter
	takeovers     prometheus.Counter
	quarantined   prometheus.Counter
	rejected      prometheus.Counter
	ownFaults     prometheus.Counter
	disabled      *prometheus.CounterVec
	openGroups    prometheus.Gauge
	retriesDue    prometheus.Gauge
	oldestDue     prometheus.Gauge
	outboxAge     prometheus.Gauge
	schedDelay    prometheus.Gauge
}

var statusClasses = []string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

func newMetrics(reg prometheus.Registerer, d *Dispatcher) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		reg.MustRegister(h)
		return h
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	gaugeOf := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	latencies := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}
	sizes := []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
	m := &metrics{
		published:     counter("fanfare_events_published_total", "Events made durable."),
		deliveries:    counters("fanfare_deliveries_total", "Deliveries that ended, by their state.", "state"),
		attempts:      counters("fanfare_attempts_total", "Requests made.", "verdict", "status_class"),
		attemptTime:   histogram("fanfare_attempt_duration_seconds", "From the dial to the last byte of a request's response.", latencies),
		startSeconds:  make(map[string]prometheus.Observer),
		latency:       histogram("fanfare_delivery_latency_seconds", "From an event's commit to the end of a delivery's first attempt.", latencies),
		commitSeconds: histogram("fanfare_ingest_commit_seconds", "How long an append to the log takes.", latencies),
		groupEvents:   histogram("fanfare_ingest_group_events", "Events of one append.", sizes),
		lotOutcomes:   histogram("fanfare_recorder_lot_outcomes", "Outcomes written by one transaction.", sizes),
		lotSeconds:    histogram("fanfare_recorder_lot_seconds", "How long writing outcomes takes, tries that failed included.", latencies),
		claimSeconds:  histogram("fanfare_claim_seconds", "How long a claim of retries takes.", []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 30}),
		commitErrors:  counter("fanfare_ingest_errors_total", "Appends to the log that failed or whose outcome is unknown."),
		stale:         counter("fanfare_ingest_stale_total", "Publishes matched anew because a webhook, account or event type had just changed."),
		parked:        counter("fanfare_deliveries_parked_total", "Deliveries put off to Postgres because there was no room in memory, or because their endpoint is down or rests."),
		takeovers:     counter("fanfare_takeovers_total", "Groups of events taken over from dead nodes or from a lost memory."),
		quarantined:   counter("fanfare_quarantined_total", "Deliveries given up because nodes kept dying with them."),
		rejected:      counter("fanfare_recorder_rejected_total", "Outcomes that Postgres refused and that were left out. Must stay 0."),
		ownFaults:     counter("fanfare_own_faults_total", "Attempts that failed by a fault of this service."),
		disabled:      counters("fanfare_webhooks_disabled_total", "Webhooks switched off by the service.", "reason"),
		openGroups:    gauge("fanfare_open_groups", "Commits in the database some of whose deliveries have no outcome yet."),
		retriesDue:    gauge("fanfare_retries_due", "Retries that are due and free, counted up to 10,000."),
		oldestDue:     gauge("fanfare_oldest_due_seconds", "How long the longest-due free retry has waited."),
		schedDelay:    gauge("fanfare_scheduling_delay_seconds", "How long one in ten waits for a CPU takes at least, of late; over 0.02 loud accounts are refused."),
		outboxAge:     gauge("fanfare_outbox_age_seconds", "How long the longest-due row of the outbox has waited."),
	}
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "fanfare_sql_statements_total", Help: "Statements sent to Postgres.",
	}, func() float64 { return float64(d.store.Statements()) }))
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "fanfare_health_rows_lost_total", Help: "Rows of health dropped because Postgres was away for too long.",
	}, func() float64 { return float64(d.health.lost.Load()) }))
	gaugeOf("fanfare_in_flight", "Requests in flight.", func() float64 { _, n, _, _ := d.queue.sizes(); return float64(n) })
	gaugeOf("fanfare_queue_deliveries", "Deliveries that wait in memory.", func() float64 { n, _, _, _ := d.queue.sizes(); return float64(n) })
	gaugeOf("fanfare_queue_bytes", "Payloads that wait in memory.", func() float64 { _, _, _, n := d.queue.sizes(); return float64(n) })
	gaugeOf("fanfare_endpoints_down", "Endpoints that failed five times in a row and are only probed.", func() float64 { _, _, n, _ := d.queue.sizes(); return float64(n) })
	gaugeOf("fanfare_recorder_backlog", "Outcomes that are not on record yet.", func() float64 { n, _ := d.recorder.backlog(); return float64(n) })
	gaugeOf("fanfare_nodes_live", "Nodes that hold a lease, this one included.", func() float64 { return float64(d.node.live.Load()) })
	gaugeOf("fanfare_lease_age_seconds", "Since the lease was renewed; over 5 no request starts.", func() float64 { return d.node.leaseAge().Seconds() })
	gaugeOf("fanfare_clock_skew_seconds", "The database's clock minus this node's.", func() float64 { return d.node.skew().Seconds() })
	gaugeOf("fanfare_partitions_ahead_seconds", "How much time the log's partitions still cover.", func() float64 {
		return d.node.ceiling().Time().Sub(d.node.now()).Seconds()
	})
	gaugeOf("fanfare_log_ahead_seconds", "How far the log's position is ahead of the database's clock; 0 if it is not.", func() float64 {
		return max(d.node.floor().Time().Sub(d.node.now()).Seconds(), 0)
	})
	start := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fanfare_delivery_start_seconds", Buckets: latencies,
		Help: "From an event's commit to the start of a delivery's first attempt, by how its endpoint was then.",
	}, []string{"endpoint"})
	reg.MustRegister(start)
	for _, e := range []string{endpointHealthy, endpointFailing, endpointDown} {
		m.startSeconds[e] = start.WithLabelValues(e)
	}
	for _, s := range []fanfare.State{fanfare.Delivered, fanfare.Exhausted, fanfare.Discarded} {
		m.deliveries.WithLabelValues(string(s))
	}
	for _, v := range []fanfare.Verdict{fanfare.VerdictDelivered, fanfare.VerdictRetry, fanfare.VerdictReject, fanfare.VerdictGone} {
		for _, c := range statusClasses {
			m.attempts.WithLabelValues(string(v), c)
		}
	}
	m.disabled.WithLabelValues(fanfare.DisabledByGone)
	m.disabled.WithLabelValues(fanfare.DisabledByHealth)
	return m
}

func (m *metrics) attempted(a *fanfare.Attempt, first bool, e *event) {
	class := "none"
	if c := a.Status / 100; c >= 1 && c < len(statusClasses) {
		class = statusClasses[c]
	}
	m.attempts.WithLabelValues(string(a.Verdict), class).Inc()
	m.attemptTime.Observe(a.Duration.Seconds())
	if first && !e.test {
		m.latency.Observe(a.StartedAt.Add(a.Duration).Sub(fanfare.EventTime(e.id)).Seconds())
	}
	if a.Error == fanfare.ErrOwn {
		m.ownFaults.Inc()
	}
	m.ended(a.State)
}

func (m *metrics) ended(s fanfare.State) {
	if s != fanfare.Pending {
		m.deliveries.WithLabelValues(string(s)).Inc()
	}
}

func (m *metrics) setBacklog(b store.Backlog) {
	m.openGroups.Set(float64(b.OpenGroups))
	m.retriesDue.Set(float64(b.Due))
	m.oldestDue.Set(b.OldestDue.Seconds())
	m.outboxAge.Set(b.OutboxAge.Seconds())
}
