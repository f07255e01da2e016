package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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

// parent starts a process that starts Postgres on dir.
func parent(t *testing.T, dir string) (cmd *exec.Cmd, postgres int, url string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill() // it may have been killed by the test
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscan(stdout, &postgres, &url); err != nil {
		t.Fatalf("the helper does not say where Postgres is: %v", err)
	}
	return cmd, postgres, url
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

// checkpointer is the pid of a child of Postgres: stopped, it holds up a shutdown.
func checkpointer(t *testing.T, url string) int {
	t.Helper()
	pid, err := strconv.Atoi(ask(t, url, `SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'`))
	if err != nil {
		t.Fatal(err)
	}
	return pid
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

// A postmaster that is killed leaves children, which end by themselves but not at once. Until then no
// other Postgres may run on the cluster.
func TestARestartOutwaitsTheChildrenOfAKilledPostmaster(t *testing.T) {
	t.Parallel()
	dir := home(t)
	s := start(t, Options{Dir: dir})
	checkpointer := checkpointer(t, s.URL("postgres"))
	if err := syscall.Kill(checkpointer, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()

	restarted := make(chan error, 1)
	go func() { restarted <- s.Restart(t.Context()) }()
	eventually(t, "a start is refused", func() bool {
		return strings.Contains(logOf(t, dir), "pre-existing shared memory block")
	})
	if err := syscall.Kill(checkpointer, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}

	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s.URL("postgres"), `SELECT 'yes'`); got != "yes" {
		t.Errorf("answer = %q", got)
	}
}

// Postgres must end well when its parent is killed.
func TestAKilledParentTakesPostgresAlong(t *testing.T) {
	t.Parallel()
	dir := home(t)
	first, old, _ := parent(t, dir)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}

	eventually(t, "Postgres ends", func() bool { return !runs(old, filepath.Join(dir, "data")) })

	if got := logOf(t, dir); !strings.Contains(got, "database system is shut down") {
		t.Errorf("no clean shutdown:\n%s", got)
	}
}

// The next start, right after, must neither fail nor run beside the old one.
func TestAStartAfterAKillWaitsForTheOldPostgres(t *testing.T) {
	t.Parallel()
	dir := home(t)
	first, old, url := parent(t, dir)
	checkpointer := checkpointer(t, url)
	if err := syscall.Kill(checkpointer, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // reports our kill

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Options{Dir: dir, Fast: true})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "earlier run (pid "+strconv.Itoa(old)) {
		t.Errorf("err = %v, want that it waited for pid %d", err, old)
	}
	if err := syscall.Kill(checkpointer, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Dir: dir, Fast: true})

	if got := logOf(t, dir); strings.Count(got, "database system is shut down") != 1 || strings.Contains(got, "lock file") {
		t.Errorf("the old Postgres was not shut down cleanly, or met the new one:\n%s", got)
	}
	if got := ask(t, s.URL("postgres"), `SELECT 'yes'`); got != "yes" {
		t.Errorf("answer = %q", got)
	}
}

func TestASecondUserIsTurnedAway(t *testing.T) {
	t.Parallel()
	dir := home(t)
	cmd, _, _ := parent(t, dir)

	_, err := Start(t.Context(), Options{Dir: dir, Fast: true})

	if !errors.Is(err, ErrInUse) {
		t.Fatalf("err = %v, want ErrInUse", err)
	}
	if pid := strconv.Itoa(cmd.Process.Pid); !strings.Contains(err.Error(), pid) || !strings.Contains(err.Error(), dir) {
		t.Errorf("err = %v, want it to name %s and pid %s", err, dir, pid)
	}
	if err := Remove(t.Context(), dir); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove of a directory in use: %v", err)
	}
}

