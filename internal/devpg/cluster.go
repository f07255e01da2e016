package devpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ready makes the cluster if there is none, and returns binaries that can run it.
func (s *Server) ready(ctx context.Context) (binaries, error) {
	// What an initdb left behind that was killed. Nobody works in there: we hold the lock.
	left, _ := filepath.Glob(filepath.Join(s.dir, "init-*")) // the only error is a malformed pattern
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return binaries{}, err
		}
	}

	all := places(s.opts.BinDir)
	text, err := os.ReadFile(filepath.Join(s.data(), "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(s.data()); err == nil {
			return binaries{}, fmt.Errorf("%s is there but is no cluster of Postgres", s.data())
		}
		bin, err := search(all, s.user, "")
		if err != nil {
			return binaries{}, err
		}
		return bin, s.initialize(ctx, bin)
	}
	if err != nil {
		return binaries{}, err
	}

	major := strings.TrimSpace(string(text))
	bin, err := search(all, s.user, major)
	if err == nil {
		return bin, nil
	}
	other, errOther := search(all, s.user, "")
	if errOther != nil {
		return binaries{}, errOther
	}
	return binaries{}, fmt.Errorf("%w: the cluster in %s is of Postgres %s, and %s has %s. "+
		"Install Postgres %s, or delete %s, and with it the data, to begin anew",
		ErrVersion, s.dir, major, other.dir, other.version, major, s.dir)
}

// initialize makes the cluster. It appears under its name complete or not at all.
func (s *Server) initialize(ctx context.Context, bin binaries) error {
	start := time.Now()
	tmp, err := os.MkdirTemp(s.dir, "init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	password := rand.Text()
	if err := writeDurably(filepath.Join(tmp, "password"), password); err != nil {
		return err
	}
	if err := s.user.own(tmp, filepath.Join(tmp, "password")); err != nil {
		return err
	}
	home, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer home.Close()

	path := s.user.path(home)
	args := []string{
		"-D", path + "/data", "--username", superuser, "--pwfile", path + "/password",
		"--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256",
	}
	if s.opts.Fast {
		args = append(args, "--no-sync")
	}
	cmd := s.user.command(home, filepath.Join(bin.dir, "initdb"), args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := spawn(cmd)
	if err == nil {
		err = proc.wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("make a cluster in %s with %s%s: %w\n%s", s.dir, cmd.Path, s.user, err, strings.TrimSpace(out.String()))
	}

	if err := writeDurably(filepath.Join(s.dir, "password"), password); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tmp, "data"), s.data()); err != nil {
		return err
	}
	s.log.Info("made a cluster of Postgres", "dir", s.dir, "version", bin.version, "took", time.Since(start).Round(time.Millisecond))
	return syncDir(s.dir)
}

// readPassword is the superuser's password for TCP.
func readPassword(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "password"))
	return strings.TrimSpace(string(text)), err
}

// postmasterFile returns the lines of postmaster.pid: pid, directory, start, port, socket directory,
// address, shared memory, and the status, once each is known. nil: no server is or was there.
func postmasterFile(data string) []string {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// endOrphan waits for a Postgres on the cluster in data that lost its parent, which asked it to end by
// dying. The caller holds the lock, so no living process owns that server.
func endOrphan(ctx context.Context, data string) error {
	lines := postmasterFile(data)
	if lines == nil {
		return nil
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return nil // a torn file: Postgres judges it
	}
	if runs(pid, data) {
		_ = syscall.Kill(pid, syscall.SIGINT) // in case the system did not; it may just have ended
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for runs(pid, data) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("wait for the Postgres of an earlier run (pid %d) to end: %w", pid, ctx.Err())
			}
		}
	}
	// A file that is still there was left by a crash. If its pid lives it is by now somebody else's, but
	// Postgres would take that process for a postmaster and refuse to start.
	if lines := postmasterFile(data); lines != nil && lines[0] == strconv.Itoa(pid) && syscall.Kill(pid, 0) == nil {
		return os.Remove(filepath.Join(data, "postmaster.pid"))
	}
	return nil
}

// writeDurably makes a file that only its owner can read, and flushes it.
func writeDurably(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir flushes the names in dir.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
