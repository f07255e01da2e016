package registry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	webhooks   prometheus.Gauge
	unreadable prometheus.Gauge
	unchecked  prometheus.Gauge
	listening  prometheus.Gauge
	updates    *prometheus.CounterVec
	seconds    prometheus.Histogram
}

// The kinds of update.
const (
	updateChanges = "changes" // only what changed
	updateLoad    = "load"    // everything
)

func newMetrics(reg prometheus.Registerer, polledAt func() time.Time) *metrics {
	m := &metrics{
		webhooks: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fanfare_registry_webhooks", Help: "Webhooks in memory.",
		}),
		unreadable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fanfare_registry_unreadable_webhooks", Help: "Webhooks a secret of which none of the encryption keys opens.",
		}),
		unchecked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fanfare_registry_unreadable_schemas", Help: "Event types the JSON Schema of which this version cannot read: their events are not checked.",
		}),
		listening: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fanfare_registry_listening", Help: "1 while Postgres tells of changes, 0 while they are only asked for.",
		}),
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_registry_updates_total", Help: "Snapshots made, of what changed or of everything.",
		}, []string{"kind"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fanfare_registry_update_seconds", Help: "Time to read and apply changes or everything.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
	m.updates.WithLabelValues(updateChanges)
	m.updates.WithLabelValues(updateLoad)
	if reg != nil {
		reg.MustRegister(m.webhooks, m.unreadable, m.unchecked, m.listening, m.updates, m.seconds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fanfare_registry_lag_seconds", Help: "Age of what is in memory: time since the newest answered question for changes was asked.",
		}, func() float64 {
			at := polledAt()
			if at.IsZero() {
				return 0
			}
			return time.Since(at).Seconds()
		}))
	}
	return m
}
