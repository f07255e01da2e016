package dispatcher

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// signing gives the rig's account a signing secret, and replaces the one before it after an hour.
func (r *rig) signing() signature.Secret {
	r.Helper()
	secret, id := signature.GenerateSecret(), uuid.Must(uuid.NewV7())
	place := seal.Place{Account: r.account, Object: id, Column: "signing_secrets.sealed"}
	sealed := store.SealedSecret{ID: id, Sealed: r.keyring.Seal(place, secret.Stored())}
	r.ok(r.store.RotateSigningSecret(r.Context(), r.account, sealed, time.Hour, nil))
	return secret
}

// to is a publication of the rig's account for these one-off destinations.
func (r *rig) to(urls ...string) Publication {
	p := Publication{AccountID: r.account, Type: "call.ended", Data: []byte(`{"n":1}`)}
	for _, u := range urls {
		p.Destinations = append(p.Destinations, fanfare.Destination{URL: u})
	}
	return p
}

func TestAOneOffDestinationIsSentToWithTheAccountsSecrets(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(204))
	old, current := r.signing(), r.signing()
	d := r.node(Options{})

	receipt := r.accepted(d, []Publication{r.to(rc.URL + "/job")})[0]

	got := r.next(rc)
	for _, secret := range []signature.Secret{old, current} {
		if err := signature.Verify(got.header, got.body, time.Now(), secret); err != nil {
			t.Errorf("with one of two secrets: %v", err)
		}
	}
	if _, named := got.header["X-Fanfare-Webhook-Id"]; named || got.header.Get("X-Fanfare-Account-Id") != r.account.String() {
		t.Errorf("headers: %v", got.header)
	}
	if receipt.Matched != 0 {
		t.Errorf("matched %d webhooks", receipt.Matched)
	}
	r.settled()
	list, _, err := r.store.EventAttempts(t.Context(), r.account, receipt.ID, store.AttemptCursor{}, 10)
	r.ok(err)
	if len(list) != 1 || list[0].Destination != 1 || list[0].State != fanfare.Delivered || list[0].URL != rc.URL+"/job" || list[0].AccountID != r.account {
		t.Errorf("attempts: %+v", list)
	}
}

func TestDestinationsOfOneEventAtOneHostAreDeliveriesOfTheirOwn(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(200))
	hook := r.webhook(rc.URL + "/hook")
	d := r.node(Options{})

	receipt := r.accepted(d, []Publication{r.to(rc.URL+"/a", rc.URL+"/b", rc.URL+"/a")})[0]

	for range 4 {
		r.next(rc)
	}
	r.settled()
	list, _, err := r.store.EventAttempts(t.Context(), r.account, receipt.ID, store.AttemptCursor{}, 10)
	r.ok(err)
	urls := map[int]string{}
	for _, a := range list {
		urls[a.Destination] = strings.TrimPrefix(a.URL, rc.URL)
		if a.Destination == 0 && a.WebhookID != hook.ID {
			t.Errorf("an attempt at %s is for the webhook %s", a.URL, a.WebhookID)
		}
	}
	if len(list) != 4 || urls[0] != "/hook" || urls[1] != "/a" || urls[2] != "/b" || urls[3] != "/a" || receipt.Matched != 1 {
		t.Errorf("attempts at %v, %d matched", urls, receipt.Matched)
	}
}

func TestADestinationIsSentToAsItsOptionsSay(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(200))
	d := r.node(Options{})
	p := r.to(rc.URL)
	p.Destinations[0].Options = &fanfare.Options{
		Method: http.MethodPut, Raw: true, Headers: []fanfare.Header{{Name: "Authorization", Value: "Bearer x{event_type}"}},
	}

	r.accepted(d, []Publication{p})

	if got := r.next(rc); string(got.body) != `{"n":1}` || got.header.Get("Authorization") != "Bearer xcall.ended" {
		t.Errorf("got %s with %v", got.body, got.header)
	}
}

func TestAFailureOfADestinationIsRepeatedAlsoByAnotherNode(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(500)
		}
	})
	first := r.node(Options{})
	receipt := r.accepted(first, []Publication{r.to(rc.URL)})[0]
	body := r.next(rc).body
	r.settled()
	r.ok(first.stop())
	_, err := r.sql.Exec(t.Context(), `UPDATE retries SET due_at = now()`)
	r.ok(err)

	r.node(Options{})

	again := r.next(rc)
	if again.header.Get("X-Fanfare-Attempt") != "2" || string(again.body) != string(body) {
		t.Errorf("attempt %s: %s", again.header.Get("X-Fanfare-Attempt"), again.body)
	}
	r.until("both attempts are on record", func() bool { return len(r.attempts(receipt.ID)) == 2 })
	list, _, err := r.store.EventAttempts(t.Context(), r.account, receipt.ID, store.AttemptCursor{}, 10)
	r.ok(err)
	if len(list) != 2 || list[0].Destination != 1 || list[0].State != fanfare.Delivered {
		t.Errorf("attempts: %+v", list)
	}
}

