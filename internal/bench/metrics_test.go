package bench

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const exposition = `# HELP a_total Some text with a_total 5 in it.
# TYPE a_total counter
a_total{pool="x",text="} 7 "} 1.5e+01
a_total{pool="y"} 2 1395066363000
a_total_more 100
b 3
c{x="y"} none
`

func TestScanMetric(t *testing.T) {
	for name, want := range map[string]float64{"a_total": 17, "b": 3} {
		if got, ok := scanMetric(strings.NewReader(exposition), name); !ok || got != want {
			t.Errorf("%s: got %v, %v, want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"a", "c", "total", "none"} {
		if got, ok := scanMetric(strings.NewReader(exposition), name); ok {
			t.Errorf("%s is %v", name, got)
		}
	}
}

func TestReadMetric(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(exposition))
	}))
	defer node.Close()
	c := newClient(Target{})
	defer c.close()
	if got, ok := c.readMetric(t.Context(), node.URL, "b"); !ok || got != 3 {
		t.Errorf("got %v, %v", got, ok)
	}
	for _, admin := range []string{"", node.URL + "/elsewhere", "http://127.0.0.1:0", ":"} {
		if got, ok := c.readMetric(t.Context(), admin, "b"); ok {
			t.Errorf("%q: got %v", admin, got)
		}
	}
}
