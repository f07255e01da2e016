package dispatcher

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
)

// batch is a call of n events of an account.
func batch(account byte, n int) *call {
	return &call{pubs: make([]Publication, n), accounts: map[uuid.UUID]int{id(account): n}}
}

func TestAnAccountHoldsAsManyEventsAsAreFree(t *testing.T) {
	c := newCommitter(100, 1<<20)
	a := newAdmission(c, testQueue(10, 100, 100, 1<<20))
	if err := c.add(batch(1, 50), false); err != nil {
		t.Fatal(err)
	}
	for account, want := range map[byte]error{1: ErrAccountOverloaded, 2: nil, 0: nil} {
		if err := a.check(id(account)); !errors.Is(err, want) {
			t.Errorf("account %d: %v", account, err)
		}
	}
	if err := c.add(batch(2, 50), false); err != nil {
		t.Fatal(err)
	}
	for _, account := range []byte{0, 1, 2, 3} {
		if err := a.check(id(account)); !errors.Is(err, ErrOverloaded) {
			t.Errorf("a full queue let account %d pass: %v", account, err)
		}
	}
	if err := c.add(batch(3, 1), false); !errors.Is(err, ErrOverloaded) {
		t.Errorf("one that was asked before slipped in: %v", err)
	}
	for len(c.take()) > 0 {
	}
	if err := a.check(id(1)); err != nil || len(c.held) != 0 {
		t.Errorf("what was committed still counts: %v, %v", err, c.held)
	}
}

func TestParkingCountsAgainstWhoCausedIt(t *testing.T) {
	a := newAdmission(newCommitter(100, 1<<20), testQueue(10, 100, 100, 1<<20))
	a.parks(id(1), maxParking/2+1)
	if err := a.check(id(1)); !errors.Is(err, ErrAccountOverloaded) {
		t.Errorf("it has most of the room: %v", err)
	}
	if err := a.check(id(2)); err != nil {
		t.Errorf("another: %v", err)
	}
	a.parks(id(2), maxParking/2)
	if err := a.check(id(3)); !errors.Is(err, ErrOverloaded) {
		t.Errorf("with no room left: %v", err)
	}
	a.parks(id(1), -maxParking/2-1)
	a.parks(id(2), -maxParking/2)
	if err := a.check(id(1)); err != nil || len(a.parking) != 0 {
		t.Errorf("what was parked still counts: %v, %v", err, a.parking)
	}
}

func TestOnlyLoudAccountsAreRefusedWhenCPUsAreShort(t *testing.T) {
	a := newAdmission(newCommitter(100, 1<<20), testQueue(10, 100, 100, 1<<20))
	a.delay = 2 * maxDelay
	if err := a.check(id(1)); err != nil {
		t.Errorf("who never published is refused: %v", err)
	}
	a.delay = 0
	a.published(id(1), leastWork)
	a.published(id(2), 5)
	if err := a.check(id(1)); err != nil {
		t.Errorf("refused for nothing: %v", err)
	}
	a.look(8 * maxDelay)
	if err := a.check(id(1)); !errors.Is(err, ErrAccountOverloaded) {
		t.Errorf("the loud one: %v", err)
	}
	a.total, a.work[id(1)] = leastWork-1, leastWork-6
	if err := a.check(id(1)); err != nil {
		t.Errorf("a node that does little refuses: %v", err)
	}
	a.total, a.work[id(1)] = leastWork, leastWork-5
	for _, quiet := range []byte{2, 3} {
		if err := a.check(id(quiet)); err != nil {
			t.Errorf("quiet account %d: %v", quiet, err)
		}
	}
	a.published(id(2), leastWork)
	a.published(id(3), leastWork/2)
	if err := a.check(id(1)); err != nil {
		t.Errorf("refused with a share like another's: %v", err)
	}
	a.work[id(2)], a.work[id(3)] = 5, 5
	for range 10 {
		a.look(0)
	}
	if err := a.check(id(1)); err != nil {
		t.Errorf("refused after it was over: %v", err)
	}
}

func TestTheWorstTenthOfTheDelays(t *testing.T) {
	edges := []float64{math.Inf(-1), 1, 2, 3, math.Inf(1)}
	for _, tc := range []struct {
		now  []uint64
		want float64
	}{
		{[]uint64{0, 99, 0, 0}, 0}, // too few to tell
		{[]uint64{100, 0, 0, 0}, 0},
		{[]uint64{0, 100, 0, 0}, 1},
		{[]uint64{0, 91, 0, 9}, 1},
		{[]uint64{0, 90, 0, 10}, 3},
		{[]uint64{0, 90, 5, 5}, 2},
	} {
		before := []uint64{7, 7, 7, 7}
		for i := range tc.now {
			tc.now[i] += before[i]
		}
		if got := worstTenth(before, tc.now, edges); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.now, got, tc.want)
		}
	}
	var d delays
	d.sinceLast()
	if d.before == nil || d.sinceLast() > time.Minute {
		t.Error("the runtime tells nothing")
	}
}

