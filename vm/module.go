package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	_ "unsafe" // for the linkname below

	"github.com/amberhost/amber/vm/internal/harden"
	_ "github.com/fastschema/qjs" // carries the engine's wasm
	"github.com/tetratelabs/wazero"
)

// qjsWasm is QuickJS (quickjs-ng 0.10.1) as github.com/fastschema/qjs ships it.
// Nothing else of that module is used.
//
//go:linkname qjsWasm github.com/fastschema/qjs.wasmBytes
var qjsWasm []byte

const (
	wasmPage = 64 << 10

	// qjsDigest is the sha256 of the only engine that this package knows.
	qjsDigest = "88fcbeead33cca3ec8394feb0fb3eec8047ec9ac5062aba7a63799cee11989b7"

	// hostABI numbers the functions between guest and host and what the
	// prelude expects of them; layoutVersion numbers where things lie in an
	// image. Change them when a snapshot of before could not be resumed.
	hostABI       = 1
	layoutVersion = 1
)

// trackerIndex is where the engine's table ends, and the function that harden
// adds to it stands. Images hold it.
const trackerIndex = 542

// guarded are the places of the engine that lower its stack pointer.
var guarded = harden.Counts{Prologues: 418, Moves: 138}

// paying are the places of the engine that cost fuel.
var paying = harden.FuelCounts{Loops: 1724, Free: 2, Bulk: 4, Polls: 1}

// engineIdentity is the digest that snapshots are bound to. It does not depend
// on how the code is rewritten: a rewriter changes no memory layout.
func engineIdentity() Digest {
	return sha256.Sum256(fmt.Appendf(nil, "amber engine\nwasm %s\nhost abi %d\nlayout %d\nstack %d\n",
		qjsDigest, hostABI, layoutVersion, stackSize))
}

// hardenedWasm returns the engine ready to compile.
func hardenedWasm() ([]byte, error) {
	if sum := sha256.Sum256(qjsWasm); hex.EncodeToString(sum[:]) != qjsDigest {
		return nil, fmt.Errorf("vm: engine %x is not the one this build is for: pin github.com/fastschema/qjs v0.0.6", sum)
	}
	wasm, err := harden.Rewrite(qjsWasm, guarded)
	if err != nil {
		return nil, err
	}
	if wasm, err = harden.AddFuel(wasm, paying); err != nil {
		return nil, err
	}
	wasm, index, err := harden.AddTracker(wasm)
	if err == nil && index != trackerIndex {
		err = fmt.Errorf("vm: the rejection tracker is %d in the engine's table, not %d", index, trackerIndex)
	}
	return wasm, err
}

// newRuntime compiles the engine. The runtime owns the compiled module.
func newRuntime(ctx context.Context, o Options) (wazero.Runtime, wazero.CompiledModule, error) {
	wasm, err := hardenedWasm()
	if err != nil {
		return nil, nil, err
	}
	if o.CacheDir == "" {
		return compile(ctx, o, wasm, nil)
	}
	cache, err := openCache(o.CacheDir)
	if err != nil {
		return nil, nil, fmt.Errorf("open compile cache: %w", err)
	}
	kept, err := cache.use()
	if err != nil {
		return nil, nil, fmt.Errorf("open compile cache: %w", err)
	}
	r, m, err := compile(ctx, o, wasm, kept)
	if err != nil { // what it found there may be why
		o.Log.WarnContext(ctx, "the compile cache is of no use, and is cleared", "dir", o.CacheDir, "err", err)
		if err := cache.clear(); err != nil {
			return nil, nil, fmt.Errorf("clear compile cache: %w", err)
		}
		return compile(ctx, o, wasm, nil)
	}
	if err := cache.seal(); err != nil { // the next start compiles again
		o.Log.WarnContext(ctx, "seal compile cache", "dir", o.CacheDir, "err", err)
	}
	return r, m, nil
}

func compile(ctx context.Context, o Options, wasm []byte, cache wazero.CompilationCache) (wazero.Runtime, wazero.CompiledModule, error) {
	// Without debug information the cached code has no source map, which wazero
	// reads eight bytes at a time: a quarter of the time to start.
	config := wazero.NewRuntimeConfig().WithDebugInfoEnabled(false).WithMemoryLimitPages(o.memoryPages())
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	r := wazero.NewRuntimeWithConfig(ctx, config)
	if err := instantiateHost(ctx, r, o.Log); err != nil {
		r.Close(ctx)
		return nil, nil, fmt.Errorf("instantiate host modules: %w", err)
	}
	m, err := r.CompileModule(ctx, wasm)
	if err != nil {
		r.Close(ctx)
		return nil, nil, fmt.Errorf("compile engine: %w", err)
	}
	return r, m, nil
}
