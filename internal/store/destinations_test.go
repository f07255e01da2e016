package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/store"
)

// oneOff is a group of three events to a webhook, the middle one with two one-off destinations.
func (f *logFixture) oneOff(t *testing.T) (g *store.Group, events, ids []uuid.UUID) {
	t.Helper()
	g = f.group(3, f.webhooks(t, 1)...)
	ids = []uuid.UUID{uuid.New(), uuid.New()}
	g.Events[1].Destinations, g.Events[1].DestinationIDs = []byte("sealed"), ids
	c := f.ingest(t, g)
	for i := range g.Events {
		events = append(events, c.ID(g, i))
	}
	return g, events, ids
}

func TestOneOffDestinationsAreCommittedWithTheirEventOnly(t *testing.T) {
	f := openLog(t)
	g, events, ids := f.oneOff(t)

	for i, id := range events {
		var hooks, others []uuid.UUID
		var sealed []byte
		err := f.QueryRow(t.Context(), `SELECT webhook_ids, destination_ids, destinations FROM events WHERE id = $1`, id).Scan(&hooks, &others, &sealed)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(hooks, g.Events[i].WebhookIDs) {
			t.Errorf("event %d goes to the webhooks %v", i, hooks)
		}
		if i == 1 && (!slices.Equal(others, ids) || string(sealed) != "sealed") || i != 1 && (others != nil || sealed != nil) {
			t.Errorf("event %d has the destinations %v, %q", i, others, sealed)
		}
	}
	read := must(f.EventsByID(t.Context(), events, 1<<20))(t)
	if string(read[events[1]].Destinations) != "sealed" || read[events[0]].Destinations != nil {
		t.Errorf("read back as %q and %q", read[events[1]].Destinations, read[events[0]].Destinations)
	}
	small := must(f.EventsByID(t.Context(), events[1:2], int64(len(g.Events[1].Data))))(t)
	if e := small[events[1]]; e.Data != nil || e.Destinations != nil {
		t.Error("destinations cost no memory")
	}
}

func TestAnEventThatOnlyGoesToOneOffDestinationsIsOwed(t *testing.T) {
	f := openLog(t)
	g := f.group(1)
	g.Events[0].Destinations, g.Events[0].DestinationIDs = []byte("sealed"), []uuid.UUID{uuid.New()}

	c := f.ingest(t, g)

	f.wantRows(t, "open_groups", 1)
	owed := must(f.Owed(t.Context(), store.OpenGroup{ID: g.ID, First: c.ID(g, 0), Last: c.ID(g, 0)}))(t)
	if len(owed) != 1 || owed[0].Destination != 1 || owed[0].AccountID != f.account || string(owed[0].Event.Destinations) != "sealed" {
		t.Errorf("owed: %+v", owed)
	}
}

func TestWhatIsOwedToOneOffDestinationsKeepsItsPlace(t *testing.T) {
	f := openLog(t)
	g, events, ids := f.oneOff(t)
	failed, due := f.attempt(events[1], ids[1], 1, fanfare.Pending), ago(time.Minute)
	failed.Destination = 2
	waits := f.owed(events[1], ids[1], 1, due)
	waits.Destination = 2
	done := f.attempt(events[1], g.Events[1].WebhookIDs[0], 1, fanfare.Delivered)

	f.record(t, &store.Lot{Owner: f.node, Outcomes: []store.Outcome{
		{Attempt: done, Group: g.ID, Owner: f.node},
		{Attempt: failed, Retry: waits, Group: g.ID, Owner: f.node},
	}})

	owed := must(f.Owed(t.Context(), store.OpenGroup{ID: g.ID, First: events[0], Last: events[2]}))(t)
	var places []int
	for _, o := range owed {
		places = append(places, o.Destination)
	}
	if !slices.Equal(places, []int{0, 1, 0}) {
		t.Errorf("the group still owes %v", places)
	}
	claimed, _, err := f.Claim(t.Context(), f.node, []store.Want{{WebhookID: ids[1], Room: 1}})
	if err != nil || len(claimed) != 1 || claimed[0].Destination != 2 {
		t.Errorf("claimed %+v, %v", claimed, err)
	}
	list, _, err := f.EventAttempts(t.Context(), f.account, events[1], store.AttemptCursor{}, 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d attempts are listed, %v", len(list), err)
	}
	for _, a := range list {
		if a.WebhookID == ids[1] && a.Destination != 2 || a.WebhookID != ids[1] && a.Destination != 0 {
			t.Errorf("an attempt is for destination %d", a.Destination)
		}
	}
	errs, _, err := f.Errors(t.Context(), f.account, store.ErrorQuery{Page: store.Page{Limit: 10}})
	if err != nil || len(errs) != 1 || errs[0].Destination != 2 {
		t.Errorf("errors: %+v, %v", errs, err)
	}
}

func TestOnlyTheEventsOwnAccountSeesItsOneOffDestinations(t *testing.T) {
	f := openLog(t)
	parent := &fanfare.Account{ID: uuid.Must(uuid.NewV7()), Name: "parent"}
	if err := f.CreateAccount(t.Context(), parent, nil); err != nil {
		t.Fatal(err)
	}
	_, events, _ := f.oneOff(t)
	f.exec(t, `UPDATE webhooks SET account_id = $1`, parent.ID)

	for account, want := range map[uuid.UUID]int{f.account: 2, parent.ID: 1} {
		q := store.DeliveryQuery{AccountID: account, EventID: uuid.NullUUID{UUID: events[1], Valid: true}, Limit: 10}
		list, _, err := f.Deliveries(t.Context(), q)
		if err != nil || len(list) != want {
			t.Errorf("%d deliveries of the event are listed, want %d (%v)", len(list), want, err)
		}
		all, _, err := f.Deliveries(t.Context(), store.DeliveryQuery{AccountID: account, Limit: 10})
		all = slices.DeleteFunc(all, func(d fanfare.Delivery) bool { return d.Destination == 0 })
		if sees := account == f.account; err != nil || sees != (len(all) == 2) || !sees && len(all) > 0 {
			t.Errorf("the account's list has the destinations %+v, %v", all, err)
		}
	}
}

func TestAnExpungedEventHasNoDestinationsToOpen(t *testing.T) {
	f := openLog(t)
	_, events, ids := f.oneOff(t)

	if err := f.Expunge(t.Context(), f.account, events[1]); err != nil {
		t.Fatal(err)
	}

	var sealed []byte
	var kept []uuid.UUID
	err := f.QueryRow(t.Context(), `SELECT destinations, destination_ids FROM events WHERE id = $1`, events[1]).Scan(&sealed, &kept)
	if err != nil || sealed != nil || !slices.Equal(kept, ids) {
		t.Errorf("it has %q and %v, %v", sealed, kept, err)
	}
}
