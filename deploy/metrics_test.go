package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/fanfare-webhooks/fanfare/internal/app"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
)

func TestPanelsAndRulesAskForWhatANodeHas(t *testing.T) {
	asked := append(panels(t), rules(t)...)
	if len(asked) < 70 {
		t.Errorf("only %d expressions were found: the panels or the rules are not read as they are written", len(asked))
	}
	has := scrape(t)
	for _, q := range asked {
		for _, fault := range unknown(q.expr, has) {
			t.Errorf("%s: %s", q.place, fault)
		}
	}
}

// query is an expression of PromQL and where it stands.
type query struct{ place, expr string }

// rules reads the expressions of the rules' file, which are on the line of their key or folded below it.
func rules(t *testing.T) (all []query) {
	t.Helper()
	name, folded := "", false
	for line := range strings.Lines(read(t, rulesFile)) {
		key, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- ")), ": ")
		switch {
		case key == "alert" || key == "record":
			name, folded = value, false
		case key == "expr":
			folded = value == ">-"
			all = append(all, query{place: rulesFile + ": " + name})
			if !folded {
				all[len(all)-1].expr = value
			}
		case folded && strings.HasPrefix(line, "          "):
			all[len(all)-1].expr += strings.TrimSpace(line) + " "
		default:
			folded = false
		}
	}
	return all
}

