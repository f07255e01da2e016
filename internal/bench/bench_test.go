package bench_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/app"
	"github.com/fanfare-webhooks/fanfare/internal/bench"
)

// TestMain is `fanfare dev` if it is called like that: the tests start it as bench starts its own binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "dev" {
		os.Exit(dev(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

func dev(args []string) (code int) {
	var o app.DevOptions
	f := flag.NewFlagSet("dev", flag.ContinueOnError)
	f.StringVar(&o.Dir, "data", "", "")
	f.StringVar(&o.Listen, "listen", "", "")
	f.StringVar(&o.Admin, "admin", "", "")
	level := f.String("log-level", "", "")
	if err := f.Parse(args); err != nil || *level != "warn" {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := app.Dev(ctx, o, slog.New(slog.NewTextHandler(os.Stderr, nil)), io.Discard); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startNode runs a node of its own for t.
func startNode(t *testing.T) bench.Target {
	t.Helper()
	node, err := bench.StartNode(t.Context(), os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(); err != nil {
			t.Error(err)
		}
	})
	return node.Target
}

func config(target bench.Target) bench.Config {
	return bench.Config{
		Target: target, EventType: "invoice.paid", Webhooks: 2, Size: 512,
		Rate: 50, Warmup: time.Second, Duration: 2 * time.Second, Raw: 100 * time.Millisecond,
	}
}

// webhooks is how many webhooks the account has.
func webhooks(t *testing.T, target bench.Target) int {
	target.PlatformKey = target.Key
	return countOf(t, target, "/v1/accounts/me/webhooks")
}

// countOf is how many things a list of the API holds.
func countOf(t *testing.T, target bench.Target, path string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, target.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+target.PlatformKey)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer answer.Body.Close()
	var list struct{ Data []json.RawMessage }
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status, err)
	}
	return len(list.Data)
}

