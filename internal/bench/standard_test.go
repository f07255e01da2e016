package bench_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/bench"
)

func TestTheStandardSetIsBoundedAndNamed(t *testing.T) {
	full, quick := bench.Standard(false), bench.Standard(true)
	seen := make(map[string]bool)
	for i, c := range full {
		for _, c := range []bench.Case{c, quick[i]} {
			if err := c.Config.Check(); err != nil {
				t.Errorf("%s: %v", c.Name, err)
			}
		}
		if seen[c.Name] || c.Name == "" || c.Name != quick[i].Name || c.Title == "" {
			t.Errorf("case %d is called %q, quick %q", i, c.Name, quick[i].Name)
		}
		seen[c.Name] = true
	}
	if len(full) != len(quick) {
		t.Errorf("%d cases, %d quick ones", len(full), len(quick))
	}
}

func TestTheStandardSetRuns(t *testing.T) {
	var log bytes.Buffer
	s := bench.Set{Cases: bench.Standard(true), Runs: 1, Share: true, Binary: os.Args[0], Log: &log}
	all, err := s.Figures(t.Context())
	if err != nil {
		t.Fatal(err, log.String())
	}
	if len(all) != len(s.Cases) {
		t.Fatalf("%d of %d cases have figures", len(all), len(s.Cases))
	}
	for i, f := range all {
		if f.Case != s.Cases[i].Name || f.Runs != 1 || f.Deliveries.Median <= 0 || f.Ratio.Median <= 0 || f.P50.Median <= 0 {
			t.Errorf("got %+v", f)
		}
		if !strings.Contains(log.String(), f.Case) {
			t.Errorf("%s is not logged", f.Case)
		}
	}
}

// What an interrupt cuts short has no figures.
func TestAnInterruptOfARunOfTheStandardSet(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cases := bench.Standard(true)[:2]
	cases[1].Config.Duration = 10 * time.Minute
	s := bench.Set{Cases: cases, Runs: 1, Share: true, Binary: os.Args[0], Log: writerFunc(func(string) {
		time.AfterFunc(time.Second, cancel) // the second load has begun, or is about to
	})}
	all, err := s.Figures(ctx)
	if !errors.Is(err, context.Canceled) || len(all) != 1 || all[0].Case != cases[0].Name {
		t.Errorf("got %d figures, %v", len(all), err)
	}
}

// Each run has a node of its own, and an interrupt between two leaves what there is.
func TestAnInterruptOfTheStandardSet(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cases := bench.Standard(true)[:2]
	s := bench.Set{Cases: cases, Runs: 2, Binary: os.Args[0], Log: writerFunc(func(line string) {
		if strings.HasPrefix(line, cases[1].Name) {
			cancel()
		}
	})}
	all, err := s.Figures(ctx)
	if !errors.Is(err, context.Canceled) || len(all) != 2 || all[0].Runs != 1 || all[1].Runs != 1 {
		t.Errorf("got %d figures, %v", len(all), err)
	}
}

// writerFunc is called with every line that is written.
type writerFunc func(line string)

func (f writerFunc) Write(b []byte) (int, error) { f(string(b)); return len(b), nil }
