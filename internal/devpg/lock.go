package devpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lockGrace is how long a held lock is asked for again: a process that was killed gives its lock back
// only when the last of its threads has ended.
const lockGrace = time.Second

// acquire locks dir for this process until the file is closed or the process ends. It is what tells a
// server that somebody uses from one that was left behind. [ErrInUse] says that somebody does.
func acquire(ctx context.Context, dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	for deadline := time.Now().Add(lockGrace); ; {
		f, err := tryLock(path)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) || !pause(ctx, 25*time.Millisecond) {
			return nil, err
		}
	}
}

func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // only for the message
		return nil, fmt.Errorf("the database directory %s is %w (pid %s)",
			filepath.Dir(path), ErrInUse, strings.TrimSpace(string(holder)))
	}
	// The file that we opened may have been removed before we locked it; then the lock is on nothing.
	opened, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(path); err == nil && !os.SameFile(opened, now) {
			err = fmt.Errorf("%s was replaced: %w", path, ErrInUse)
		}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
