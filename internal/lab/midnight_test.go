package lab

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
)

// midnight is the lane of the log's partitions (C13): one ends and the next begins under load, with a dump
// open, tries of a delivery on both sides; a partition ahead is missing and is made; a delivery whose
// partition is gone keeps nobody else's from being recorded. With upkeep the days beyond the retention go as
// well.
//
// Only the partitions know midnight: here one ends in the middle of the day.
type midnight struct {
	rate   float64
	before time.Duration // at least, from the lane's first event to midnight
	after  time.Duration
	upkeep bool          // takes three minutes more: a node's upkeep begins after one
	bar    time.Duration // for the longest wait of a publisher; 0: not asserted
}

const aDay = 24 * time.Hour

func (m *midnight) run(l *lab) {
	l.env["FANFARE_RETENTION"] = "9d"
	l.start(1)
	owner := l.account("up at night")
	endpoints := l.endpoints(3)
	good := l.topic(owner, "lab.good", wish{}, endpoints[0])
	again := l.topic(owner, "lab.again", wish{steps: manySeconds}, endpoints[1])
	endpoints[1].becomes(l.sometimes(.5, answering(http.StatusBadRequest), healthy))
	orphan := l.topic(owner, "lab.orphan", wish{steps: manySeconds}, endpoints[2]).hooks[0]
	turns := func(i int) *topic {
		if i%5 == 0 {
			return again
		}
		return good
	}
	l.load(m.rate, time.Second, turns).delivered("held up before", patience)

	var at time.Time
	l.offline(func() {
		at = l.midnightIn(m.before + 2*time.Second)
		if m.upkeep {
			l.beyondRetention(orphan, 12)
		}
		// Five days ago there was no partition.
		l.owe(orphan, time.Now().Add(-5*aDay), time.Now().Add(m.before))
	})
	ahead := dayName("events", time.Now().Add(3*aDay))
	l.exec(`DROP TABLE ` + ahead)
	closed := l.dump()

	d := time.Until(at) + m.after
	if m.upkeep {
		d += 200 * time.Second
	}
	var p *phase
	var load sync.WaitGroup
	load.Go(func() { p = l.load(m.rate, d, turns) })
	second := l.another()
	l.report.bar("the missing partition was made", l.exists(ahead), l.exists(ahead), "true")
	if m.upkeep {
		m.forget(l, orphan, closed)
	}
	load.Wait()
	p.onlyRefused("around midnight")
	p.delivered("held up", patience)
	p.latency("delivery", everyHook)
	if waited := p.publishing("publish"); m.bar > 0 {
		l.report.atMost("longest wait of a publisher ms", waited.Max, float64(m.bar.Milliseconds()))
	}

	atLeast := func(name string, n int64) { l.report.bar(name, n > 0, n, "> 0") }
	today := time.Now()
	atLeast("events before midnight", l.count(`SELECT count(*) FROM `+dayName("events", today)))
	atLeast("events after midnight", l.count(`SELECT count(*) FROM events_tonight`))
	atLeast("tries after midnight of what began before it", l.count(`SELECT count(*) FROM `+dayName("attempts", today)+`
		WHERE number > 1 AND started_at >= $1`, at))
	rejected := func() float64 {
		return l.nodes[0].metrics().sum("fanfare_recorder_rejected_total") + second.metrics().sum("fanfare_recorder_rejected_total")
	}
	l.within(patience, func() bool { return rejected() > 0 })
	atLeast("outcomes without a partition", int64(rejected()))
	l.exec(`DELETE FROM retries WHERE webhook_id = $1`, orphan.id)
	l.audit(patience, orphan)
}