func TestDestinationsOfAGroupThatIsForgottenAreTakenUpAgain(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(200))
	d := r.node(Options{})
	d.queue.mu.Lock()
	d.queue.slots = 0
	d.queue.mu.Unlock()
	receipt := r.accepted(d, []Publication{r.to(rc.URL+"/a", rc.URL+"/b")})[0]
	d.recorder.forgetAll() // as if the commit had seemed to fail
	d.queue.clear()
	d.queue.mu.Lock()
	d.queue.slots = 10
	d.queue.mu.Unlock()

	r.ok(d.recoverForgotten(t.Context()))

	for range 2 {
		r.next(rc)
	}
	r.settled()
	if list := r.attempts(receipt.ID); len(list) != 2 || list[0].State != fanfare.Delivered || list[0].WebhookID == list[1].WebhookID {
		t.Errorf("attempts: %+v", list)
	}
}

func TestAHostThatHangsParksAndLosesNothing(t *testing.T) {
	r := newRig(t)
	r.signing()
	release := make(chan struct{})
	rc := r.receiver(func(int, http.ResponseWriter) { <-release })
	d := r.node(Options{HookDepth: 5})
	const n = 40
	for range n {
		r.accepted(d, []Publication{r.to(rc.URL+"/a", rc.URL+"/b")})
	}
	r.until("deliveries are parked", func() bool {
		due, err := r.store.DueWebhooks(t.Context())
		return err == nil && len(due) == 2
	})
	d.queue.mu.Lock()
	hosts := len(d.queue.hooks)
	d.queue.mu.Unlock()
	if hosts != 1 {
		t.Errorf("one host has %d queues", hosts)
	}
	close(release)
	for range 2 * n {
		r.next(rc)
	}
	r.settled()
	if len(rc.got) != 0 {
		t.Errorf("%d requests too many", len(rc.got))
	}
}

func TestADestinationThatIsGoneEnds(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(410))
	d := r.node(Options{})

	receipt := r.accepted(d, []Publication{r.to(rc.URL)})[0]

	r.settled()
	if list := r.attempts(receipt.ID); len(list) != 1 || list[0].State != fanfare.Discarded || list[0].Reason != fanfare.ReasonGone {
		t.Errorf("attempts: %+v", list)
	}
}

func TestDestinationsOfADeletedAccountAreSentNothing(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(200))
	d := r.node(Options{})
	d.queue.slots = 0
	receipt := r.accepted(d, []Publication{r.to(rc.URL)})[0]
	r.ok(r.store.DeleteAccount(t.Context(), r.account, true))
	r.ok(d.reg.CatchUp(t.Context()))
	d.queue.mu.Lock()
	d.queue.slots = 10
	d.queue.mu.Unlock()

	d.startSenders(d.queue.wake())

	r.settled()
	if list := r.attempts(receipt.ID); len(list) != 1 || list[0].State != fanfare.Discarded || list[0].Reason != fanfare.ReasonAccountDeleted {
		t.Errorf("attempts: %+v", list)
	}
	if len(rc.got) != 0 {
		t.Error("a request was made")
	}
}

func TestDestinationsWaitWhileNothingSignsThem(t *testing.T) {
	r := newRig(t)
	rc := r.receiver(answering(200))
	d := r.node(Options{})

	receipt := r.accepted(d, []Publication{r.to(rc.URL)})[0]

	r.settled()
	list, _, err := r.store.Errors(t.Context(), r.account, store.ErrorQuery{Page: store.Page{Limit: 10}})
	r.ok(err)
	if len(list) != 1 || list[0].EventID != receipt.ID || list[0].Error != fanfare.ErrOwn || list[0].State != fanfare.Pending || len(rc.got) != 0 {
		t.Errorf("attempts: %+v", list)
	}
}

func TestASecretThatWasMadeJustNowIsAskedForBeforeADestinationIsSentWithout(t *testing.T) {
	r := newRig(t)
	reg := registry.New(r.store, r.keyring, registry.Options{})
	r.ok(reg.Load(t.Context()))
	d := New(r.store, reg, nil, Options{}) // its registry does not run
	r.signing()

	w, _ := d.lookup(&delivery{event: &event{}, account: r.account, destination: 1, queuedAt: time.Now()})

	if len(w.Secrets(time.Now())) != 1 {
		t.Error("nothing signs")
	}
}

