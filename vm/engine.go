package vm

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
)

// Engine runs tasks. It compiles QuickJS and boots the base image once; each
// slice then runs in a VM that is a copy of an image. It is safe for
// concurrent use.
type Engine struct {
	options Options
	codec   *codec
	runtime wazero.Runtime
	modules []*module // this build's own first
	cache   compileCache
	base    *Image
	turns   turns
	pool    pool
	loaded  loadedCache
	images  images
}

// New compiles the engine and boots its base image.
func New(ctx context.Context, o Options) (*Engine, error) {
	if o.Keys == nil {
		return nil, errors.New("vm: Options.Keys is required: snapshots are sealed with them")
	}
	o = o.withDefaults()
	e := &Engine{options: o}
	for _, ed := range o.editions {
		e.modules = append(e.modules, &module{edition: ed, id: ed.identity()})
	}
	err := e.openRuntime(ctx)
	if err != nil {
		return nil, err
	}
	e.turns.free, e.turns.most, e.turns.queue = o.Concurrency, o.Memory, o.Queue
	e.pool.most, e.pool.has, e.loaded.most, e.images.most = o.IdleMemory, e.images.has, loadedMemory, loadedImages
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
	s, err := e.newSandbox(ctx, e.modules[0])
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if e.base, err = boot(ctx, s, e.options); err != nil {
		return err
	}
	e.images.base = e.base
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
// A nil Engine gives that of this build.
func (e *Engine) Identity() string {
	if e == nil {
		return editions()[0].identity().String()
	}
	return e.modules[0].id.String()
}

// Identities are all that can be resumed here: this build's, then those of the
// engines that it carries along for what earlier builds suspended.
func (e *Engine) Identities() []string {
	ids := make([]string, len(e.modules))
	for i, m := range e.modules {
		ids[i] = m.id.String()
	}
	return ids
}

// Image returns the base image, against which new snapshots are taken.
func (e *Engine) Image() *Image { return e.base }

// image finds an image of an engine by digest, asking Options.LoadImage for what
// is not here.
func (e *Engine) image(ctx context.Context, m *module, d Digest) (*Image, error) {
	if i := e.images.get(imageKey{m, d}); i != nil {
		return i, nil
	}
	if e.options.LoadImage == nil {
		return nil, fmt.Errorf("%w: %v", ErrUnknownImage, d)
	}
	b, err := e.options.LoadImage(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("load image %v: %w", d, err)
	}
	i, err := e.decodeImage(d, b)
	if err != nil {
		return nil, err
	}
	if i.module != m {
		return nil, badSnapshot("its image %v is one of engine %v", d, i.module.id)
	}
	i, dropped := e.images.put(i)
	if dropped != nil {
		e.drop(e.pool.forget(dropped))
	}
	return i, nil
}

// Limits are those that the engine's tasks have.
func (e *Engine) Limits() Limits { return e.options.Limits }

// MaxMemory is how many bytes of memory one VM may have. A snapshot whose Size is
// larger cannot be resumed here.
func (e *Engine) MaxMemory() uint64 { return uint64(e.options.memoryPages()) * wasmPage }
