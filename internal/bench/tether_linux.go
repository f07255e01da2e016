package bench

import (
	"os/exec"
	"syscall"
)

// tether has the kernel end the child of cmd when the thread that starts it ends.
func tether(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM }
