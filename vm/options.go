package vm

import (
	"context"
	"log/slog"
	"runtime"

	"github.com/amberhost/amber/supabase/keys"
)

const (
	// memorySlack is what linear memory may hold beyond the JavaScript heap:
	// the image, the stack, source code, and fragmentation. It is small since
	// linear memory is the limit that holds: the engine's own allocator cannot
	// tell how large a block is and counts some bytes for each.
	memorySlack = 16 << 20
	// loadedMemory is what compiled tasks may take: some 8 KB each.
	loadedMemory = 32 << 20
	// stackSize is the guest's C stack: some 3,000 JavaScript frames. It is
	// part of the memory layout, see [Engine.Identity].
	stackSize = 1 << 20
)

// Options configure an Engine. The zero value works, but seals with no keys: Keys is required.
type Options struct {
	CacheDir    string                                                   // where compiled code is kept between processes; "" keeps none
	Concurrency int                                                      // processors that slices use; 0 means GOMAXPROCS
	Memory      uint64                                                   // bytes that slices under way may have together; more wait to begin; 0 means 1 GiB
	Queue       int                                                      // slices that may wait to begin; more get ErrBusy; 0 means 10,000
	IdleMemory  uint64                                                   // bytes that idle VMs may keep, what the host knows of them included; 0 means 64 MiB
	Limits      Limits                                                   // of each task
	Keys        *keys.Ring                                               // seals and opens snapshots
	LoadImage   func(ctx context.Context, digest Digest) ([]byte, error) // finds an image this process did not boot; nil: none
	editions    []*edition                                               // of tests: others than this build's
	Log         *slog.Logger                                             // nil discards
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = runtime.GOMAXPROCS(0)
	}
	if o.Queue <= 0 {
		o.Queue = 10_000
	}
	if o.Memory == 0 {
		o.Memory = 1 << 30
	}
	if o.IdleMemory == 0 {
		o.IdleMemory = 64 << 20
	}
	if o.editions == nil {
		o.editions = editions()
	}
	o.Limits = o.Limits.withDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// memoryPages is the largest linear memory of a VM, in wasm pages.
func (o Options) memoryPages() uint32 {
	return uint32((uint64(o.Limits.Memory) + memorySlack + wasmPage - 1) / wasmPage)
}
