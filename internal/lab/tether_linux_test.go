package lab

import (
	"os/exec"
	"syscall"
)

// tether has the kernel end the child of cmd when the thread that starts it ends.
func tether(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
