// Package pgtest gives a test a database of its own on a real Postgres.
//
// It hides the server, one for the tests of a package, started by the first test that needs it, and the
// template: the schema is migrated once, and a test gets a copy of it in some 30 ms.
//
// A package that uses it says
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// Without binaries of Postgres the tests fail and say how to install them. They do not skip.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/devpg"
	"github.com/fanfare-webhooks/fanfare/migrations"
)

// Database is the name of the migrated database on a server from [Server].
const Database = "fanfare"

// limit bounds each step that needs Postgres. It is generous: it only has to end a hang.
const limit = time.Minute

// prefix starts the names of the servers' directories. They are short, because the path of a socket may
// not be long.
const prefix = "fanfare-pg-"

// memory is a file system in memory that Linux has. Copying the template makes hundreds of files: in some
// 25 ms there, in 200 on a busy disk.
const memory = "/dev/shm"

// shared is the server of this test binary; Main ends it. A test binary has one process and one
// TestMain, so this is its natural owner.
var shared struct {
	managed atomic.Bool // Main runs

	mu     sync.Mutex // guards what follows
	server *devpg.Server
	dir    string
	err    error // of the first start: the others need not try

	databases atomic.Int64 // made so far: their names
}

// Main runs the tests of a package, stops the server if one was started, fails if goroutines are left
// over, and exits.
func Main(m *testing.M, opts ...goleak.Option) {
	shared.managed.Store(true)
	code := m.Run()
	if err := stop(); err != nil {
		log.Println("pgtest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(opts...); err != nil {
			log.Println("pgtest:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// URL makes a migrated, empty database for t and returns how to connect to it, as a superuser. When t
// ends it is dropped, whoever is still connected.
//
// Its server gives up durability (fsync is off): a test that crashes Postgres wants [Server].
func URL(t testing.TB) string {
	t.Helper()
	s, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", shared.databases.Add(1))
	if err := admin(s, `CREATE DATABASE `+name+` TEMPLATE `+Database+` STRATEGY file_copy`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin(s, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	return s.URL(name)
}

// Server starts a Postgres for t alone, with production's durability, that t may crash and restart. Its
// database [Database] is migrated. It stops when t ends. tcp is as in [devpg.Options].
func Server(t testing.TB, tcp bool) *devpg.Server {
	t.Helper()
	s, dir, err := start(os.TempDir(), devpg.Options{TCP: tcp})
	t.Cleanup(func() {
		if err := remove(s, dir); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sharedServer() (*devpg.Server, error) {
	if !shared.managed.Load() {
		return nil, errors.New("pgtest: the package's TestMain must call pgtest.Main, which stops the server")
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		sweep()
		shared.server, shared.dir, shared.err = start(scratch(), devpg.Options{
			Fast: true,
			Settings: map[string]string{
				"max_connections": "300",   // the tests of a package run in parallel
				"max_wal_size":    "128MB", // memory, see scratch
			},
		})
	}
	return shared.server, shared.err
}

// scratch is where the shared server lives: in memory if there is plenty, as in no container with the
// usual 64 MiB, else where temporary files go.
func scratch() string {
	const plenty = 2 << 30
	var shm syscall.Statfs_t
	if err := syscall.Statfs(memory, &shm); err != nil || uint64(shm.Bavail)*uint64(shm.Bsize) < plenty {
		return os.TempDir()
	}
	return memory
}

// stop ends the shared server.
func stop() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return remove(shared.server, shared.dir)
}

// start runs a server with a migrated database in a new directory below parent. The server and the
// directory may be there in spite of an error; remove takes whatever there is.
func start(parent string, o devpg.Options) (s *devpg.Server, dir string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if dir, err = os.MkdirTemp(parent, prefix); err != nil {
		return nil, "", err
	}
	o.Dir = dir
	if s, err = devpg.Start(ctx, o); err != nil {
		return nil, dir, err
	}
	if err = s.CreateDatabase(ctx, Database); err == nil {
		_, err = migrations.Up(ctx, s.URL(Database))
	}
	return s, dir, err
}

// remove ends a server and deletes its directory; either may be missing.
func remove(s *devpg.Server, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	if s != nil {
		err = s.Stop(ctx)
	}
	if dir != "" {
		err = errors.Join(err, devpg.Remove(ctx, dir))
	}
	return err
}

// sweep deletes what test runs left behind that panicked or were killed. It leaves young directories
// alone: their server may be about to lock them.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // the only error is a malformed pattern
	more, _ := filepath.Glob(filepath.Join(memory, prefix+"*"))
	for _, dir := range append(dirs, more...) {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < 10*time.Minute {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		// Another user's directory and one that is in use stay; so do those that go at the same time.
		err = devpg.Remove(ctx, dir)
		cancel()
		if err != nil && !errors.Is(err, devpg.ErrInUse) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
			log.Println("pgtest: remove an old server:", err)
		}
	}
}

// admin runs one statement beside the tests' databases.
func admin(s *devpg.Server, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("pgtest: %s: %w", sql, err)
	}
	return nil
}