// A dump of the database is no way to redirect what others publish.
func TestDestinationsOfAnotherEventDoNotOpen(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(200))
	d := r.node(Options{QueueBytes: 1}) // so that all is read from the log
	d.queue.slots = 0
	one := r.accepted(d, []Publication{r.to(rc.URL + "/one")})[0]
	two := r.accepted(d, []Publication{r.to(rc.URL + "/two")})[0]
	_, err := r.sql.Exec(t.Context(), `UPDATE events SET destinations = (SELECT destinations FROM events WHERE id = $1) WHERE id = $2`, one.ID, two.ID)
	r.ok(err)
	d.queue.mu.Lock()
	d.queue.slots = 10
	d.queue.mu.Unlock()

	d.startSenders(d.queue.wake())

	r.settled()
	if got := r.next(rc).header.Get("webhook-id"); got != one.ID.String() || len(rc.got) != 0 {
		t.Errorf("%s arrived, and %d more", got, len(rc.got))
	}
	if list := r.attempts(two.ID); len(list) != 1 || list[0].State != fanfare.Pending {
		t.Errorf("attempts of the other: %+v", list)
	}
}

func TestTheLogHoldsNothingOfADestinationInTheClear(t *testing.T) {
	r := newRig(t)
	r.signing()
	d := r.node(Options{})
	d.queue.slots = 0
	p := r.to("https://canary.example.com/canary")
	p.Destinations[0].Options = &fanfare.Options{Headers: []fanfare.Header{{Name: "X-Token", Value: "canary"}}}

	r.accepted(d, []Publication{p})

	var found int
	r.ok(r.sql.QueryRow(t.Context(), `SELECT count(*) FROM events e WHERE position('canary'::bytea IN destinations) > 0 OR e::text LIKE '%canary%'`).Scan(&found))
	if found != 0 {
		t.Error("the canary is in the log")
	}
}

func TestAnIdOfADestinationNamesItsQueue(t *testing.T) {
	account, other := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	first := destinationID(account, "example.com:443", 0)
	var all []uuid.UUID
	var set sharer
	for number := range MaxDestinations {
		id := destinationID(account, "example.com:443", number)
		if queueOf(id) != first || !isOneOff(id) || slices.Contains(all, id) || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
			t.Errorf("number %d is %s", number, id)
		}
		all, set = append(all, id), set|sharerOf(id)
	}
	if got := set.ids(first); !slices.Equal(got, all) {
		t.Errorf("the set of all is %v", got)
	}
	for _, id := range []uuid.UUID{destinationID(other, "example.com:443", 0), destinationID(account, "example.com:80", 0)} {
		if queueOf(id) == first {
			t.Error("another account's or port's is in the same queue")
		}
	}
	for _, hook := range []uuid.UUID{account, uuid.New(), {}} {
		if isOneOff(hook) || queueOf(hook) != hook || !slices.Equal(sharerOf(hook).ids(hook), []uuid.UUID{hook}) {
			t.Errorf("%s is taken for a destination's", hook)
		}
	}
}

// oneOffs makes n deliveries to one-off destinations.
func oneOffs(account byte, host string, number, n int) []*delivery {
	ds := make([]*delivery, n)
	for i := range ds {
		ds[i] = &delivery{
			account: id(account), webhook: destinationID(id(account), host, number), event: &event{data: make([]byte, 10)}, destination: number + 1,
		}
	}
	return ds
}

func TestAHostThatIsDownIsProbedOnceWhateverIsOwedToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue(100, 1000, 1000, 1<<20)
		for number := range downAfter {
			q.push(oneOffs(1, "host", number, 1))
			_, ds := taken(q, 1)
			q.done(ds[0], lesson{kind: overloaded, url: oneOffURL})
		}
		ask := func() (rooms int) {
			promised := make(promises)
			for number := range MaxDestinations {
				n, _ := q.room(destinationID(id(1), "host", number), nil, 1000, promised)
				rooms += n
			}
			return rooms
		}
		if n := ask(); n != 0 || q.down != 1 {
			t.Errorf("%d are claimed for a host that is down, %d are down", n, q.down)
		}
		if _, over := q.push(oneOffs(1, "host", 7, 3)); len(over) != 3 {
			t.Errorf("%d of 3 are kept in memory", 3-len(over))
		}
		time.Sleep(probeEvery)
		if n := ask(); n != 1 {
			t.Errorf("%d are claimed as its probe", n)
		}
	})
}

