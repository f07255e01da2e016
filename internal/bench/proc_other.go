//go:build !linux

package bench

// readUsage has no source here.
func readUsage(int) (u usage, ok bool) { return u, false }

// resetPeak has nothing to reset.
func resetPeak(int) bool { return false }
