package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePrintedCommandsWorkAsTheyStand(t *testing.T) {
	n := dev(t)
	var commands []string
	for line := range strings.Lines(n.printed()) {
		if strings.HasPrefix(line, "curl ") {
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	if len(commands) != 3 {
		t.Fatalf("%d commands were printed:\n%s", len(commands), n.printed())
	}
	run := func(command string) string {
		out, err := exec.CommandContext(t.Context(), "bash", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return string(out)
	}
	var hook, event struct {
		ID      string
		Secret  string
		Matched int
	}
	for i, into := range []any{&hook, &event} {
		if out := run(commands[i]); json.Unmarshal([]byte(out), into) != nil {
			t.Fatalf("command %d answered %s", i+1, out)
		}
	}
	if !strings.HasPrefix(hook.Secret, "whsec_") || event.Matched != 1 {
		t.Errorf("webhook %+v, event %+v", hook, event)
	}
	n.until("the echo receiver shows the event", func() bool { return strings.Contains(run(commands[2]), event.ID) })
}

func TestTheSameDirectoryHasTheSameKeysAndOneNode(t *testing.T) {
	n := dev(t)
	first := n.cred
	file := filepath.Join(n.dir, "credentials.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials.json: %v %v", info.Mode(), err)
	}
	second := exec.CommandContext(t.Context(), binary, "dev", "--data", n.dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another 'fanfare dev' runs on "+n.dir) {
		t.Errorf("a second node on the directory: %v %s", err, out)
	}
	n.stop()
	n.start()
	if n.cred.AccountKey != first.AccountKey || n.cred.PlatformKey != first.PlatformKey || n.cred.AccountID != first.AccountID {
		t.Error("the keys or the account changed with a restart")
	}
	n.kill()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	n.start()
	if n.cred.AccountKey == first.AccountKey || n.cred.AccountID != first.AccountID {
		t.Error("without the file there must be new keys for the same account")
	}
	n.must("GET", "/v1/accounts/me/webhooks", first.AccountKey, nil, nil) // the old ones go on
	n.must("GET", "/v1/accounts/me/webhooks", n.cred.AccountKey, nil, nil)
}

func TestLoopbackCanBeDenied(t *testing.T) {
	n := dev(t, "--deny-loopback")
	status := n.call("POST", "/v1/accounts/me/webhooks", n.cred.AccountKey,
		map[string]any{"url": n.cred.URL + "/echo/demo", "event_types": []string{"*"}}, nil)
	if status != 422 {
		t.Errorf("a webhook to loopback was answered %d", status)
	}
}

func TestTheDemoAccountComesBackWhenSomebodyDeletedIt(t *testing.T) {
	n := dev(t)
	first := n.cred
	n.must("DELETE", "/v1/accounts/me", first.AccountKey, nil, nil)
	n.stop()
	n.start()
	if n.cred.AccountID == first.AccountID || n.cred.AccountKey == first.AccountKey {
		t.Error("the credentials are those of a deleted account")
	}
	n.must("GET", "/v1/accounts/me/webhooks", n.cred.AccountKey, nil, nil)
	second := n.cred
	n.stop()
	n.start()
	if n.cred.AccountID != second.AccountID || n.cred.AccountKey != second.AccountKey {
		t.Error("the new account was not kept")
	}
}
