//go:build weakened

package dispatcher

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/fanfare-webhooks/fanfare/internal/weaken"
)

// Each of these protections is switched off in turn, and the simulation has to notice. The switches are
// read when a process starts.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	found := regexp.MustCompile(`seed (\d+) breaks a rule[^\n]*\n([^\n]*)`)
	for _, p := range []weaken.Protection{
		weaken.Claiming, weaken.Fence, weaken.Lease, weaken.Orphans, weaken.Remember, weaken.Schedule, weaken.Session,
		weaken.Settle,
	} {
		t.Run(string(p), func(t *testing.T) {
			c := exec.Command(os.Args[0], "-test.run=^TestSimulation$")
			c.Env = append(os.Environ(), "FANFARE_WEAKEN="+string(p), "SIM_SEEDS=5000")
			out, err := c.CombinedOutput()
			if bug := found.FindSubmatch(out); bug != nil {
				t.Logf("seed %s: %s", bug[1], bug[2])
			} else {
				t.Errorf("5,000 lives without it break no rule (%v):\n%s", err, out[max(len(out)-5000, 0):])
			}
		})
	}
}
