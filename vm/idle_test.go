package vm

import (
	"syscall"
	"unsafe"
)

// SharedCache is where the tests of this package have their engines compiled,
// once for all of them: under the race detector that takes many seconds.
var SharedCache string

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