func TestAnAccountWhoseDeliveriesWaitForSlotsIsLate(t *testing.T) {
	for _, tc := range []struct {
		what    string
		learned lesson
		flying  int // requests of the webhook that are in flight meanwhile
		late    bool
	}{
		{"an endpoint that answers soon", lesson{kind: succeeded}, 0, true},
		{"one that is slow", lesson{kind: succeeded, took: 2 * briskFor}, 0, false},
		{"one that fails", lesson{kind: failed}, 0, false},
		{"one of which nothing is known", lesson{}, 0, false},
		{"one that has as many requests as it may", lesson{kind: succeeded}, 4, false},
	} {
		q := testQueue(100, 1000, 100, 1<<20)
		a := newAdmission(newCommitter(100, 1<<20), q)
		q.shortAt = time.Now() // slots ran out just now
		for n := range byte(100) {
			q.accounts[id(100+n)] = &accountQueue{} // so many want some
		}
		push := func(n int) {
			ds := waitingFor(1, 11, 4, n)
			for _, d := range ds {
				d.queuedAt = time.Now().Add(-2 * maxWait)
			}
			q.push(ds)
		}
		q.push(waitingFor(1, 11, 4, 1+tc.flying))
		_, flying := taken(q, 1+tc.flying)
		push(2)
		if tc.flying > 0 {
			q.done(flying[1], lesson{kind: learnedNothing}) // it had to wait for that
		}
		q.done(flying[0], tc.learned)
		if err := a.check(id(1)); err != nil {
			t.Errorf("%s: %v before anything was late", tc.what, err)
		}
		taken(q, 1)
		if err := a.check(id(1)); errors.Is(err, ErrAccountOverloaded) != tc.late {
			t.Errorf("%s: %v", tc.what, err)
		}
		if err := a.check(id(2)); err != nil {
			t.Errorf("%s: another account: %v", tc.what, err)
		}
	}
}

func TestAnAccountHoldsAsManyCallsAsAreFree(t *testing.T) {
	a := newAdmission(newCommitter(100, 1<<20), testQueue(10, 100, 100, 1<<20))
	for range maxRunning / 2 {
		if err := a.check(id(1)); err != nil {
			t.Fatalf("with %d under way: %v", a.runs, err)
		}
		a.begins(id(1))
	}
	if err := a.check(id(1)); !errors.Is(err, ErrAccountOverloaded) {
		t.Errorf("with half of them: %v", err)
	}
	if err := a.check(id(2)); err != nil {
		t.Errorf("another: %v", err)
	}
	for range maxRunning / 2 {
		a.ends(id(1))
	}
	if a.runs != 0 || len(a.running) != 0 {
		t.Errorf("%d are under way, %v", a.runs, a.running)
	}
}

func TestTheBoundOfCallsFollowsTheCPUs(t *testing.T) {
	a := newAdmission(newCommitter(100, 1<<20), testQueue(10, 100, 100, 1<<20))
	for range 200 {
		a.begins(id(1))
	}
	a.look(2 * maxDelay)
	if a.bound >= 200 {
		t.Errorf("with 200 under way the bound fell from %d to only %d", maxRunning, a.bound)
	}
	for range 20 {
		a.look(2 * maxDelay)
	}
	if a.bound != leastRunning {
		t.Errorf("the bound fell to %d", a.bound)
	}
	a.look(0)
	if a.bound != leastRunning {
		t.Errorf("a bound that refused nobody rose to %d", a.bound)
	}
	if err := a.check(id(1)); !errors.Is(err, ErrAccountOverloaded) {
		t.Errorf("with 200 under way and a bound of %d: %v", a.bound, err)
	}
	a.loneSince = time.Now().Add(-time.Minute)
	if err := a.check(id(1)); err != nil {
		t.Errorf("who publishes alone: %v", err)
	}
	if err := a.check(id(2)); !errors.Is(err, ErrAccountOverloaded) {
		t.Errorf("another, while all is taken: %v", err)
	}
	if err := a.check(id(1)); !errors.Is(err, ErrAccountOverloaded) {
		t.Errorf("who published alone until another knocked: %v", err)
	}
	for range 200 {
		a.ends(id(1))
	}
	if err := a.check(id(2)); err != nil {
		t.Errorf("another, when there is room: %v", err)
	}
	for range 200 {
		a.begins(id(1))
	}
	_ = a.check(id(1))
	a.look(0)
	if a.bound <= leastRunning {
		t.Errorf("a bound that refused somebody stayed at %d", a.bound)
	}
	for range 100 {
		a.bounded = true
		a.look(0)
	}
	if a.bound != maxRunning {
		t.Errorf("the bound rose to %d", a.bound)
	}
}
