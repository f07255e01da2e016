// Package lab is the proving ground for fairness and load: the real binary, its own Postgres, receivers
// that misbehave in every known way, and lanes that hold what happened against what is promised.
//
// It hides how a node is run, loaded and watched. A lane states bars; a bar that does not hold fails
// the lane. Each lane has a short form that asserts counts and structure and runs with the ordinary
// tests, and a long form with latencies behind the build tag chaos (`make chaos`), which also runs the
// lanes with the protection switched off that they prove, and fails if they then pass.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/devpg"
	"github.com/fanfare-webhooks/fanfare/internal/seal"
	"github.com/fanfare-webhooks/fanfare/migrations"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// shared is what the labs of a test run have in common; TestMain ends it.
var shared struct {
	mu     sync.Mutex // guards what follows
	dir    string
	server *devpg.Server
	builds map[string]string // tag → binary

	databases atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := stopShared(); err != nil {
		log.Println("lab:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			log.Println("lab:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func stopShared() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var err error
	if shared.server != nil {
		err = shared.server.Stop(ctx)
	}
	if shared.dir != "" {
		err = errors.Join(err, devpg.Remove(ctx, filepath.Join(shared.dir, "pg")), os.RemoveAll(shared.dir))
	}
	return err
}

const template = "fanfare"

// postgres is the server of all labs, with production's durability.
func postgres(t *testing.T) *devpg.Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		return shared.server
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := devpg.Start(ctx, devpg.Options{Dir: filepath.Join(sharedDir(t), "pg"), TCP: true, Settings: map[string]string{
		"max_connections": "300", "max_wal_size": "4GB", "maintenance_work_mem": "512MB",
	}})
	if err != nil {
		t.Fatal(err)
	}
	shared.server = s
	if err := s.CreateDatabase(ctx, template); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(ctx, s.URL(template)); err != nil {
		t.Fatal(err)
	}
	return s
}

// sharedDir must be called with shared.mu held.
func sharedDir(t *testing.T) string {
	t.Helper()
	if shared.dir == "" {
		sweep()
		dir, err := os.MkdirTemp("", prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil { // Postgres may run as another user and must get through
			t.Fatal(err)
		}
		shared.dir = dir
	}
	return shared.dir
}

// prefix starts the names of the labs' directories.
const prefix = "fanfare-lab-"

// sweep deletes what runs left behind that were killed. It leaves young directories alone: their server
// may be about to lock them.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // the only error is a malformed pattern
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < 10*time.Minute {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := devpg.Remove(ctx, filepath.Join(dir, "pg")); err == nil { // else it is in use, or another user's
			_ = os.RemoveAll(dir)
		}
		cancel()
	}
}

// build is the binary under test: the ordinary one, or with tags.
func build(t *testing.T, tags string) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if path := shared.builds[tags]; path != "" {
		return path
	}
	path := filepath.Join(sharedDir(t), "fanfare"+tags)
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "../../cmd/fanfare")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if shared.builds == nil {
		shared.builds = make(map[string]string)
	}
	shared.builds[tags] = path
	return path
}

// lab is one lane's world: a database, nodes, receivers, and what they saw. Its nodes and receivers end
// with the test.
type lab struct {
	*testing.T
	report *report
	rand   *rand.Rand

	url     string // of the database
	sql     *pgxpool.Pool
	nodes   []*node
	env     map[string]string // of the nodes
	http    *http.Client
	secret  signature.Secret // signs everything
	origin  time.Time
	closing chan struct{} // closed at the end: receivers that hang let go

	silent int64 // deliveries in Postgres that are not in the books

	lastArrival atomic.Int64  // when a receiver last got something, in ns since 1970
	memory      atomic.Uint64 // the most that a node ever held, in bytes

	mu     sync.Mutex // guards what follows
	hooks  map[string]*hook
	events []event // by number
}

// newLab prepares a world without a node. off names a protection that its nodes do without, "" none.
func newLab(t *testing.T, name, off string) *lab {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LAB_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal("LAB_SEED:", err)
		}
		seed = n
	}
	l := &lab{
		T: t, report: newReport(name, off, seed), rand: rand.New(rand.NewPCG(seed, 0)),
		http:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true}},
		secret: signature.GenerateSecret(), origin: time.Now(), closing: make(chan struct{}), hooks: make(map[string]*hook),
	}
	t.Cleanup(func() {
		close(l.closing)
		l.http.CloseIdleConnections()
	})
	l.database()
	keys, err := seal.Generate("lab")
	l.ok(err)
	l.env = map[string]string{
		"FANFARE_DATABASE_URL": l.url, "FANFARE_LISTEN": "127.0.0.1:0", "FANFARE_ADMIN_LISTEN": "127.0.0.1:0",
		"FANFARE_PLATFORM_KEY": platformKey, "FANFARE_ENCRYPTION_KEYS": keys, "FANFARE_EGRESS_ALLOW": "127.0.0.0/8",
		"FANFARE_ALLOW_HTTP": "true", "FANFARE_GRACE": "5s", "FANFARE_WEAKEN": off,
	}
	return l
}

const platformKey = "ffk_of-the-lab-which-nobody-else-can-reach"

// database makes a migrated database of the lab's own.
func (l *lab) database() {
	l.Helper()
	server := postgres(l.T)
	admin := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, server.URL("postgres"))
		l.ok(err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, sql)
		l.ok(err)
	}
	name := fmt.Sprintf("lab_%d", shared.databases.Add(1))
	shared.mu.Lock() // a template can be copied by one at a time
	admin(`CREATE DATABASE ` + name + ` TEMPLATE ` + template)
	shared.mu.Unlock()
	l.Cleanup(func() { admin(`DROP DATABASE ` + name + ` WITH (FORCE)`) })
	l.url = server.URL(name)
	var err error
	l.sql, err = pgxpool.New(l.Context(), l.url)
	l.ok(err)
	l.Cleanup(l.sql.Close)
}

func (l *lab) ok(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// patience bounds every wait for something that must happen: it only has to end a hang.
const patience = 60 * time.Second

// within polls for a condition and reports whether it came to hold in time.
func (l *lab) within(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); {
		if time.Now().After(deadline) {
			return false
		}
		l.pause(20 * time.Millisecond)
	}
	return true
}

// until is within for what a lane cannot go on without.
func (l *lab) until(what string, done func() bool) {
	l.Helper()
	if !l.within(patience, done) {
		l.Fatal("never: " + what)
	}
}

// pause lets d pass: a phase of a load, or the step of a poll.
func (l *lab) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-l.Context().Done():
	}
}

// count reads one number from the database.
func (l *lab) count(sql string, args ...any) (n int64) {
	l.Helper()
	l.ok(l.sql.QueryRow(l.Context(), sql, args...).Scan(&n))
	return n
}

func (l *lab) exec(sql string, args ...any) {
	l.Helper()
	_, err := l.sql.Exec(l.Context(), sql, args...)
	l.ok(err)
}

// readAll reads a body that is ours, and closes it.
func readAll(body io.ReadCloser) ([]byte, error) {
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, 16<<20))
}

// lane is a world's story: it says what it found in the lab's report.
type lane interface{ run(l *lab) }

// run runs a lane without one of the protections, or with all of them.
func run(t *testing.T, name, off string, story lane) *report {
	t.Helper()
	l := newLab(t, name, off)
	story.run(l)
	return l.report
}
