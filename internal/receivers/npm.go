package receivers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Packages gives a folder of the checkout, named from its root, with the npm packages in it that its
// package-lock.json names: it installs them when they are not there. Without Node.js the test fails.
func Packages(t testing.TB, folder string) (dir string) {
	t.Helper()
	dir, err := Folder(folder)
	if err == nil {
		err = install(dir, t.Output())
	}
	if err != nil {
		t.Fatalf("receivers: %v", err)
	}
	return dir
}

// install brings the packages of a folder. Test binaries run side by side: one of them installs, the others
// wait.
func install(dir string, output io.Writer) error {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("this test needs Node.js 20 or newer with npm: %w", err)
		}
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close() // unlocks
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}

	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(lock)
	want := hex.EncodeToString(sum[:])
	stamp := filepath.Join(dir, "node_modules", ".fanfare")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return nil
	}
	ci := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	ci.Dir, ci.Stdout, ci.Stderr = dir, output, output
	if err := ci.Run(); err != nil {
		return fmt.Errorf("npm ci in %s: %w", dir, err)
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// Folder finds a folder of the checkout by its name from the root, looking above the working directory, which
// is inside the checkout in every test. The path of this file would not do: builds with -trimpath cut it off.
func Folder(name string) (dir string, err error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := start; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			dir := filepath.Join(at, name)
			_, err := os.Stat(dir)
			return dir, err
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no checkout above %s", start)
		}
	}
}
