package receivers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// startTimeout is for a Node.js process on a busy machine; it starts within a second on an idle one.
	startTimeout = 30 * time.Second
	// endTimeout is how long a process has to end after its standard input did.
	endTimeout = 10 * time.Second
)

// StartNode starts a Node.js process that verifies against a secret (whsec_…) with the npm package
// standardwebhooks, which it installs into the checkout when it is not there. Without Node.js the test
// fails.
func StartNode(t testing.TB, secret string) *Receiver {
	t.Helper()
	dir := Packages(t, filepath.Join("internal", "receivers", "node"))
	cmd := exec.Command("node", "receiver.mjs")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "FANFARE_SECRET="+secret)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe() // the process ends with it, even if this one is killed
	if err != nil {
		t.Fatalf("receivers: %v", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("receivers: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("receivers: %v", err)
	}

	r := newReceiver(t)
	url, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		err := r.read(stdout, url)
		r.end(errors.Join(errEnded, err, cmd.Wait()))
	}()
	t.Cleanup(func() {
		stdin.Close()
		select {
		case <-ended:
		case <-time.After(endTimeout):
			t.Error("receivers: node did not end with its standard input")
			cmd.Process.Kill()
			<-ended
		}
	})
	select {
	case r.URL = <-url:
	case <-ended:
		_, _, err := r.take()
		t.Fatalf("receivers: node did not start: %v", err)
	case <-time.After(startTimeout):
		t.Fatalf("receivers: node did not listen within %v", startTimeout)
	}
	return r
}

// read takes what the process prints to its end: where it listens, then its reports.
func (r *Receiver) read(stdout io.Reader, url chan<- string) error {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if port, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			url <- "http://127.0.0.1:" + port
			continue
		}
		var report Report
		if err := json.Unmarshal(lines.Bytes(), &report); err != nil {
			return fmt.Errorf("%q is no report: %w", lines.Text(), err)
		}
		r.add(report)
	}
	return lines.Err()
}
