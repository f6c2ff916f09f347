//go:build unix

package vm

import (
	"io/fs"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// reserveMemory gives a VM the addresses for all the memory that it may ever
// have, and none of the memory: growing copies nothing and moves nothing, which
// costs a task that builds up data a tenth of its time otherwise. nil leaves it
// to the heap.
func reserveMemory(_, most uint64) experimental.LinearMemory {
	space, err := syscall.Mmap(-1, 0, int(most), syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return new(heapMemory)
	}
	return &reserved{space: space}
}

type reserved struct {
	space []byte
	size  uint64 // that may be read and written
}

func (r *reserved) Reallocate(size uint64) []byte {
	if size > uint64(len(r.space)) {
		return nil
	}
	if size > r.size {
		if err := syscall.Mprotect(r.space[r.size:size], syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
			return nil
		}
		r.size = size
	}
	return r.space[:size:size]
}

func (r *reserved) Free() {
	if r.space != nil {
		_ = syscall.Munmap(r.space) // fails for addresses alone that are not a mapping's
		r.space = nil
	}
}

// ownerOf is the user that a file belongs to.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}
