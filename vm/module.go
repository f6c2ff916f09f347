package vm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
)

const wasmPage = 64 << 10

// openRuntime makes the runtime that owns all compiled code, and compiles this
// build's engine.
func (e *Engine) openRuntime(ctx context.Context) (err error) {
	if e.options.CacheDir == "" {
		return e.newRuntime(ctx, nil)
	}
	if e.cache, err = openCache(e.options.CacheDir); err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	kept, err := e.cache.use()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	if err = e.newRuntime(ctx, kept); err == nil {
		return nil
	}
	// What it found there may be why.
	e.options.Log.WarnContext(ctx, "the compile cache is of no use, and is cleared", "dir", e.options.CacheDir, "err", err)
	if err := e.cache.clear(); err != nil {
		return fmt.Errorf("clear compile cache: %w", err)
	}
	return e.newRuntime(ctx, nil)
}

func (e *Engine) newRuntime(ctx context.Context, cache wazero.CompilationCache) error {
	// Without debug information the cached code has no source map, which wazero
	// reads eight bytes at a time: a quarter of the time to start.
	config := wazero.NewRuntimeConfig().WithDebugInfoEnabled(false).WithMemoryLimitPages(e.options.memoryPages())
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	e.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	err := instantiateHost(ctx, e.runtime, e.options.Log)
	if err != nil {
		err = fmt.Errorf("instantiate host modules: %w", err)
	} else {
		_, err = e.compiled(ctx, e.modules[0])
	}
	if err != nil {
		e.runtime.Close(ctx)
	}
	return err
}

// sealCache notes what was compiled. If it cannot, the next start compiles again.
func (e *Engine) sealCache(ctx context.Context) {
	if e.cache.dir == "" {
		return
	}
	if err := e.cache.seal(); err != nil {
		e.options.Log.WarnContext(ctx, "seal compile cache", "dir", e.cache.dir, "err", err)
	}
}
