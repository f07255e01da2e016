package api

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/fanfare-webhooks/fanfare"
)

func TestADeliveryWithoutAStateIsCounted(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry())}
	s.countUnaccounted([]fanfare.Delivery{{State: fanfare.Delivered}, {}, {State: fanfare.Pending}})
	var m dto.Metric
	if err := s.metrics.unaccounted.Write(&m); err != nil || m.GetCounter().GetValue() != 1 {
		t.Errorf("counted %v (%v)", m.GetCounter().GetValue(), err)
	}
}
