package tail

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// desk holds the answers of calls that are not written yet.
type desk struct {
	*rig
	mu     sync.Mutex
	done   []func()
	bytes  map[uuid.UUID]int64
	errs   []error
	served int
	calls  sync.WaitGroup
}

func (d *desk) ask(q Query) {
	d.calls.Go(func() {
		page, done, err := d.Tail.Read(d.Context(), q)
		d.mu.Lock()
		defer d.mu.Unlock()
		if err != nil {
			d.errs = append(d.errs, err)
			return
		}
		n := int64(0)
		for i := range page.Events {
			n += int64(len(page.Events[i].Data))
		}
		d.served++
		d.bytes[q.AccountID] += n
		d.done = append(d.done, func() {
			d.mu.Lock()
			d.bytes[q.AccountID] -= n
			d.mu.Unlock()
			done()
		})
	})
}

// write ends one answer.
func (d *desk) write() (any bool) {
	d.mu.Lock()
	if len(d.done) == 0 {
		d.mu.Unlock()
		return false
	}
	done := d.done[0]
	d.done = d.done[1:]
	d.mu.Unlock()
	done()
	synctest.Wait()
	return true
}

func (d *desk) held(account uuid.UUID) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes[account]
}

func TestAnswersTakeABoundedMemoryAndEveryAccountItsShare(t *testing.T) {
	const (
		room  = 2 << 20
		event = 100 << 10
		calls = 200
	)
	for name, wait := range map[string]time.Duration{"who waited": 30 * time.Second, "who asks at once": 0} {
		t.Run(name, func(t *testing.T) {
			inRig(t, Options{Answers: room}, func(r *rig) {
				d := &desk{rig: r, bytes: make(map[uuid.UUID]int64)}
				loud, quiet := uuid.New(), uuid.New()
				after := r.log.commit(loud, "t")[0]
				r.log.size = event
				publish := func() {
					r.log.commit(loud, "t", "t", "t", "t", "t", "t", "t", "t", "t", "t", "t", "t")
					r.log.commit(quiet, "t")
				}
				if wait == 0 {
					publish()
				}
				for range calls {
					d.ask(Query{AccountID: loud, After: after, Limit: 50, Wait: wait})
				}
				synctest.Wait()
				if wait > 0 {
					d.ask(Query{AccountID: quiet, After: after, Limit: 50, Wait: wait})
					synctest.Wait()
					publish()
					time.Sleep(time.Second)
				} else {
					d.ask(Query{AccountID: quiet, After: after, Limit: 50})
				}
				synctest.Wait()
				if d.held(quiet) != event {
					t.Error("the quiet account was not served")
				}
				for more := true; more; more = d.write() {
					if n := d.held(loud); n > room/2 {
						t.Fatalf("%d bytes are under way", n)
					}
				}
				d.calls.Wait()
				if d.served != calls+1 || r.room.used() != 0 || len(r.room.held)+len(r.room.queues) != 0 {
					t.Errorf("%d were served, %q; %d bytes are left", d.served, d.errs, r.room.used())
				}
			})
		})
	}
}

func TestWhoFindsNoRoomIsToldSoon(t *testing.T) {
	inRig(t, Options{Answers: 1 << 20}, func(r *rig) {
		account := uuid.New()
		r.log.size = 400 << 10
		r.log.commit(account, "t")
		d := &desk{rig: r, bytes: make(map[uuid.UUID]int64)}
		q := Query{AccountID: account, Limit: 50}
		d.ask(q)
		synctest.Wait()
		if got := <-r.wait(q); !errors.Is(got.err, ErrFull) || got.took != readTimeout {
			t.Errorf("%+v", got)
		}
		d.write()
		if got := <-r.wait(q); got.err != nil || got.took != 0 {
			t.Errorf("%+v", got)
		}
	})
}
