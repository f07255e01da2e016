package dispatcher

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/registry"
	"github.com/fanfare-webhooks/fanfare/retry"
	"github.com/fanfare-webhooks/fanfare/signature"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// rig is a database with an account and a catalog, for nodes to run on.
type rig struct {
	*testing.T
	url     string
	store   *store.Store
	sql     *pgxpool.Pool // looks where no caller may
	keyring *seal.Keyring
	account uuid.UUID
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, url: pgtest.URL(t), account: uuid.Must(uuid.NewV7())}
	r.store = r.open()
	var err error
	r.sql, err = pgxpool.New(t.Context(), r.url)
	r.ok(err)
	t.Cleanup(r.sql.Close)
	text, err := seal.Generate("test")
	r.ok(err)
	r.keyring, err = seal.Parse(text)
	r.ok(err)
	r.ok(r.store.CreateAccount(t.Context(), &fanfare.Account{ID: r.account, Name: "acme", Metadata: []byte("{}")}, nil))
	_, err = r.store.PutEventType(t.Context(), &fanfare.EventType{Name: "call.ended", Samples: []byte("[]")})
	r.ok(err)
	return r
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) open() *store.Store {
	r.Helper()
	s, err := store.Open(r.Context(), store.Options{URL: r.url})
	r.ok(err)
	r.Cleanup(s.Close)
	return s
}

var quick = []time.Duration{time.Second, time.Second, time.Second}

// webhook subscribes url to every event of the rig's account.
func (r *rig) webhook(url string, schedule ...time.Duration) *fanfare.Webhook {
	r.Helper()
	if schedule == nil {
		schedule = retry.Default
	}
	w := &fanfare.Webhook{
		ID: uuid.Must(uuid.NewV7()), AccountID: r.account, URL: url, EventTypes: []string{"*"}, Timeout: 10 * time.Second,
		RetrySchedule: schedule, MaxInFlight: 32, Metadata: []byte("{}"),
	}
	place := seal.Place{Account: w.AccountID, Object: w.ID, Column: "webhook_secrets.sealed"}
	secret := store.SealedSecret{ID: uuid.Must(uuid.NewV7()), Sealed: r.keyring.Seal(place, signature.GenerateSecret().Stored())}
	r.ok(r.store.CreateWebhook(r.Context(), w, secret, 100, nil))
	return w
}

// testNode is a dispatcher that runs.
type testNode struct {
	*Dispatcher
	reg  *registry.Registry
	kill func()       // ends it without handing anything over, as far as a process can do that to itself
	stop func() error // ends it as a deploy does
}

func (r *rig) node(o Options) *testNode {
	r.Helper()
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(r.Output(), nil))
	}
	s := r.open()
	out, err := egress.New(egress.Options{AllowLoopback: true, UserAgent: "Fanfare/test"})
	r.ok(err)
	reg := registry.New(s, r.keyring, registry.Options{})
	r.ok(reg.Load(r.Context()))
	o.Keyring = r.keyring
	d := New(s, reg, out, o)
	r.ok(d.Start(r.Context()))

	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	var ran error
	parts.Go(func() { _ = reg.Run(ctx) })
	parts.Go(func() { ran = d.Run(ctx) })
	stop := sync.OnceValue(func() error {
		cancel()
		parts.Wait()
		out.Close()
		return ran
	})
	r.Cleanup(func() { _ = stop() })
	kill := func() {
		// Without its store a node can neither record nor hand over.
		d.stopSends()
		s.Close()
		d.flushFor = 0
		_ = stop()
	}
	return &testNode{Dispatcher: d, reg: reg, kill: kill, stop: stop}
}

func (r *rig) publish(d *testNode, data string) uuid.UUID {
	r.Helper()
	return r.accepted(d, []Publication{{AccountID: r.account, Type: "call.ended", Data: []byte(data)}})[0].ID
}

// accepted publishes as a patient client does: while the machine is busy with other tests a node may
// refuse.
func (r *rig) accepted(d *testNode, pubs []Publication) (receipts []Receipt) {
	r.Helper()
	r.until("a publish is accepted", func() bool {
		var err error
		if receipts, err = d.Publish(r.Context(), pubs); !errors.Is(err, ErrAccountOverloaded) {
			r.ok(err)
		}
		return err == nil
	})
	return receipts
}

// receiver answers as answer says and remembers what it got.
type receiver struct {
	*httptest.Server
	got chan received
}

type received struct {
	header http.Header
	body   []byte
}

func (r *rig) receiver(answer func(n int, w http.ResponseWriter)) *receiver {
	rc := &receiver{got: make(chan received, 10_000)}
	var mu sync.Mutex
	n := 0
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		n++
		k := n
		mu.Unlock()
		rc.got <- received{req.Header, body}
		answer(k, w)
	}))
	r.Cleanup(rc.Close)
	return rc
}

func answering(status int) func(int, http.ResponseWriter) {
	return func(_ int, w http.ResponseWriter) { w.WriteHeader(status) }
}

func (r *rig) next(rc *receiver) received {
	r.Helper()
	select {
	case got := <-rc.got:
		return got
	case <-time.After(30 * time.Second):
		r.Fatal("nothing arrived")
		return received{}
	}
}

// until polls for a condition.
func (r *rig) until(what string, done func() bool) {
	r.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(deadline) {
			r.Fatalf("never: %s", what)
		}
		pause(r.Context(), 10*time.Millisecond)
	}
}

// settled waits until no group is open.
func (r *rig) settled() {
	r.Helper()
	r.until("every group is settled", func() bool {
		b, err := r.store.Backlog(r.Context())
		return err == nil && b.OpenGroups == 0
	})
}
