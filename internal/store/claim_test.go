package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// ago is a due time in the past, to the microsecond that Postgres keeps.
func ago(d time.Duration) time.Time { return time.Now().Add(-d).Truncate(time.Microsecond) }

func (f *logFixture) claim(t *testing.T, wants ...store.Want) (events []uuid.UUID, next map[uuid.UUID]time.Time) {
	t.Helper()
	claimed, next, err := f.Claim(t.Context(), f.node, wants)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range claimed {
		events = append(events, r.EventID)
	}
	return events, next
}

func TestAClaimTakesWhatIsDueAndFreeInDueOrderUpToTheRoom(t *testing.T) {
	f := openLog(t)
	a, b := uuid.New(), uuid.New()
	_, e := f.publish(t, 6, a)
	f.retry(t, e[0], a, uuid.Nil, ago(1*time.Second))
	f.retry(t, e[1], a, uuid.Nil, ago(3*time.Second))
	f.retry(t, e[2], a, uuid.Nil, ago(5*time.Second))
	f.retry(t, e[3], a, uuid.New(), ago(9*time.Second)) // another's
	f.retry(t, e[4], a, uuid.Nil, ago(-time.Hour))      // not due
	f.retry(t, e[5], b, uuid.Nil, ago(4*time.Second))
	f.retry(t, e[5], uuid.New(), uuid.Nil, ago(time.Minute)) // not asked for

	got, next := f.claim(t, store.Want{WebhookID: a, Room: 2}, store.Want{WebhookID: b, Room: 2})

	if want := []uuid.UUID{e[2], e[5], e[1]}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
	if _, left := next[b]; left || len(next) != 1 || time.Since(next[a]) > 2*time.Second {
		t.Errorf("next due: %v", next)
	}
	if n := get[int](t, f, `SELECT count(*) FROM retries WHERE owner = $1`, f.node); n != 3 {
		t.Errorf("%d rows are owned, want 3", n)
	}

	got, next = f.claim(t, store.Want{WebhookID: a, Room: 2})
	if !slices.Equal(got, e[:1]) || time.Until(next[a]) < 50*time.Minute {
		t.Errorf("then claimed %v, next due %v", got, next)
	}
}

// A node may know better than a clock of Postgres that was just set.
func TestAClaimGoesByTheTimeItIsGiven(t *testing.T) {
	f := openLog(t)
	hook, other := uuid.New(), uuid.New()
	_, e := f.publish(t, 3, hook)
	f.retry(t, e[0], hook, uuid.Nil, ago(time.Hour))
	f.retry(t, e[1], hook, uuid.Nil, ago(time.Minute))
	f.retry(t, e[2], other, uuid.Nil, ago(-time.Hour))

	got, next := f.claim(t, store.Want{WebhookID: hook, Room: 9, DueBy: ago(10 * time.Minute)},
		store.Want{WebhookID: other, Room: 9, DueBy: ago(-2 * time.Hour)})

	if want := []uuid.UUID{e[0], e[2]}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
	if _, left := next[hook]; !left || len(next) != 1 {
		t.Errorf("next due: %v", next)
	}
}

func TestAClaimTellsEverythingAboutARetry(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	_, e := f.publish(t, 1, hook)
	want := store.Retry{
		WebhookID: hook, EventID: e[0], AccountID: f.account, Trigger: fanfare.TriggerTest, Number: 4, Tries: 2,
		FirstAt: ago(time.Hour), DueAt: ago(time.Second), Takeovers: 1,
	}
	f.exec(t, `INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at, takeovers)
		VALUES ($1, $2, $3, $4, 4, 2, $5, $6, 1)`, hook, e[0], f.account, want.Trigger, want.FirstAt, want.DueAt)

	claimed, _, err := f.Claim(t.Context(), f.node, []store.Want{{WebhookID: hook, Room: 1}})

	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	got := claimed[0]
	if !got.FirstAt.Equal(want.FirstAt) || !got.DueAt.Equal(want.DueAt) {
		t.Errorf("times came back as %s and %s", got.FirstAt, got.DueAt)
	}
	got.FirstAt, got.DueAt = want.FirstAt, want.DueAt
	if got != want {
		t.Errorf("claimed %+v, want %+v", got, want)
	}
}

