package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// bed is a database with a store on it.
type bed struct {
	testing.TB
	url     string
	store   *store.Store
	keyring *seal.Keyring
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{TB: t, url: pgtest.URL(t) + "&fanfare.forgetful=on", keyring: testKeyring(t, "k1")}
	b.store = b.open()
	return b
}

func (b *bed) open() *store.Store {
	b.Helper()
	s, err := store.Open(b.Context(), store.Options{URL: b.url})
	b.must(err)
	b.Cleanup(s.Close)
	return s
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// loaded is a registry that has everything and does not run.
func (b *bed) loaded() *Registry {
	b.Helper()
	r := New(b.store, b.keyring, Options{})
	b.must(r.Load(b.Context()))
	return r
}

// run starts r and waits for its end when the test ends.
func (b *bed) run(r *Registry) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

func (b *bed) sql(sql string, args ...any) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.url)
	b.must(err)
	defer conn.Close(b.Context())
	_, err = conn.Exec(b.Context(), sql, args...)
	b.must(err)
}

func (b *bed) account(parent uuid.UUID) uuid.UUID {
	b.Helper()
	a := fanfare.Account{ID: uuid.Must(uuid.NewV7()), ParentID: uuid.NullUUID{UUID: parent, Valid: parent != uuid.Nil}}
	b.must(b.store.CreateAccount(b.Context(), &a, nil))
	return a.ID
}

func (b *bed) sealed(account, webhook uuid.UUID, s signature.Secret) store.SealedSecret {
	place := seal.Place{Account: account, Object: webhook, Column: "webhook_secrets.sealed"}
	return store.SealedSecret{ID: uuid.Must(uuid.NewV7()), Sealed: b.keyring.Seal(place, s.Stored())}
}

func (b *bed) signing(account uuid.UUID, s signature.Secret) store.SealedSecret {
	id := uuid.Must(uuid.NewV7())
	place := seal.Place{Account: account, Object: id, Column: "signing_secrets.sealed"}
	return store.SealedSecret{ID: id, Sealed: b.keyring.Seal(place, s.Stored())}
}

func (b *bed) webhook(account uuid.UUID, s signature.Secret, patterns ...string) *fanfare.Webhook {
	b.Helper()
	w := &fanfare.Webhook{
		ID: uuid.Must(uuid.NewV7()), AccountID: account, Name: "n", URL: "https://example.com", EventTypes: patterns,
		Timeout: time.Second, RetrySchedule: []time.Duration{time.Minute}, MaxInFlight: 3,
		RateLimit: fanfare.RateLimit{Count: 10, Per: time.Minute}, Metadata: []byte(`{"a":1}`),
	}
	b.must(b.store.CreateWebhook(b.Context(), w, b.sealed(account, w.ID, s), 1000, nil))
	return w
}

func (b *bed) eventually(is func() bool) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("it did not happen")
		}
	}
}

// fresh is what a registry that loads now has.
func (b *bed) fresh() map[string]any {
	b.Helper()
	return dump(b.loaded().Snapshot())
}

// value is what a gauge or counter says.
func value(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		panic(err)
	}
	return d.GetGauge().GetValue() + d.GetCounter().GetValue()
}

func texts(secrets []signature.Secret) (all []string) {
	for _, s := range secrets {
		all = append(all, s.Text())
	}
	return all
}

