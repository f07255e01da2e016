package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

const day = 24 * time.Hour

// partitions lists the attached partitions of events by day.
func (f *logFixture) partitions(t *testing.T) []string {
	t.Helper()
	return get[[]string](t, f, `SELECT coalesce(array_agg(relname::text ORDER BY relname), '{}') FROM pg_inherits
		JOIN pg_class ON pg_class.oid = inhrelid WHERE relkind = 'r' AND NOT inhdetachpending`)
}

// daysOf is what partitions should answer for these days.
func daysOf(days ...time.Time) []string {
	var names []string
	for _, table := range []string{"attempts", "events"} {
		for _, d := range days {
			names = append(names, table+"_p"+d.UTC().Format("20060102"))
		}
	}
	slices.Sort(names)
	return names
}

// old makes the partitions of the day that was n days ago, and an event with an attempt in them.
func (f *logFixture) old(t *testing.T, n int) (event uuid.UUID) {
	t.Helper()
	from := time.Now().UTC().Truncate(day).Add(-time.Duration(n) * day)
	lo, hi := fanfare.EventID(fanfare.PositionAt(from), 0), fanfare.EventID(fanfare.PositionAt(from.Add(day)), 0)
	for _, table := range []string{"events", "attempts"} {
		f.exec(t, `CREATE TABLE `+table+`_p`+from.Format("20060102")+` PARTITION OF `+table+
			` FOR VALUES FROM ('`+lo.String()+`') TO ('`+hi.String()+`')`)
	}
	event = fanfare.EventID(fanfare.PositionAt(from.Add(12*time.Hour)), 7)
	f.exec(t, `INSERT INTO events (id, account_id, type, data, webhook_ids, matched) VALUES ($1, $2, 't', '{}', '{}', 0)`, event, f.account)
	f.record(t, &store.Lot{Owner: f.node, Outcomes: []store.Outcome{{Attempt: f.attempt(event, uuid.New(), 1, fanfare.Delivered)}}})
	return event
}

// raise raises the horizon to n days ago, as if that had been since ago.
func (f *logFixture) raise(t *testing.T, n int, since time.Duration) store.Ended {
	t.Helper()
	ended, err := f.RaiseHorizon(t.Context(), time.Now().Add(-time.Duration(n)*day))
	if err != nil {
		t.Fatal(err)
	}
	f.exec(t, `UPDATE log_horizon SET raised_at = clock_timestamp() - $1::interval`, since)
	return ended
}

func (f *logFixture) drop(t *testing.T) int {
	t.Helper()
	return must(f.DropPartitions(t.Context()))(t)
}

