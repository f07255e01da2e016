package devpg

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMissingBinariesAreExplained(t *testing.T) {
	empty := t.TempDir()
	t.Setenv(BinaryEnv, empty)
	_, fromEnv := FindBinaries("")
	_, given := FindBinaries(empty)
	_, nowhere := search([]place{{what: "PATH", dirs: []string{empty}}, {what: "/opt/x/*"}}, runAs{}, "")

	for name, err := range map[string]error{BinaryEnv: fromEnv, "the given directory": given, "PATH": nowhere, "/opt/x/*": nowhere} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: err = %v, want ErrNotFound", name, err)
			continue
		}
		for _, want := range []string{name, "apt-get install postgresql", "dnf install postgresql-server", "brew install postgresql"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the message lacks %q:\n%v", name, want, err)
			}
		}
	}
}

// fakes makes directories root/VERSION/bin whose postgres says that it is of that version.
func fakes(t *testing.T, versions ...string) (root string) {
	t.Helper()
	root, err := os.MkdirTemp("", "devpg-bin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil { // another user runs them if we are root
		t.Fatal(err)
	}
	for _, version := range versions {
		bin := filepath.Join(root, version, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + " (Some System)'\n"
		for _, name := range []string{"initdb", "postgres"} {
			if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestTheNewestVersionWinsByItsNumber(t *testing.T) {
	root := fakes(t, "9.6", "15", "9.10", "100", "16.2")

	dirs := newestFirst(root + "/*/bin")

	want := []string{"100", "16.2", "15", "9.10", "9.6"}
	for i := range want {
		want[i] = filepath.Join(root, want[i], "bin")
	}
	if !slices.Equal(dirs, want) {
		t.Errorf("order = %v, want %v", dirs, want)
	}
}

func TestAClustersOwnVersionIsPreferred(t *testing.T) {
	root := fakes(t, "17.1", "16.4", "9.6.2")
	all := []place{{what: "fakes", dirs: newestFirst(root + "/*/bin")}}
	for major, want := range map[string]string{"": "17.1", "16": "16.4", "9.6": "9.6.2"} {
		bin, err := search(all, runAs{}, major)
		if err != nil {
			t.Errorf("%q: %v", major, err)
		}
		if bin.version != want {
			t.Errorf("%q: found %s, want %s", major, bin.version, want)
		}
	}
	if _, err := search(all, runAs{}, "14"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
}

func TestBinariesThatDoNotRunAreLeftOut(t *testing.T) {
	root := fakes(t, "17.1", "16.4")
	broken := filepath.Join(root, "17.1", "bin", "postgres")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho libnothing.so is missing\nexit 127\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := []place{{what: "fakes", dirs: newestFirst(root + "/*/bin")}}

	bin, err := search(all, runAs{}, "")
	if err != nil || bin.version != "16.4" {
		t.Errorf("found %v, %v; want 16.4", bin, err)
	}
	if _, err := search(all, runAs{}, "17"); err == nil || !strings.Contains(err.Error(), "libnothing.so is missing") {
		t.Errorf("err = %v, want why the newest does not run", err)
	}
}

// tools/postgres.sh decides whether to install anything by the same rules, written once more in shell.
func TestTheInstallScriptFindsWhatStartFinds(t *testing.T) {
	fake := filepath.Join(fakes(t, "17.1"), "17.1", "bin")
	for name, env := range map[string][2]string{
		"as it is":         {},
		"named":            {BinaryEnv, fake},
		"named but empty":  {BinaryEnv, t.TempDir()},
		"first in PATH":    {"PATH", fake + ":" + os.Getenv("PATH")},
		"PATH without any": {"PATH", t.TempDir() + ":/usr/bin:/bin"},
	} {
		t.Run(name, func(t *testing.T) {
			if env[0] != "" {
				t.Setenv(env[0], env[1])
			}
			dir, err := FindBinaries("")
			out, scriptErr := exec.Command("../../tools/postgres.sh", "--find").Output()

			if (err == nil) != (scriptErr == nil) {
				t.Errorf("devpg: %v; the script: %v", err, scriptErr)
			}
			if script := strings.TrimSpace(string(out)); script != dir {
				t.Errorf("devpg found %q, the script %q", dir, script)
			}
		})
	}
}
