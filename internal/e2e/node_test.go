// Package e2e drives the real binary as its users do: as a process that is started, stopped and killed,
// over HTTP, with receivers that others wrote. It hides how that process is run and asked.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-webhooks/fanfare/internal/client"
	"github.com/fanfare-webhooks/fanfare/internal/devpg"
)

// binary is the build under test; TestMain makes it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fanfare-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "fanfare")
		build := exec.Command("go", "build", "-o", binary, "../../cmd/fanfare")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		code := m.Run()
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(); code == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// node is a `fanfare dev` on a directory; it can be started again after it has ended.
type node struct {
	*testing.T
	dir  string
	args []string
	cred client.Credentials
	cmd  *exec.Cmd
	out  string        // the file that the current process prints to
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// dev starts a node in a directory of its own.
func dev(t *testing.T, args ...string) *node {
	t.Helper()
	n := &node{T: t, dir: t.TempDir(), args: args}
	t.Cleanup(func() {
		if n.cmd != nil {
			n.kill()
		}
		if err := devpg.Remove(context.Background(), filepath.Join(n.dir, "postgres")); err != nil {
			t.Error(err)
		}
	})
	n.start()
	return n
}

func (n *node) start() {
	n.Helper()
	out, err := os.CreateTemp(n.TempDir(), "out-")
	if err != nil {
		n.Fatal(err)
	}
	defer out.Close()
	n.out = out.Name()
	args := append([]string{"dev", "--data", n.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, n.args...)
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	done := make(chan struct{})
	n.cmd, n.done = cmd, done
	go func() { n.err = cmd.Wait(); close(done) }()
	n.until("the node answers", func() bool {
		select {
		case <-done:
			n.Fatalf("the node ended: %v\n%s", n.err, n.printed())
		default:
		}
		text, err := os.ReadFile(filepath.Join(n.dir, "credentials.json"))
		if err != nil || json.Unmarshal(text, &n.cred) != nil || n.cred.PID != cmd.Process.Pid {
			return false
		}
		resp, err := http.Get(n.cred.URL + "/hc")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && string(body) == "OK"
	})
}

// printed is what the current process has printed.
func (n *node) printed() string {
	text, err := os.ReadFile(n.out)
	if err != nil {
		n.Fatal(err)
	}
	return string(text)
}

// stop ends the node as a deploy does.
func (n *node) stop() {
	n.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.Fatal(err)
	}
	<-n.done
	if n.cmd = nil; n.err != nil {
		n.Fatalf("the node did not stop cleanly: %v\n%s", n.err, n.printed())
	}
}

// kill ends it as a power cut does.
func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	<-n.done
	n.cmd = nil
}

// call asks the API with a key and reads a JSON answer into out.
func (n *node) call(method, path, key string, body, out any) int {
	n.Helper()
	status, err := n.try(method, path, key, body, out)
	if err != nil {
		n.Fatalf("%s %s: %v", method, path, err)
	}
	return status
}

func (n *node) try(method, path, key string, body, out any) (int, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.cred.URL+path, in)
	if err != nil {
		return 0, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if out != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, out); err != nil {
			return resp.StatusCode, fmt.Errorf("%d: %w: %s", resp.StatusCode, err, text)
		}
	}
	if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable {
		return resp.StatusCode, fmt.Errorf("%d: %s", resp.StatusCode, text)
	}
	if resp.StatusCode >= 400 {
		n.Logf("%s %s: %d %s", method, path, resp.StatusCode, strings.TrimSpace(string(text)))
	}
	return resp.StatusCode, nil
}

// must is call for what has to succeed.
func (n *node) must(method, path, key string, body, out any) {
	n.Helper()
	if status := n.call(method, path, key, body, out); status >= 300 {
		n.Fatalf("%s %s: %d", method, path, status)
	}
}

// until polls for a condition.
func (n *node) until(what string, done func() bool) {
	n.Helper()
	for deadline := time.Now().Add(60 * time.Second); !done(); {
		if time.Now().After(deadline) {
			n.Fatalf("never: %s", what)
		}
		wait(20 * time.Millisecond)
	}
}

func wait(d time.Duration) { <-time.After(d) }
