package vm

// This file is what the tests inside the package share.

import (
	"context"
	"syscall"
	"testing"
	"unsafe"

	"github.com/amberhost/amber/supabase/keys"
)

// SharedCache is where the tests of this package have their engines compiled,
// once for all of them: under the race detector that takes many seconds.
var SharedCache string

// insideRing has a key of its own.
func insideRing(tb testing.TB) *keys.Ring {
	tb.Helper()
	entry, err := keys.NewKey("test")
	if err != nil {
		tb.Fatal(err)
	}
	ring, err := keys.ParseRing(entry)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

// insideEngine is an engine until the test ends; it has a ring of its own if o has none.
func insideEngine(tb testing.TB, o Options) *Engine {
	tb.Helper()
	o.CacheDir = SharedCache
	if o.Keys == nil {
		o.Keys = insideRing(tb)
	}
	e, err := New(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close(context.Background()) })
	return e
}

// UnderWay is how many slices have begun and not ended.
func (e *Engine) UnderWay() int {
	e.turns.mu.Lock()
	defer e.turns.mu.Unlock()
	return len(e.turns.inside)
}

// IdlePages are the pages of memory that idle VMs have taken, and their number.
func (e *Engine) IdlePages() (pages, vms int) {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	for _, s := range e.pool.idle {
		m, _ := s.memory.Read(0, s.memory.Size())
		there := make([]byte, len(m)/pageSize)
		_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&there[0])))
		if errno != 0 {
			panic(errno)
		}
		for _, b := range there {
			pages += int(b & 1)
		}
	}
	return pages, len(e.pool.idle)
}
