package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runAs is the user that runs Postgres. The zero value is the user of this process.
type runAs struct {
	name string
	cred *syscall.Credential
}

// unprivileged chooses who runs Postgres: ourselves, unless we are root, which Postgres refuses. Then
// it is the owner of the cluster in data, if there is one, else the user postgres or nobody.
func unprivileged(data string) (runAs, error) {
	if os.Geteuid() != 0 {
		return runAs{}, nil
	}
	if info, err := os.Stat(data); err == nil {
		owner := info.Sys().(*syscall.Stat_t)
		if owner.Uid != 0 {
			name := strconv.Itoa(int(owner.Uid))
			if u, err := user.LookupId(name); err == nil {
				name = u.Username
			}
			return runAs{name, &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseInt(u.Uid, 10, 64)
		gid, errGID := strconv.ParseInt(u.Gid, 10, 64)
		if errUID == nil && errGID == nil {
			return runAs{name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
		}
	}
	return runAs{}, errors.New("Postgres does not run as root, and there is no user postgres or nobody to run it as")
}

// String is "" or " as NAME", for messages.
func (r runAs) String() string {
	if r.cred == nil {
		return ""
	}
	return " as the user " + r.name
}

// own gives paths to the user.
func (r runAs) own(paths ...string) error {
	if r.cred == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(r.cred.Uid), int(r.cred.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// path is how the child names the open directory that command gave it. Another user may not be able
// to walk there (root's home and most temporary directories have mode 0700), so on Linux that user
// goes through the descriptor that it inherited, which asks for rights on the directory alone.
func (r runAs) path(dir *os.File) string {
	if r.cred == nil || runtime.GOOS != "linux" {
		return dir.Name()
	}
	return "/proc/self/fd/3" // the first of ExtraFiles
}

// command is a child that runs as the user, in a process group of its own: a Ctrl-C at the terminal is
// for us, who stop Postgres when its clients are done. dir may be nil.
func (r runAs) command(dir *os.File, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/" // ours may be closed to the user
	// Nothing else comes from our environment: PGDATA, PGOPTIONS and their kin would change the server.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if libs, ok := os.LookupEnv("LD_LIBRARY_PATH"); ok {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+libs)
	}
	if dir != nil {
		cmd.ExtraFiles = []*os.File{dir}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.cred, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second // a grandchild may hold the output open
	return cmd
}

// process is a child that gets SIGINT when this process ends, however it ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // how it ended; to be read after done
}

// spawn starts cmd.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux signals the child when the *thread* that forked it ends, and Go ends idle threads as it
		// likes. So this goroutine keeps its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tether(cmd)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		untie, err := guard(cmd.Process.Pid)
		if err != nil {
			err = errors.Join(err, cmd.Process.Kill(), cmd.Wait())
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		untie()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// wait returns how the child ended. If ctx ends first the child is killed.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		_ = p.cmd.Process.Kill()
		<-p.done
		return ctx.Err()
	}
}

// end sends sig to a postmaster and waits until it has ended; one that has ended already is no error.
// If ctx ends first it takes harder means: the process is gone in any case.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	signal := func(sig os.Signal) { _ = p.cmd.Process.Signal(sig) } // fails only if it has ended
	signal(sig)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	signal(syscall.SIGQUIT)
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case <-p.done:
	case <-patience.C:
		signal(syscall.SIGKILL)
		<-p.done
	}
	return fmt.Errorf("Postgres did not end in time and was made to: %w", ctx.Err())
}

// tail is the end of what a log got since offset start, for an error message.
func tail(path string, start int64) string {
	const limit = 2 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size()-start > limit {
		start = info.Size() - limit
	}
	text, err := io.ReadAll(io.NewSectionReader(f, start, limit))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s says:\n%s", path, strings.TrimSpace(string(text)))
}

// openLog opens the log of Postgres for appending. One that grew large makes room for a new one.
func openLog(path string) (*os.File, error) {
	const large = 16 << 20
	if info, err := os.Stat(path); err == nil && info.Size() > large {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}
