package bench

import (
	"context"
	"syscall"
	"time"
)

// sleepUntil waits for t and reports whether ctx lasted that long. The runtime's timers are up to a
// millisecond late, as much as a delivery takes: the end of the wait is the kernel's.
func sleepUntil(ctx context.Context, t time.Time) bool {
	const coarse = 2 * time.Millisecond
	if wait := time.Until(t) - coarse; wait > 0 && !pause(ctx, wait) {
		return false
	}
	for wait := time.Until(t); wait > 0; wait = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(wait))
		_ = syscall.Nanosleep(&ts, nil) // a signal ends it early
	}
	return ctx.Err() == nil
}
