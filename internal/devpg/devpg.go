// Package devpg runs a private Postgres from the binaries of this machine, for `fanfare dev` and for
// tests.
//
// It hides where those binaries are, that Postgres refuses to run as root (it then runs as an
// unprivileged user), and the life and death of the server: one that was left behind by a killed
// process is waited for, a half-made cluster is made anew, and a server never outlives the process
// that started it, however that process ends.
//
// It runs on Linux, macOS and other Unix systems.
package devpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// What a caller may want to tell apart.
var (
	ErrNotFound = errors.New("no Postgres server binaries found")
	ErrInUse    = errors.New("in use by another process")
	ErrVersion  = errors.New("made by another major version of Postgres")
)

// superuser is the role that owns the cluster and that [Server.URL] connects as.
const superuser = "fanfare"

// maxSocketPath is the longest path of a Unix socket, in bytes, that every system takes: macOS has
// room for 104 with the final NUL, Linux for 108.
const maxSocketPath = 103

// socketPort is only a part of the socket's name: nothing listens on this port.
const socketPort = 5432

// Options says which Postgres to run and how.
type Options struct {
	// Dir belongs to devpg alone. It is created if it is missing and holds the cluster (data), the
	// log of Postgres (postgres.log), the superuser's password and the lock.
	Dir string

	// BinDir has the binaries initdb and postgres. "": the best that [FindBinaries] sees, or those of
	// the version that made the cluster.
	BinDir string

	// TCP listens on a free port of 127.0.0.1, with a generated password, rather than on a socket in
	// Dir that only the user of Postgres and root can reach. A Dir whose path is too long for a
	// socket gets TCP unasked.
	TCP bool

	// Fast gives up durability for speed: a crash of the machine destroys the cluster. For tests.
	Fast bool

	// Settings are set on top of the defaults, and win over them.
	Settings map[string]string

	// Log gets what devpg does. nil: nothing.
	Log *slog.Logger
}

// Server is a running Postgres. PID, Done, URL and CreateDatabase may be used by many goroutines;
// Stop, Crash and Restart by one at a time.
type Server struct {
	opts     Options
	dir      string // the real path of Options.Dir
	log      *slog.Logger
	user     runAs
	tcp      bool
	password string   // "" unless tcp
	lock     *os.File // of dir; nil: not ours

	mu   sync.Mutex // guards what follows
	proc *process
	port int // of TCP; kept by Restart
}

// Start runs a Postgres on the cluster in o.Dir, which it makes first if there is none, and returns
// when it takes connections. ctx bounds the start, not the life of the server: that ends with
// [Server.Stop], or with this process.
//
// A Postgres that was left behind by a killed process is ended and waited for. While another process
// has a server on the same Dir the error is [ErrInUse].
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("devpg: no directory given")
	}
	s := &Server{opts: o, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.locate(); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	if err := s.launch(ctx); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	return s, nil
}

// Remove deletes a directory that Start made. It returns [ErrInUse] if a server runs on it, and nil
// if it does not exist.
func Remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := acquire(ctx, dir)
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	defer lock.Close()
	if err := endOrphan(ctx, filepath.Join(dir, "data")); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// URL is what pgx, database/sql and psql connect to database with, as a superuser.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database}
	q := url.Values{"sslmode": {"disable"}}
	if s.tcp {
		s.mu.Lock()
		u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
		s.mu.Unlock()
		u.User = url.UserPassword(superuser, s.password)
	} else {
		q.Set("host", s.data())
		q.Set("port", strconv.Itoa(socketPort))
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// CreateDatabase creates database unless it exists.
func (s *Server) CreateDatabase(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{database}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	return nil
}

// PID is the process id of the postmaster.
func (s *Server) PID() int { return s.current().cmd.Process.Pid }

// Done is closed when Postgres has ended, by itself or by Stop or Crash. After a Restart there is
// another.
func (s *Server) Done() <-chan struct{} { return s.current().done }

// LogFile is the path of the log that Postgres writes.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "postgres.log") }

// Stop ends Postgres cleanly, closing the connections of its clients, waits for it, and gives Dir
// free. If ctx ends first Postgres is made to end at once, which its next start repairs, and the
// error says so. Stop may be repeated.
func (s *Server) Stop(ctx context.Context) error {
	err := s.current().end(ctx, syscall.SIGINT)
	s.unlock()
	return err
}

// Crash ends Postgres without a checkpoint and without a word to its clients, as a crash would, and
// waits for it. Dir stays locked for a [Server.Restart]; Stop must still be called.
func (s *Server) Crash(ctx context.Context) error {
	return s.current().end(ctx, syscall.SIGQUIT)
}

// Restart starts Postgres on the same URL after it has ended, by whatever cause; it first stops one
// that still runs.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.current().end(ctx, syscall.SIGINT); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	return nil
}

