//go:build !linux

package lab

import "time"

// sleepUntil waits for t, as exactly as the runtime's timers are.
func sleepUntil(t time.Time) { <-time.After(time.Until(t)) }
