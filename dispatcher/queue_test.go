package dispatcher

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/registry"
)

func id(n byte) uuid.UUID { return uuid.UUID{n} }

// waiting makes n deliveries of one webhook.
func waiting(account, hook byte, n int) []*delivery { return waitingFor(account, hook, 32, n) }

func waitingFor(account, hook byte, limit, n int) []*delivery {
	w := &registry.Webhook{Webhook: fanfare.Webhook{ID: id(hook), AccountID: id(account), URL: "https://example.com", MaxInFlight: limit}}
	ds := make([]*delivery, n)
	for i := range ds {
		ds[i] = &delivery{account: w.AccountID, webhook: w.ID, hook: w, event: &event{data: make([]byte, 10)}}
	}
	return ds
}

func testQueue(slots, depth, hookDepth int, maxBytes int64) *queue {
	return newQueue(slots, depth, hookDepth, maxBytes, newDueHeap())
}

func taken(q *queue, n int) (hooks []byte, ds []*delivery) {
	for range n {
		d, _ := q.take()
		if d == nil {
			break
		}
		hooks, ds = append(hooks, d.webhook[0]), append(ds, d)
	}
	return hooks, ds
}

func TestADeliveryThatWasMatchedBeforeAChangeDoesNotUndoIt(t *testing.T) {
	q := testQueue(100, 1000, 1000, 1<<20)
	version := func(n int64, url string) []*delivery {
		ds := waitingFor(1, 11, 4, 1)
		ds[0].hook.Version, ds[0].hook.URL = n, url
		return ds
	}
	q.push(version(2, "https://example.org"))
	q.push(version(1, "https://example.com"))
	if url := q.hooks[id(11)].endpoint.url; url != "https://example.org" {
		t.Errorf("the endpoint is %s again", url)
	}
	q.push(version(3, "https://example.net"))
	if url := q.hooks[id(11)].endpoint.url; url != "https://example.net" {
		t.Errorf("the endpoint is still %s", url)
	}
}