func TestAllThatShareAQueueAreClaimedForWhenItHasRoomAgain(t *testing.T) {
	q := testQueue(100, 1000, 4, 1<<20)
	q.push(oneOffs(1, "host", 0, 4))
	promised := make(promises)
	for _, number := range []int{0, 3} {
		if n, again := q.room(destinationID(id(1), "host", number), nil, 1000, promised); n != 0 || !again.IsZero() {
			t.Fatalf("%d are claimed without room, and asked for again at %v", n, again)
		}
	}

	taken(q, 4)
	for _, d := range oneOffs(1, "host", 0, 4) {
		q.done(d, lesson{kind: succeeded, url: oneOffURL})
	}

	due, _ := q.due.pop(time.Now(), 10)
	if !slices.Contains(due, destinationID(id(1), "host", 0)) || !slices.Contains(due, destinationID(id(1), "host", 3)) || len(due) != 2 {
		t.Errorf("claimed for: %v", due)
	}
}

// Another node may have had what one was promised room for.
func TestWhoWasPutOffForWhatWasNotToBeHadIsClaimedForAtOnce(t *testing.T) {
	q := testQueue(100, 1000, 100, 1<<20)
	promised := make(promises)
	first, second := destinationID(id(1), "host", 0), destinationID(id(1), "host", 1)
	if n, _ := q.room(first, nil, 1000, promised); n == 0 {
		t.Fatal("there is no room for the first")
	}
	if n, again := q.room(second, nil, 1000, promised); n != 0 || !again.IsZero() {
		t.Fatalf("the second is promised %d, and asked for again at %v", n, again)
	}
	q.claimed(first)
	if due, _ := q.due.pop(time.Now(), 10); !slices.Equal(due, []uuid.UUID{second}) {
		t.Errorf("claimed for: %v", due)
	}
}

func TestAHostThatFailedIsForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue(100, 1000, 1000, 1<<20)
		for range downAfter {
			for _, host := range []string{"down", "failing"} {
				if host == "failing" && q.down == 0 {
					continue
				}
				q.push(oneOffs(1, host, 0, 1))
				_, ds := taken(q, 1)
				q.done(ds[0], lesson{kind: overloaded, url: oneOffURL})
			}
		}
		if len(q.hooks) != 2 || q.down != 1 {
			t.Fatalf("%d hosts are remembered, %d down", len(q.hooks), q.down)
		}
		for range 3 {
			time.Sleep(probeEvery)
			hooks, _ := q.paced.pop(time.Now(), 10)
			q.resume(hooks)
		}
		if len(q.hooks)+len(q.accounts)+q.down != 0 {
			t.Errorf("%d hosts are remembered, %d accounts, %d down", len(q.hooks), len(q.accounts), q.down)
		}
	})
}

// A claim asks for room before anything tells whose the deliveries are.
func TestAQueueIsItsAccountsOnceThatIsKnown(t *testing.T) {
	q := testQueue(100, 1000, 1000, 1<<20)
	ds := oneOffs(1, "host", 0, 2)
	if n, _ := q.room(ds[0].webhook, nil, 1000, make(promises)); n == 0 {
		t.Error("nothing is claimed")
	}

	q.push(ds)

	h := q.hooks[queueOf(ds[0].webhook)]
	if a := q.accounts[id(1)]; len(q.accounts) != 1 || h.account != a || a.hooks != 1 || a.waiting != 2 {
		t.Errorf("%d accounts, the queue's is %+v", len(q.accounts), h.account)
	}
}

func TestAURLThatRefusesSaysNothingOfItsHostsOthers(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(nil)
	rc.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/missing") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		rc.got <- received{}
	})
	d := r.node(Options{})
	for range 2 * downAfter {
		r.accepted(d, []Publication{r.to(rc.URL + "/missing")})
	}
	r.settled()

	r.accepted(d, []Publication{r.to(rc.URL + "/here")})

	r.next(rc)
	if _, _, down, _ := d.queue.sizes(); down != 0 {
		t.Errorf("%d endpoints are down", down)
	}
}

func TestAKeyMakesOneEventWithOneSetOfDestinations(t *testing.T) {
	r := newRig(t)
	r.signing()
	rc := r.receiver(answering(200))
	d := r.node(Options{})
	p := r.to(rc.URL + "/a")
	p.IdempotencyKey, p.RequestHash = "k", [32]byte{1}

	first := r.accepted(d, []Publication{p})[0]
	again := r.accepted(d, []Publication{r.to(rc.URL + "/b"), p})[1]

	if again.ID != first.ID || !again.Replayed {
		t.Errorf("%+v and %+v", first, again)
	}
	r.settled()
	if len(rc.got) != 2 {
		t.Errorf("%d requests", len(rc.got))
	}
}