// scrape starts a node and reads its metrics, after a request to its API.
func scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	key, err := seal.Generate("test")
	if err != nil {
		t.Fatal(err)
	}
	config, err := app.LoadConfig(map[string]string{
		"FANFARE_DATABASE_URL":    pgtest.Server(t, false).URL(pgtest.Database), // a node insists on durability
		"FANFARE_ENCRYPTION_KEYS": key,
		"FANFARE_LISTEN":          "127.0.0.1:0",
		"FANFARE_ADMIN_LISTEN":    "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	node, err := app.Start(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + node.PublicAddr + "/v1/event-types")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer, err = client.Get("http://" + node.AdminAddr + "/metrics"); err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

var (
	selector = regexp.MustCompile(`\b((?:fanfare|go|process)_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`\bby\s*\(([^)]*)\)`)
)

// scraped are the labels that Prometheus adds.
var scraped = []string{"job", "instance"}

// grown are the labels whose values come with the traffic; all others are there from the start.
var grown = []string{"route", "method", "status"}

// unknown says what expr asks for that has lacks: metrics, labels, and values of labels.
func unknown(expr string, has map[string]*dto.MetricFamily) (faults []string) {
	known := slices.Clone(scraped)
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		family := find(has, s[1])
		if family == nil {
			faults = append(faults, "there is no metric "+s[1])
			continue
		}
		values := labels(family)
		for label := range values {
			known = append(known, label)
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			label, operator, text := m[1], m[2], m[3]
			if slices.Contains(scraped, label) {
				continue
			}
			if values[label] == nil {
				faults = append(faults, fmt.Sprintf("%s has no label %s", s[1], label))
				continue
			}
			if strings.TrimSuffix(operator, "~") == operator {
				text = regexp.QuoteMeta(text)
			}
			pattern := regexp.MustCompile(`^(?:` + text + `)$`)
			if !slices.Contains(grown, label) && !slices.ContainsFunc(values[label], pattern.MatchString) {
				faults = append(faults, fmt.Sprintf("no %s of %s is %s%s", label, s[1], operator, m[3]))
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			if label = strings.TrimSpace(label); !slices.Contains(known, label) {
				faults = append(faults, "it groups by "+label+", which its metrics do not have")
			}
		}
	}
	return faults
}

// find looks up a series, which for a histogram is named after a part of it.
func find(has map[string]*dto.MetricFamily, series string) *dto.MetricFamily {
	for _, part := range []string{"_bucket", "_count", "_sum"} {
		if f := has[strings.TrimSuffix(series, part)]; f.GetType() == dto.MetricType_HISTOGRAM && strings.HasSuffix(series, part) {
			return f
		}
	}
	if f := has[series]; f.GetType() != dto.MetricType_HISTOGRAM {
		return f
	}
	return nil
}

// labels lists the values that each label of a metric has.
func labels(f *dto.MetricFamily) map[string][]string {
	all := make(map[string][]string)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			all[l.GetName()] = append(all[l.GetName()], l.GetValue())
		}
		for _, b := range m.GetHistogram().GetBucket() {
			all[model.BucketLabel] = append(all[model.BucketLabel], strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
		}
	}
	return all
}

func TestUnknown(t *testing.T) {
	const exposition = `
# TYPE fanfare_deliveries_total counter
fanfare_deliveries_total{state="delivered"} 0
# TYPE fanfare_http_requests_total counter
fanfare_http_requests_total{status="200"} 1
# TYPE fanfare_wait_seconds histogram
fanfare_wait_seconds_bucket{le="10"} 0
fanfare_wait_seconds_bucket{le="+Inf"} 0
fanfare_wait_seconds_sum 0
fanfare_wait_seconds_count 0
`
	parser := expfmt.NewTextParser(model.UTF8Validation)
	has, err := parser.TextToMetricFamilies(strings.NewReader(exposition))
	if err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]int{
		`sum by (state, job) (rate(fanfare_deliveries_total{job=~"x",state="delivered"}[5m]))`: 0,
		`rate(fanfare_wait_seconds_bucket{le=~"10|10[.]0"}[5m])`:                               0,
		`histogram_quantile(0.9, sum by (le) (rate(fanfare_wait_seconds_bucket[5m])))`:         0,
		`fanfare:recorded:ratio > 1`:                          0,
		`fanfare_http_requests_total{status=~"5.."}`:          0, // none yet
		`fanfare_gone_total`:                                  1,
		`fanfare_deliveries_total / fanfare_gone`:             1,
		`fanfare_deliveries_total{verdict="x"}`:               1,
		`fanfare_deliveries_total{state="deliverd"}`:          1,
		`fanfare_wait_seconds_bucket{le="15"}`:                1,
		`fanfare_wait_seconds`:                                1, // a histogram has no such series
		`fanfare_deliveries_count`:                            1,
		`sum by (stat) (fanfare_deliveries_total)`:            1,
		`fanfare_gone_total + fanfare_deliveries_total{x=""}`: 2,
	} {
		if got := unknown(expr, has); len(got) != want {
			t.Errorf("%s: %d faults, want %d: %q", expr, len(got), want, got)
		}
	}
}

// panel is what the tests want of a panel of Grafana.
type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	GridPos     box    `json:"gridPos"`
	Datasource  source `json:"datasource"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		Datasource source `json:"datasource"`
		Expr       string `json:"expr"`
	} `json:"targets"`
}

type source struct {
	UID string `json:"uid"`
}

type box struct{ X, Y, W, H int }

func dashboard(t *testing.T) (all []panel) {
	t.Helper()
	var d struct {
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d.Panels
}

func panels(t *testing.T) (all []query) {
	t.Helper()
	for _, p := range dashboard(t) {
		for _, target := range p.Targets {
			all = append(all, query{place: dashboardFile + ": " + p.Title, expr: target.Expr})
		}
	}
	return all
}

func TestTheDashboardIsWellFormed(t *testing.T) {
	if faults := malformed(dashboard(t)); len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
}

const gridWidth = 24

func malformed(panels []panel) (faults []string) {
	for i, p := range panels {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("panel %d %q ", p.ID, p.Title)+fmt.Sprintf(format, args...))
		}
		if b := p.GridPos; b.W < 1 || b.H < 1 || b.X < 0 || b.X+b.W > gridWidth {
			fault("lies outside the grid")
		}
		for _, q := range panels[:i] {
			if p.ID == q.ID {
				fault("has the id of %q", q.Title)
			}
			if a, b := p.GridPos, q.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				fault("covers %q", q.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.FieldConfig.Defaults.Unit == "" {
			fault("has no query or no unit")
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				fault("asks a data source of its own")
			}
			if !strings.Contains(target.Expr, `job=~"$job"`) {
				fault("does not heed the chosen job")
			}
		}
	}
	return faults
}

func TestMalformed(t *testing.T) {
	const good = `{"id": 1, "type": "stat", "title": "a", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 4}, "datasource": {"uid": "${datasource}"},
		"fieldConfig": {"defaults": {"unit": "s"}}, "targets": [{"datasource": {"uid": "${datasource}"}, "expr": "up{job=~\"$job\"}"}]}`
	const other = `{"id": 2, "type": "row", "title": "b", "gridPos": {"x": 12, "y": 0, "w": 12, "h": 1}}`
	for _, c := range []struct {
		name     string
		old, new string
		faults   int
	}{
		{"good", "", "", 0},
		{"an id twice", `"id": 2`, `"id": 1`, 1},
		{"one over the other", `"x": 12`, `"x": 11`, 1},
		{"too wide", `"x": 12`, `"x": 13`, 1},
		{"no unit", `"unit": "s"`, ``, 1},
		{"no query", `"targets": [{`, `"other": [{`, 1},
		{"another source", `{"uid": "${datasource}"}, "expr"`, `{"uid": "mine"}, "expr"`, 1},
		{"every job", `{job=~\"$job\"}`, ``, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "[" + good + "," + other + "]"
			if c.old != "" && !strings.Contains(text, c.old) {
				t.Fatalf("%s is not there", c.old)
			}
			var panels []panel
			if err := json.Unmarshal([]byte(strings.Replace(text, c.old, c.new, 1)), &panels); err != nil {
				t.Fatal(err)
			}
			if got := malformed(panels); len(got) != c.faults {
				t.Errorf("%d faults, want %d: %q", len(got), c.faults, got)
			}
		})
	}
}
