//go:build chaos

package lab

import (
	"os"
	"slices"
	"testing"
	"time"
)

// pick is v, or full with LONG=1.
func pick[T any](v, full T) T {
	if long := os.Getenv("LONG"); long != "" && long != "0" {
		return full
	}
	return v
}

// lanes are the long lanes, by the names that RUN chooses from.
var lanes = []struct {
	name string
	lane lane
}{
	{"F1", &faulty{
		endpoints: 100, hanging: 1, refusing: true, rate: 500,
		baseline: 20 * time.Second, duration: 40 * time.Second, factor: 1.2, limit: time.Minute,
	}},
	{"F1_one_account", &faulty{
		endpoints: 100, hanging: 1, refusing: true, oneAccount: true, rate: 500,
		baseline: 20 * time.Second, duration: 40 * time.Second, factor: 1.2, limit: time.Minute,
	}},
	{"F2", &burst{
		events: 50_000, quiet: 9, rate: 5, baseline: 20 * time.Second, duration: 20 * time.Second, limit: time.Minute,
	}},
	{"F3", &faulty{ // they want more slots than there are
		endpoints: 100, hanging: 30, hookSlots: 64, rate: 500,
		baseline: 20 * time.Second, duration: 40 * time.Second, factor: 1.5, limit: time.Minute,
	}},
	{"F4", &outage{
		due: pick(6000, 20_000), steps: slices.Repeat(seconds(30), 20), down: time.Minute, latency: 10 * time.Millisecond,
		cap: 50, rate: 100, baseline: 15 * time.Second, limit: pick(6*time.Minute, 12*time.Minute),
	}},
	{"F4_short", &f4Short},
	{"F5", &parked{
		dead: 19, events: 500_000, waiting: 500_000, quiet: 1000, owed: 3, rate: 100, duration: 30 * time.Second,
		limit: 2 * time.Minute, bars: true,
	}},
	{"F5_a_million", &parked{
		dead: 1, events: 1_000_000, quiet: 1000, owed: 3, rate: 100, duration: 20 * time.Second, limit: 2 * time.Minute, bars: true,
	}},
	{"F6", &grown{
		accounts: 100_000, each: 10, rate: 50, measure: 10 * time.Second, changes: 1000, changing: 10 * time.Second, created: 10_000, bars: true,
	}},
	{"F7", &overload{
		accounts: 10, measure: 10 * time.Second, times: 5, duration: pick(time.Minute, 5*time.Minute), limit: 2 * time.Minute,
	}},
	{"F8", &soak{endpoints: 20, faults: .05, rate: 200, duration: pick(150*time.Second, 20*time.Minute)}},
	{"F9", &scheduled{steps: seconds(1, 2, 3, 4, 5), events: 50}},
	{"rate", &rated{nodes: 2, events: 200, count: 20, limit: time.Minute}},
	{"storm", &storm{
		webhooks: 100, endpoints: 100, accounts: 20, rate: 500, down: 30 * time.Second, steps: manySeconds, limit: 2 * time.Minute,
	}},
	{"fan_out", &storm{
		webhooks: 10_000, endpoints: 20, fanOut: true, accounts: 1, rate: 2, down: 10 * time.Second, steps: manySeconds,
		limit: 3 * time.Minute,
	}},
	{"moved", &moved{events: 5000, limit: time.Minute}},
	{"slow_database", &slowDatabase{
		delays: []time.Duration{5 * time.Millisecond, 50 * time.Millisecond}, rate: 300, each: 15 * time.Second,
		bar: 60 * time.Millisecond,
	}},
	{"C1", &crash{
		nodes: 1, publishers: 4, events: 50_000, rate: 800, endpoints: 20, failing: 2, kills: 10, gap: between{time.Second, 4 * time.Second},
		repeats: .01, bars: true, limit: 2 * time.Minute,
	}},
	{"C2", &crash{
		nodes: 1, publishers: 4, events: 50_000, rate: 800, endpoints: 20, failing: 2, crashes: 5, gap: between{time.Second, 4 * time.Second},
		repeats: .02, bars: true, limit: 2 * time.Minute,
	}},
	{"C3", &crash{
		nodes: 3, publishers: 4, events: 50_000, rate: 700, endpoints: 20, failing: 2, kills: 10, crashes: 5,
		gap: between{time.Second, 4 * time.Second}, repeats: .03, bars: true, limit: 2 * time.Minute,
	}},
	{"C3_each_other_dead", &crash{
		nodes: 2, publishers: 4, events: 10_000, rate: 400, endpoints: 20, failing: 2, deaths: 3,
		gap: between{time.Second, 4 * time.Second}, repeats: .03, bars: true, limit: 2 * time.Minute,
	}},
	{"C5", &frozen{hooks: 20, events: 15, again: 4, limit: time.Minute}},
	{"C6", &rolling{
		nodes: 2, publishers: 4, events: 200_000, rate: 400, endpoints: 20, deploys: 20, backs: 5, gap: 500 * time.Millisecond, limit: time.Minute,
	}},
	{"C11b", &slowCommit{nodes: 3, commit: 5 * time.Millisecond, rate: 150, duration: 30 * time.Second, bar: 60 * time.Millisecond}},
	{"C16", &away{
		nodes: 3, publishers: 4, events: 200_000, rate: 300, endpoints: 20, before: 5 * time.Second, down: time.Minute,
		limit: 2 * time.Minute,
	}},
	{"C17", &inside{rounds: 50, publishes: 20, stops: 50, stop: 300 * time.Millisecond, rate: 100, bars: true}},
	{"relay", &relay{hooks: 20, events: 10, limit: time.Minute}},
	{"full_log", &deaf{events: 2000}},
	{"twins", &twins{pairs: pick(3, 7), duration: 8 * time.Second, conns: 256, share: 1.15, back: 10 * time.Second}},
	{"hostile", &hostile{
		abusers: 500, healthy: 10, timeout: 15 * time.Second, rate: 200, baseline: 10 * time.Second, duration: 20 * time.Second,
		limit: time.Minute,
	}},
	{"C4", &terminated{rate: 200, kills: 5, duration: time.Minute, changes: 20, visible: 2 * time.Second}},
	{"C7", &consistent{rounds: 2000, workers: 8, endings: 10, waiting: 500, bars: true}},
	{"C8", &keyed{nodes: 3, keys: 500, clients: 64, kills: 8}},
	{"C9", &diskFull{rate: 200, full: 20 * time.Second, back: 10 * time.Second}},
	{"C9_wal", &diskFull{wal: true, rate: 200, full: 20 * time.Second, back: 10 * time.Second}},
	{"C10", &snapshot{rate: 500, baseline: 20 * time.Second, held: pick(time.Minute, 3*time.Minute)}},
	{"C11", &lossy{
		rate: 100, duration: time.Minute, every: 500 * time.Millisecond, silences: true, bars: true, limit: 3 * time.Minute,
	}},
	{"C11_torn", &torn{endpoints: 20, share: .95, rate: 200, duration: 30 * time.Second, limit: 2 * time.Minute}},
	{"C12", &followed{
		nodes: 3, publishers: 4, events: 20_000, rate: 400, pollers: 30, kills: 8, gap: between{time.Second, 4 * time.Second},
	}},
	{"C13", &midnight{rate: 200, before: 10 * time.Second, after: 10 * time.Second, upkeep: true, bar: time.Second}},
	{"C14", &jumping{
		jumps: []time.Duration{time.Hour, -time.Hour, 40 * aDay}, rate: 100, held: 10 * time.Second, crash: true, back: 10 * time.Second,
	}},
}

