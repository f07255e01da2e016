package lab

import (
	"syscall"
	"time"
)

// sleepUntil waits for t. The runtime's timers are up to a millisecond late, as much as a delivery takes:
// the end of the wait is the kernel's.
func sleepUntil(t time.Time) {
	const coarse = 2 * time.Millisecond
	if wait := time.Until(t) - coarse; wait > 0 {
		<-time.After(wait)
	}
	for wait := time.Until(t); wait > 0; wait = time.Until(t) {
		ts := syscall.NsecToTimespec(int64(wait))
		_ = syscall.Nanosleep(&ts, nil) // a signal ends it early
	}
}