// A crash of the machine leaves postmaster.pid, and after the reboot its pid may be anybody's.
func TestAStaleLockOfPostgresIsForgotten(t *testing.T) {
	t.Parallel()
	dir := home(t)
	s := start(t, Options{Dir: dir, Fast: true})
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	// Postgres takes a process of its own user for a postmaster, so this one is.
	bystander := s.user.command(nil, "/bin/sh", "-c", "read -r line")
	stdin, err := bystander.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(data, "postmaster.pid")
	text := fmt.Sprintf("%d\n%s\n0\n5432\n%s\n\n0 0\nready   \n", bystander.Process.Pid, data, data)
	if err := os.WriteFile(stale, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.user.own(stale); err != nil {
		t.Fatal(err)
	}

	again := start(t, Options{Dir: dir, Fast: true})

	if got := ask(t, again.URL("postgres"), `SELECT 'yes'`); got != "yes" {
		t.Errorf("answer = %q", got)
	}
	_, _ = io.WriteString(stdin, "end well\n") // fails if it has ended
	if err := bystander.Wait(); err != nil {
		t.Errorf("the process with the stale pid was harmed: %v", err)
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

func TestMissingBinariesAreExplained(t *testing.T) {
	empty := t.TempDir()
	t.Setenv(BinaryEnv, empty)
	_, fromEnv := FindBinaries("")
	_, given := FindBinaries(empty)
	_, nowhere := search([]place{{what: "PATH", dirs: []string{empty}}, {what: "/opt/x/*"}}, runAs{}, "")

	for name, err := range map[string]error{BinaryEnv: fromEnv, "the given directory": given, "PATH": nowhere, "/opt/x/*": nowhere} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: err = %v, want ErrNotFound", name, err)
			continue
		}
		for _, want := range []string{name, "apt-get install postgresql", "dnf install postgresql-server", "brew install postgresql"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the message lacks %q:\n%v", name, want, err)
			}
		}
	}
}

// fakes makes directories root/VERSION/bin whose postgres says that it is of that version.
func fakes(t *testing.T, versions ...string) (root string) {
	t.Helper()
	root, err := os.MkdirTemp("", "devpg-bin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil { // another user runs them if we are root
		t.Fatal(err)
	}
	for _, version := range versions {
		bin := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + " (Some System)'\n"
		for _, name := range []string{"initdb", "postgres"} {
			if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestTheNewestVersionWinsByItsNumber(t *testing.T) {
	root := fakes(t, "9.6", "15", "9.10", "100", "16.2")

	dirs := newestFirst(root + "/*/bin")

	want := []string{"100", "16.2", "15", "9.10", "9.6"}
	for i := range want {
		want[i] = filepath.Join(root, want[i], "bin")
	}
	if !slices.Equal(dirs, want) {
		t.Errorf("order = %v, want %v", dirs, want)
	}
}

func TestAClustersOwnVersionIsPreferred(t *testing.T) {
	root := fakes(t, "17.1", "16.4", "9.6.2")
	all := []place{{what: "fakes", dirs: newestFirst(root + "/*/bin")}}
	for major, want := range map[string]string{"": "17.1", "16": "16.4", "9.6": "9.6.2"} {
		bin, err := search(all, runAs{}, major)
		if err != nil {
			t.Errorf("%q: %v", major, err)
		}
		if bin.version != want {
			t.Errorf("%q: found %s, want %s", major, bin.version, want)
		}
	}
	if _, err := search(all, runAs{}, "14"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
}

func TestBinariesThatDoNotRunAreLeftOut(t *testing.T) {
	root := fakes(t, "17.1", "16.4")
	broken := filepath.Join(root, "17.1", "bin", "postgres")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho libnothing.so is missing\nexit 127\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := []place{{what: "fakes", dirs: newestFirst(root + "/*/bin")}}

	bin, err := search(all, runAs{}, "")
	if err != nil || bin.version != "16.4" {
		t.Errorf("found %v, %v; want 16.4", bin, err)
	}
	if _, err := search(all, runAs{}, "17"); err == nil || !strings.Contains(err.Error(), "libnothing.so is missing") {
		t.Errorf("err = %v, want why the newest does not run", err)
	}
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

// tools/postgres.sh decides whether to install anything by the same rules, written once more in shell.
func TestTheInstallScriptFindsWhatStartFinds(t *testing.T) {
	fake := filepath.Join(fakes(t, "17.1"), "17.1", "bin")
	for name, env := range map[string][2]string{
		"as it is":         {},
		"named":            {BinaryEnv, fake},
		"named but empty":  {BinaryEnv, t.TempDir()},
		"first in PATH":    {"PATH", fake + ":" + os.Getenv("PATH")},
		"PATH without any": {"PATH", t.TempDir() + ":/usr/bin:/bin"},
	} {
		t.Run(name, func(t *testing.T) {
			if env[0] != "" {
				t.Setenv(env[0], env[1])
			}
			dir, err := FindBinaries("")
			out, scriptErr := exec.Command("../../tools/postgres.sh", "--find").Output()

			if (err == nil) != (scriptErr == nil) {
				t.Errorf("devpg: %v; the script: %v", err, scriptErr)
			}
			if script := strings.TrimSpace(string(out)); script != dir {
				t.Errorf("devpg found %q, the script %q", dir, script)
			}
		})
	}
}