func TestALoadBringsEverythingThatSendingNeeds(t *testing.T) {
	b := newBed(t)
	root := b.account(uuid.Nil)
	account := b.account(root)
	_, err := b.store.PutEventType(t.Context(), &fanfare.EventType{Name: "a.b"})
	b.must(err)
	secret := signature.GenerateSecret()
	w := b.webhook(account, secret, "a.b", "a.*")
	_, err = b.store.PutEventType(t.Context(), &fanfare.EventType{Name: "a.b", Archived: true}) // takes no new webhooks
	b.must(err)
	key := fanfare.Key{ID: uuid.Must(uuid.NewV7()), AccountID: uuid.NullUUID{UUID: account, Valid: true}, Scopes: fanfare.Scopes()[:2]}
	b.must(b.store.CreateKey(t.Context(), &key, [32]byte{1}, nil))

	s := b.loaded().Snapshot()

	got := s.Match(nil, account, "a.b", nil)
	if len(got) != 1 || !got[0].Enabled() {
		t.Fatalf("matched %v", got)
	}
	want := *w
	want.Name, want.Metadata = "", nil
	if diff := cmp.Diff(want, got[0].Webhook); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{secret.Text()}, texts(got[0].Secrets(time.Now()))); diff != "" {
		t.Error(diff)
	}
	if s.Webhook(w.ID) != got[0] || s.Webhook(root) != nil {
		t.Error("a webhook is not found by its id")
	}
	if diff := cmp.Diff(&key, s.Key([32]byte{1})); diff != "" || s.Key([32]byte{2}) != nil {
		t.Errorf("keys: %s", diff)
	}
	if e := s.EventType("a.b"); e == nil || !e.Archived() {
		t.Error("the event type is not there or not archived")
	}
	if s.EventType("a") != nil {
		t.Error("an event type is there that nobody made")
	}
	if diff := cmp.Diff([]uuid.UUID{account, root, uuid.Nil}, s.Lineage(account)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasAnsweredIsKnownToOthersAfterCatchUp(t *testing.T) {
	b := newBed(t)
	other := New(b.open(), b.keyring, Options{})
	b.must(other.Load(t.Context()))
	account := b.account(uuid.Nil)
	for i := range 20 {
		w := b.webhook(account, signature.GenerateSecret(), "*")
		b.must(other.CatchUp(t.Context()))
		if got := other.Snapshot().Match(nil, account, "a", nil); len(got) != 1 || got[0].ID != w.ID {
			t.Fatalf("round %d: after the creation %d webhooks match", i, len(got))
		}
		_, err := b.store.DisableWebhook(t.Context(), w.ID, w.URL, fanfare.Disabled{By: fanfare.DisabledByUser})
		b.must(err)
		b.must(other.CatchUp(t.Context()))
		if other.Snapshot().Webhook(w.ID).Enabled() {
			t.Fatalf("round %d: it is still enabled", i)
		}
		b.must(b.store.DeleteWebhook(t.Context(), account, w.ID, 0))
		b.must(other.CatchUp(t.Context()))
		if other.Snapshot().Webhook(w.ID) != nil {
			t.Fatalf("round %d: it is still there", i)
		}
	}
}

func TestTheVersionIsTheOneThatCommitsAreComparedWith(t *testing.T) {
	b := newBed(t)
	r := b.loaded()
	account := b.account(uuid.Nil)
	b.webhook(account, signature.GenerateSecret(), "*")
	b.must(r.CatchUp(t.Context()))
	conn, err := pgx.Connect(t.Context(), b.url)
	b.must(err)
	defer conn.Close(t.Context())
	var stamped int64
	b.must(conn.QueryRow(t.Context(), `SELECT max(registry_version) FROM accounts`).Scan(&stamped))
	if v := r.Snapshot().Version(); v != stamped {
		t.Errorf("the snapshot has version %d, the newest account %d", v, stamped)
	}
}

// Every operation of the store, in any order: reading changes leads to what a load reads.
func TestReadingChangesGivesWhatALoadGives(t *testing.T) {
	b := newBed(t)
	r := b.loaded()
	ctx := t.Context()
	for _, name := range []string{"a.b", "a.c"} {
		_, err := b.store.PutEventType(ctx, &fanfare.EventType{Name: name})
		b.must(err)
	}
	var accounts []uuid.UUID
	var hooks []*fanfare.Webhook
	var keys []fanfare.Key
	hash := 0
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			what := rapid.IntRange(0, 12).Draw(rt, "what")
			if len(accounts) == 0 {
				what = 0
			}
			if what > 6 && what < 11 && len(hooks) == 0 {
				what = 6
			}
			var account uuid.UUID
			if len(accounts) > 0 {
				account = rapid.SampledFrom(accounts).Draw(rt, "account")
			}
			var hook *fanfare.Webhook
			if len(hooks) > 0 {
				hook = rapid.SampledFrom(hooks).Draw(rt, "webhook")
			}
			var err error
			switch what {
			case 0:
				below := account != uuid.Nil && rapid.Bool().Draw(rt, "below")
				a := fanfare.Account{ID: uuid.Must(uuid.NewV7()), ParentID: uuid.NullUUID{UUID: account, Valid: below}}
				if err = b.store.CreateAccount(ctx, &a, nil); err == nil {
					accounts = append(accounts, a.ID)
				}
			case 1:
				to := rapid.SampledFrom(accounts).Draw(rt, "to")
				_, err = b.store.UpdateAccount(ctx, account, 0, func(a *fanfare.Account) error {
					a.ParentID = uuid.NullUUID{UUID: to, Valid: true}
					return nil
				})
			case 2:
				err = b.store.DeleteAccount(ctx, account, rapid.Bool().Draw(rt, "cascade"))
			case 3:
				hash++
				k := fanfare.Key{ID: uuid.Must(uuid.NewV7()), Scopes: fanfare.Scopes()}
				if rapid.Bool().Draw(rt, "account's") {
					k.AccountID = uuid.NullUUID{UUID: account, Valid: true}
				}
				if err = b.store.CreateKey(ctx, &k, [32]byte{0: byte(hash), 1: byte(hash >> 8)}, nil); err == nil {
					keys = append(keys, k)
				}
			case 4:
				if len(keys) > 0 {
					k := rapid.SampledFrom(keys).Draw(rt, "key")
					err = b.store.DeleteKey(ctx, k.AccountID, k.ID)
				}
			case 5:
				name := rapid.SampledFrom([]string{"a.b", "a.d", "b"}).Draw(rt, "type")
				if rapid.Bool().Draw(rt, "delete") {
					err = b.store.DeleteEventType(ctx, name)
				} else {
					_, err = b.store.PutEventType(ctx, &fanfare.EventType{Name: name, Archived: rapid.Bool().Draw(rt, "archived")})
				}
			case 6:
				w := &fanfare.Webhook{
					ID: uuid.Must(uuid.NewV7()), AccountID: account, URL: "https://x", IncludeSubaccounts: rapid.Bool().Draw(rt, "all"),
					EventTypes: rapid.SampledFrom([][]string{{"*"}, {"a.*", "a.c"}, {"a.c"}}).Draw(rt, "patterns"),
				}
				if err = b.store.CreateWebhook(ctx, w, b.sealed(account, w.ID, signature.GenerateSecret()), 9, nil); err == nil {
					hooks = append(hooks, w)
				}
			case 7:
				_, err = b.store.UpdateWebhook(ctx, hook.AccountID, hook.ID, 0, nil, func(w *fanfare.Webhook) error {
					w.EventTypes, w.Disabled = rapid.SampledFrom([][]string{{"*"}, {"b.*"}}).Draw(rt, "patterns"), nil
					return nil
				})
			case 8:
				err = b.store.RotateWebhookSecret(ctx, hook.AccountID, hook.ID, b.sealed(hook.AccountID, hook.ID, signature.GenerateSecret()), time.Hour, nil)
			case 9:
				_, err = b.store.DisableWebhook(ctx, hook.ID, hook.URL, fanfare.Disabled{By: fanfare.DisabledByGone})
			case 10:
				err = b.store.DeleteWebhook(ctx, hook.AccountID, hook.ID, 0)
			case 11:
				err = b.store.EnsureSigningSecret(ctx, account, b.signing(account, signature.GenerateSecret()))
			case 12:
				err = b.store.RotateSigningSecret(ctx, account, b.signing(account, signature.GenerateSecret()), time.Hour, nil)
			}
			for _, fine := range []error{
				store.ErrNotFound, store.ErrCycle, store.ErrHasChildren, store.ErrInUse, store.ErrNoEventType, store.ErrTooMany,
			} {
				if errors.Is(err, fine) {
					err = nil
				}
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		if err := r.CatchUp(ctx); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(b.fresh(), dump(r.Snapshot())); diff != "" {
			rt.Fatal(diff)
		}
	})
	if loads := value(r.metrics.updates.WithLabelValues(updateLoad)); loads != 1 {
		t.Errorf("everything was loaded %v times", loads)
	}
}

