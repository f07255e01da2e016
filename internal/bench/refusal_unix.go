//go:build unix

package bench

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// refusal is an address of this machine at which nobody listens, and nobody else can: a connection to it
// is refused at once.
type refusal struct {
	address string
	fd      int
}

func newRefusal() (*refusal, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	syscall.CloseOnExec(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), syscall.Close(fd))
	}
	name, err := syscall.Getsockname(fd)
	bound, ok := name.(*syscall.SockaddrInet4)
	if err != nil || !ok {
		return nil, errors.Join(os.NewSyscallError("getsockname", err), syscall.Close(fd))
	}
	return &refusal{address: fmt.Sprintf("127.0.0.1:%d", bound.Port), fd: fd}, nil
}

func (r *refusal) close() error { return syscall.Close(r.fd) }
