package dispatcher

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/seal"
)

// The simulation runs the real dispatcher and the real registry through random lives: one to three nodes, a
// database and receivers that are models, virtual time, and everything that can go wrong at any instant.
//
//	SIM_SEED=123 go test -run TestSimulation -v ./dispatcher    one life, and its whole story
//	SIM_SEEDS=10000 go test -run TestSimulation ./dispatcher    so many lives
//
// A life follows from its seed but for what chance the runtime has: the order of goroutines that are ready
// at one instant, of maps, and the jitter of retries. One that fails rarely is found again by SIM_TIMES=100.
//
//	sim_life_test.go    the seed made into steps, and the moods of receivers
//	sim_world_test.go   the nodes, and who does the steps
//	sim_clients_test.go who publishes
//	sim_wire_test.go    what a node has of the world: slow, lossy, cut
//	sim_store_test.go   the database: the log and its owners
//	sim_catalog_test.go and the webhooks
//	sim_rules_test.go   what must hold
//	sim_story_test.go   what is told when it does not
func TestSimulation(t *testing.T) {
	if seed, one := os.LookupEnv("SIM_SEED"); one {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for range setting(t, "SIM_TIMES", 1) {
			w := simulate(t, n)
			if w.failed(t); t.Failed() || !testing.Verbose() {
				continue
			}
			t.Log("\n" + w.tell(len(w.story)))
		}
		return
	}
	seeds := setting(t, "SIM_SEEDS", 300)
	first := setting(t, "SIM_FIRST", 1)
	reached := make(map[string]int)
	for i := range seeds {
		w := simulate(t, uint64(first+i))
		if w.failed(t); t.Failed() {
			return
		}
		for what := range w.reached {
			reached[what]++
		}
	}
	for _, what := range slices.Sorted(maps.Keys(reached)) {
		t.Logf("%6d of %d lives had %s", reached[what], seeds, what)
	}
	for _, what := range places {
		if reached[what] == 0 && seeds >= 2000 {
			t.Errorf("no life had %s: nothing was shown of it", what)
		}
	}
}

// places are where so many lives as 2,000 must have come.
var places = []string{
	"a claim that was forgotten",
	"a commit matched against an old snapshot",
	"a duplicate: its answer was lost",
	"a duplicate: its node crashed",
	"a duplicate: its node was taken for dead",
	"a group that was taken over (retake)",
	"a group that was taken over (take)",
	"a lot that Postgres forgot",
	"a one-off destination that a group still owed",
	"a publish that failed",
	"a publish that was repeated",
	"a request to a one-off destination",
	"a retry that a dead node had in hand",
	"a retry to a one-off destination",
	"an endpoint with all the requests that it may have",
	"an outcome that came too late",
}

func setting(t *testing.T, name string, otherwise int) int {
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

// simulate lets a life happen.
func simulate(t *testing.T, seed uint64) (w *world) {
	t.Helper()
	// One goroutine at a time: so the same seed makes much the same life.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	hangs := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("the simulation of seed %d hangs:\n%s", seed, w.tell(40))) })
	defer hangs.Stop()
	keyring := simKeyring(t)
	synctest.Test(t, func(*testing.T) {
		w = newWorld(newLife(seed), keyring)
		w.live()
	})
	return w
}

func simKeyring(t *testing.T) *seal.Keyring {
	t.Helper()
	k, err := seal.Parse("sim:" + strings.Repeat("A", 43) + "=")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// failed says what went wrong in a life, if anything did.
func (w *world) failed(t *testing.T) {
	t.Helper()
	if len(w.rules.failures) > 0 {
		t.Errorf("seed %d breaks a rule (SIM_SEED=%d go test -v -run TestSimulation ./dispatcher):\n%s\nthe end of its story:\n%s",
			w.life.seed, w.life.seed, strings.Join(w.rules.failures, "\n"), w.tell(setting(t, "SIM_STORY", 80)))
	}
}