func TestANodeThatWasAwayTooLongLoadsEverything(t *testing.T) {
	for name, lose := range map[string]func(*bed){
		"changes were purged": func(b *bed) {
			if n, err := b.store.PurgeRegistryChanges(b.Context(), 0); err != nil || n == 0 {
				b.Fatalf("%d changes were purged, %v", n, err)
			}
		},
		"a change is missing": func(b *bed) {
			b.sql(`DELETE FROM registry_changes WHERE version = (SELECT max(version) - 1 FROM registry_changes)`)
		},
		"a failover gave the version to another change": func(b *bed) {
			b.sql(`DELETE FROM registry_changes WHERE version = (SELECT version FROM registry_head)`)
			b.sql(`UPDATE registry_head SET version = version - 1`)
			b.account(uuid.Nil)
		},
		"a failover went back": func(b *bed) {
			b.sql(`DELETE FROM registry_changes WHERE version > 1`)
			b.sql(`UPDATE registry_head SET version = 1`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			account := b.account(uuid.Nil)
			r := b.loaded()
			w := b.webhook(account, signature.GenerateSecret(), "*")
			if strings.Contains(name, "failover") { // what is lost was known here
				b.must(r.CatchUp(t.Context()))
				b.sql(`UPDATE webhooks SET deleted_at = now()`)
			} else {
				b.must(b.store.DeleteWebhook(t.Context(), account, w.ID, 0))
			}
			lose(b)

			b.must(r.CatchUp(t.Context()))

			if diff := cmp.Diff(b.fresh(), dump(r.Snapshot())); diff != "" {
				t.Error(diff)
			}
			if loads := value(r.metrics.updates.WithLabelValues(updateLoad)); loads != 2 {
				t.Errorf("everything was loaded %v times", loads)
			}
		})
	}
}

