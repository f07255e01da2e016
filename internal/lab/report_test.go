package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// report is what a lane found: one JSON document.
type report struct {
	Lane    string             `json:"lane"`
	Off     string             `json:"off,omitempty"` // the protection that was switched off
	Seed    uint64             `json:"seed"`
	Started time.Time          `json:"started"`
	Seconds float64            `json:"seconds"`
	CPUs    int                `json:"cpus"`
	Counts  map[string]int64   `json:"counts"`
	Latency map[string]latency `json:"latency_ms"` // from when the event was due to be published to its arrival, unless named otherwise
	Figures map[string]float64 `json:"figures"`
	Bars    []bar              `json:"bars"`

	mu sync.Mutex // guards the maps and Bars
}

// bar is a promise and what became of it.
type bar struct {
	Name string `json:"name"`
	Held bool   `json:"held"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// latency is in milliseconds.
type latency struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newReport(lane, off string, seed uint64) *report {
	return &report{
		Lane: lane, Off: off, Seed: seed, Started: time.Now().UTC(), CPUs: runtime.NumCPU(),
		Counts: make(map[string]int64), Latency: make(map[string]latency), Figures: make(map[string]float64),
	}
}

func (r *report) count(name string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Counts[name] = n
}

func (r *report) figure(name string, v float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Figures[name] = v
}

// bar states a promise: got must be as want says.
func (r *report) bar(name string, held bool, got any, want string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Bars = append(r.Bars, bar{name, held, fmt.Sprint(got), want})
}

// none is the bar that something never happened.
func (r *report) none(name string, n int64) {
	r.count(name, n)
	r.bar(name, n == 0, n, "0")
}

// atMost is the bar that a number stays within a limit.
func (r *report) atMost(name string, got, limit float64) {
	r.figure(name, got)
	r.bar(name, got <= limit, fmt.Sprintf("%.4g", got), fmt.Sprintf("≤ %.4g", limit))
}

// finish prints the report, and fails the test for each bar that did not hold.
func (r *report) finish(t *testing.T) {
	t.Helper()
	r.print(t)
	for _, b := range r.Bars {
		if !b.Held {
			t.Errorf("%s: %s: got %s, want %s (LAB_SEED=%d)", r.Lane, b.Name, b.Got, b.Want, r.Seed)
		}
	}
}

func (r *report) print(t *testing.T) {
	t.Helper()
	r.Seconds = time.Since(r.Started).Seconds()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		t.Logf("%s", text)
	}
	dir := os.Getenv("LAB_REPORT")
	if dir == "" {
		return
	}
	name := r.Lane
	if r.Off != "" {
		name += " without " + r.Off
	}
	file := filepath.Join(dir, strings.NewReplacer(" ", "_", "/", "_", ",", "").Replace(name)+".json")
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Error(err)
	}
}

// summarize sorts ds.
func summarize(ds []time.Duration) latency {
	if len(ds) == 0 {
		return latency{}
	}
	slices.Sort(ds)
	at := func(q float64) float64 {
		i := min(int(q*float64(len(ds))), len(ds)-1)
		return float64(ds[i].Microseconds()) / 1000
	}
	return latency{N: len(ds), P50: at(.5), P90: at(.9), P99: at(.99), Max: at(1)}
}
