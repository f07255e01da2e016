package receivers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const (
	// startTimeout is for a process on a busy machine; it starts within a second on an idle one.
	startTimeout = 30 * time.Second
	// endTimeout is how long a process has to end after its standard input did.
	endTimeout = 10 * time.Second
)

// start starts a process that receives: it prints "listening PORT" and then a report a line, and ends with its
// standard input, even if this process is killed.
func start(t testing.TB, dir, secret string, command ...string) *Receiver {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "FANFARE_SECRET="+secret)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
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
			t.Errorf("receivers: %s did not end with its standard input", command[0])
			cmd.Process.Kill()
			<-ended
		}
	})
	select {
	case r.URL = <-url:
	case <-ended:
		_, _, err := r.take()
		t.Fatalf("receivers: %s did not start: %v", command[0], err)
	case <-time.After(startTimeout):
		t.Fatalf("receivers: %s did not listen within %v", command[0], startTimeout)
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