// reader holds a transaction open that has read from a table, as a dump does, until it is closed.
func (f *logFixture) reader(t *testing.T, table string) (closed func()) {
	t.Helper()
	tx := must(f.connect(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead}))(t)
	must(tx.Exec(t.Context(), `SELECT count(*) FROM `+table))(t)
	return sync.OnceFunc(func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPartitionsAreMadeFromYesterdayToAhead(t *testing.T) {
	f := openLog(t)
	now := get[time.Time](t, f, `SELECT now()`)
	want := daysOf(now.Add(-day), now, now.Add(day), now.Add(2*day))
	if got := f.partitions(t); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	if end := now.UTC().Truncate(day).Add(3 * day); f.ceiling != fanfare.PositionAt(end) {
		t.Errorf("the log ends at %s, want %s", f.ceiling.Time(), end)
	}

	if again := must(f.EnsurePartitions(t.Context(), 2*day))(t); again != f.ceiling {
		t.Errorf("then it ends at %s", again.Time())
	}
	if got := f.partitions(t); !slices.Equal(got, want) {
		t.Errorf("then there are %v", got)
	}
	more := must(f.EnsurePartitions(t.Context(), 3*day))(t)
	if more != f.ceiling+fanfare.Position(day.Milliseconds()<<16) || len(f.partitions(t)) != len(want)+2 {
		t.Errorf("a day further it ends at %s and has %v", more.Time(), f.partitions(t))
	}
}

func TestPartitionsTouchAndEachTakesItsOwnDay(t *testing.T) {
	f := openLog(t)
	midnight := time.Now().UTC().Truncate(day).Add(day)
	for _, c := range []struct {
		at   fanfare.Position
		tail uint64
		want time.Time
	}{
		{fanfare.PositionAt(midnight) - 1, 1<<fanfare.TailBits - 1, midnight.Add(-day)},
		{fanfare.PositionAt(midnight), 0, midnight},
	} {
		id := fanfare.EventID(c.at, c.tail)
		f.exec(t, `INSERT INTO events (id, account_id, type, data, webhook_ids, matched) VALUES ($1, $2, 't', '{}', '{}', 0)`, id, f.account)
		table := get[string](t, f, `SELECT tableoid::regclass::text FROM events WHERE id = $1`, id)
		if want := "events_p" + c.want.Format("20060102"); table != want {
			t.Errorf("the event of %s is in %s", c.at.Time(), table)
		}
	}
}

func TestPartitionsAreMadeByManyAtOnce(t *testing.T) {
	f := openLog(t)
	var wg sync.WaitGroup
	for range 3 {
		s := f.another(t)
		wg.Go(func() {
			if _, err := s.EnsurePartitions(t.Context(), 5*day); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(f.partitions(t)); n != 14 {
		t.Errorf("there are %d partitions, want 14", n)
	}
}

// A clock that was ahead for a while leaves the log's position ahead of it.
func TestPartitionsFollowAPositionAheadOfTheClock(t *testing.T) {
	for name, jump := range map[string]time.Duration{"by days": 4 * day, "by weeks": 40 * day} {
		t.Run(name, func(t *testing.T) {
			f := openLog(t)
			at := time.Now().Add(jump).Truncate(time.Millisecond)
			f.exec(t, `SELECT setval('log_pos', $1)`, int64(fanfare.PositionAt(at)))

			if c := f.ingest(t, f.group(1, uuid.New())); !c.Beyond {
				t.Errorf("committed without a partition: %+v", c)
			}
			f.ceiling = must(f.EnsurePartitions(t.Context(), 2*day))(t)

			if end := at.UTC().Add(2 * day).Truncate(day).Add(day); f.ceiling != fanfare.PositionAt(end) {
				t.Errorf("the log ends at %s, want %s", f.ceiling.Time(), end)
			}
			c := f.ingest(t, f.group(1, uuid.New()))
			if c.Inserted == nil || c.Base.Time().Before(at.Add(-time.Millisecond)) {
				t.Errorf("committed %+v", c)
			}
			if n := len(f.partitions(t)); n > 20 {
				t.Errorf("%d partitions were made", n)
			}
		})
	}
}

// While a dump runs, partitions are made, and a publish that comes in the middle of it does not wait.
func TestMakingPartitionsWaitsForNobodyAndNobodyForIt(t *testing.T) {
	f := openLog(t)
	for _, table := range []string{"events", "attempts"} {
		defer f.reader(t, table)()
	}
	maker, other := f.connect(t), f.another(t)
	lo, hi := fanfare.EventID(f.ceiling, 0), fanfare.EventID(f.ceiling+fanfare.Position(day.Milliseconds()<<16), 0)
	tx := must(maker.Begin(t.Context()))(t)
	for _, sql := range store.MakePartitionSQL("events", "events_new", "id", lo, hi) {
		must(tx.Exec(t.Context(), sql))(t)
	}
	// The transaction that attached it is still open.
	f.publish(t, 3, uuid.New())
	f.exec(t, `SELECT count(*) FROM events`)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	if _, err := other.EnsurePartitions(t.Context(), 3*day); err != nil {
		t.Errorf("behind a reader: %v", err)
	}
	f.publish(t, 3, uuid.New())
}

func TestAttachingConflictsWithNoInsert(t *testing.T) {
	f := openLog(t)
	writer := must(f.connect(t).Begin(t.Context()))(t)
	must(writer.Exec(t.Context(), `INSERT INTO events (id, account_id, type, data, webhook_ids, matched)
		VALUES ($1, $2, 't', '{}', '{}', 0)`, fanfare.EventID(fanfare.PositionAt(time.Now()), 1), f.account))(t)

	_, err := f.EnsurePartitions(t.Context(), 3*day) // gives up a lock that it does not get in a second
	if err != nil {
		t.Errorf("behind an insert: %v", err)
	}
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRaisingTheHorizonEndsWhatIsBelowAndCountsIt(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	below, above := f.old(t, 5), f.old(t, 3)
	f.retry(t, below, hook, uuid.Nil, time.Now())
	f.retry(t, below, uuid.New(), f.node, time.Now())
	f.retry(t, above, hook, uuid.Nil, time.Now())
	for _, g := range [][2]uuid.UUID{{below, below}, {below, above}, {above, above}} {
		f.exec(t, `INSERT INTO open_groups (id, owner, first, last) VALUES ($1, $2, $3, $4)`, uuid.New(), f.node, g[0], g[1])
	}

	if ended := f.raise(t, 4, 0); ended != (store.Ended{Retries: 2, Groups: 1}) {
		t.Errorf("ended %+v", ended)
	}
	f.wantRows(t, "retries", 1, "open_groups", 2)
	horizon := get[uuid.UUID](t, f, `SELECT event_id FROM log_horizon`)
	if want := time.Now().Add(-4 * day).UTC().Truncate(day); !fanfare.EventTime(horizon).Equal(want) {
		t.Errorf("the horizon is %s, want %s", fanfare.EventTime(horizon), want)
	}

	if ended := f.raise(t, 6, 0); ended != (store.Ended{}) {
		t.Errorf("a lower one ended %+v", ended)
	}
	if again := get[uuid.UUID](t, f, `SELECT event_id FROM log_horizon`); again != horizon {
		t.Errorf("the horizon went back to %s", again)
	}
}

func TestOnlyDaysBelowARipeHorizonAreDropped(t *testing.T) {
	f := openLog(t)
	f.old(t, 5)
	f.old(t, 4)
	kept := f.old(t, 3)
	f.drop(t)
	if n := len(f.partitions(t)); n != 14 {
		t.Fatalf("without a horizon %d of 14 partitions are left", n)
	}
	f.raise(t, 3, 50*time.Minute)
	if n := f.drop(t); n != 0 {
		t.Fatalf("%d were dropped under a young horizon", n)
	}

	f.raise(t, 3, 61*time.Minute)
	if n := f.drop(t); n != 4 {
		t.Errorf("%d were dropped, want 4", n)
	}
	now := time.Now()
	want := daysOf(now.Add(-3*day), now.Add(-day), now, now.Add(day), now.Add(2*day))
	if got := f.partitions(t); !slices.Equal(got, want) {
		t.Errorf("left are %v", got)
	}
	f.wantRows(t, "events", 1, "attempts", 1)
	if id := get[uuid.UUID](t, f, `SELECT id FROM events`); id != kept {
		t.Errorf("left is %s", id)
	}
	if n := f.drop(t); n != 0 {
		t.Errorf("then %d more were dropped", n)
	}
}

func TestWhatSlippedBelowTheHorizonGoesWithItsDay(t *testing.T) {
	f := openLog(t)
	below := f.old(t, 5)
	f.raise(t, 4, 2*time.Hour)
	f.retry(t, below, uuid.New(), uuid.Nil, time.Now())
	if n := f.drop(t); n != 2 {
		t.Fatalf("%d were dropped", n)
	}
	f.wantRows(t, "retries", 0)
}

func TestAReaderOfAnotherDayKeepsNoDayFromGoing(t *testing.T) {
	f := openLog(t)
	f.old(t, 5)
	f.raise(t, 4, 2*time.Hour)
	defer f.reader(t, "events_p"+time.Now().UTC().Format("20060102"))()
	// It holds no lock on what goes. A dump of everything does: see the next test.
	if n := f.drop(t); n != 2 {
		t.Errorf("%d were dropped, want 2", n)
	}
}

// A dump keeps old days from going for as long as it runs; it must not keep this node, or a publish, too.
func TestALongReaderPutsARemovalOffAndNothingElse(t *testing.T) {
	t.Parallel()
	f := openLog(t)
	f.old(t, 6)
	f.old(t, 5)
	f.raise(t, 4, 2*time.Hour)
	closed := f.reader(t, "attempts")
	dropped := make(chan int, 1)
	remover := f.another(t)
	go func() {
		n, err := remover.DropPartitions(t.Context())
		if err != nil {
			t.Error(err)
		}
		dropped <- n
	}()
	eventually(t, "the detachment waits for the reader", func() bool {
		return get[bool](t, f, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE '%DETACH%CONCURRENTLY' AND wait_event_type = 'Lock')`)
	})

	group, events := f.publish(t, 1, uuid.New())
	f.record(t, &store.Lot{Owner: f.node, Settled: []uuid.UUID{group}, Outcomes: []store.Outcome{
		{Attempt: f.attempt(events[0], uuid.New(), 1, fanfare.Delivered), Group: group, Owner: f.node},
	}})
	if _, err := f.EnsurePartitions(t.Context(), 3*day); err != nil {
		t.Errorf("partitions cannot be made meanwhile: %v", err)
	}
	if n := <-dropped; n != 0 {
		t.Errorf("%d were dropped under the reader's eyes", n)
	}
	if n := f.drop(t); n != 0 { // the interrupted detachment waits for the reader, too
		t.Errorf("then %d were dropped", n)
	}
	closed()
	if n := f.drop(t); n != 4 {
		t.Errorf("without the reader %d were dropped, want 4", n)
	}
	if get[bool](t, f, `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)`) {
		t.Error("a detachment is left half done")
	}
}

func TestAnInterruptedRemovalIsFinished(t *testing.T) {
	f := openLog(t)
	f.old(t, 7)
	f.old(t, 6)
	f.old(t, 5)
	f.raise(t, 4, 2*time.Hour)
	name := func(table string, n int) string {
		return table + "_p" + time.Now().UTC().Add(-time.Duration(n)*day).Format("20060102")
	}
	// One process was killed while it waited behind a reader …
	closed := f.reader(t, "events")
	stopped := make(chan error, 1)
	remover := f.connect(t)
	pid := remover.PgConn().PID()
	go func() {
		_, err := remover.Exec(t.Context(), `ALTER TABLE events DETACH PARTITION `+name("events", 6)+` CONCURRENTLY`)
		stopped <- err
	}()
	eventually(t, "the detachment is pending", func() bool {
		return get[bool](t, f, `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)`)
	})
	f.exec(t, `SELECT pg_terminate_backend($1)`, int32(pid))
	if err := <-stopped; err == nil {
		t.Fatal("the detachment was not interrupted")
	}
	closed()
	if !get[bool](t, f, `SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)`) {
		t.Fatal("the detachment was finished: the test shows nothing")
	}
	// … another one died between a detachment and its drop.
	f.exec(t, `ALTER TABLE attempts DETACH PARTITION `+name("attempts", 5))

	if n := f.drop(t); n != 6 {
		t.Errorf("%d were dropped, want 6", n)
	}
	if left := get[[]string](t, f, `SELECT coalesce(array_agg(relname::text), '{}') FROM pg_class
		WHERE relkind = 'r' AND right(relname, 9) = ANY ($1)`, []string{name("", 5), name("", 6), name("", 7)}); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

func TestADetachedDayAboveTheHorizonIsSomebodyElses(t *testing.T) {
	f := openLog(t)
	f.old(t, 5)
	f.exec(t, `ALTER TABLE events DETACH PARTITION events_p`+time.Now().UTC().Add(-5*day).Format("20060102"))
	f.raise(t, 6, 2*time.Hour)
	if n := f.drop(t); n != 0 {
		t.Errorf("%d were dropped", n)
	}
}

func TestOneNodeDropsAtATime(t *testing.T) {
	f := openLog(t)
	f.old(t, 5)
	f.raise(t, 4, 2*time.Hour)
	other := f.connect(t)
	must(other.Exec(t.Context(), `SELECT pg_advisory_lock(20566, 3)`))(t)
	if n := f.drop(t); n != 0 {
		t.Errorf("%d were dropped beside another node", n)
	}
	must(other.Exec(t.Context(), `SELECT pg_advisory_unlock(20566, 3)`))(t)
	if n := f.drop(t); n != 2 {
		t.Errorf("then %d were dropped, want 2", n)
	}
	if n := must(f.another(t).DropPartitions(t.Context()))(t); n != 0 {
		t.Errorf("a third time %d", n)
	}
	if get[bool](t, f, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 20566
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`) {
		t.Error("the lock was not given back")
	}
}

func TestOldIdempotencyKeysAreForgottenInLots(t *testing.T) {
	f := openLog(t)
	f.exec(t, `INSERT INTO idempotency_keys (account_id, key, event_id, request_hash)
		SELECT $1, 'old' || i, event_id(i, 0), '' FROM generate_series(1, 4100) i`, f.account)
	g := f.group(1)
	g.Events[0].Key, g.Events[0].Hash = "new", []byte("h")
	f.ingest(t, g)

	if n := must(f.PurgeKeys(t.Context(), time.Now().Add(-time.Hour)))(t); n != 4100 {
		t.Errorf("%d keys were forgotten, want 4100", n)
	}
	if key := get[string](t, f, `SELECT string_agg(key, ' ') FROM idempotency_keys`); key != "new" {
		t.Errorf("left are %s", key)
	}
}