func TestNoRetryIsClaimedTwice(t *testing.T) {
	const rows, nodes = 300, 4
	f := openLog(t)
	hooks := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	_, events := f.publish(t, rows/len(hooks), hooks...)
	for _, hook := range hooks {
		f.exec(t, `INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
			SELECT $1, id, $3, 'retry', 1, 1, now(), now() FROM unnest($2::uuid[]) id`, hook, events, f.account)
	}
	var (
		mu   sync.Mutex
		seen = make(map[store.RetryRef]int)
		wg   sync.WaitGroup
	)
	for range nodes {
		s, me := f.another(t), f.join(t, time.Hour)
		wg.Go(func() {
			for more := true; more; {
				wants := make([]store.Want, len(hooks))
				for i, hook := range hooks {
					wants[i] = store.Want{WebhookID: hook, Room: 7}
				}
				claimed, next, err := s.Claim(t.Context(), me, wants)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, r := range claimed {
					seen[store.RetryRef{WebhookID: r.WebhookID, EventID: r.EventID}]++
				}
				mu.Unlock()
				more = len(next) > 0
			}
		})
	}
	wg.Wait()

	if len(seen) != rows {
		t.Errorf("%d of %d rows were claimed", len(seen), rows)
	}
	for ref, n := range seen {
		if n != 1 {
			t.Fatalf("%v was claimed %d times", ref, n)
		}
	}
}

func TestTheDeadClaimNothing(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	_, e := f.publish(t, 1, hook)
	f.retry(t, e[0], hook, uuid.Nil, ago(time.Second))
	want := store.Want{WebhookID: hook, Room: 1}

	f.exec(t, `UPDATE nodes SET dead = true WHERE id = $1`, f.node)
	if got, _ := f.claim(t, want); len(got) != 0 {
		t.Error("a node that was marked dead claimed")
	}
	f.exec(t, `DELETE FROM nodes WHERE id = $1`, f.node)
	if got, next := f.claim(t, want); len(got) != 0 || len(next) != 1 {
		t.Errorf("a node that has left claimed %v, next due %v", got, next)
	}
}

