package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfare-webhooks/fanfare/internal/receivers"
	"github.com/fanfare-webhooks/fanfare/signature"
)

// example is one of examples/receivers at work.
type example struct {
	*testing.T
	url   string // of its hooks
	lines chan string
	done  chan struct{}
	cmd   *exec.Cmd
}

// startExample starts an example that signs with the secret. It is told to end when the test does, and must.
func startExample(t *testing.T, secret signature.Secret, dir, command string, args ...string) *example {
	t.Helper()
	e := &example{T: t, lines: make(chan string, 1000), done: make(chan struct{})}
	e.cmd = exec.Command(command, args...)
	e.cmd.Dir = dir
	e.cmd.Env = append(os.Environ(), "SECRET="+secret.Text(), "LISTEN=127.0.0.1:0")
	e.cmd.Stderr = t.Output()
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			e.lines <- lines.Text()
		}
		_ = e.cmd.Wait()
	}()
	t.Cleanup(func() {
		e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.done:
		case <-time.After(10 * time.Second):
			t.Error("the example did not end when it was told to")
			e.cmd.Process.Kill()
			<-e.done
		}
	})
	var ok bool
	if e.url, ok = strings.CutPrefix(e.line(), "listening on "); !ok {
		t.Fatalf("the example does not say where it listens, but %q", e.url)
	}
	return e
}

// line is the next line that the example prints.
func (e *example) line() string {
	e.Helper()
	select {
	case line := <-e.lines:
		return line
	case <-e.done:
		e.Fatal("the example has ended")
	case <-time.After(30 * time.Second):
		e.Fatal("the example says nothing")
	}
	return ""
}

// post sends a request that is signed with the secret and gives the answer's status.
func (e *example) post(secret signature.Secret, id string, body []byte) int {
	e.Helper()
	r, err := http.NewRequestWithContext(e.Context(), http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		e.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	signature.SetHeaders(r.Header, id, time.Now(), body, secret)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		e.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// tried are the commands of the page about the examples that its reader types to try one.
func tried(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../examples/receivers/README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(export URL=.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 1 {
		t.Fatalf("the page has %d blocks that begin with export URL", len(blocks))
	}
	_, commands, _ := strings.Cut(string(blocks[0][1]), "\n") // the reader's own URL, KEY and SECRET
	return commands
}

func TestTheExampleReceivers(t *testing.T) {
	n := dev(t)
	commands := tried(t)
	root, err := receivers.Folder(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T, secret signature.Secret) *example{
		"go": func(t *testing.T, secret signature.Secret) *example {
			built := filepath.Join(t.TempDir(), "receiver")
			if out, err := exec.Command("go", "build", "-o", built, filepath.Join(root, "examples/receivers/go")).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return startExample(t, secret, t.TempDir(), built)
		},
		"node": func(t *testing.T, secret signature.Secret) *example {
			return startExample(t, secret, receivers.Packages(t, "examples/receivers/node"), "node", "receiver.mjs")
		},
		"python": func(t *testing.T, secret signature.Secret) *example {
			return startExample(t, secret, filepath.Join(root, "examples/receivers/python"), receivers.Python(t), "receiver.py")
		},
	} {
		t.Run(name, func(t *testing.T) {
			secret := signature.GenerateSecret()
			e := start(t, secret)

			// As the page says.
			typed := exec.Command("bash", "-euc", strings.ReplaceAll(commands, "http://127.0.0.1:8000/hooks", e.url))
			typed.Env = append(os.Environ(), "URL="+n.cred.URL, "KEY="+n.cred.AccountKey, "SECRET="+secret.Text())
			if out, err := typed.CombinedOutput(); err != nil || !strings.Contains(string(out), `"matched":1`) {
				t.Fatalf("%v\n%s", err, out)
			}
			if line := e.line(); !strings.HasPrefix(line, "handled ") || !strings.HasSuffix(line, " invoice.paid") {
				t.Errorf("it printed %q", line)
			}
			var hooks page[struct {
				ID string `json:"id"`
			}]
			n.must("GET", "/v1/accounts/me/webhooks", n.cred.AccountKey, nil, &hooks)

			// Whatever is published.
			published := make(map[string]bool)
			for _, body := range awkward(t) {
				published["handled "+publishVerbatim(n, body)+" invoice.paid"] = true
			}
			for range len(published) {
				if line := e.line(); !published[line] {
					t.Fatalf("it printed %q", line)
				} else {
					delete(published, line)
				}
			}
			n.must("DELETE", "/v1/accounts/me/webhooks/"+hooks.Data[0].ID, n.cred.AccountKey, nil, nil)

			// What no sender should.
			answer, err := http.Get(strings.TrimSuffix(e.url, "hooks") + "hc")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "OK" {
				t.Errorf("/hc: %q, %v", body, err)
			}
			id := uuid.NewString()
			body := []byte(fmt.Sprintf(`{"id":%q,"type":"a.b","data":{}}`, id))
			if got := e.post(signature.GenerateSecret(), id, body); got != http.StatusUnauthorized {
				t.Errorf("another's signature is answered %d", got)
			}
			if got := e.post(secret, id, append(body, bytes.Repeat([]byte(" "), 1<<20)...)); got != http.StatusRequestEntityTooLarge {
				t.Errorf("a body that is too large is answered %d", got)
			}
			for i, want := range []int{http.StatusAccepted, http.StatusOK, http.StatusOK} {
				if got := e.post(secret, id, body); got != want {
					t.Errorf("time %d: answered %d", i+1, got)
				}
			}
			last := uuid.NewString()
			e.post(secret, last, []byte(fmt.Sprintf(`{"id":%q,"type":"a.b","data":{}}`, last)))
			for _, id := range []string{id, last} {
				if line := e.line(); line != "handled "+id+" a.b" {
					t.Errorf("it printed %q", line)
				}
			}
		})
	}
}

// publishVerbatim publishes data whose bytes encoding/json may not touch, and gives the event's id.
func publishVerbatim(n *node, data string) string {
	n.Helper()
	body := strings.NewReader(`{"type":"invoice.paid","data":` + data + `}`)
	r, err := http.NewRequestWithContext(n.Context(), http.MethodPost, n.cred.URL+"/v1/accounts/me/events", body)
	if err != nil {
		n.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+n.cred.AccountKey)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		n.Fatal(err)
	}
	defer answer.Body.Close()
	var event struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&event); err != nil || answer.StatusCode != http.StatusAccepted {
		n.Fatalf("%d, %v: %s", answer.StatusCode, err, data)
	}
	return event.ID
}
