package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	// Deliveries found without a state, which cannot be: each is a fault of ours.
	unaccounted prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_http_requests_total",
			Help: "Requests to the API, by route template, method and status.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "fanfare_http_request_duration_seconds",
			Help:    "From the request's header to the end of the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "method"}),
		unaccounted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanfare_deliveries_unaccounted",
			Help: "Deliveries that a list found without any state. Must stay 0.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.unaccounted)
	}
	return m
}

// seen counts an answered request. Routes are templates and statuses our own, so that the series are a
// closed set.
func (m *metrics) seen(route, method string, status int, took time.Duration) {
	method = knownMethod(method)
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
