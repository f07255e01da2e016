package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/fanfare-webhooks/fanfare/registry"
)

const (
	// thriftyGC lets the heap grow by half between two collections, where Go lets it double.
	thriftyGC = 50
	// largeHeap is from where on half of the heap is room enough: garbage is made by requests, not by webhooks.
	largeHeap = 256 << 20
)

// loadRegistry reads all webhooks into memory. A million of them are some 800 MiB, and stay: a heap that may
// grow to twice what lives would need as much again for nothing. Whoever sets GOGC knows better.
func loadRegistry(ctx context.Context, reg *registry.Registry) error {
	if os.Getenv("GOGC") != "" {
		return reg.Load(ctx)
	}
	usual := debug.SetGCPercent(thriftyGC)
	err := reg.Load(ctx)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc < largeHeap {
		debug.SetGCPercent(usual)
	}
	return err
}
