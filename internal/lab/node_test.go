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
	out   string // the file that it prints to; "": none that could be read
	born  time.Time
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
	n := l.spawnNode(nil, nil)
	l.until("the node answers", func() bool {
		select {
		case <-n.done:
			l.Fatalf("the node ended: %v\n%s", n.err, n.printed())
		default:
		}
		return n.serving() && n.answers()
	})
	n.took = time.Since(n.born)
	l.nodes = append(l.nodes, n)
	return n
}

// spawnNode starts a node and does not wait for it. more is added to its environment. It prints to log, nil:
// to a file of its own, which says where it listens.
func (l *lab) spawnNode(more map[string]string, log *os.File) *node {
	l.Helper()
	tags := ""
	if l.env["FANFARE_WEAKEN"] != "" {
		tags = "weakened"
	}
	binary := build(l.T, tags)
	n := &node{l: l, done: make(chan struct{})}
	if log == nil {
		var err error
		log, err = os.CreateTemp(l.TempDir(), "node-")
		l.ok(err)
		defer log.Close()
		n.out = log.Name()
	}
	n.cmd = exec.Command(binary, "serve")
	n.cmd.Stdout, n.cmd.Stderr = log, log
	for _, env := range []map[string]string{l.env, more} { // the last one wins
		for name, value := range env {
			n.cmd.Env = append(n.cmd.Env, name+"="+value)
		}
	}
	n.born = time.Now()
	l.ok(n.spawn())
	l.Cleanup(func() {
		if l.Failed() {
			l.Logf("the end of the node's log:\n%s", tail(n.printed(), 20))
		}
		n.kill()
	})
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
	if n.out == "" {
		return ""
	}
	text, err := os.ReadFile(n.out)
	n.l.ok(err)
	return string(text)
}

// stop ends the node as a deploy does.
func (n *node) stop() {
	n.l.Helper()
	n.remember()
	n.l.ok(n.cmd.Process.Signal(syscall.SIGTERM))
	<-n.done
	if n.err != nil {
		n.l.Errorf("the node did not stop cleanly: %v\n%s", n.err, tail(n.printed(), 20))
	}
}

// kill ends it as a power cut does; it may have ended before.
func (n *node) kill() {
	n.remember()
	_ = n.cmd.Process.Kill()
	<-n.done
}

// freeze stops the process where it is, until thaw: to the others it looks dead, and it does not know.
func (n *node) freeze() {
	n.l.Helper()
	n.l.ok(n.cmd.Process.Signal(syscall.SIGSTOP))
}

func (n *node) thaw() {
	n.l.Helper()
	n.l.ok(n.cmd.Process.Signal(syscall.SIGCONT))
}

// said counts the lines of the node's log with a text.
func (n *node) said(text string) int64 { return int64(strings.Count(n.printed(), text)) }

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
