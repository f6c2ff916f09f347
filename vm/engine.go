package vm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
)

// Engine runs tasks. It compiles QuickJS and boots the base image once; each
// slice then runs in a VM that is a copy of an image. It is safe for
// concurrent use.
type Engine struct {
	options Options
	codec   *codec
	runtime wazero.Runtime
	module  wazero.CompiledModule
	base    *Image
	slots   chan struct{} // one per slice that may run now
	waiting atomic.Int64  // slices that wait for one
	pool    pool
	loaded  loadedCache

	mu     sync.Mutex
	images map[Digest]*Image // base and those loaded
}

// New compiles the engine and boots its base image.
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Keys == nil {
		return nil, errors.New("vm: Options.Keys is required: snapshots are sealed with them")
	}
	o = o.withDefaults()
	r, m, err := newRuntime(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &Engine{options: o, runtime: r, module: m, slots: make(chan struct{}, o.Concurrency), images: map[Digest]*Image{}}
	e.pool.most, e.loaded.most = o.IdleMemory, loadedMemory
	if e.codec, err = newCodec(o); err == nil {
		err = e.bootBase(ctx)
	}
	if err != nil {
		e.Close(ctx)
		return nil, fmt.Errorf("boot engine: %w", err)
	}
	return e, nil
}

func (e *Engine) bootBase(ctx context.Context) error {
	s, err := newSandbox(ctx, e.runtime, e.module)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if e.base, err = boot(ctx, s, e.options); err != nil {
		return err
	}
	e.images[e.base.digest] = e.base
	return nil
}

// Close frees compiled code and idle VMs. No slice may be running.
func (e *Engine) Close(ctx context.Context) error {
	e.drop(e.pool.close())
	return e.runtime.Close(ctx)
}

// Identity is what a snapshot's engine must be to be resumed here, in hex: a
// digest of the engine's bytes, the host functions' version and the memory
// layout. Releases that only rewrite code differently share it.
func (e *Engine) Identity() string { return engineIdentity().String() }

// Image returns the base image, against which new snapshots are taken.
func (e *Engine) Image() *Image { return e.base }

// image finds an image by digest, asking Options.LoadImage for what is not here.
func (e *Engine) image(ctx context.Context, d Digest) (*Image, error) {
	e.mu.Lock()
	i := e.images[d]
	e.mu.Unlock()
	if i != nil {
		return i, nil
	}
	if e.options.LoadImage == nil {
		return nil, fmt.Errorf("%w: %v", ErrUnknownImage, d)
	}
	b, err := e.options.LoadImage(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("load image %v: %w", d, err)
	}
	if i, err = decodeImage(d, b, e.maxMemory()); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.images[d]; first != nil {
		return first, nil
	}
	e.images[d] = i
	return i, nil
}

func (e *Engine) maxMemory() uint64 { return uint64(e.options.memoryPages()) * wasmPage }

// enter waits for a slot, unless too many do already. The caller leaves by
// calling the function returned.
func (e *Engine) enter(ctx context.Context) (leave func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if e.waiting.Add(1) > int64(e.options.Queue) {
		e.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer e.waiting.Add(-1)
	select {
	case e.slots <- struct{}{}:
		return func() { <-e.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
