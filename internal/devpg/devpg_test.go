package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// parentEnv turns the test binary into a process that starts Postgres on the directory it names, prints
// the server's pid and URL, and waits to be killed.
const parentEnv = "DEVPG_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		s, err := Start(context.Background(), Options{Dir: dir, Fast: true})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.PID(), s.URL("postgres"))
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// home is a directory for a server. Its mode is what os.MkdirTemp makes, 0700, so that as root these
// tests also show that Postgres needs no way in but the descriptor that it inherits.
func home(t *testing.T) string {
	t.Helper()
	base := "/dev/shm" // Linux's file system in memory
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "devpg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(context.Background(), dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// eventually polls until ok, for as long as no healthy machine needs.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if !pause(ctx, 10*time.Millisecond) {
			t.Fatalf("never: %s", what)
		}
	}
}

func logOf(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func ask(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func run(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestAServerStartsStopsAndKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(home(t), "made", "by", "start")
	s := start(t, Options{Dir: dir})
	if err := s.CreateDatabase(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateDatabase(t.Context(), "shop"); err != nil {
		t.Errorf("a database that exists: %v", err)
	}
	run(t, s.URL("shop"), `CREATE TABLE kept AS SELECT 'here' AS v`)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Stop returned before Postgres ended")
	}
	if got := logOf(t, dir); !strings.Contains(got, "database system is shut down") {
		t.Errorf("no clean shutdown:\n%s", got)
	}

	again := start(t, Options{Dir: dir})

	if got := ask(t, again.URL("shop"), `SELECT v FROM kept`); got != "here" {
		t.Errorf("kept = %q", got)
	}
}

func TestDevelopmentIsDurableAndTestsAreFast(t *testing.T) {
	t.Parallel()
	for _, fast := range []bool{false, true} {
		s := start(t, Options{Dir: home(t), Fast: fast, Settings: map[string]string{"max_connections": "17"}})
		want := map[bool]string{false: "on", true: "off"}[fast]
		for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			if got := ask(t, s.URL("postgres"), `SHOW `+name); got != want {
				t.Errorf("fast %v: %s = %s", fast, name, got)
			}
		}
		if got := ask(t, s.URL("postgres"), `SHOW max_connections`); got != "17" {
			t.Errorf("max_connections = %s, want the caller's 17", got)
		}
		if got := ask(t, s.URL("postgres"), `SELECT pg_encoding_to_char(encoding) || ' ' || datcollate FROM pg_database WHERE datname = 'template1'`); got != "UTF8 C" {
			t.Errorf("encoding and collation = %s", got)
		}
	}
}

func TestASocketIsClosedToOthers(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: home(t), Fast: true})

	info, err := os.Stat(s.data())
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("the socket's directory has mode %v", mode)
	}
	if got := ask(t, s.URL("postgres"), `SHOW listen_addresses`); got != "" {
		t.Errorf("Postgres listens on %q as well", got)
	}
}

func TestTCPAsksForThePassword(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: home(t), Fast: true, TCP: true})
	if got := ask(t, s.URL("postgres"), `SELECT host(inet_server_addr())`); got != "127.0.0.1" {
		t.Errorf("connected to %s", got)
	}

	wrong := strings.Replace(s.URL("postgres"), s.password, "guess", 1)
	conn, err := pgx.Connect(t.Context(), wrong)
	if err == nil {
		conn.Close(t.Context())
		t.Fatal("a wrong password was let in")
	}
	if !strings.Contains(err.Error(), "28P01") {
		t.Errorf("err = %v, want SQLSTATE 28P01", err)
	}
}

func TestALongPathGetsTCP(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(home(t), strings.Repeat("long", 25))
	s := start(t, Options{Dir: dir, Fast: true})

	if got := ask(t, s.URL("postgres"), `SELECT host(inet_server_addr())`); got != "127.0.0.1" {
		t.Errorf("connected to %s", got)
	}
}

func TestARestartNeedsItsOwnPort(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: home(t), Fast: true, TCP: true})
	other := start(t, Options{Dir: home(t), Fast: true, TCP: true})

	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	own := s.port
	s.port = other.port
	err := s.Restart(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("err = %v, want what Postgres says of the port", err)
	}
	s.port = own
	if err := s.Restart(t.Context()); err != nil {
		t.Errorf("after the failed restart: %v", err)
	}
}

func TestACrashIsSeenAndRepaired(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*Server) error{
		"Crash":               func(s *Server) error { return s.Crash(t.Context()) },
		"kill -9 of Postgres": func(s *Server) error { return syscall.Kill(s.PID(), syscall.SIGKILL) },
		"an end of its own":   func(s *Server) error { return syscall.Kill(s.PID(), syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Options{Dir: home(t), TCP: true})
			url := s.URL("postgres")
			run(t, url, `CREATE TABLE kept AS SELECT 'here' AS v`)
			if err := crash(s); err != nil {
				t.Fatal(err)
			}
			<-s.Done()

			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}

			if got := ask(t, url, `SELECT v FROM kept`); got != "here" {
				t.Errorf("kept = %q", got)
			}
		})
	}
}

func TestAHalfMadeClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := home(t)
	left := filepath.Join(dir, "init-123", "data", "base")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "init-123", "data", "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	s := start(t, Options{Dir: dir, Fast: true})

	if got := ask(t, s.URL("postgres"), `SELECT 'yes'`); got != "yes" {
		t.Errorf("answer = %q", got)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half-made cluster is still there: %v", err)
	}
}

// Whenever initdb is cut short, what it made never counts as a cluster.
func TestAnInterruptedStartLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	dir := home(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for pause(ctx, time.Millisecond) {
			found, _ := filepath.Glob(filepath.Join(dir, "init-*", "data", "base"))
			if len(found) > 0 {
				return
			}
		}
	}()
	_, err := Start(ctx, Options{Dir: dir, Fast: true})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want Canceled", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a cluster after an interrupted initdb: %v", err)
	}

	s := start(t, Options{Dir: dir, Fast: true})

	if got := ask(t, s.URL("postgres"), `SELECT 'yes'`); got != "yes" {
		t.Errorf("answer = %q", got)
	}
}

func TestAnotherVersionsClusterIsRefused(t *testing.T) {
	t.Parallel()
	dir := home(t)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	_, err := Start(t.Context(), Options{Dir: dir, Fast: true})

	if !errors.Is(err, ErrVersion) {
		t.Fatalf("err = %v, want ErrVersion", err)
	}
	if !strings.Contains(err.Error(), "of Postgres 9.1") || !strings.Contains(err.Error(), dir) {
		t.Errorf("err = %v", err)
	}
}

func TestAFailedStartSaysWhatPostgresSaid(t *testing.T) {
	t.Parallel()
	dir := home(t)
	_, err := Start(t.Context(), Options{Dir: dir, Fast: true, Settings: map[string]string{"no_such_setting": "1"}})

	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("err = %v", err)
	}
	start(t, Options{Dir: dir, Fast: true}) // the directory is free and sound
}

func TestTheLogSaysWhatHappened(t *testing.T) {
	var out strings.Builder
	start(t, Options{Dir: home(t), Fast: true, Log: slog.New(slog.NewTextHandler(&out, nil))})

	for _, want := range []string{"made a cluster of Postgres", "postgres runs"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, out.String())
		}
	}
}
