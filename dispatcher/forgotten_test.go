package dispatcher

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// write is one turn of the record loop that succeeds.
func (r *recorder) write(me uuid.UUID) {
	lot, settled := r.take(me)
	r.written(lot, settled)
}

func attempted(owner uuid.UUID, event byte, group uuid.UUID) store.Outcome {
	return store.Outcome{
		Attempt: &fanfare.Attempt{ID: uuid.New(), EventID: id(event), WebhookID: id(1), State: fanfare.Delivered}, Group: group, Owner: owner,
	}
}

func TestARowThatWasClaimedAgainBeforeItsLotIsAnsweredIsRemembered(t *testing.T) {
	r, me := newRecorder(), uuid.New()
	row := store.Retry{WebhookID: id(1), EventID: id(2)}
	mine := store.Mine{Retries: []store.RetryRef{{WebhookID: row.WebhookID, EventID: row.EventID}}}
	r.claim(me, []store.Retry{row})
	r.add(store.Outcome{Retry: &row, Owner: me})
	lot, settled := r.take(me)

	r.claim(me, []store.Retry{row}) // the lot is on record: the row was free
	r.written(lot, settled)

	if lost := r.forgotten(me, mine); len(lost.Retries) != 0 {
		t.Error("a row that is in hand is taken for forgotten")
	}
	r.add(attempted(me, 2, uuid.Nil))
	r.write(me)
	if lost := r.forgotten(me, mine); len(lost.Retries) != 1 {
		t.Error("a row that was given back twice is remembered")
	}
}

func TestWhatADeadIncarnationSaysOfAGroupDoesNotSettleItsHeirs(t *testing.T) {
	r, dead, me := newRecorder(), uuid.New(), uuid.New()
	r.expect(r.open(id(9), dead, 0), 1)
	r.expect(r.open(id(9), me, 0), 1) // taken over from itself

	r.add(attempted(dead, 1, id(9)))
	if _, settled := r.take(me); len(settled) != 0 {
		t.Error("the group is settled, and its delivery was not made")
	}
	r.add(attempted(me, 1, id(9)))
	if _, settled := r.take(me); len(settled) != 1 {
		t.Error("the group is not settled")
	}
}

func TestTheEndOfADeadIncarnationsGroupDoesNotForgetItsHeirs(t *testing.T) {
	dead, me := uuid.New(), uuid.New()
	for what, end := range map[string]func(r *recorder, old *group){
		"a lot that was written late":     func(r *recorder, old *group) { r.written(&store.Lot{}, []*group{old}) },
		"a commit that was long in doubt": func(r *recorder, old *group) { r.forget(old) },
		"a lot that could not settle it":  func(r *recorder, old *group) { r.written(&store.Lot{Session: 2}, []*group{old}) },
	} {
		r := newRecorder()
		old := r.open(id(9), dead, 0)
		r.forgetAll()
		heir := r.open(id(9), me, 0)
		end(r, old)
		if lost := r.forgotten(me, store.Mine{Groups: []uuid.UUID{id(9)}}); len(lost.Groups) != 0 {
			t.Errorf("%s: a group that is in hand is taken for forgotten", what)
		}
		if r.forget(heir); len(r.groups) != 0 {
			t.Errorf("%s: the heir stays", what)
		}
	}
}