func TestAClaimDoesNotWaitForARowInAnothersHands(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	_, e := f.publish(t, 2, hook)
	f.retry(t, e[0], hook, uuid.Nil, ago(2*time.Second))
	f.retry(t, e[1], hook, uuid.Nil, ago(time.Second))
	tx := must(f.connect(t).Begin(t.Context()))(t)
	must(tx.Exec(t.Context(), `SELECT FROM retries WHERE event_id = $1 FOR UPDATE`, e[0]))(t)

	if got, _ := f.claim(t, store.Want{WebhookID: hook, Room: 9}); !slices.Equal(got, e[1:]) {
		t.Errorf("claimed %v", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A lot that was being recorded while the horizon was raised can leave such a row.
func TestWhatLiesBelowTheHorizonIsNeitherClaimedNorAnnounced(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	_, e := f.publish(t, 2, hook)
	f.retry(t, e[0], hook, uuid.Nil, ago(time.Second))
	f.exec(t, `UPDATE log_horizon SET event_id = $1`, e[1])

	got, next := f.claim(t, store.Want{WebhookID: hook, Room: 9})
	due, err := f.DueWebhooks(t.Context())

	if err != nil || len(got) != 0 || len(next) != 0 || len(due) != 0 {
		t.Errorf("claimed %v, next %v, due webhooks %v, %v", got, next, due, err)
	}
}

func TestEveryWebhookWithRetriesIsListedOnceWithItsEarliest(t *testing.T) {
	f := openLog(t)
	hooks := []uuid.UUID{{}, uuid.New(), uuid.New(), {0: 255, 15: 255}}
	_, e := f.publish(t, 4, hooks...)
	want := make(map[uuid.UUID]time.Time)
	for i, hook := range hooks {
		want[hook] = ago(time.Duration(i-2) * time.Hour)
		f.retry(t, e[0], hook, uuid.Nil, want[hook].Add(time.Minute))
		f.retry(t, e[1], hook, uuid.Nil, want[hook])
		f.retry(t, e[2], hook, uuid.Nil, want[hook].Add(time.Hour))
		f.retry(t, e[3], hook, f.node, want[hook].Add(-time.Hour)) // in hand
	}
	f.retry(t, e[0], uuid.New(), f.node, ago(time.Hour)) // has none that is free

	due, err := f.DueWebhooks(t.Context())

	if err != nil || len(due) != len(want) {
		t.Fatalf("listed %v, %v", due, err)
	}
	for hook, at := range want {
		if !due[hook].Equal(at) {
			t.Errorf("%s is due at %s, want %s", hook, due[hook], at)
		}
	}
}

func TestNoWebhookHasRetriesInAnEmptyLog(t *testing.T) {
	f := openLog(t)
	if due, err := f.DueWebhooks(t.Context()); err != nil || len(due) != 0 {
		t.Errorf("listed %v, %v", due, err)
	}
	if got, next := f.claim(t); len(got) != 0 || len(next) != 0 {
		t.Errorf("claimed %v, next %v", got, next)
	}
}

func TestEventsAreReadByIDWithoutThoseThatAreUnknown(t *testing.T) {
	f := openLog(t)
	g := f.group(2)
	g.Events[0].OccurredAt, g.Events[0].Test = ago(time.Hour), true
	g.Events[1].Data = []byte("\xff not JSON, and not asked")
	c := f.ingest(t, g)
	first, second := c.ID(g, 0), c.ID(g, 1)

	events, err := f.EventsByID(t.Context(), []uuid.UUID{first, second, second, uuid.New(), {}}, 1<<40)

	if err != nil || len(events) != 2 {
		t.Fatalf("read %v, %v", events, err)
	}
	e := events[first]
	if e.ID != first || e.AccountID != f.account || e.Type != "call.ended" || !e.Test || !e.OccurredAt.Equal(g.Events[0].OccurredAt) {
		t.Errorf("read %+v", e)
	}
	if e = events[second]; string(e.Data) != string(g.Events[1].Data) || !e.OccurredAt.IsZero() {
		t.Errorf("read %+v", e)
	}
}

func TestTheBacklogCountsWhatIsDueAndHowLongItHasWaited(t *testing.T) {
	f := openLog(t)
	if b, err := f.Backlog(t.Context()); err != nil || b != (store.Backlog{}) {
		t.Errorf("an idle log has the backlog %+v, %v", b, err)
	}
	a, b := uuid.New(), uuid.New()
	_, e := f.publish(t, 3, a)
	f.retry(t, e[0], a, uuid.Nil, ago(time.Minute))
	f.retry(t, e[1], a, uuid.Nil, ago(-time.Hour)) // not due
	f.retry(t, e[2], a, f.node, ago(time.Hour))    // in hand
	f.retry(t, e[0], b, uuid.Nil, ago(time.Hour))
	f.retry(t, e[0], uuid.New(), uuid.Nil, ago(-time.Hour))

	if _, err := f.Exec(t.Context(), `
		INSERT INTO outbox (id, kind, account_id, body, created_at) VALUES ($1, 'event', $2, '', now() - interval '90 s')`, uuid.New(), f.account); err != nil {
		t.Fatal(err)
	}
	got, err := f.Backlog(t.Context())

	if err != nil || got.OpenGroups != 1 || got.Due != 2 || got.OldestDue < time.Hour || got.OldestDue > 2*time.Hour ||
		got.OutboxAge < 90*time.Second || got.OutboxAge > time.Hour {
		t.Errorf("the backlog is %+v, %v", got, err)
	}
}
