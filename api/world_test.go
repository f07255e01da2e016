package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-webhooks/fanfare"
	"github.com/fanfare-webhooks/fanfare/api"
	"github.com/fanfare-webhooks/fanfare/dispatcher"
	"github.com/fanfare-webhooks/fanfare/internal/echo"
	"github.com/fanfare-webhooks/fanfare/internal/egress"
	"github.com/fanfare-webhooks/fanfare/internal/pgtest"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/internal/store"
	"github.com/fanfare-webhooks/fanfare/internal/tail"
	"github.com/fanfare-webhooks/fanfare/registry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// platformKey is the fixed platform key of every test's server.
const platformKey = "platform-key-of-the-tests"

// world is a server on a database of its own.
type world struct {
	t         testing.TB
	url       string // of the database
	store     *store.Store
	registry  *registry.Registry
	publisher *fakePublisher
	options   api.Options
	server    *api.Server
	logs      *safeBuffer
	metrics   *prometheus.Registry
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldWith(t, worldOptions{})
}

type worldOptions struct {
	maxWebhooks int
	noEcho      bool
	maxWaiting  int // for the log's end
}

func newWorldWith(t testing.TB, o worldOptions) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &world{t: t, url: pgtest.URL(t), publisher: newFakePublisher(t), logs: &safeBuffer{}, metrics: prometheus.NewRegistry()}
	var err error
	if w.store, err = store.Open(ctx, store.Options{URL: w.url, Events: api.EventBodies()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	text, err := seal.Generate("test")
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	// Run is not started: what a test sees at once, it sees because the API asked.
	w.registry = registry.New(w.store, keyring, registry.Options{})
	if err := w.registry.Load(ctx); err != nil {
		t.Fatal(err)
	}
	receiver := echo.New()
	t.Cleanup(receiver.Close)
	if o.noEcho {
		receiver = nil
	}
	checker, err := egress.New(egress.Options{UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(checker.Close)
	accounts := tail.Accounts{Tree: func() tail.Tree { return w.registry.Snapshot() }, CatchUp: w.registry.CatchUp}
	end := tail.New(w.store, accounts, tail.Options{MaxWaiting: o.maxWaiting, Registerer: w.metrics})
	done := make(chan error, 1)
	go func() { done <- end.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.options = api.Options{
		Store: w.store, Registry: w.registry, Publisher: w.publisher, Tail: end, Keyring: keyring, URLs: checker,
		PlatformKey: platformKey, MinRetryStep: time.Second, MaxWebhooks: o.maxWebhooks, Echo: receiver,
		Log:        slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: w.metrics,
	}
	if w.server, err = api.New(w.options); err != nil {
		t.Fatal(err)
	}
	return w
}

// serverWith is another server on the same database, with another publisher and without a log.
func (w *world) serverWith(p api.Publisher) *api.Server {
	w.t.Helper()
	o := w.options
	o.Publisher, o.Log, o.Registerer = p, nil, prometheus.NewRegistry()
	s, err := api.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// reply is what came back.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

// call sends a request through the recorder. body is a string to send as it is, nil, or a value to send
// as JSON; headers are pairs.
func (w *world) call(method, path, key string, body any, headers ...string) *reply {
	w.t.Helper()
	var reader io.Reader
	var isText bool
	switch b := body.(type) {
	case nil:
	case string:
		reader, isText = strings.NewReader(b), true
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		reader, isText = bytes.NewReader(raw), true
	}
	r := httptest.NewRequest(method, path, reader)
	if isText {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) *reply {
	w.t.Helper()
	rec, err := recorded()
	if err != nil {
		w.t.Fatal(err)
	}
	out := rec.serve(w.t, w.server, r)
	return &reply{t: w.t, status: out.Code, header: out.Header(), body: out.Body.Bytes()}
}

// want fails the test unless the status is this one.
func (r *reply) want(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d\n%s", r.status, status, r.body)
	}
	return r
}

// get reads a member by a path such as "errors.0.pointer"; nil if there is none.
func (r *reply) get(path string) any {
	r.t.Helper()
	v, err := decodeJSON(r.body)
	if err != nil {
		r.t.Fatalf("%v: %s", err, r.body)
	}
	for step := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			var i int
			if _, err := fmt.Sscan(step, &i); err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (r *reply) str(path string) string {
	r.t.Helper()
	s, ok := r.get(path).(string)
	if !ok {
		r.t.Fatalf("%s is no string in %s", path, r.body)
	}
	return s
}

// problems lists the faults of an answer as "pointer code", or for a problem without any its code.
func (r *reply) problems() []string {
	r.t.Helper()
	list, _ := r.get("errors").([]any)
	if list == nil {
		return []string{r.str("code")}
	}
	var out []string
	for _, x := range list {
		m := x.(map[string]any)
		at := ""
		for _, name := range []string{"pointer", "parameter", "header"} {
			if s, ok := m[name].(string); ok {
				at = s
			}
		}
		out = append(out, at+" "+m["code"].(string))
	}
	return out
}

func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// account makes an account; parent "" makes a root.
func (w *world) account(parent string) string {
	w.t.Helper()
	body := map[string]any{"name": "an account"}
	if parent != "" {
		body["parent_id"] = parent
	}
	return w.call("POST", "/v1/accounts", platformKey, body).want(201).str("id")
}

// key makes a key of an account, with every scope if none is named.
func (w *world) key(account string, scopes ...fanfare.Scope) string {
	w.t.Helper()
	body := map[string]any{}
	if len(scopes) > 0 {
		body["scopes"] = scopes
	}
	return w.call("POST", "/v1/accounts/"+account+"/keys", platformKey, body).want(201).str("key")
}

func (w *world) eventType(name string) {
	w.t.Helper()
	w.call("PUT", "/v1/event-types/"+name, platformKey, map[string]any{"samples": []any{map[string]any{"n": 1}}})
}

func (w *world) webhook(account, key string, types ...string) string {
	w.t.Helper()
	if len(types) == 0 {
		types = []string{"*"}
	}
	return w.call("POST", "/v1/accounts/"+account+"/webhooks", key,
		map[string]any{"url": "https://example.com/hooks", "event_types": types}).want(201).str("id")
}

// exec runs SQL on the world's database, for what only the dispatcher writes.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// fakePublisher keeps what it is given in memory.
type fakePublisher struct {
	t testing.TB

	mu        sync.Mutex
	full      error
	fail      error
	published []dispatcher.Publication
	keys      map[string]fakeKey
	tests     []dispatcher.Publication
	attempt   fanfare.Attempt // what Test answers with, but for ids
	position  fanfare.Position
}

type fakeKey struct {
	hash    [32]byte
	receipt dispatcher.Receipt
}

func newFakePublisher(t testing.TB) *fakePublisher {
	return &fakePublisher{
		t: t, keys: make(map[string]fakeKey), position: fanfare.PositionAt(time.Now()),
		attempt: fanfare.Attempt{
			WebhookVersion: 1, Number: 1, Trigger: fanfare.TriggerTest, StartedAt: time.Now(), Duration: 1234 * time.Microsecond,
			URL: "https://example.com/hooks", Method: "POST", Status: 200, Verdict: fanfare.VerdictDelivered, State: fanfare.Delivered,
			ResponseHeaders: []byte("Server: x\r\n"), ResponseBody: []byte("ok"),
		},
	}
}

func (p *fakePublisher) Admit(context.Context, uuid.UUID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full
}

func (p *fakePublisher) Publish(_ context.Context, pubs []dispatcher.Publication) ([]dispatcher.Receipt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if broken, ok := p.fail.(panicking); ok {
		panic(broken)
	}
	if p.fail != nil {
		return nil, p.fail
	}
	var receipts []dispatcher.Receipt
	for i, pub := range pubs {
		if pub.AccountID == uuid.Nil || pub.Type == "" || len(pub.Data) == 0 || pub.Data[0] != '{' {
			p.t.Errorf("publication %d is not fit to publish: %+v", i, pub)
		}
		if (pub.IdempotencyKey == "") != (pub.RequestHash == [32]byte{}) {
			p.t.Errorf("publication %d: a hash goes with a key", i)
		}
		k := pub.AccountID.String() + pub.IdempotencyKey
		if known, ok := p.keys[k]; ok && pub.IdempotencyKey != "" {
			if known.hash != pub.RequestHash {
				return nil, &dispatcher.RefusedError{Index: i, Reason: dispatcher.KeyReused}
			}
			known.receipt.Replayed = true
			receipts = append(receipts, known.receipt)
			continue
		}
		p.position++
		r := dispatcher.Receipt{ID: fanfare.EventID(p.position, rand.Uint64()), Matched: 1}
		p.keys[k] = fakeKey{pub.RequestHash, r}
		p.published = append(p.published, pub)
		receipts = append(receipts, r)
	}
	return receipts, nil
}

func (p *fakePublisher) Test(_ context.Context, account, webhook uuid.UUID, eventType string, data []byte) (*fanfare.Attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return nil, p.fail
	}
	p.tests = append(p.tests, dispatcher.Publication{AccountID: account, Type: eventType, Data: data})
	p.position++
	a := p.attempt
	a.ID, a.Node, a.WebhookID, a.AccountID = uuid.New(), uuid.New(), webhook, account
	a.EventID = fanfare.EventID(p.position, rand.Uint64())
	return &a, nil
}

func (p *fakePublisher) set(f func(p *fakePublisher)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *fakePublisher) last() dispatcher.Publication {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.published) == 0 {
		p.t.Fatal("nothing was published")
	}
	return p.published[len(p.published)-1]
}

var errAway = fmt.Errorf("commit: %w", dispatcher.ErrUnavailable)

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
