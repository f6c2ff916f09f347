package vm

import (
	"context"
	"fmt"
)

// take returns a sandbox whose memory is a copy of image, and then size bytes
// long in all. Only a sandbox of the image's own size comes from the pool:
// memory never shrinks, and an allocator that finds more of it than its image
// knows would strand the rest.
func (e *Engine) take(ctx context.Context, image *Image, size uint32) (*sandbox, error) {
	if size == uint32(len(image.memory)) {
		if s := image.idleSandbox(); s != nil {
			s.reset()
			return s, nil
		}
	}
	s, err := newSandbox(ctx, e.runtime, e.module)
	if err != nil {
		return nil, err
	}
	s.image = image
	have := s.memory.Size()
	if size < have {
		s.close(ctx)
		return nil, fmt.Errorf("%w: image %v is smaller than the engine", ErrUnknownImage, image.digest)
	}
	if _, ok := s.memory.Grow((size - have) / wasmPage); !ok {
		s.close(ctx)
		return nil, fmt.Errorf("grow a sandbox to %d bytes: over the memory limit", size)
	}
	s.reset()
	return s, nil
}

// give returns a sandbox after use: to the pool, or to nowhere when it trapped or grew.
func (e *Engine) give(ctx context.Context, s *sandbox) {
	s.slice, s.rejections = nil, nil
	fit := !s.dead && s.memory.Size() == uint32(len(s.image.memory)) && uint32(s.stackPointer.Get()) == s.image.StackHigh
	if fit && s.image.keep(s, cap(e.slots)) {
		return
	}
	s.close(ctx)
}

func (i *Image) idleSandbox() *sandbox {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := len(i.idle)
	if n == 0 {
		return nil
	}
	s := i.idle[n-1]
	i.idle = i.idle[:n-1]
	return s
}

func (i *Image) keep(s *sandbox, most int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.idle) >= most {
		return false
	}
	i.idle = append(i.idle, s)
	return true
}

// reset makes the sandbox's memory the image's.
func (s *sandbox) reset() {
	m, _ := s.memory.Read(0, s.memory.Size())
	low, high := s.image.StackLow, s.image.StackHigh
	copy(m[:low], s.image.memory[:low])
	copy(m[high:], s.image.memory[high:])
	clearStack(m[low:high])
	s.resetStack()
}

// clearStack zeroes what a slice left on its stack, which is dead but another
// task's. The stack grows down and most of it is never touched; touching it
// would make every idle VM a megabyte larger. So it stops where 32 KiB, more
// than any frame of the engine takes, were zero already.
func clearStack(stack []byte) {
	const gap = 32 << 10
	for end, clean := len(stack), 0; end > 0 && clean < gap; end -= pageSize {
		page := stack[end-pageSize : end]
		if isZero(page) {
			clean += pageSize
			continue
		}
		clear(page)
		clean = 0
	}
}
