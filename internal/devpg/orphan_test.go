package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

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

// checkpointer is the pid of a child of Postgres: stopped, it holds up a shutdown.
func checkpointer(t *testing.T, url string) int {
	t.Helper()
	pid, err := strconv.Atoi(ask(t, url, `SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'`))
	if err != nil {
		t.Fatal(err)
	}
	return pid
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