func TestAccountsAndThenWebhooksTakeTurns(t *testing.T) {
	q := testQueue(100, 1000, 1000, 1<<20)
	q.push(waiting(1, 11, 3))
	q.push(waiting(1, 12, 3))
	q.push(waiting(2, 21, 3))
	got, _ := taken(q, 6)
	if want := []byte{11, 21, 12, 21, 11, 21}; !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestAnAccountHoldsNoMoreSlotsThanAreFree(t *testing.T) {
	q := testQueue(12, 10_000, 1000, 1<<20)
	many := func(account byte) (ds []*delivery) {
		for hook := range byte(20) {
			ds = append(ds, waiting(account, 20*account+hook, 5)...)
		}
		return ds
	}
	q.push(many(1))
	if got, _ := taken(q, 100); len(got) != 6 {
		t.Errorf("alone it got %d of 12 slots", len(got))
	}
	q.push(many(2))
	if got, _ := taken(q, 100); len(got) != 3 {
		t.Errorf("the second got %d of the 6 that were free", len(got))
	}
	q.push(many(3))
	if got, _ := taken(q, 100); len(got) == 0 {
		t.Error("there was no room for a third")
	}
}

func TestAWebhookLeavesTheOthersOfItsAccountRoom(t *testing.T) {
	q := testQueue(100, 10_000, 1000, 1<<20)
	for hook := range byte(4) { // none of which ever answers
		q.push(waiting(1, 11+hook, 100))
		if got, _ := taken(q, 100); len(got) == 0 {
			t.Fatalf("there was no room for webhook %d", hook+1)
		}
	}
	q.push(waiting(1, 20, 1))
	if got, _ := taken(q, 1); len(got) != 1 || got[0] != 20 {
		t.Errorf("the fifth webhook had no room: %v", got)
	}
}

func TestSendersAreStartedWhileSomethingIsReady(t *testing.T) {
	q := testQueue(3, 100, 100, 1<<20)
	start := func(n int, _ []*delivery) int { return n }
	if n := start(q.push(waiting(1, 11, 1))); n != 1 {
		t.Fatalf("%d senders for one delivery", n)
	}
	if n := start(q.push(waiting(2, 21, 1))); n != 1 {
		t.Fatalf("%d more for another", n)
	}
	q.push(waitingFor(3, 31, 1, 5))
	if n := start(q.push(waiting(4, 41, 5))); n != 0 {
		t.Fatalf("%d beyond the slots", n)
	}
	d, n := q.take()
	if d == nil || n != 0 {
		t.Fatalf("took %v and started %d: every slot has its sender", d, n)
	}
	q.end()
	if _, n = q.take(); n != 1 {
		t.Errorf("%d started for those behind", n)
	}
}

func TestAWebhookHoldsNoMoreThanItsLimit(t *testing.T) {
	q := testQueue(100, 1000, 1000, 1<<20)
	q.push(waitingFor(1, 11, 2, 10))
	_, flying := taken(q, 10)
	if len(flying) != 2 {
		t.Fatalf("%d in flight", len(flying))
	}
	q.done(flying[0], lesson{kind: succeeded})
	if got, _ := taken(q, 10); len(got) != 1 {
		t.Errorf("a freed slot was taken %d times", len(got))
	}
}

func TestWhatFindsNoRoomComesBack(t *testing.T) {
	q := testQueue(100, 16, 5, 1<<20)
	for _, tc := range []struct {
		what          string
		account, hook byte
		n, over       int
	}{
		{"one webhook", 1, 11, 7, 3},
		{"one account", 1, 12, 5, 3},
		{"another account", 2, 21, 5, 2},
	} {
		if _, over := q.push(waiting(tc.account, tc.hook, tc.n)); len(over) != tc.over {
			t.Errorf("%s: %d over, want %d", tc.what, len(over), tc.over)
		}
	}
}

func TestPayloadsBeyondTheBudgetAreDropped(t *testing.T) {
	q := testQueue(100, 100, 100, 25)
	ds := waiting(1, 11, 3)
	q.push(ds)
	if ds[0].event.data == nil || ds[1].event.data == nil || ds[2].event.data != nil {
		t.Error("not just the third payload was dropped")
	}
	taken(q, 3)
	if _, _, _, bytes := q.sizes(); bytes != 0 {
		t.Errorf("%d bytes are counted in an empty queue", bytes)
	}
}

func TestWhatIsPutBackKeepsItsPayloadAndItsPlaceInTheBooks(t *testing.T) {
	q := testQueue(100, 100, 100, 25)
	q.push(waiting(1, 11, 2))
	_, ds := taken(q, 2)
	q.push(waiting(1, 12, 2)) // all the bytes that there are
	w := *ds[0].hook
	w.Version++
	if !q.putBack(ds[0], &w) {
		t.Fatal("it was not put back")
	}
	if ds[0].event.data == nil || q.bytes != 30 || q.flying != 1 || q.waiting != 3 {
		t.Errorf("%q is left of its payload; %d bytes, %d in flight, %d waiting", ds[0].event.data, q.bytes, q.flying, q.waiting)
	}
	if q.close(); q.bytes != 0 || q.putBack(ds[1], &w) || q.flying != 1 || q.waiting != 0 {
		t.Errorf("a queue that is closed: %d bytes, %d in flight, %d waiting", q.bytes, q.flying, q.waiting)
	}
}

func TestARateLimitIsCountedWhereRequestsStart(t *testing.T) {
	q := testQueue(100, 1000, 100, 1<<20)
	ds := waiting(1, 11, 3)
	ds[0].hook.RateLimit = fanfare.RateLimit{Count: 1, Per: time.Hour}
	if _, over := q.push(ds); len(over) != 2 {
		t.Errorf("%d of 3 wait in Postgres, where they have an hour to wait", len(over))
	}
	if got, _ := taken(q, 3); len(got) != 1 {
		t.Errorf("%d started", len(got))
	}
	q.push(ds[1:])
	if got, _ := taken(q, 3); len(got) != 0 {
		t.Errorf("%d more started", len(got))
	}
	if _, next := q.paced.pop(time.Now(), 1); time.Until(next) < time.Minute {
		t.Errorf("the next starts in %s", time.Until(next))
	}
}

func TestLimitsChangeWithTheNodes(t *testing.T) {
	q := testQueue(100, 1000, 100, 1<<20)
	q.push(waitingFor(1, 11, 4, 20))
	q.push(waitingFor(1, 12, 1, 20))
	q.divide(2)
	if got, _ := taken(q, 20); len(got) != 2+1 {
		t.Errorf("half of 4 and at least one of 1: %v", got)
	}
	q.divide(1)
	if got, _ := taken(q, 20); len(got) != 2 {
		t.Errorf("alone again: %v", got)
	}
}

func TestWhatAnOldURLAnswersTeachesNothingAboutTheNew(t *testing.T) {
	q := testQueue(100, 1000, 100, 1<<20)
	q.push(waiting(1, 11, downAfter))
	_, flying := taken(q, downAfter)
	moved := waiting(1, 11, 1)
	moved[0].hook.URL = "https://example.org"
	q.push(moved)
	for _, d := range flying {
		q.done(d, lesson{kind: overloaded, url: "https://example.com"})
	}
	if q.down != 0 {
		t.Error("the new address is down")
	}
}

func TestAWebhookThatIsGoneIsForgotten(t *testing.T) {
	q := testQueue(100, 1000, 100, 1<<20)
	for range downAfter {
		q.push(waiting(1, 11, 1))
		_, ds := taken(q, 1)
		q.done(ds[0], lesson{kind: failed})
	}
	q.refresh(new(registry.Snapshot))
	if len(q.hooks)+len(q.accounts)+q.down != 0 {
		t.Errorf("%d webhooks, %d accounts, %d down", len(q.hooks), len(q.accounts), q.down)
	}
}

func TestNoMoreIsPromisedThanFits(t *testing.T) {
	q := testQueue(100, 40, 1000, 1<<20)
	promised := make(promises)
	var ds []*delivery
	for hook := range byte(10) {
		some := waiting(1, 11+hook, 30)
		n, _ := q.room(some[0].webhook, some[0].hook, 1000, promised)
		ds = append(ds, some[:n]...)
	}
	if _, over := q.push(ds); len(ds) == 0 || promised[id(1)] != len(ds) || len(over) > 0 {
		t.Errorf("%d of %d have to be put back", len(over), len(ds))
	}
}

func TestRetriesAreClaimedAtOnceForANewURL(t *testing.T) {
	q := testQueue(100, 1000, 100, 1<<20)
	for range downAfter {
		q.push(waiting(1, 11, 1))
		_, ds := taken(q, 1)
		q.done(ds[0], lesson{kind: failed})
	}
	q.due.pop(time.Now(), 1)
	moved := waiting(1, 11, 1)
	moved[0].hook.URL = "https://example.org"
	q.push(moved)
	if due, _ := q.due.pop(time.Now(), 1); !slices.Equal(due, []uuid.UUID{id(11)}) {
		t.Errorf("claimed for: %v", due)
	}
}

// Whatever happens, nothing is lost, nobody holds more than they may, whoever may go has a turn, and an
// empty queue keeps nothing.
func TestTheQueueKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := testQueue(rapid.IntRange(1, 12).Draw(t, "slots"), 60, 20, 200)
		var flying []*delivery
		in, out := 0, 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				a := byte(rapid.IntRange(1, 3).Draw(t, "account"))
				ds := waitingFor(a, 10*a+byte(rapid.IntRange(0, 2).Draw(t, "hook")),
					rapid.IntRange(1, 4).Draw(t, "limit"), rapid.IntRange(1, 8).Draw(t, "n"))
				if rapid.IntRange(0, 3).Draw(t, "one-off") == 0 {
					ds = oneOffs(a, "host", rapid.IntRange(0, 2).Draw(t, "number"), len(ds))
				}
				_, over := q.push(ds)
				in += len(ds) - len(over)
			case 1, 2:
				if d, _ := q.take(); d != nil {
					flying = append(flying, d)
					out++
				}
			case 3:
				if len(flying) > 0 {
					learned := lesson{kind: rapid.SampledFrom([]kind{learnedNothing, succeeded, succeeded, failed, overloaded, busy}).Draw(t, "learned")}
					out += len(q.done(flying[0], learned))
					flying = flying[1:]
				}
			}
			if q.waiting != in-out || q.flying != len(flying) || q.flying > q.slots {
				t.Fatalf("waiting %d of %d, flying %d of %d", q.waiting, in-out, q.flying, len(flying))
			}
			down := 0
			for _, h := range q.hooks {
				if ok, at := h.endpoint.next(time.Now(), h.flying); h.waiting.len() > 0 && !h.inTurns && (ok || h.flying == 0 && at.IsZero()) {
					t.Fatalf("a webhook with %d deliveries could go and has no turn", h.waiting.len())
				}
				if h.endpoint.down() {
					down++
				}
			}
			if q.down != down {
				t.Fatalf("%d endpoints count as down, %d are", q.down, down)
			}
		}
		left := q.clear()
		if len(left) != in-out {
			t.Fatalf("%d were left of %d", len(left), in-out)
		}
		for _, d := range flying {
			q.done(d, lesson{})
		}
		for id := range q.hooks {
			q.forget(id)
		}
		if len(q.hooks)+len(q.accounts)+q.turns.len()+q.down != 0 || q.bytes != 0 {
			t.Fatalf("an empty queue keeps %d webhooks, %d accounts, %d turns, %d down, %d bytes", len(q.hooks), len(q.accounts), q.turns.len(), q.down, q.bytes)
		}
	})
}

func TestTheDueHeapAnswersEachWebhookAtItsEarliest(t *testing.T) {
	h := newDueHeap()
	now := time.Now()
	h.note(id(1), now.Add(3*time.Second))
	h.note(id(2), now.Add(time.Second))
	h.note(id(1), now.Add(-time.Second)) // earlier counts
	h.note(id(1), now.Add(time.Hour))    // later does not
	due, next := h.pop(now, 10)
	if !slices.Equal(due, []uuid.UUID{id(1)}) || !next.Equal(now.Add(time.Second)) {
		t.Errorf("due %v, next in %s", due, next.Sub(now))
	}
}
