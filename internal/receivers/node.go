package receivers

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
	dir, err := installed(t.Output())
	if err != nil {
		t.Fatalf("receivers: %v", err)
	}
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

// installed returns the folder of the Node.js receiver with its packages in it. Test binaries run side
// by side: one of them installs, the others wait.
func installed(output io.Writer) (dir string, err error) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("this test needs Node.js 20 or newer with npm: %w", err)
		}
	}
	if dir, err = nodeDir(); err != nil {
		return "", err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer folder.Close() // unlocks
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
	}

	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(lock)
	want := hex.EncodeToString(sum[:])
	stamp := filepath.Join(dir, "node_modules", ".fanfare")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return dir, nil
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	install.Dir, install.Stdout, install.Stderr = dir, output, output
	if err := install.Run(); err != nil {
		return "", fmt.Errorf("npm ci in %s: %w", dir, err)
	}
	return dir, os.WriteFile(stamp, []byte(want), 0o644)
}

// nodeDir looks for the receiver's folder above the working directory, which is inside the checkout in
// every test. The path of this file would not do: builds with -trimpath cut it off.
func nodeDir() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := start; ; at = filepath.Dir(at) {
		dir := filepath.Join(at, "internal", "receivers", "node")
		if _, err := os.Stat(filepath.Join(dir, "receiver.mjs")); err == nil {
			return dir, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no internal/receivers/node above %s", start)
		}
	}
}
