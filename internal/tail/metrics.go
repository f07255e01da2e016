package tail

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	reads prometheus.Counter
	pages prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, answers func() int64, now func() (waiting int, bytes int64)) *metrics {
	m := &metrics{
		reads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_sync_reads_total", Help: "Looks at the end of the log for all who wait for it.",
		}),
		pages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_sync_pages_total", Help: "Pages of the log read from the database for one who follows it.",
		}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanfare_sync_waiting", Help: "Calls that wait for the next event.",
	}, func() float64 { n, _ := now(); return float64(n) })
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanfare_sync_bytes", Help: "Bytes of the log's end kept in memory for those who follow it.",
	}, func() float64 { _, n := now(); return float64(n) })
	underWay := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanfare_sync_answer_bytes", Help: "Bytes of events in answers to those who follow the log, until they are written.",
	}, func() float64 { return float64(answers()) })
	if reg != nil {
		reg.MustRegister(m.reads, m.pages, waiting, held, underWay)
	}
	return m
}
