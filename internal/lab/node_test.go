package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// node is a `fanfare serve`.
type node struct {
	l     *lab
	api   string
	admin string
	cmd   *exec.Cmd
	out   string        // the file that it prints to
	took  time.Duration // from the start to its first answer
	done  chan struct{} // closed when it has ended
	err   error         // how it ended; read after done
}

// start runs n more nodes and waits until they answer.
func (l *lab) start(n int) {
	l.Helper()
	if len(l.nodes) == 0 {
		l.env["FANFARE_MIGRATE"] = "true"
	}
	for range n {
		l.startNode()
	}
}

func (l *lab) startNode() *node {
	l.Helper()
	tags := ""
	if l.env["FANFARE_WEAKEN"] != "" {
		tags = "weakened"
	}
	binary := build(l.T, tags)
	out, err := os.CreateTemp(l.TempDir(), "node-")
	l.ok(err)
	defer out.Close()
	n := &node{l: l, out: out.Name(), done: make(chan struct{})}
	n.cmd = exec.Command(binary, "serve")
	n.cmd.Stdout, n.cmd.Stderr = out, out
	for name, value := range l.env {
		n.cmd.Env = append(n.cmd.Env, name+"="+value)
	}
	begin := time.Now()
	l.ok(n.spawn())
	l.Cleanup(func() {
		if l.Failed() {
			l.Logf("the end of the node's log:\n%s", tail(n.printed(), 20))
		}
		n.kill()
	})
	l.until("the node answers", func() bool {
		select {
		case <-n.done:
			l.Fatalf("the node ended: %v\n%s", n.err, n.printed())
		default:
		}
		return n.serving() && n.answers()
	})
	n.took = time.Since(begin)
	l.nodes = append(l.nodes, n)
	return n
}

// spawn starts the process on a thread that stays until it has ended: Linux ends the child with the
// *thread* that forked it.
func (n *node) spawn() error {
	tether(n.cmd)
	started := make(chan error)
	go func() {
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

// serving reads from the log where the node listens.
func (n *node) serving() bool {
	for line := range strings.Lines(n.printed()) {
		var said struct{ Msg, API, Admin string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "serving" {
			n.api, n.admin = "http://"+said.API, "http://"+said.Admin
			return true
		}
	}
	return false
}

func (n *node) answers() bool {
	resp, err := n.l.http.Get(n.api + "/hc")
	if err != nil {
		return false
	}
	text, err := readAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && string(text) == "OK"
}

func (n *node) printed() string {
	text, err := os.ReadFile(n.out)
	n.l.ok(err)
	return string(text)
}

// stop ends the node as a deploy does.
func (n *node) stop() {
	n.l.Helper()
	n.l.ok(n.cmd.Process.Signal(syscall.SIGTERM))
	<-n.done
	if n.err != nil {
		n.l.Errorf("the node did not stop cleanly: %v\n%s", n.err, tail(n.printed(), 20))
	}
}

// kill ends it as a power cut does; it may have ended before.
func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	<-n.done
}

// panicked reports whether the node's log shows a panic, also one that was caught.
func (n *node) panicked() bool {
	return bytes.Contains([]byte(n.printed()), []byte("panic")) || n.ended()
}

func (n *node) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("(%d lines before)", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
