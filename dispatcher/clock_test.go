package dispatcher

import (
	"strings"
	"testing"
	"time"

	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
)

func TestADatabaseClockThatIsSetAwayFromThisMachinesIsNotFollowed(t *testing.T) {
	const near = 10 * time.Second // for whatever this test has to wait
	for _, c := range []struct {
		name  string
		skews []time.Duration // of the database's clock, one a renewal
		now   time.Duration   // what the node believes in the end, from this machine's clock
	}{
		{"the same", []time.Duration{0}, 0},
		{"apart from the start", []time.Duration{-50 * time.Minute, -50 * time.Minute}, -50 * time.Minute},
		{"a step", []time.Duration{0, 20 * time.Second}, 20 * time.Second},
		{"an hour ahead", []time.Duration{0, time.Hour}, 0},
		{"an hour behind", []time.Duration{0, -time.Hour}, 0},
		{"and it stays so", []time.Duration{0, 40 * 24 * time.Hour, 40 * 24 * time.Hour}, 0},
		{"and is set right", []time.Duration{0, 40 * 24 * time.Hour, 20 * time.Second}, 20 * time.Second},
		{"wrong at the start and set right", []time.Duration{40 * time.Minute, 0}, 0},
		{"from one side to the other", []time.Duration{-40 * time.Minute, 39 * time.Minute}, 39 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode()
			for _, skew := range c.skews {
				sent := time.Now()
				n.held(sent, store.Lease{Now: sent.Add(skew), Live: 1})
			}
			if off := time.Until(n.now()) - c.now; off.Abs() > near {
				t.Errorf("it is off by %s", off)
			}
			if off := n.skew() - c.skews[len(c.skews)-1]; off.Abs() > near {
				t.Errorf("the skew is said to be %s", n.skew())
			}
		})
	}
}

func TestALateAnswerDoesNotMoveTheClock(t *testing.T) {
	n := newNode()
	n.held(time.Now(), store.Lease{Now: time.Now(), Live: 1})
	before := n.offset.Load()
	for _, made := range []time.Duration{0, 500 * time.Millisecond, time.Second} { // after it was asked for
		sent := time.Now().Add(-time.Second)
		n.held(sent, store.Lease{Now: sent.Add(made), Live: 1})
		if moved := time.Duration(n.offset.Load() - before); moved != 0 {
			t.Errorf("an answer made %s after the question moved the clock by %s", made, moved)
		}
	}
}

// A node that starts while the clock is far ahead would make days there, and the log would go on in them.
func TestANodeDoesNotStartWithAClockThatIsFarAhead(t *testing.T) {
	r := newRig(t)
	for _, sql := range []string{
		`CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
			AS $$ SELECT pg_catalog.clock_timestamp() + interval '40 days' $$`,
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$`,
	} {
		_, err := r.sql.Exec(t.Context(), sql)
		r.ok(err)
	}
	s := r.open() // its sessions have that clock
	out, err := egress.New(egress.Options{AllowLoopback: true, UserAgent: "Fanfare/test"})
	r.ok(err)
	defer out.Close()

	err = New(s, registry.New(s, r.keyring, registry.Options{}), out, Options{}).Start(t.Context())

	if err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("it started: %v", err)
	}
	var days, nodes int
	r.ok(r.sql.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass),
		(SELECT count(*) FROM nodes)`).Scan(&days, &nodes))
	if days+nodes != 0 {
		t.Errorf("it left %d partitions and %d nodes", days, nodes)
	}
}
