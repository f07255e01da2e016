package lab

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// snapshot is the lane of a transaction that stays open while events pour in, as a dump or a forgotten
// session does (C10): vacuum can remove nothing that went since, and nothing slows down with it.
type snapshot struct {
	rate     float64
	baseline time.Duration // 0: latencies are not compared
	held     time.Duration
}

func (s *snapshot) run(l *lab) {
	l.start(1)
	n := l.nodes[0]
	owner := l.account("beside a dump")
	endpoints := l.endpoints(10)
	topics := make([]*topic, len(endpoints))
	failing := l.sometimes(.1, answering(http.StatusBadRequest), healthy) // rows come and go in retries
	for i, e := range endpoints {
		topics[i] = l.topic(owner, fmt.Sprintf("lab.e%d", i), wish{steps: manySeconds}, e)
		e.becomes(failing)
	}
	turns := func(i int) *topic { return topics[i%len(topics)] }
	l.load(s.rate, time.Second, turns).delivered("held up before", patience)
	var before speeds
	if s.baseline > 0 {
		before = s.measure(l, n, "at the start", s.baseline, turns)
	}
	closed := l.dump()
	if s.baseline > 0 {
		l.load(s.rate, s.held-s.baseline, turns).delivered("held up while it is open", patience)
		after := s.measure(l, n, "at the end", s.baseline, turns)
		after.atMost(l, 3, before)
	} else {
		s.measure(l, n, "while it is open", s.held, turns)
	}
	closed()
	l.audit(patience)
}

// speeds are what the lane compares, in milliseconds.
type speeds struct{ publish, claim, record float64 }

// measure publishes for d and answers the p99 of publishes, claims and the recorder's transactions in that
// time; the latter two are the upper bounds of a histogram's buckets.
func (s *snapshot) measure(l *lab, n *node, when string, d time.Duration, turns func(int) *topic) (v speeds) {
	first := n.metrics()
	p := l.load(s.rate, d, turns)
	p.delivered("held up "+when, patience)
	last := n.metrics()
	v.publish = p.publishing("publish " + when).P99
	v.claim = 1000 * last.quantile(first, "fanfare_claim_seconds", .99)
	v.record = 1000 * last.quantile(first, "fanfare_recorder_lot_seconds", .99)
	for name, ms := range map[string]float64{"claim": v.claim, "recorder": v.record} {
		if !math.IsNaN(ms) && !math.IsInf(ms, 0) {
			l.report.figure(name+" p99 ms "+when, ms)
		}
	}
	return v
}

func (v speeds) atMost(l *lab, times float64, before speeds) {
	l.report.atMost("publish p99 ms", v.publish, times*before.publish)
	l.report.atMost("claim p99 ms", v.claim, times*before.claim)
	l.report.atMost("recorder p99 ms", v.record, times*before.record)
}

// dump opens a transaction that has read the log, as pg_dump does, and leaves it open until it is closed.
func (l *lab) dump() (closed func()) {
	l.Helper()
	tx, err := l.sql.BeginTx(l.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	l.ok(err)
	for _, table := range []string{"events", "attempts", "retries", "open_groups"} {
		_, err := tx.Exec(l.Context(), `SELECT count(*) FROM `+table)
		l.ok(err)
	}
	closed = sync.OnceFunc(func() { _ = tx.Rollback(l.Context()) }) // the connection may have ended
	l.Cleanup(closed)
	return closed
}

var c10Short = snapshot{rate: 200, held: 2 * time.Second}

func TestASnapshotHeldOpenHoldsUpNothing(t *testing.T) {
	t.Parallel()
	run(t, "C10 short", "", &c10Short).finish(t)
}
