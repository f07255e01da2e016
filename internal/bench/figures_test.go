package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reportOf is a report with a ratio and a p50, and what follows from them by ten.
func reportOf(ratio, p50 float64) *Report {
	return &Report{
		Started: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), RawPerSecond: 1000, RawRatio: ratio,
		DeliveriesPerSecond: 1000 * ratio, Latency: Quantiles{P50: p50, P99: 10 * p50},
	}
}

func TestFiguresAreMediansWithTheirLowestAndHighest(t *testing.T) {
	a, b, c := reportOf(0.3, 2), reportOf(0.1, 1), reportOf(0.2, 9)
	a.SQLPerDelivery, b.SQLPerDelivery = new(0.5), new(0.7)
	b.Process = &Process{ServerCPU: 2, PeakRSS: 1 << 20}
	f := summarize(Case{Name: "x", Title: "X", Config: Config{Rate: 5}}, []*Report{a, b, c})
	for _, s := range []struct {
		name      string
		got, want Spread
	}{
		{"ratio", f.Ratio, Spread{0.2, 0.1, 0.3}},
		{"p50", f.P50, Spread{2, 1, 9}},
		{"p99", f.P99, Spread{20, 10, 90}},
		{"SQL, of two", *f.SQL, Spread{0.6, 0.5, 0.7}},
		{"server, of one", *f.Server, Spread{2, 2, 2}},
		{"memory", *f.Memory, Spread{1 << 20, 1 << 20, 1 << 20}},
	} {
		if s.got != s.want {
			t.Errorf("%s: got %v, want %v", s.name, s.got, s.want)
		}
	}
	if f.Case != "x" || f.Title != "X" || f.Runs != 3 || !f.Open || f.Measured != "2026-11-21" || f.Postgres != nil || f.Loader != nil {
		t.Errorf("got %+v", f)
	}
}

func TestChangesBeyondTheNoiseAreMarked(t *testing.T) {
	of := func(ratio, p50, rate float64) *Figures {
		return summarize(Case{Config: Config{Rate: rate}}, []*Report{reportOf(ratio, p50)})
	}
	for _, c := range []struct {
		name      string
		now, then *Figures
		want      string
	}{
		{"nothing before", of(0.2, 1, 0), nil, "new"},
		{"the closed loop, within", of(0.22, 9, 0), of(0.2, 1, 0), "÷ raw +10 %"},
		{"the closed loop, faster", of(0.3, 9, 0), of(0.2, 1, 0), "÷ raw +50 % better"},
		{"the closed loop, slower", of(0.1, 1, 0), of(0.2, 1, 0), "÷ raw -50 % WORSE"},
		{"the open loop, within", of(0.1, 0.9, 5), of(0.2, 1, 5), "p50 -10 %"},
		{"the open loop, sooner", of(0.1, 0.5, 5), of(0.2, 1, 5), "p50 -50 % better"},
		{"the open loop, later", of(0.2, 2, 5), of(0.2, 1, 5), "p50 +100 % WORSE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.now.Change(c.then); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCompareShowsBothSides(t *testing.T) {
	now := summarize(Case{Name: "x", Title: "X"}, []*Report{reportOf(0.3, 2)})
	then := summarize(Case{Name: "x", Title: "X"}, []*Report{reportOf(0.2, 1)})
	var out bytes.Buffer
	if err := Compare(&out, []*Figures{now}, []*Figures{then}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.300 (0.300–0.300)", "0.200", "+50 % better", "2.0, was 1.0", "20.0, was 10.0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

func TestFiguresAreCommittedCaseByCase(t *testing.T) {
	dir := t.TempDir()
	page := func() string {
		text, err := os.ReadFile(filepath.Join(dir, figuresPage))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	write := func(name string, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	order := []Case{{Name: "a", Title: "A"}, {Name: "b", Title: "B"}}
	figures := func(c Case, ratio float64) []*Figures { return []*Figures{summarize(c, []*Report{reportOf(ratio, 1)})} }

	if all, err := ReadFigures(dir); all != nil || err != nil {
		t.Errorf("of none: %v, %v", all, err)
	}
	write(figuresPage, "no place\n")
	if err := WriteFigures(dir, order, figures(order[0], 0.1)); err == nil {
		t.Error("a page without a place for figures is taken")
	}
	if all, err := ReadFigures(dir); all != nil || err != nil {
		t.Errorf("written in spite of it: %v, %v", all, err)
	}

	write(figuresPage, "before\n"+beginMark+"\nold\n"+endMark+"\nafter\n")
	for _, f := range [][]*Figures{figures(order[1], 0.1), figures(order[0], 0.2), figures(order[1], 0.3)} {
		if err := WriteFigures(dir, order, f); err != nil {
			t.Fatal(err)
		}
	}
	all, err := ReadFigures(dir)
	if err != nil || len(all) != 2 || all[0].Case != "a" || all[0].Ratio.Median != 0.2 || all[1].Ratio.Median != 0.3 {
		t.Errorf("got %+v, %v", all, err)
	}
	text := page()
	if !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "\nafter\n") || strings.Contains(text, "old") ||
		strings.Index(text, "| A |") > strings.Index(text, "| B |") || strings.Count(text, "| B |") != 1 {
		t.Errorf("got\n%s", text)
	}

	write(figuresFile, "no JSON")
	if _, err := ReadFigures(dir); err == nil {
		t.Error("what is no JSON is read")
	}
}

// The page shows the committed figures and no others.
func TestThePageIsAsTheCommittedFigures(t *testing.T) {
	const docs = "../../docs"
	page, err := os.ReadFile(filepath.Join(docs, figuresPage))
	if err != nil {
		t.Fatal(err)
	}
	all, err := ReadFigures(docs)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := show(string(page), all)
	if err != nil {
		t.Fatal(err)
	}
	if all != nil && shown != string(page) {
		t.Errorf("docs/%s is not what 'fanfare bench standard --update' makes of docs/%s", figuresPage, figuresFile)
	}
	for _, f := range all {
		if !strings.Contains(string(page), f.Title) {
			t.Errorf("%q is not on the page", f.Title)
		}
	}
}
