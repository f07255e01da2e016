package store_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// How rows are read: by a range of one webhook, and percentiles from the sums of its ranges.
const (
	healthSumSQL = `SELECT coalesce(sum(attempts), 0), coalesce(sum(failures), 0) FROM webhook_health WHERE webhook_id = $1 AND minute >= $2`
	healthMapSQL = `SELECT coalesce(jsonb_object_agg(range, n), '{}') FROM (
		SELECT range, sum(durations[range]) AS n FROM webhook_health, generate_subscripts(durations, 1) AS range
		WHERE webhook_id = $1 AND minute >= $2 GROUP BY range) AS counts WHERE n > 0`
)

// thisMinute does not change in the course of a test.
var thisMinute = time.Now().UTC().Truncate(time.Minute)

// health makes a row with all of its attempts in one range.
func (f *logFixture) health(hook uuid.UUID, minute time.Time, attempts, failures int32, took time.Duration) store.HealthRow {
	r := store.HealthRow{WebhookID: hook, AccountID: f.account, Minute: minute, Node: f.node, Attempts: attempts, Failures: failures}
	r.Durations[store.HealthRange(took)] = attempts
	return r
}

func (f *logFixture) writeHealth(t *testing.T, rows ...store.HealthRow) {
	t.Helper()
	if err := f.WriteHealth(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
}

func (f *logFixture) wantHealth(t *testing.T, hook uuid.UUID, since time.Time, attempts, failures int, durations map[int]int) {
	t.Helper()
	var gotAttempts, gotFailures int
	if err := f.QueryRow(t.Context(), healthSumSQL, hook, since).Scan(&gotAttempts, &gotFailures); err != nil {
		t.Fatal(err)
	}
	if gotAttempts != attempts || gotFailures != failures {
		t.Errorf("%d of %d attempts failed, want %d of %d", gotFailures, gotAttempts, failures, attempts)
	}
	if diff := cmp.Diff(durations, get[map[int]int](t, f, healthMapSQL, hook, since)); diff != "" {
		t.Error("durations: ", diff)
	}
}

func (f *logFixture) healthPartitions(t *testing.T) []string {
	t.Helper()
	return get[[]string](t, f, `SELECT coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}')
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'webhook_health'::regclass`)
}

func TestDurationsFallIntoRangesThatHoldTheirEnds(t *testing.T) {
	for took, want := range map[time.Duration]int{
		-1: 0, 0: 0, time.Millisecond: 0, time.Millisecond + 1: 1, 1600 * time.Microsecond: 1,
		10 * time.Millisecond: 5, time.Second: 15, 40 * time.Second: 23, 40*time.Second + 1: 24, time.Hour: 24,
	} {
		if got := store.HealthRange(took); got != want {
			t.Errorf("%s is in range %d, want %d", took, got, want)
		}
	}
	for took := time.Millisecond; took < time.Minute; took += took/100 + 1 {
		if a, b := store.HealthRange(took), store.HealthRange(took*8/5); b-a > 2 || took < 25*time.Second && b == a {
			t.Errorf("%s is in range %d, three fifths more in %d", took, a, b)
		}
	}
}

func TestHealthOfAWebhookIsTheSumOfItsRows(t *testing.T) {
	f := openLog(t)
	hook, other := uuid.New(), uuid.New()
	wide := f.health(hook, thisMinute, 3, 1, 0)
	wide.Durations = [store.HealthRanges]int32{0: 1, 24: 2}
	elsewhere := f.health(hook, thisMinute, 10, 10, time.Second)
	elsewhere.Node = uuid.New() // another incarnation

	f.writeHealth(t,
		wide, elsewhere,
		f.health(hook, thisMinute.Add(-time.Minute), 5, 0, time.Second),
		f.health(hook, thisMinute.Add(-2*time.Minute), 100, 0, time.Second),
		f.health(other, thisMinute, 7, 0, time.Hour),
	)

	f.wantHealth(t, hook, thisMinute.Add(-time.Minute), 18, 11, map[int]int{0: 1, 15: 15, 24: 2})
	f.wantHealth(t, other, thisMinute, 7, 0, map[int]int{24: 7})
	f.wantHealth(t, uuid.New(), thisMinute, 0, 0, map[int]int{})
	if got := get[uuid.UUID](t, f, `SELECT account_id FROM webhook_health WHERE webhook_id = $1`, other); got != f.account {
		t.Errorf("it belongs to %s", got)
	}
	f.writeHealth(t) // nothing
}

func TestAHealthRowIsReplacedByWhatSaysMore(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	f.writeHealth(t, f.health(hook, thisMinute, 2, 1, time.Second))
	f.writeHealth(t, f.health(hook, thisMinute, 5, 2, time.Minute))
	f.wantHealth(t, hook, thisMinute, 5, 2, map[int]int{24: 5})
	f.wantRows(t, "webhook_health", 1)
}

// The outcome of a write may be unknown, and one that was given up may arrive after the next.
func TestAHealthRowThatIsRepeatedOrComesLateChangesNothing(t *testing.T) {
	f := openLog(t)
	hook := uuid.New()
	f.writeHealth(t, f.health(hook, thisMinute, 5, 2, time.Second))
	version := `SELECT xmin::text || ctid::text FROM webhook_health`
	before := get[string](t, f, version)

	f.writeHealth(t, f.health(hook, thisMinute, 5, 2, time.Second))
	f.writeHealth(t, f.health(hook, thisMinute, 3, 1, time.Second))

	f.wantHealth(t, hook, thisMinute, 5, 2, map[int]int{15: 5})
	if after := get[string](t, f, version); after != before {
		t.Errorf("the row was written again: %s, then %s", before, after)
	}
}

func TestHealthIsNotWorthWaitingForTheDisk(t *testing.T) {
	f := openLog(t)
	f.exec(t, `CREATE TABLE seen AS SELECT ''::text AS mode LIMIT 0`)
	f.exec(t, `CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$`)
	f.exec(t, `CREATE TRIGGER see BEFORE INSERT ON webhook_health FOR EACH ROW EXECUTE FUNCTION see()`)
	for range 2 { // prepared by the first
		f.writeHealth(t, f.health(uuid.New(), thisMinute, 1, 0, 0))
	}
	if got := get[string](t, f, `SELECT string_agg(mode, ' ') FROM seen`); got != "off off" {
		t.Errorf("synchronous_commit was %s", got)
	}
}

func TestUpdatesOfHealthTouchNoIndex(t *testing.T) {
	f := openLog(t)
	rows := make([]store.HealthRow, 1000)
	for i := range rows {
		rows[i] = f.health(uuid.New(), thisMinute, 1, 0, time.Second)
	}
	f.writeHealth(t, rows...)
	f.exec(t, `CREATE TABLE before AS SELECT webhook_id, (ctid::text::point)[0] AS page FROM webhook_health`)
	for i := range rows {
		rows[i].Attempts, rows[i].Durations[16] = 2, 1
	}

	f.writeHealth(t, rows...)

	// A row that stays on its page, with no indexed column changed, has no new entry in an index.
	moved := get[int](t, f, `SELECT count(*) FROM webhook_health JOIN before USING (webhook_id) WHERE page <> (webhook_health.ctid::text::point)[0]`)
	if moved > len(rows)/20 {
		t.Errorf("%d of %d rows moved to another page", moved, len(rows))
	}
}

func TestHealthPartitionsAreMadeAsRowsNeedThem(t *testing.T) {
	f := openLog(t)
	midnight := time.Now().UTC().Truncate(day)
	if got := f.healthPartitions(t); len(got) != 0 {
		t.Fatalf("there are %v", got)
	}
	var rows []store.HealthRow
	for _, at := range []time.Time{midnight.Add(-time.Minute), midnight, midnight.Add(6*time.Hour - time.Minute), midnight.Add(6 * time.Hour)} {
		rows = append(rows, f.health(uuid.New(), at, 1, 0, 0))
	}
	var wg sync.WaitGroup
	for range 4 { // many nodes at once
		s := f.another(t)
		mine := slices.Clone(rows)
		for i := range mine {
			mine[i].Node = uuid.New()
		}
		wg.Go(func() {
			if err := s.WriteHealth(t.Context(), mine); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	today := midnight.Format("20060102")
	want := []string{"webhook_health_p" + midnight.Add(-day).Format("20060102") + "18", "webhook_health_p" + today + "00", "webhook_health_p" + today + "06"}
	if got := f.healthPartitions(t); !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	f.wantRows(t, want[0], 4, want[1], 8, want[2], 4)
}

func TestOldHealthGoesInWholePartitions(t *testing.T) {
	f := openLog(t)
	noon := time.Now().UTC().Truncate(day).Add(12 * time.Hour)
	for _, age := range []time.Duration{1, 6*time.Hour + 1, 24*time.Hour + 1} {
		f.writeHealth(t, f.health(uuid.New(), noon.Add(-age), 1, 0, 0))
	}
	f.exec(t, `CREATE TABLE webhook_health_pother PARTITION OF webhook_health FOR VALUES FROM ('2000-01-01') TO ('2001-01-01')`)
	purge := func(before time.Time) int { return must(f.PurgeHealth(t.Context(), before))(t) }

	if n := purge(noon.Add(-6*time.Hour - 1)); n != 1 {
		t.Errorf("%d went, want the one that holds nothing later", n)
	}
	f.wantRows(t, "webhook_health", 2)
	if n := purge(noon.Add(-6 * time.Hour)); n != 1 {
		t.Errorf("then %d went", n)
	}
	if n := purge(noon.Add(-6 * time.Hour)); n != 0 {
		t.Errorf("%d went twice", n)
	}
	f.wantRows(t, "webhook_health", 1)
	if got := f.healthPartitions(t); len(got) != 2 {
		t.Errorf("left are %v", got)
	}
}

func TestALongReaderPutsThePurgeOfHealthOffAndNothingElse(t *testing.T) {
	f := openLog(t)
	old := thisMinute.Add(-2 * day)
	f.writeHealth(t, f.health(uuid.New(), old, 1, 0, 0), f.health(uuid.New(), thisMinute, 1, 0, 0))
	closed := f.reader(t, "webhook_health")
	defer closed()

	if n := must(f.PurgeHealth(t.Context(), thisMinute.Add(-store.HealthKept)))(t); n != 0 {
		t.Errorf("%d went under the reader's eyes", n)
	}
	f.writeHealth(t, f.health(uuid.New(), thisMinute, 1, 0, 0), f.health(uuid.New(), thisMinute.Add(day), 1, 0, 0))
	closed()
	if n := must(f.PurgeHealth(t.Context(), thisMinute.Add(-store.HealthKept)))(t); n != 1 {
		t.Errorf("without the reader %d went", n)
	}
	f.wantRows(t, "webhook_health", 3)
}

// A rule that looks at one webhook reads that webhook's rows, however many others there are.
func TestHealthIsReadByOneRangeAPartition(t *testing.T) {
	t.Parallel()
	f := openLog(t)
	f.writeHealth(t, f.health(uuid.New(), thisMinute, 1, 0, 0), f.health(uuid.New(), thisMinute.Add(-6*time.Hour), 1, 0, 0))
	f.exec(t, `INSERT INTO webhook_health SELECT gen_random_uuid(), $1::timestamptz - n * interval '6 hours', $2, $3, 1, 0, '{1}'
		FROM generate_series(1, 10000), generate_series(0, 1) n`, thisMinute, f.node, f.account)
	f.exec(t, `ANALYZE webhook_health`)
	hook := get[uuid.UUID](t, f, `SELECT webhook_id FROM webhook_health ORDER BY random() LIMIT 1`)

	for _, sql := range []string{healthSumSQL, healthMapSQL} {
		rows := must(f.connect(t).Query(t.Context(), `EXPLAIN `+sql, hook, thisMinute.Add(-day)))(t)
		lines := must(pgx.CollectRows(rows, pgx.RowTo[string]))(t)
		p := strings.Join(lines, "\n")
		if strings.Contains(p, "Seq Scan") || strings.Count(p, "Index Cond: ((webhook_id = ") != 2 || !strings.Contains(p, "AND (minute >= ") {
			t.Errorf("reads more than the webhook's rows:\n%s", p)
		}
	}
}
