//go:build linux && !devpg_portable

package devpg

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// tether has the kernel send SIGINT, a fast shutdown, to the child of cmd when the thread that starts
// it ends. It survives the change of user: Go asks for it after that, and exec keeps it for a program
// without set-id bits.
func tether(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGINT }

// guard has nothing to add to tether.
func guard(int) (untie func(), err error) { return func() {}, nil }

// runs reports whether pid is a postmaster of the cluster in data: every process of Postgres works in
// its cluster's directory. A zombie works nowhere.
func runs(pid int, data string) bool {
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false
	}
	own, err := os.Stat(data)
	return err == nil && os.SameFile(cwd, own)
}