func TestARunningRegistryHearsOfChanges(t *testing.T) {
	b := newBed(t)
	r := New(b.store, b.keyring, Options{Poll: time.Hour, Tick: time.Millisecond}) // so only a hint can wake it
	b.run(r)
	b.eventually(func() bool { return value(r.metrics.listening) == 1 })
	for range 3 {
		account := b.account(uuid.Nil)
		b.eventually(func() bool { return r.Snapshot().Account(account) })
	}
}

func TestChangesArriveWithoutNotifications(t *testing.T) {
	b := newBed(t)
	r := New(b.store, b.keyring, Options{Poll: 20 * time.Millisecond, Tick: time.Millisecond})
	b.run(r)
	b.eventually(func() bool { return value(r.metrics.listening) == 1 })
	for range 5 {
		b.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()`)
		account := b.account(uuid.Nil)
		b.eventually(func() bool { return r.Snapshot().Account(account) })
	}
	b.eventually(func() bool { return value(r.metrics.listening) == 1 }) // it came back
}

func TestCatchUpDoesNotWaitForTheRunningLoop(t *testing.T) {
	b := newBed(t)
	r := New(b.store, b.keyring, Options{Poll: time.Hour, Tick: time.Hour})
	b.run(r)
	b.eventually(func() bool { return !r.PolledAt().IsZero() })
	account := b.account(uuid.Nil)
	asked := time.Now()

	b.must(r.CatchUp(t.Context()))

	if !r.Snapshot().Account(account) {
		t.Error("the account is not there")
	}
	if r.PolledAt().Before(asked) {
		t.Error("the snapshot rests on a poll from before the call")
	}
}

func TestManyCatchUpsAtOnceAllSeeWhatWasThereBeforeThem(t *testing.T) {
	b := newBed(t)
	r := b.loaded()
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for range 8 {
		wg.Go(func() {
			for range 5 {
				ctx := context.WithoutCancel(t.Context())
				a := fanfare.Account{ID: uuid.Must(uuid.NewV7())}
				err := b.store.CreateAccount(ctx, &a, nil)
				if err == nil {
					err = r.CatchUp(ctx)
				}
				if err == nil && !r.Snapshot().Account(a.ID) {
					err = fmt.Errorf("account %s was answered and is not known", a.ID)
				}
				if err != nil {
					errs <- err
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestItSurvivesThatPostgresIsAwayAndSaysSoOnce(t *testing.T) {
	server := pgtest.Server(t, false)
	b := &bed{TB: t, url: server.URL(pgtest.Database), keyring: testKeyring(t, "k1")}
	b.store = b.open()
	var log lines
	r := New(b.store, b.keyring, Options{Poll: 5 * time.Millisecond, Tick: time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.must(r.Load(t.Context()))
	before := b.account(uuid.Nil)
	b.run(r)
	b.eventually(func() bool { return r.Snapshot().Account(before) })

	b.must(server.Crash(t.Context()))
	b.eventually(func() bool { return log.count("cannot be read") > 0 })
	if !r.Snapshot().Account(before) {
		t.Error("what was known was forgotten")
	}
	asked := time.Now()
	if err := r.CatchUp(t.Context()); err == nil || r.PolledAt().After(asked) {
		t.Errorf("without Postgres, CatchUp answered %v", err)
	}
	b.must(server.Restart(t.Context()))
	b.eventually(func() bool { return log.count("answers again") > 0 })

	b.eventually(func() bool {
		a := fanfare.Account{ID: uuid.Must(uuid.NewV7())}
		if err := b.store.CreateAccount(t.Context(), &a, nil); err != nil {
			return false // a pooled connection from before the crash
		}
		b.must(r.CatchUp(t.Context()))
		return r.Snapshot().Account(a.ID)
	})
	if away, back := log.count("cannot be read"), log.count("answers again"); away != 1 || back != 1 {
		t.Errorf("the log says %d times that Postgres went away and %d times that it is back", away, back)
	}
}

// lines is a log to look into while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func TestAWebhookWhoseSecretDoesNotOpenIsKeptAndReported(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	closed := b.webhook(account, signature.GenerateSecret(), "*")
	b.keyring = testKeyring(t, "gone")
	open := b.webhook(account, signature.GenerateSecret(), "*")
	var log lines
	reg := prometheus.NewRegistry()
	r := New(b.store, b.keyring, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Registerer: reg})
	b.must(r.Load(t.Context()))
	b.must(r.Load(t.Context()))

	s := r.Snapshot()
	if n := len(s.Match(nil, account, "a", nil)); n != 2 {
		t.Errorf("%d webhooks match", n)
	}
	if secrets := s.Webhook(closed.ID).Secrets(time.Now()); len(secrets) != 0 {
		t.Errorf("a secret opened without its key: %v", secrets)
	}
	if len(s.Webhook(open.ID).Secrets(time.Now())) != 1 {
		t.Error("a secret whose key is there did not open")
	}
	if n := log.count(closed.ID.String()); n != 1 {
		t.Errorf("the log names the webhook %d times", n)
	}
	if n := value(r.metrics.unreadable); n != 1 {
		t.Errorf("the metric counts %v", n)
	}
	next := signature.GenerateSecret()
	b.must(b.store.RotateWebhookSecret(t.Context(), account, closed.ID, b.sealed(account, closed.ID, next), time.Hour, nil))
	b.must(r.CatchUp(t.Context()))
	if diff := cmp.Diff([]string{next.Text()}, texts(r.Snapshot().Webhook(closed.ID).Secrets(time.Now()))); diff != "" {
		t.Errorf("after a rotation, beside the one that does not open: %s", diff)
	}
	b.must(b.store.RotateWebhookSecret(t.Context(), account, closed.ID, b.sealed(account, closed.ID, next), 0, nil))
	b.must(r.CatchUp(t.Context()))
	if n := value(r.metrics.unreadable); n != 0 || len(r.Snapshot().Webhook(closed.ID).Secrets(time.Now())) != 1 {
		t.Errorf("after the end of the old secret the metric counts %v", n)
	}
}

func TestAnEventTypeWhoseModifiersCannotBeReadIsReportedOnce(t *testing.T) {
	b := newBed(t)
	b.sql(`INSERT INTO event_types (name, modifiers) VALUES ('sound', '{"kind":{"path":"/kind"}}'), ('closed', '{"kind":{"path":"no pointer"}}')`)
	var log lines
	r := New(b.store, b.keyring, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.must(r.Load(t.Context()))
	b.must(r.Load(t.Context()))
	if n := log.count("event_type=closed"); n != 1 {
		t.Errorf("the log names the type %d times", n)
	}
	if log.count("event_type=sound") != 0 {
		t.Error("the log names a type that is sound")
	}
}

func TestAnArchivedEventTypeIsMatchedAsBefore(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	archive := func(archived bool) {
		_, err := b.store.PutEventType(t.Context(), &fanfare.EventType{Name: "call.ended", Archived: archived})
		b.must(err)
	}
	archive(false)
	for _, pattern := range []string{"call.ended", "call.*", "*"} {
		b.webhook(account, signature.GenerateSecret(), pattern)
	}
	archive(true)
	if n := len(b.loaded().Snapshot().Match(nil, account, "call.ended", []byte(`{}`))); n != 3 {
		t.Errorf("%d of 3 webhooks get events of the archived type", n)
	}
}

func TestASchemaThatCannotBeReadLetsEventsPassAndIsReported(t *testing.T) {
	b := newBed(t)
	b.sql(`INSERT INTO event_types (name, schema) VALUES ('sound', '{"required":["a"]}'), ('of_another_version', '{"type":"tuple"}')`)
	var log lines
	r := New(b.store, b.keyring, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.must(r.Load(t.Context()))
	b.must(r.Load(t.Context()))
	for name, want := range map[string]int{"sound": 1, "of_another_version": 0} {
		if faults := r.Snapshot().EventType(name).Check([]byte(`{}`), nil); len(faults) != want {
			t.Errorf("%s: %v", name, faults)
		}
	}
	if n := log.count("event_type=of_another_version"); n != 1 || log.count("event_type=sound") != 0 {
		t.Errorf("the log names the type %d times", n)
	}
	if n := value(r.metrics.unchecked); n != 1 {
		t.Errorf("the metric counts %v", n)
	}

	_, err := b.store.PutEventType(t.Context(), &fanfare.EventType{Name: "of_another_version", Schema: []byte(`{"type":"object"}`)})
	b.must(err)
	b.must(r.CatchUp(t.Context()))
	if n := value(r.metrics.unchecked); n != 0 {
		t.Errorf("put anew, the metric counts %v", n)
	}
	b.account(uuid.Nil) // an update without event types
	b.must(r.CatchUp(t.Context()))
	if n := value(r.metrics.unchecked); n != 0 {
		t.Errorf("after another change the metric counts %v", n)
	}
}

func TestOlderSecretsDoNotStandInForOneThatDoesNotOpen(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	w := b.webhook(account, signature.GenerateSecret(), "*")
	keyring := b.keyring
	b.keyring = testKeyring(t, "other")
	b.must(b.store.RotateWebhookSecret(t.Context(), account, w.ID, b.sealed(account, w.ID, signature.GenerateSecret()), time.Hour, nil))
	b.keyring = keyring
	if n := len(b.loaded().Snapshot().Webhook(w.ID).Secrets(time.Now())); n != 0 {
		t.Errorf("%d secrets sign", n)
	}
}

func TestASecretOfAnotherPlaceDoesNotOpen(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	one, two := b.webhook(account, signature.GenerateSecret(), "*"), b.webhook(account, signature.GenerateSecret(), "*")
	b.sql(`UPDATE webhook_secrets SET webhook_id = $1 WHERE webhook_id = $2`, one.ID, two.ID)
	s := b.loaded().Snapshot()
	if n := len(s.Webhook(one.ID).Secrets(time.Now())); n != 0 {
		t.Errorf("%d secrets sign for a webhook that holds another's", n)
	}
}

func TestOlderSecretsSignUntilTheyExpire(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	all := []signature.Secret{signature.GenerateSecret(), signature.GenerateSecret(), signature.GenerateSecret()}
	w := b.webhook(account, all[0], "*")
	for i, overlap := range []time.Duration{time.Hour, 3 * time.Hour} {
		b.must(b.store.RotateWebhookSecret(t.Context(), account, w.ID, b.sealed(account, w.ID, all[i+1]), overlap, nil))
	}
	hook := b.loaded().Snapshot().Webhook(w.ID)
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		want  []signature.Secret
	}{
		{0, []signature.Secret{all[2], all[1], all[0]}},
		{2 * time.Hour, []signature.Secret{all[2], all[1]}},
		{4 * time.Hour, all[2:]},
	} {
		if diff := cmp.Diff(texts(c.want), texts(hook.Secrets(now.Add(c.after)))); diff != "" {
			t.Errorf("after %v: %s", c.after, diff)
		}
	}
	if n := testing.AllocsPerRun(10, func() { hook.Secrets(now.Add(2 * time.Hour)) }); n != 0 {
		t.Errorf("asking for secrets allocates %v times", n)
	}
}

func TestASecretNeverOutlivesANewerOne(t *testing.T) {
	now := time.Now()
	var w Webhook
	one, two, three := signature.GenerateSecret(), signature.GenerateSecret(), signature.GenerateSecret()
	w.add(one, time.Time{})
	w.add(two, now.Add(time.Hour))
	w.add(three, time.Time{})
	if got := texts(w.Secrets(now)); len(got) != 3 {
		t.Errorf("%d secrets sign now", len(got))
	}
	if diff := cmp.Diff([]string{one.Text()}, texts(w.Secrets(now.Add(time.Hour)))); diff != "" {
		t.Error(diff)
	}
}

func TestMetricsCarryNoTenant(t *testing.T) {
	b := newBed(t)
	account := b.account(uuid.Nil)
	b.webhook(account, signature.GenerateSecret(), "*")
	reg := prometheus.NewPedanticRegistry()
	r := New(b.store, b.keyring, Options{Registerer: reg})
	b.must(r.Load(t.Context()))
	families, err := reg.Gather()
	b.must(err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() != "kind" {
					t.Errorf("%s has the label %s", f.GetName(), l.GetName())
				}
			}
			values[f.GetName()] = m.GetGauge().GetValue()
		}
	}
	if values["fanfare_registry_webhooks"] != 1 {
		t.Errorf("%v webhooks are counted", values["fanfare_registry_webhooks"])
	}
	if lag, ok := values["fanfare_registry_lag_seconds"]; !ok || lag <= 0 || lag > 60 {
		t.Errorf("the lag is %v", lag)
	}
}
