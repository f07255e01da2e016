//go:build !weakened

package weaken

// Off reports whether a protection is switched off: never in this build.
func Off(Protection) bool { return false }
