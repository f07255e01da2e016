package lab

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// backlog is deliveries that wait in Postgres because an attempt failed.
type backlog struct {
	topic  *topic
	events int           // each is owed to every webhook of the topic
	due    time.Duration // from now, the same for all; negative: overdue
	// silent leaves the events out of the books: there are too many to remember, and none will arrive.
	silent bool
}

// park writes backlogs into the log as if every delivery had failed once. Nodes that run notice them only
// after a while: see offline.
func (l *lab) park(all ...backlog) {
	l.Helper()
	rows := 0
	for _, b := range all {
		rows += b.events * len(b.topic.hooks)
	}
	var later []string
	if rows > 100_000 { // indexes are made faster than kept
		later = l.dropIndexes()
	}
	base := l.count(`SELECT ((extract(epoch FROM now()) - 120) * 1000)::bigint << 16`)
	for _, b := range all {
		begin := time.Now()
		first := 1_000_000_000 // no number of the books
		if b.silent {
			l.silent += int64(b.events * len(b.topic.hooks))
			for _, h := range b.topic.hooks {
				h.silent += int64(b.events)
			}
		} else {
			first = l.announce(b.events, func(int) *topic { return b.topic }, func(int) time.Time { return begin })
			for i := range b.events {
				l.answered(first+i, func(e *event) { e.status = http.StatusAccepted })
			}
		}
		ids := make([]string, len(b.topic.hooks))
		for i, h := range b.topic.hooks {
			ids[i] = h.id
		}
		from := base
		base += int64(b.events)
		// The tail is made of the number: both statements make the same ids.
		const id = `event_id($1::bigint + i, i * 7919)`
		l.exec(`INSERT INTO events (id, account_id, type, data, webhook_ids, matched)
			SELECT `+id+`, $3, $4, convert_to('{"n":' || $5::bigint + i || ',"pad":"`+pad+`"}', 'UTF8'), $6::uuid[], cardinality($6::uuid[])
			FROM generate_series(0, $2::bigint - 1) i`, from, b.events, b.topic.account, b.topic.typ, first, ids)
		l.exec(`INSERT INTO retries (webhook_id, event_id, account_id, trigger, number, tries, first_at, due_at)
			SELECT w, `+id+`, $3, 'retry', 1, 1, now() - interval '2 minutes', now() + $4::bigint * interval '1 millisecond'
			FROM unnest($5::uuid[]) w, generate_series(0, $2::bigint - 1) i`, from, b.events, b.topic.account, b.due.Milliseconds(), ids)
	}
	for _, sql := range later {
		l.exec(sql)
	}
	l.exec(`VACUUM ANALYZE retries`) // as autovacuum would have done while they came
	l.exec(`ANALYZE events`)
}

// dropIndexes drops what can be made anew of retries and today's events, and answers how.
func (l *lab) dropIndexes() (later []string) {
	l.Helper()
	rows, err := l.sql.Query(l.Context(), `SELECT indexname, indexdef FROM pg_indexes
		WHERE tablename = 'retries' AND indexname <> 'retries_pkey' ORDER BY indexname`)
	l.ok(err)
	var names []string
	for rows.Next() {
		var name, def string
		l.ok(rows.Scan(&name, &def))
		names, later = append(names, name), append(later, def)
	}
	l.ok(rows.Err())
	l.exec(fmt.Sprintf(`DROP INDEX %s`, strings.Join(names, ", ")))
	return later
}

// offline does something behind the back of the nodes: it stops them all and starts as many anew.
func (l *lab) offline(do func()) {
	l.Helper()
	n := len(l.nodes)
	for _, old := range l.nodes {
		old.stop()
	}
	l.nodes = nil
	do()
	l.start(n)
}
