package vm

import "slices"

// heapMemory is linear memory on Go's heap: where no addresses can be reserved.
type heapMemory struct{ memory []byte }

func (h *heapMemory) Reallocate(size uint64) []byte {
	if uint64(len(h.memory)) < size {
		h.memory = slices.Grow(h.memory, int(size)-len(h.memory))[:size]
	}
	return h.memory[:size]
}

func (h *heapMemory) Free() { h.memory = nil }