// locate makes Dir and decides who runs Postgres and how it is reached.
func (s *Server) locate() error {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return err
	}
	dir, err := filepath.Abs(s.opts.Dir)
	if err != nil {
		return err
	}
	if s.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	if s.user, err = unprivileged(s.data()); err != nil {
		return err
	}
	socket := fmt.Sprintf("%s/.s.PGSQL.%d", s.data(), socketPort)
	s.tcp = s.opts.TCP || len(socket) > maxSocketPath
	return nil
}

// launch takes the lock, sees to it that there is a cluster that nobody runs, and starts Postgres.
// On an error nothing runs and the lock is free.
func (s *Server) launch(ctx context.Context) (err error) {
	if s.lock == nil {
		if s.lock, err = acquire(ctx, s.dir); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			s.unlock()
		}
	}()
	if err := endOrphan(ctx, s.data()); err != nil {
		return err
	}
	bin, err := s.ready(ctx)
	if err != nil {
		return err
	}
	if s.tcp && s.password == "" { // never written again: URL reads it
		if s.password, err = readPassword(s.dir); err != nil {
			return err
		}
	}

	// A start may fail for a reason that passes: somebody took the port that was free a moment ago,
	// or the last children of a killed postmaster still hold its shared memory.
	const tries = 10
	for try := 1; ; try++ {
		err := s.try(ctx, bin)
		if err == nil {
			return nil
		}
		if try == tries || ctx.Err() != nil {
			return err
		}
		s.log.Debug("postgres did not start, trying again", "err", err)
		if !pause(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// try starts Postgres once and waits until it takes connections.
func (s *Server) try(ctx context.Context, bin binaries) error {
	port := socketPort
	if s.tcp {
		port = s.port
		if port == 0 {
			var err error
			if port, err = freePort(); err != nil {
				return err
			}
		}
	}
	home, err := os.Open(s.data())
	if err != nil {
		return err
	}
	defer home.Close()
	logFile, err := openLog(s.LogFile())
	if err != nil {
		return err
	}
	defer logFile.Close()
	start, err := logFile.Seek(0, 2)
	if err != nil {
		return err
	}

	cmd := s.user.command(home, filepath.Join(bin.dir, "postgres"), s.args(s.user.path(home), port)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	proc, err := spawn(cmd)
	if err != nil {
		return err
	}
	if err := s.await(ctx, proc); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(s.LogFile(), start))
	}
	s.mu.Lock()
	s.proc = proc
	if s.tcp {
		s.port = port
	}
	s.mu.Unlock()
	s.log.Info("postgres runs", "pid", proc.cmd.Process.Pid, "version", bin.version, "dir", s.dir)
	return nil
}

// args are the command line of Postgres for a cluster that Postgres itself knows as data. All settings
// go there rather than into postgresql.conf, so that a cluster of an older fanfare gets today's.
func (s *Server) args(data string, port int) []string {
	durable := "on"
	if s.opts.Fast {
		durable = "off"
	}
	settings := map[string]string{
		"port":                    strconv.Itoa(port),
		"listen_addresses":        "",
		"unix_socket_directories": data, // mode 0700: that is what makes "trust" safe there
		"unix_socket_permissions": "0700",
		"fsync":                   durable,
		"synchronous_commit":      durable,
		"full_page_writes":        durable,
		"max_connections":         "100",
		"shared_buffers":          "128MB",
	}
	if s.tcp {
		settings["listen_addresses"] = "127.0.0.1"
		settings["unix_socket_directories"] = ""
	}
	maps.Copy(settings, s.opts.Settings)
	args := []string{"-D", data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// await returns when proc takes connections. On an error proc has ended.
func (s *Server) await(ctx context.Context, proc *process) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-proc.done:
			return fmt.Errorf("postgres ended: %w", proc.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), proc.end(context.WithoutCancel(ctx), syscall.SIGQUIT))
		case <-tick.C:
			if lines := postmasterFile(s.data()); len(lines) > 7 &&
				lines[0] == strconv.Itoa(proc.cmd.Process.Pid) && strings.TrimSpace(lines[7]) == "ready" {
				return nil
			}
		}
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

func (s *Server) unlock() {
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// freePort is a port of 127.0.0.1 that nobody had a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// pause waits for d and reports whether ctx lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
