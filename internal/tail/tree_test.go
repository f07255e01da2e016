package tail

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

func TestAnAccountThatThisNodeHasNotHeardOfIsNotPassed(t *testing.T) {
	for name, ask := range map[string]func(r *rig, q Query, happens func() []fanfare.Position){
		"by one who waits": func(r *rig, q Query, happens func() []fanfare.Position) {
			q.Wait = 30 * time.Second
			got := r.wait(q)
			time.Sleep(time.Second)
			want := happens()
			r.Wake()
			r.wantEvents(got, time.Second+tick, want...)
		},
		"in memory": func(r *rig, q Query, happens func() []fanfare.Position) {
			another := r.wait(Query{AccountID: uuid.New(), After: q.After, Limit: 50, Wait: 30 * time.Second})
			want := happens()
			time.Sleep(time.Second)
			synctest.Wait()
			_, before := r.log.asked()
			r.wantEvents(r.wait(q), 0, want...)
			if _, after := r.log.asked(); after != before {
				r.Error("it was asked of the database")
			}
			r.Stop()
			<-another
		},
		"in the database": func(r *rig, q Query, happens func() []fanfare.Position) {
			want := happens()
			r.wantEvents(r.wait(q), 0, want...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, Options{}, func(r *rig) {
				root, elsewhere, moved, created := uuid.New(), uuid.New(), uuid.New(), uuid.New()
				r.tree.put(moved, elsewhere)
				if err := r.tree.CatchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
				q := Query{AccountID: root, Descendants: true, Limit: 50, After: r.log.commit(root, "t")[0]}
				ask(r, q, func() []fanfare.Position { // on another node
					r.tree.put(created, root)
					r.tree.put(moved, root)
					return slices.Concat(r.log.commit(created, "t"), r.log.commit(moved, "t"), r.log.commit(root, "t"))
				})
			})
		})
	}
}

func TestWhoFollowsOneAccountNeverAsksForTheTree(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		account := uuid.New()
		q := Query{AccountID: account, Limit: 50, Wait: 30 * time.Second, After: r.log.commit(account, "t")[0]}
		got := r.wait(q)
		r.wantEvents(got, time.Second, r.log.commit(account, "t")...)
		if r.tree.asked != 0 {
			r.Errorf("%d times", r.tree.asked)
		}
	})
}

func TestWhatOneWhoWaitedDoesNotWantIsNotLookedAtAgain(t *testing.T) {
	for _, found := range []bool{true, false} {
		inRig(t, Options{}, func(r *rig) {
			root, child := uuid.New(), uuid.New()
			r.tree.put(child, root)
			got := r.wait(Query{AccountID: root, Descendants: true, Limit: 50, Wait: 30 * time.Second, After: r.log.commit(root, "t")[0]})
			for range 20 {
				r.log.commit(uuid.New(), "t")
				time.Sleep(time.Second)
			}
			before, questions := r.tree.within, 0
			var want []fanfare.Position
			if found {
				want, questions = r.log.commit(child, "t"), 1
			}
			r.wantEvents(got, 30*time.Second, want...)
			if n := r.tree.within - before; n != questions {
				r.Errorf("it was asked about %d accounts", n)
			}
		})
	}
}

func TestAThousandWhoWaitForDescendantsAskForTheTreeOnce(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		root, child := uuid.New(), uuid.New()
		q := Query{AccountID: root, Descendants: true, Limit: 50, Wait: 30 * time.Second, After: r.log.commit(root, "t")[0]}
		first := r.wait(q) // who comes before the first one waits asks the database, and for the tree
		before := r.tree.asked
		all := []chan answer{first}
		for range 999 {
			all = append(all, r.wait(q))
		}
		r.tree.put(child, root)
		want := r.log.commit(child, "t")
		for _, got := range all {
			r.wantEvents(got, time.Second, want...)
		}
		if n := r.tree.asked - before; n > 2 { // the second one, of what is in memory, and the reader
			r.Errorf("%d times", n)
		}
	})
}

func TestWhoWasToldAsItsTimeEndedLosesNothing(t *testing.T) {
	inRig(t, Options{}, func(r *rig) {
		account := uuid.New()
		another := r.wait(Query{AccountID: uuid.New(), Limit: 50, Wait: time.Minute})
		after := r.log.commit(account, "t")[0] - 1
		time.Sleep(time.Second)
		synctest.Wait() // it is in memory
		over := make(chan time.Time)
		close(over)
		for range 50 { // the runtime chooses which of the two it sees
			q := store.LogQuery{AccountID: account, After: after}
			if _, err := r.Tail.wait(r.Context(), &q, over); err != nil || q.After != after {
				t.Fatalf("it went on from %d to %d, %v", after, q.After, err)
			}
		}
		r.Stop()
		<-another
	})
}
