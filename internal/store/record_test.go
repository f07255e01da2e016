package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// stateRow is what one delivery's rows say.
type stateRow struct {
	Owner     *uuid.UUID
	Number    int
	Tries     int
	Takeovers int
	Due       time.Time
}

func (f *logFixture) row(t *testing.T, event, hook uuid.UUID) (r stateRow) {
	t.Helper()
	err := f.QueryRow(t.Context(), `SELECT owner, number, tries, takeovers, due_at FROM retries WHERE webhook_id = $1 AND event_id = $2`,
		hook, event).Scan(&r.Owner, &r.Number, &r.Tries, &r.Takeovers, &r.Due)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dump is everything that a lot may change.
func (f *logFixture) dump(t *testing.T) string {
	t.Helper()
	return get[string](t, f, `SELECT coalesce((SELECT string_agg(a::text, E'\n' ORDER BY id) FROM attempts a), '') || '--'
		|| coalesce((SELECT string_agg(r::text, E'\n' ORDER BY webhook_id, event_id) FROM retries r), '') || '--'
		|| coalesce((SELECT string_agg(g::text, E'\n' ORDER BY id) FROM open_groups g), '')`)
}

func TestAnOutcomeIsRecordedAsItWas(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	group, events := f.publish(t, 1, hook)
	a := f.attempt(events[0], hook, 3, fanfare.Exhausted)
	a.Reason, a.ErrorDetail, a.Status = fanfare.ReasonSchedule, "HTTP 500", 500
	a.ResponseHeaders, a.ResponseBody = []byte("X: \x00\xff\r\n"), []byte{0, 255}
	a.StartedAt, a.RetryAt = time.UnixMicro(1_700_000_000_123_456), time.UnixMicro(1_700_000_060_000_000)

	f.record(t, &store.Lot{Owner: f.node, Outcomes: []store.Outcome{{Attempt: a, Group: group, Owner: f.node}}, Settled: []uuid.UUID{group}})

	var got fanfare.Attempt
	var us int64
	err := f.QueryRow(t.Context(), `SELECT id, event_id, webhook_id, account_id, webhook_version, number, trigger, started_at, duration_us,
		url, method, status, verdict, state, reason, error, error_detail, response_headers, response_body, retry_at, node FROM attempts`).
		Scan(&got.ID, &got.EventID, &got.WebhookID, &got.AccountID, &got.WebhookVersion, &got.Number, &got.Trigger, &got.StartedAt, &us,
			&got.URL, &got.Method, &got.Status, &got.Verdict, &got.State, &got.Reason, &got.Error, &got.ErrorDetail,
			&got.ResponseHeaders, &got.ResponseBody, &got.RetryAt, &got.Node)
	if err != nil {
		t.Fatal(err)
	}
	got.Duration = time.Duration(us) * time.Microsecond
	if diff := cmp.Diff(a, &got); diff != "" {
		t.Error(diff)
	}
	f.wantRows(t, "open_groups", 0, "retries", 0)
}

func TestALotThatIsRepeatedChangesNothing(t *testing.T) {
	f := openLog(t)
	hook, was := uuid.New(), time.Now().Truncate(time.Microsecond)
	group, events := f.publish(t, 6, hook)
	settled, _ := f.publish(t, 1, hook)
	later := time.Now().Add(time.Minute)
	f.retry(t, events[0], hook, f.node, was)
	f.retry(t, events[1], hook, f.node, was)
	f.retry(t, events[2], hook, f.node, was)
	lot := &store.Lot{
		Owner: f.node,
		Outcomes: []store.Outcome{
			{Attempt: f.attempt(events[0], hook, 2, fanfare.Delivered), Owner: f.node, Due: was},
			{Attempt: f.attempt(events[1], hook, 2, fanfare.Pending), Retry: f.owed(events[1], hook, 2, later), Owner: f.node, Due: was},
			{Retry: f.owed(events[2], hook, 1, later), Owner: f.node, Due: was},
			{Attempt: f.attempt(events[3], hook, 1, fanfare.Delivered), Group: group, Owner: f.node},
			{Attempt: f.attempt(events[4], hook, 1, fanfare.Pending), Retry: f.owed(events[4], hook, 1, later), Group: group, Owner: f.node},
			{Retry: f.owed(events[5], hook, 0, later), Group: group, Owner: f.node},
		},
		Settled: []uuid.UUID{settled},
	}
	f.record(t, lot)
	f.wantRows(t, "attempts", 4, "retries", 4, "open_groups", 1)
	once := f.dump(t)

	f.record(t, lot)

	if diff := cmp.Diff(once, f.dump(t)); diff != "" {
		t.Error(diff)
	}
}

// A lot's answer was lost, and before it is repeated this node has claimed rows again that it gave back.
func TestALotThatIsRepeatedLeavesWhatWasClaimedAgain(t *testing.T) {
	f := openLog(t)
	hook, was := uuid.New(), time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	_, events := f.publish(t, 2, hook)
	f.retry(t, events[0], hook, f.node, was)
	f.retry(t, events[1], hook, f.node, was)
	due := time.Now().Add(-time.Second)
	lot := &store.Lot{Owner: f.node, Outcomes: []store.Outcome{
		{Attempt: f.attempt(events[0], hook, 2, fanfare.Pending), Retry: f.owed(events[0], hook, 2, due), Owner: f.node, Due: was},
		{Retry: f.owed(events[1], hook, 1, due), Owner: f.node, Due: was},
	}}
	f.record(t, lot)
	f.exec(t, `UPDATE retries SET due_at = due_at + interval '1 ms' WHERE event_id = $1`, events[1]) // another has parked it since
	claimed, _, err := f.Claim(t.Context(), f.node, []store.Want{{WebhookID: hook, Room: 9}})
	if err != nil || len(claimed) != 2 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}

	f.record(t, lot)

	for _, event := range events {
		if r := f.row(t, event, hook); r.Owner == nil {
			t.Error("a row in hand was given away")
		}
	}
}

