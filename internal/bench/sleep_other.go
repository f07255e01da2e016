//go:build !linux

package bench

import (
	"context"
	"time"
)

// sleepUntil waits for t and reports whether ctx lasted that long.
func sleepUntil(ctx context.Context, t time.Time) bool {
	if wait := time.Until(t); wait > 0 {
		return pause(ctx, wait)
	}
	return ctx.Err() == nil
}
