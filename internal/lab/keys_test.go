package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keyed is the lane of many clients that publish the same event under the same idempotency key at once, at
// several nodes, some of which are killed meanwhile (C8): each key makes one event, and every client is told
// the same one.
type keyed struct {
	nodes   int
	keys    int
	clients int // of each key, all at once
	kills   int
}

func (k *keyed) run(l *lab) {
	f := l.newFleet(k.nodes)
	t := l.topic(l.account("insistent"), "lab.keyed", wish{}, l.endpoints(1)...)
	begin := time.Now()
	first := l.announce(k.keys, func(int) *topic { return t }, func(int) time.Time { return begin })

	var told, done atomic.Int64
	var clients sync.WaitGroup
	answers := make([]map[string]bool, k.keys) // the ids that clients were told
	finished := make(chan struct{})
	defer func() { <-finished }()
	go func() {
		defer close(finished)
		for i := range answers {
			answers[i] = make(map[string]bool)
			var mu sync.Mutex // guards answers[i]
			for c := range k.clients {
				clients.Go(func() {
					var r reply
					l.within(patience, func() bool {
						if n := f.pick(c); n != nil {
							r = l.send(n, t, first+i, fmt.Sprintf("key-%d", i))
						}
						return !r.repeatable()
					})
					l.note(first+i, r)
					var got struct{ ID string }
					if r.status != http.StatusAccepted || json.Unmarshal(r.body, &got) != nil {
						l.Errorf("key %d: %d %s", i, r.status, r.body)
						return
					}
					told.Add(1)
					mu.Lock()
					answers[i][got.ID] = true
					mu.Unlock()
				})
			}
			clients.Wait()
			done.Add(1)
		}
	}()
	for kill := range k.kills {
		l.until("the clients come to the next kill", func() bool { return done.Load() >= int64((kill+1)*k.keys/(k.kills+1)) })
		f.kill(f.pick(kill))
		f.start()
	}
	<-finished

	l.report.count("clients that were told", told.Load())
	var several int64
	for _, ids := range answers {
		if len(ids) != 1 {
			several++
		}
	}
	l.report.none("keys under which clients were told several events", several)
	l.report.none("keys with several events", l.count(`SELECT count(*) FROM (
		SELECT FROM events WHERE account_id = $1 GROUP BY idempotency_key HAVING count(*) > 1) doubled`, t.account))
	events := l.count(`SELECT count(*) FROM events WHERE account_id = $1 AND type = $2`, t.account, t.typ)
	l.report.bar("events", events == int64(k.keys), events, fmt.Sprint(k.keys))
	var taken int64
	for i := range min(k.keys, 20) {
		if r := l.send(f.pick(i), t, -1, fmt.Sprintf("key-%d", i)); r.status != http.StatusConflict {
			taken++
		}
	}
	l.report.none("other bodies that were not refused with 409", taken)
	// What a node had sent and not yet put on record when it was killed is sent again.
	l.balance(books{limit: patience, flying: int64(4 * k.kills)})
}

var c8Short = keyed{nodes: 2, keys: 30, clients: 24, kills: 1}

func TestAnIdempotencyKeyMakesOneEvent(t *testing.T) {
	t.Parallel()
	run(t, "C8 short", "", &c8Short).finish(t)
}
