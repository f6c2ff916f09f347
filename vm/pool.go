package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrBusy says that a slice was not begun because too many wait for their turn.
var ErrBusy = errors.New("vm: too many slices wait for a VM")

// pool keeps idle VMs. All that there are is bounded: those that run by the
// slots, each by the memory limit, and those that are idle by most.
type pool struct {
	mu        sync.Mutex
	idle      []*sandbox // the one used last comes last
	size      uint64     // bytes that idle VMs keep
	most      uint64
	has       func(*Image) bool // VMs of other images than these are not kept
	refilling bool
	closed    bool
	refills   sync.WaitGroup
	live      atomic.Int64 // VMs that are not closed, those that run included
}

// take returns an idle VM of that image with size bytes of memory, or nil.
// Memory never shrinks, and an allocator that finds more of it than its image
// knows would strand the rest: so the size has to fit.
func (p *pool) take(image *Image, size uint32) *sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range slices.Backward(p.idle) {
		if s.image == image && s.memory.Size() == size {
			p.idle = slices.Delete(p.idle, i, i+1)
			p.size -= s.keeps()
			return s
		}
	}
	return nil
}

// give takes a VM in, and returns those that there is no more room for: the ones
// that were used least lately. It is returned itself if its image is not kept: who
// stops keeping one does so before forget.
func (p *pool) give(s *sandbox) (drop []*sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.has(s.image) {
		return []*sandbox{s}
	}
	p.idle = append(p.idle, s)
	p.size += s.keeps()
	for p.size > p.most {
		drop = append(drop, p.idle[0])
		p.size -= p.idle[0].keeps()
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	return drop
}

// forget returns the idle VMs of an image.
func (p *pool) forget(image *Image) (drop []*sandbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(s *sandbox) bool {
		if s.image != image {
			return false
		}
		drop = append(drop, s)
		p.size -= s.keeps()
		return true
	})
	return drop
}

// low reports whether there are fewer than few idle VMs of an image's own size,
// and room for one more.
func (p *pool) low(image *Image, few int) bool {
	if !p.has(image) {
		return false
	}
	n := 0
	for _, s := range p.idle {
		if s.image == image && int(s.memory.Size()) == len(image.memory) {
			n++
		}
	}
	return n < few && p.size+uint64(len(image.memory)) <= p.most
}

// refill makes VMs of an image, in the background, until there are few of them:
// the next task shall not wait for what a trap or a growth took away.
func (e *Engine) refill(image *Image, few int) {
	p := &e.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refilling || p.closed || !p.low(image, few) {
		return
	}
	p.refilling = true
	p.refills.Go(func() {
		for more := true; more; {
			s, err := e.newVM(context.Background(), image, uint32(len(image.memory)))
			if err != nil {
				e.options.Log.Warn("make a VM in advance", "err", err)
			} else {
				e.drop(p.give(s))
			}
			p.mu.Lock()
			more = err == nil && !p.closed && p.low(image, few)
			p.refilling = more
			p.mu.Unlock()
		}
	})
}

// Pool returns how many VMs there are, and how many of them are idle with how many
// bytes of memory.
func (e *Engine) Pool() (live, idle int, memory uint64) {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	return int(e.pool.live.Load()), len(e.pool.idle), e.pool.size
}

// close returns all VMs and takes no more.
func (p *pool) close() []*sandbox {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle, p.size = nil, 0
	p.mu.Unlock()
	p.refills.Wait()
	return idle
}

func (e *Engine) drop(vms []*sandbox) {
	for _, s := range vms {
		s.close(context.Background())
	}
}

// take returns a VM whose memory is a copy of image, and then size bytes long in all.
func (e *Engine) take(ctx context.Context, image *Image, size uint32) (*sandbox, error) {
	if s := e.pool.take(image, size); s != nil {
		s.reset()
		return s, nil
	}
	s, err := e.newVM(ctx, image, size)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (e *Engine) newVM(ctx context.Context, image *Image, size uint32) (*sandbox, error) {
	s, err := e.newSandbox(ctx, image.module)
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
		return nil, fmt.Errorf("grow a sandbox to %d bytes: over the memory limit, or no memory", size)
	}
	s.resetStack() // which is all zeros yet
	s.reset()
	return s, nil
}

// keeps is how many bytes an idle VM keeps.
func (s *sandbox) keeps() uint64 { return uint64(s.memory.Size()) + s.listed() }

// listed is how many of those are the list of what differs from its image.
func (s *sandbox) listed() uint64 { return uint64(cap(s.changes)) * runSize }

// runSize is the size of a run.
const runSize = 8

// listShare is the part of a VM's memory that the list may take. Of a longer one,
// which may come to be as large as the memory, the words take as long to restore as
// everything takes to copy.
const listShare = 32

// give returns a VM after use: to the pool, or to nowhere when it trapped.
func (e *Engine) give(ctx context.Context, s *sandbox) {
	s.slice, s.rejections = nil, nil
	s.meter = meter{}
	if s.listed() > uint64(s.memory.Size())/listShare {
		s.changes, s.known = nil, false
	}
	image := s.image
	if s.dead || uint32(s.stackPointer.Get()) != image.StackHigh {
		s.close(ctx)
	} else {
		e.drop(e.pool.give(s))
	}
	e.refill(image, min(e.options.Concurrency, maxSpare))
}

// maxSpare is how many VMs are kept ready of an image that is in use.
const maxSpare = 4

// reset makes the sandbox's memory the image's, and zeros beyond, and its
// globals those of a new one.
func (s *sandbox) reset() {
	m, _ := s.memory.Read(0, s.memory.Size())
	image := s.image.memory
	if s.known {
		for _, r := range s.changes {
			at, end := int(r.at), int(r.at+r.words*wordSize)
			clear(m[at+copy(m[at:end], image[min(at, len(image)):]) : end])
		}
	} else {
		for at := 0; at < len(m); at += pageSize {
			if at == int(s.image.StackLow) {
				at = int(s.image.StackHigh)
			}
			if page, want := m[at:at+pageSize], s.image.page(at); !bytes.Equal(page, want) {
				copy(page, want)
			}
		}
	}
	s.known = false
	s.clearStack(m)
	s.resetStack()
	s.fuel.Set(0)
}