// forget sees the days beyond the retention go: what is owed there ends, and the partitions go when nobody
// reads them any more.
func (m *midnight) forget(l *lab, h *hook, closed func()) {
	owed := func() int64 {
		return l.count(`SELECT count(*) FROM retries WHERE webhook_id = $1 AND due_at > now() + interval '30 minutes'`, h.id)
	}
	l.within(2*patience, func() bool { l.pause(time.Second); return owed() == 0 })
	l.report.none("still owed beyond the retention", owed())
	l.exec(`UPDATE log_horizon SET raised_at = raised_at - interval '2 hours'`)
	behind := l.another()
	l.within(2*patience, func() bool {
		l.pause(time.Second)
		return behind.said("a partition stays until a long reader has ended") > 0
	})
	old := dayName("events", time.Now().Add(-12*aDay))
	l.report.bar("a partition stays while it is read", l.exists(old), l.exists(old), "true")
	closed()
	l.another()
	l.within(2*patience, func() bool { l.pause(time.Second); return !l.exists(old) })
	l.report.bar("a partition beyond the retention is left", !l.exists(old), l.exists(old), "false")
}

// another starts a node that no publisher knows.
func (l *lab) another() *node {
	l.Helper()
	n := l.spawnNode(nil, nil)
	l.until("another node answers", func() bool { return n.serving() && n.answers() })
	return n
}

func dayName(table string, at time.Time) string { return table + "_p" + at.UTC().Format("20060102") }

func (l *lab) exists(table string) (there bool) {
	l.Helper()
	l.ok(l.sql.QueryRow(l.Context(), `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there))
	return there
}

func firstOf(at time.Time) uuid.UUID { return fanfare.EventID(fanfare.PositionAt(at), 0) }

// midnightIn ends today's partitions after d; those named tonight take the rest of the day.
func (l *lab) midnightIn(d time.Duration) time.Time {
	l.Helper()
	now := time.Now()
	today, at := now.UTC().Truncate(aDay), now.Add(d).Truncate(time.Millisecond)
	if tomorrow := today.Add(aDay); at.Add(time.Minute).After(tomorrow) {
		l.Skip("it is about to be midnight itself")
	}
	for _, table := range []string{"events", "attempts"} {
		l.exec(fmt.Sprintf(`ALTER TABLE %s DETACH PARTITION %s`, table, dayName(table, now)))
		l.exec(fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`,
			table, dayName(table, now), firstOf(today), firstOf(at)))
		l.exec(fmt.Sprintf(`CREATE TABLE %s_tonight PARTITION OF %[1]s FOR VALUES FROM ('%s') TO ('%s')`,
			table, firstOf(at), firstOf(today.Add(aDay))))
	}
	return at
}

// beyondRetention makes a day that was so many days ago, on which the webhook is owed something in an hour.
func (l *lab) beyondRetention(h *hook, days int) {
	l.Helper()
	from := time.Now().UTC().Truncate(aDay).Add(-time.Duration(days) * aDay)
	for _, table := range []string{"events", "attempts"} {
		l.exec(fmt.Sprintf(`CREATE TABLE %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')`,
			dayName(table, from), table, firstOf(from), firstOf(from.Add(aDay))))
	}
	id := l.owe(h, from.Add(aDay/2), time.Now().Add(time.Hour))
	l.exec(`INSERT INTO events (id, account_id, type, data, webhook_ids, matched) VALUES ($1, $2, 'lab.orphan', '{}', ARRAY[$3::uuid], 1)`,
		id, h.account, h.id)
}

// owe puts a retry into the log for an event of the time at, which need not exist.
func (l *lab) owe(h *hook, at, due time.Time) (event uuid.UUID) {
	l.Helper()
	event = fanfare.EventID(fanfare.PositionAt(at), 1)
	l.exec(`INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
		VALUES ($1, $2, $3, 'retry', 1, 1, now(), $4)`, h.id, event, h.account, due)
	return event
}

var c13Short = midnight{rate: 100, before: 2 * time.Second, after: 2 * time.Second}

func TestMidnightHoldsUpNothing(t *testing.T) {
	t.Parallel()
	run(t, "C13 short", "", &c13Short).finish(t)
}
