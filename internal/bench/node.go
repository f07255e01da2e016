//go:build unix

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	nodes "github.com/fanfare-webhooks/fanfare/internal/client"
)

// FindNode reads where the node of `fanfare dev --data dir` is.
func FindNode(dir string) (Target, error) {
	c, err := nodes.FindDev(dir)
	if err != nil {
		return Target{}, err
	}
	return Target{URL: c.URL, AdminURL: c.AdminURL, PlatformKey: c.PlatformKey, Key: c.AccountKey, PID: c.PID}, nil
}

// Node is a private node with a Postgres of its own, which ends with this process.
type Node struct {
	Target Target

	dir    string
	stderr bytes.Buffer // to be read after done
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	err    error         // how it ended; to be read after done
}

const (
	startTime = time.Minute
	stopTime  = time.Minute // more than a stop of the node and its Postgres takes
)

// StartNode runs `binary dev` in a directory of its own. The caller stops it.
func StartNode(ctx context.Context, binary string) (*Node, error) {
	dir, err := os.MkdirTemp("", "fanfare-bench-")
	if err != nil {
		return nil, err
	}
	n := &Node{dir: dir, done: make(chan struct{})}
	if err := n.start(ctx, binary); err != nil {
		return nil, errors.Join(fmt.Errorf("start a node: %w", err), os.RemoveAll(dir))
	}
	return n, nil
}

func (n *Node) start(ctx context.Context, binary string) (err error) {
	if err := os.Chmod(n.dir, 0o755); err != nil { // Postgres may run as another user and must get through
		return err
	}
	n.cmd = exec.Command(binary, "dev", "--data", n.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")
	n.cmd.Stderr = &n.stderr
	if err := n.spawn(); err != nil {
		return err
	}
	if n.Target, err = n.await(ctx); err != nil {
		_ = n.end() // what await saw says more
	}
	return err
}

// await polls for the credentials, which the node writes when it answers.
func (n *Node) await(ctx context.Context) (Target, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-n.done:
			return Target{}, fmt.Errorf("it ended: %w: %s", n.err, strings.TrimSpace(n.stderr.String()))
		case <-ctx.Done():
			return Target{}, ctx.Err()
		case <-tick.C:
		}
		t, err := FindNode(n.dir)
		if err == nil && t.PID == n.cmd.Process.Pid {
			return t, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Target{}, err
		}
	}
}

// Stop ends the node and deletes its directory.
func (n *Node) Stop() error { return errors.Join(n.end(), os.RemoveAll(n.dir)) }

// end ends the process, by force if it takes longer than it should.
func (n *Node) end() error {
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	patience := time.NewTimer(stopTime)
	defer patience.Stop()
	select {
	case <-n.done:
	case <-patience.C:
		_ = n.cmd.Process.Kill()
		<-n.done
	}
	if n.err != nil {
		return fmt.Errorf("stop the node: %w: %s", n.err, strings.TrimSpace(n.stderr.String()))
	}
	return nil
}

// spawn starts the process, in a group of its own: a Ctrl-C at the terminal is for us, who still want
// an answer from it.
func (n *Node) spawn() error {
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	tether(n.cmd)
	started := make(chan error)
	go func() {
		// Linux signals the child when the *thread* that forked it ends: this goroutine keeps its thread
		// until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := n.cmd.Start()
		started <- err
		if err == nil {
			n.err = n.cmd.Wait()
			close(n.done)
		}
	}()
	return <-started
}
