//go:build unix && (!linux || devpg_portable)

package devpg

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// tether is left to guard: only Linux can tell a child of its parent's death.
func tether(*exec.Cmd) {}

// guard starts a shell that reads from a pipe to this process, which ends when this process does, and
// then sends SIGINT to pid. The caller unties it when pid has ended.
func guard(pid int) (untie func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", `read -r line; kill -INT "$1"`, "sh", strconv.Itoa(pid))
	cmd.Stdin = r
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reports our own Kill
		w.Close()
	}, nil
}

// runs reports whether pid is a postmaster of the cluster in data, by its command line.
func runs(pid int, data string) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	stat, command, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return !strings.HasPrefix(stat, "Z") && strings.Contains(command, "postgres") &&
		(strings.Contains(command, data) || strings.Contains(command, "/proc/self/fd/"))
}