func TestALateLotWritesOnlyTheFacts(t *testing.T) {
	f := openLog(t)
	other := f.join(t, time.Hour)
	hook, was := uuid.New(), time.Now().Truncate(time.Microsecond)
	group, events := f.publish(t, 5, hook)
	later := time.Now().Add(time.Minute)
	for i := range 3 {
		f.retry(t, events[i], hook, other, was)
	}
	f.exec(t, `UPDATE open_groups SET owner = $1, takeovers = 1`, other)
	before := get[string](t, f, `SELECT (SELECT string_agg(r::text, ' ' ORDER BY event_id) FROM retries r) || (SELECT g::text FROM open_groups g)`)

	f.record(t, &store.Lot{
		Owner: f.node,
		Outcomes: []store.Outcome{
			{Attempt: f.attempt(events[0], hook, 2, fanfare.Delivered), Owner: f.node, Due: was},
			{Attempt: f.attempt(events[1], hook, 2, fanfare.Pending), Retry: f.owed(events[1], hook, 2, later), Owner: f.node, Due: was},
			{Retry: f.owed(events[2], hook, 1, later), Owner: f.node, Due: was},
			{Attempt: f.attempt(events[3], hook, 1, fanfare.Pending), Retry: f.owed(events[3], hook, 1, later), Group: group, Owner: f.node},
			{Retry: f.owed(events[4], hook, 0, later), Group: group, Owner: f.node},
		},
		Settled: []uuid.UUID{group},
	})

	f.wantRows(t, "attempts", 3)
	after := get[string](t, f, `SELECT (SELECT string_agg(r::text, ' ' ORDER BY event_id) FROM retries r) || (SELECT g::text FROM open_groups g)`)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

// The process got a new incarnation while the request of its old one was under way.
func TestAnOutcomeOfADeadIncarnationIsOnlyAFact(t *testing.T) {
	f := openLog(t)
	hook, was := uuid.New(), time.Now().Truncate(time.Microsecond)
	group, events := f.publish(t, 1, hook)
	dead := f.node
	f.node = f.join(t, time.Hour)
	f.exec(t, `UPDATE open_groups SET owner = $1`, f.node) // taken over by itself
	f.retry(t, events[0], uuid.Nil, f.node, was)

	f.record(t, &store.Lot{Owner: f.node, Outcomes: []store.Outcome{
		{Attempt: f.attempt(events[0], hook, 1, fanfare.Pending), Retry: f.owed(events[0], hook, 1, time.Now()), Group: group, Owner: dead},
		{Attempt: f.attempt(events[0], uuid.Nil, 1, fanfare.Delivered), Owner: dead, Due: was},
	}})

	f.wantRows(t, "attempts", 2, "retries", 1, "open_groups", 1)
}

func TestARetryThatGoesBackIsFreeWithWhatWasLearnt(t *testing.T) {
	f := openLog(t)
	hook, was := uuid.New(), time.Now().Truncate(time.Microsecond)
	_, events := f.publish(t, 2, hook)
	due := time.Now().Add(time.Minute).Truncate(time.Microsecond)
	f.retry(t, events[0], hook, f.node, was)
	f.retry(t, events[1], hook, f.node, was)
	f.exec(t, `UPDATE retries SET takeovers = 2`)
	parked := f.owed(events[1], hook, 1, due)
	parked.Takeovers = 2

	f.record(t, &store.Lot{Owner: f.node, Outcomes: []store.Outcome{
		{Attempt: f.attempt(events[0], hook, 2, fanfare.Pending), Retry: f.owed(events[0], hook, 2, due), Owner: f.node, Due: was},
		{Retry: parked, Owner: f.node, Due: was},
	}})

	if r := f.row(t, events[0], hook); r.Owner != nil || r.Number != 2 || r.Tries != 2 || r.Takeovers != 0 || !r.Due.Equal(due) {
		t.Errorf("after a try: %+v", r)
	}
	if r := f.row(t, events[1], hook); r.Owner != nil || r.Number != 1 || r.Takeovers != 2 || !r.Due.Equal(due) {
		t.Errorf("put off: %+v", r)
	}
}

func TestWhatLiesBelowTheHorizonIsNotRecorded(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	group, events := f.publish(t, 1, hook)
	f.exec(t, `UPDATE log_horizon SET event_id = $1`, fanfare.EventID(fanfare.PositionOf(events[0])+1, 0))

	f.record(t, &store.Lot{Owner: f.node, Outcomes: []store.Outcome{
		{Attempt: f.attempt(events[0], hook, 1, fanfare.Pending), Retry: f.owed(events[0], hook, 1, time.Now()), Group: group, Owner: f.node},
	}, Settled: []uuid.UUID{group}})

	f.wantRows(t, "attempts", 0, "retries", 0, "open_groups", 0)
}

func TestOneBadRowOfALotLeavesAlone(t *testing.T) {
	nowhere := fanfare.EventID(fanfare.PositionAt(time.Now().Add(-240*time.Hour)), 1)
	for name, c := range map[string]struct {
		spoil             func(*store.Outcome)
		attempts, retries int
	}{
		// The attempt is a fact that can be told without the text that Postgres refuses.
		"text with a NUL": {func(o *store.Outcome) { o.Attempt.URL = "https://example.com/\x00" }, 100, 100},
		// Nothing can be kept of it.
		"an event of no partition": {func(o *store.Outcome) {
			o.Attempt.EventID, o.Retry = nowhere, nil
		}, 99, 99},
		// The delivery is still owed.
		"an unknown state": {func(o *store.Outcome) { o.Attempt.State = "lost" }, 99, 100},
	} {
		t.Run(name, func(t *testing.T) {
			f := openLog(t)
			hook := uuid.New()
			group, events := f.publish(t, 100, hook)
			lot := &store.Lot{Owner: f.node, Settled: []uuid.UUID{group}}
			for _, event := range events {
				lot.Outcomes = append(lot.Outcomes, store.Outcome{
					Attempt: f.attempt(event, hook, 1, fanfare.Pending), Retry: f.owed(event, hook, 1, time.Now()), Group: group, Owner: f.node,
				})
			}
			c.spoil(&lot.Outcomes[42])

			var culprits []*store.Outcome
			err := f.RecordOrHalve(t.Context(), lot, func(o *store.Outcome, err error) {
				if err == nil || store.Unreachable(err) {
					t.Errorf("rejected for %v", err)
				}
				culprits = append(culprits, o)
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(culprits) != 1 || culprits[0].Attempt != lot.Outcomes[42].Attempt {
				t.Errorf("%d outcomes were rejected: %+v", len(culprits), culprits)
			}
			f.wantRows(t, "attempts", c.attempts, "retries", c.retries, "open_groups", 0)
		})
	}
}

func TestALostConnectionRejectsNothing(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	group, events := f.publish(t, 3, hook)
	lot := &store.Lot{Owner: f.node, Settled: []uuid.UUID{group}}
	for _, event := range events {
		lot.Outcomes = append(lot.Outcomes, store.Outcome{Attempt: f.attempt(event, hook, 1, fanfare.Delivered), Group: group, Owner: f.node})
	}
	// The recorder waits in the middle of its transaction, for the lock on the group that it settles.
	blocker := f.connect(t)
	tx := must(blocker.Begin(t.Context()))(t)
	must(tx.Exec(t.Context(), `SELECT FROM open_groups FOR UPDATE`))(t)
	written := make(chan error, 1)
	go func() {
		written <- f.RecordOrHalve(t.Context(), lot, func(o *store.Outcome, err error) { t.Errorf("rejected: %v", err) })
	}()
	var killed bool
	eventually(t, "the recorder waits and is killed", func() bool {
		err := f.QueryRow(t.Context(), `SELECT coalesce((SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%DELETE FROM open_groups%'), false)`).Scan(&killed)
		return err == nil && killed
	})

	if err := <-written; !store.Unreachable(err) {
		t.Fatalf("a killed connection is not told from a refusal: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantRows(t, "attempts", 0, "open_groups", 1)
	eventually(t, "the lot is written again", func() bool { return f.Record(t.Context(), lot) == nil })
	f.wantRows(t, "attempts", 3, "open_groups", 0)
}

func TestALotOfASessionThatEndedIsNotWritten(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	group, events := f.publish(t, 2, hook)
	lot := &store.Lot{Owner: f.node, Settled: []uuid.UUID{group}, Session: must(f.RecorderSession(t.Context()))(t) + 1}
	for _, event := range events {
		lot.Outcomes = append(lot.Outcomes, store.Outcome{Attempt: f.attempt(event, hook, 1, fanfare.Delivered), Group: group, Owner: f.node})
	}
	err := f.RecordOrHalve(t.Context(), lot, func(o *store.Outcome, err error) { t.Errorf("rejected: %v", err) })
	if !errors.Is(err, store.ErrSession) {
		t.Errorf("got %v", err)
	}
	f.wantRows(t, "attempts", 0, "open_groups", 1)
	lot.Session--
	f.record(t, lot)
	f.wantRows(t, "attempts", 2, "open_groups", 0)
}

// Whoever lost a group may record late how a request of its ended. That ends nothing for whoever owns it now
// and tried again since; what follows from this attempt is written.
func TestAnEndThatAnEarlierOwnerRecordsLateIsNone(t *testing.T) {
	f := openLog(t)
	hook, dead := uuid.New(), f.join(t, time.Hour)
	group, events := f.publish(t, 1, hook)
	late, mine := f.attempt(events[0], hook, 1, fanfare.Exhausted), f.attempt(events[0], hook, 1, fanfare.Pending)

	f.record(t, &store.Lot{Owner: dead, Outcomes: []store.Outcome{{Attempt: late, Group: group, Owner: dead}}})
	f.record(t, &store.Lot{Owner: f.node, Settled: []uuid.UUID{group}, Outcomes: []store.Outcome{
		{Attempt: mine, Retry: f.owed(events[0], hook, 1, time.Now()), Group: group, Owner: f.node},
	}})

	f.wantRows(t, "attempts", 2, "retries", 1, "open_groups", 0)
}

func TestACrashThatLosesALotLeavesTheGroupOpen(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, false)
	url := server.URL(pgtest.Database)
	f := openLogAt(t, url)
	// Nothing flushes what was not asked to be flushed but the writer of the log, which is slowed down.
	f.exec(t, `ALTER SYSTEM SET wal_writer_delay = '10s'`)
	f.exec(t, `ALTER SYSTEM SET wal_writer_flush_after = '1GB'`)
	f.exec(t, `SELECT pg_reload_conf()`)
	eventually(t, "the settings are in force", func() bool {
		return must(pgxShow(t, url, "wal_writer_delay"))(t) == "10s"
	})
	hook := uuid.New()
	group, events := f.publish(t, 1, hook)
	lot := &store.Lot{
		Owner: f.node, Settled: []uuid.UUID{group},
		Outcomes: []store.Outcome{{Attempt: f.attempt(events[0], hook, 1, fanfare.Delivered), Group: group, Owner: f.node}},
	}
	// A round of the writer that began before may still flush the lot. Then the next one is lost.
	f.record(t, lot)
	flushed := get[bool](t, f, `SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()`)
	for try := 0; flushed && try < 20; try++ {
		group, events = f.publish(t, 1, hook)
		lot.Settled[0], lot.Outcomes[0].Group = group, group
		lot.Outcomes[0].Attempt = f.attempt(events[0], hook, 1, fanfare.Delivered)
		f.record(t, lot)
		flushed = get[bool](t, f, `SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()`)
	}
	if flushed {
		t.Fatal("the recorder waits for the disk")
	}

	if err := server.Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what := range 2 { // the connection that breaks, and one that cannot be made
		if err := f.Record(t.Context(), lot); !store.Unreachable(err) {
			t.Errorf("a crashed server is not told from a refusal (%d): %v", what, err)
		}
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}

	f = &logFixture{url: url, node: f.node, account: f.account}
	f.Store = f.another(t)
	if n := get[int](t, f, `SELECT count(*) FROM attempts WHERE event_id = $1`, events[0]); n != 0 {
		t.Fatal("the crash lost nothing: the test shows nothing")
	}
	if !get[bool](t, f, `SELECT EXISTS (SELECT FROM open_groups WHERE id = $1 AND owner = $2)`, group, f.node) {
		t.Error("the attempt is lost and its group is settled: the delivery has no state")
	}
	if !get[bool](t, f, `SELECT EXISTS (SELECT FROM events WHERE id = $1)`, events[0]) {
		t.Error("an event is lost whose commit was confirmed")
	}
}

func pgxShow(t *testing.T, url, setting string) (v string, err error) {
	f := &logFixture{url: url}
	conn := f.connect(t)
	defer conn.Close(t.Context()) //nolint:errcheck // only read
	err = conn.QueryRow(t.Context(), fmt.Sprintf(`SHOW %s`, setting)).Scan(&v)
	return v, err
}
