//go:build !linux

package bench

// readUsage has no source here.
func readUsage(int) (u usage, ok bool) { return u, false }

// readClock has no source here.
func readClock() (c clock, ok bool) { return c, false }

// resetPeak has nothing to reset.
func resetPeak(int) bool { return false }