func TestChaos(t *testing.T) {
	for _, l := range lanes {
		t.Run(l.name, func(t *testing.T) { run(t, l.name, "", l.lane).finish(t) })
	}
}

var f7Control = overload{accounts: 10, measure: 5 * time.Second, times: 5, duration: 15 * time.Second, limit: time.Minute}

// The controls of C1 and C2 publish so much that something is always on its way when the crash comes. That of
// C5 need not wait for what will never end.
var (
	c1Control = crash{
		nodes: 1, publishers: 16, events: 100_000, rate: 2000, endpoints: 5, kills: 4, gap: between{300 * time.Millisecond, time.Second},
		repeats: 1, limit: 2 * time.Minute,
	}
	c2Control = crash{
		nodes: 1, publishers: 16, events: 100_000, rate: 2000, endpoints: 5, crashes: 4, gap: between{300 * time.Millisecond, time.Second},
		repeats: 1, limit: 2 * time.Minute,
	}
	c12Control = followed{nodes: 3, publishers: 16, events: 10_000, rate: 1000, pollers: 30}
	c5Control  = frozen{hooks: 3, events: 8, again: 4, limit: 5 * time.Second}
)

// controls are lanes without the protection that they prove: one of the named bars must break.
var controls = []struct {
	name   string
	off    string
	lane   lane
	breaks []string
}{
	{"C1_early202", "early202", &c1Control, []string{lost}},
	{"C2_syncommit", "syncommit", &c2Control, []string{lost, unaccounted}},
	{"C5_fence", "fence", &c5Control, []string{"rows that late outcomes changed"}},
	{"C12_order", "order", &c12Control, []string{unseenByPoller}},
	{"F1_inflight", "inflight", &f1Short, []string{"in flight at one endpoint"}},
	{"F1_slots", "slots", &f1ShortOneHome, []string{"healthy deliveries held up"}},
	{"F2_slots", "slots", &f2Short, []string{"quiet deliveries held up"}},
	{"F2_park", "park", &f2Short, []string{"deliveries in memory"}},
	{"F3_slots", "slots", &f3Short, []string{"healthy deliveries held up"}},
	{"F4_gate", "gate", &f4Short, []string{"requests while down"}},
	{"F4_ramp", "ramp", &f4Short, []string{"requests ahead of the ramp"}},
	{"F5_claims", "claims", &f5Short, []string{"put back into Postgres"}},
	{"F7_shed", "shed", &f7Control, []string{"some were refused", "accepted p99 ms"}},
	{"F9_schedule", "schedule", &f9Short, []string{"early tries"}},
	{"rate_rate", "rate", &rateShort, []string{"arrivals in any second"}},
	{"C7_version", "version", &c7Short, []string{"events that matched by what had changed"}},
	{"C8_keys", "keys", &c8Short, []string{"keys with several events"}},
}

func TestControls(t *testing.T) {
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, c.name, c.off, c.lane)
			r.print(t)
			if !slices.ContainsFunc(r.Bars, func(b bar) bool { return !b.Held && slices.Contains(c.breaks, b.Name) }) {
				t.Errorf("without %s the lane still passes %q: it proves nothing", c.off, c.breaks)
			}
		})
	}
}