func TestARunAgainstARealNode(t *testing.T) {
	target := startNode(t)

	t.Run("the open loop sends what is due, and everything arrives once", func(t *testing.T) {
		r, err := bench.Run(t.Context(), config(target))
		if err != nil {
			t.Fatal(err)
		}
		want := bench.Checks{Acknowledged: 150, Arrived: 300}
		if r.Ended != bench.Complete || r.Checks != want || r.Err() != nil || len(r.PublishErrors) != 0 {
			t.Errorf("ended %s, %+v, %v, want %+v", r.Ended, r.Checks, r.PublishErrors, want)
		}
		if r.Events != 100 || r.Deliveries != 200 || r.Latency.Max <= 0 || r.Reached != 2 {
			t.Errorf("got %+v", r)
		}
		if r.RawBefore <= 0 || r.RawAfter <= 0 || r.RawPerSecond != (r.RawBefore+r.RawAfter)/2 {
			t.Errorf("raw: %v, %v before, %v after", r.RawPerSecond, r.RawBefore, r.RawAfter)
		}
		if runtime.GOOS == "linux" && (r.Process == nil || r.Process.PostgresCPU == nil || r.Process.PeakRSS < 1<<20) {
			t.Errorf("processes: %+v", r.Process)
		}
		if n := webhooks(t, target); n != 0 {
			t.Errorf("%d webhooks are left", n)
		}
	})

	t.Run("the closed loop", func(t *testing.T) {
		c := config(target)
		c.Rate, c.Publishers, c.Warmup, c.Duration, c.Raw = 0, 4, 100*time.Millisecond, 500*time.Millisecond, 0
		r, err := bench.Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		n := r.Checks.Acknowledged
		want := bench.Checks{Acknowledged: n, Arrived: 2 * n}
		if n < 4 || r.Ended != bench.Complete || r.Checks != want {
			t.Errorf("ended %s, %+v, want %+v", r.Ended, r.Checks, want)
		}
	})

	t.Run("batches, among endpoints that hang and fail", func(t *testing.T) {
		c := config(target)
		c.Rate, c.Publishers, c.Batch, c.Warmup, c.Duration = 0, 2, 10, 100*time.Millisecond, 500*time.Millisecond
		c.Hanging, c.Hang, c.Failing, c.FailWith = 1, time.Hour, 1, bench.Fail500
		r, err := bench.Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		n := r.Checks.Acknowledged
		want := bench.Checks{Acknowledged: n, Arrived: 2 * n}
		if n < 20 || n%10 != 0 || r.Ended != bench.Complete || r.Checks != want {
			t.Errorf("ended %s, %+v, want %+v", r.Ended, r.Checks, want)
		}
		if r.Bad == nil || r.Bad.Held == 0 || r.Bad.Failed == 0 || r.Bad.Released != 0 {
			t.Errorf("bad endpoints: %+v", r.Bad)
		}
		if r.SQLPerDelivery == nil || *r.SQLPerDelivery <= 0 || r.LoaderCPU == nil {
			t.Errorf("costs: %v SQL statements, %v loader", r.SQLPerDelivery, r.LoaderCPU)
		}
		if n := webhooks(t, target); n != 0 {
			t.Errorf("%d webhooks are left", n)
		}
	})

	t.Run("webhooks of many accounts, each in turn", func(t *testing.T) {
		c := config(target)
		c.Accounts, c.WebhooksTotal, c.Hanging, c.Hang, c.Batch, c.Raw = 3, 12, 2, time.Hour, 5, 0
		types := countOf(t, target, "/v1/event-types")
		r, err := bench.Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want := bench.Checks{Acknowledged: 150, Arrived: 300}
		if r.Ended != bench.Complete || r.Checks != want || r.Reached != 12 || r.Bad.Held == 0 {
			t.Errorf("ended %s, %+v, %+v, %d reached", r.Ended, r.Checks, r.Bad, r.Reached)
		}
		if n := countOf(t, target, "/v1/accounts"); n != 1 {
			t.Errorf("%d accounts are left", n)
		}
		if n := countOf(t, target, "/v1/event-types"); n != types {
			t.Errorf("%d event types are left of %d", n, types)
		}
	})

	t.Run("accounts of its own without a platform key", func(t *testing.T) {
		c := config(target)
		c.Accounts, c.WebhooksTotal, c.Target.PlatformKey = 3, 12, ""
		if r, err := bench.Run(t.Context(), c); r != nil || err == nil || !strings.Contains(err.Error(), "platform key") {
			t.Errorf("got %+v, %v", r, err)
		}
	})

	t.Run("an interrupt leaves a report", func(t *testing.T) {
		c := config(target)
		c.Duration = 10 * time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := bench.Run(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if r.Ended != bench.Interrupted || r.Checks.Arrived == 0 || r.Checks.Lost != 0 || r.Err() != nil {
			t.Errorf("got %+v", r)
		}
		if n := webhooks(t, target); n != 0 {
			t.Errorf("%d webhooks are left", n)
		}
	})

	t.Run("a type that the catalog lacks", func(t *testing.T) {
		c := config(target)
		c.EventType = "no.such"
		if r, err := bench.Run(t.Context(), c); r != nil || err == nil || !strings.Contains(err.Error(), "422") {
			t.Errorf("got %+v, %v", r, err)
		}
	})

	t.Run("a key that is wrong", func(t *testing.T) {
		c := config(target)
		c.Target.Key += "x"
		if r, err := bench.Run(t.Context(), c); r != nil || err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

func TestAConfigThatHasNoBound(t *testing.T) {
	good := config(bench.Target{})
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*bench.Config){
		"no webhooks":           func(c *bench.Config) { c.Webhooks = 0 },
		"too many webhooks":     func(c *bench.Config) { c.Webhooks = 1001 },
		"no room for a number":  func(c *bench.Config) { c.Size = 10 },
		"too large":             func(c *bench.Config) { c.Size = 1 << 20 },
		"nobody publishes":      func(c *bench.Config) { c.Rate = 0 },
		"no time":               func(c *bench.Config) { c.Duration = 0 },
		"a day":                 func(c *bench.Config) { c.Duration = 24 * time.Hour },
		"more than fits":        func(c *bench.Config) { c.Rate, c.Duration = 90_000, time.Minute },
		"a rate below zero":     func(c *bench.Config) { c.Rate = -1 },
		"a warmup below zero":   func(c *bench.Config) { c.Warmup = -1 },
		"a rate without bounds": func(c *bench.Config) { c.Rate = 1e12 },
		"a batch below zero":    func(c *bench.Config) { c.Batch = -1 },
		"a batch of too many":   func(c *bench.Config) { c.Batch = 1001 },
		"a batch too large":     func(c *bench.Config) { c.Batch, c.Size = 100, 100_000 },
		"no time to hang":       func(c *bench.Config) { c.Hanging = 1 },
		"no way to fail":        func(c *bench.Config) { c.Failing = 1 },
		"too many that fail":    func(c *bench.Config) { c.Failing, c.FailWith = 1001, bench.Fail500 },
		"accounts below zero":   func(c *bench.Config) { c.Accounts = -1 },
		"accounts without":      func(c *bench.Config) { c.Accounts = 1 },
		"webhooks for nobody":   func(c *bench.Config) { c.WebhooksTotal = 10 },
		"an uneven account":     func(c *bench.Config) { c.Accounts, c.WebhooksTotal = 3, 10 },
		"an uneven group":       func(c *bench.Config) { c.Accounts, c.WebhooksTotal = 2, 6 },
		"an account too large":  func(c *bench.Config) { c.Accounts, c.WebhooksTotal = 1, 10_002 },
		"a million webhooks":    func(c *bench.Config) { c.Accounts, c.WebhooksTotal = 1000, 1_000_000 },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if c.Check() == nil {
				t.Error("it is accepted")
			}
		})
	}
}

// A node that does not start says why, and leaves nothing behind.
func TestANodeThatDoesNotStart(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("FANFARE_POSTGRES_BIN", "/nonexistent")
	node, err := bench.StartNode(t.Context(), os.Args[0])
	if node != nil || err == nil || !strings.Contains(err.Error(), "/nonexistent has no initdb") {
		t.Errorf("got %v, %v", node, err)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
