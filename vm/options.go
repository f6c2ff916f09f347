package vm

import (
	"context"
	"log/slog"
	"runtime"

	"github.com/amberhost/amber/supabase/keys"
)

const (
	defaultMemoryLimit = 64 << 20
	// memorySlack is what linear memory may hold beyond the JavaScript heap:
	// the image, the stack, arguments on their way in, and fragmentation.
	memorySlack = 64 << 20
	// stackSize is the guest's C stack: some 3,000 JavaScript frames. It is
	// part of the memory layout, see [Engine.Identity].
	stackSize = 1 << 20
	// maxLogLines and maxLogBytes bound the console output of one slice and of one line.
	maxLogLines = 10_000
	maxLogBytes = 64 << 10
)

// Options configure an Engine. The zero value works, but seals with no keys: Keys is required.
type Options struct {
	CacheDir    string                                                   // where compiled code is kept between processes; "" keeps none
	Concurrency int                                                      // slices that run at once; 0 means GOMAXPROCS
	MemoryLimit uint32                                                   // bytes of JS heap per VM; 0 means 64 MiB
	Keys        *keys.Ring                                               // seals and opens snapshots
	LoadImage   func(ctx context.Context, digest Digest) ([]byte, error) // finds an image this process did not boot; nil: none
	Log         *slog.Logger                                             // nil discards
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = runtime.GOMAXPROCS(0)
	}
	if o.MemoryLimit == 0 {
		o.MemoryLimit = defaultMemoryLimit
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// memoryPages is the largest linear memory of a VM, in wasm pages.
func (o Options) memoryPages() uint32 {
	return uint32((uint64(o.MemoryLimit) + memorySlack + wasmPage - 1) / wasmPage)
}
