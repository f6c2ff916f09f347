package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
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
	// hostABI numbers the functions between guest and host and what the
	// prelude expects of them; layoutVersion numbers where things lie in an
	// image. Change them when a snapshot of before could not be resumed.
	hostABI       = 1
	layoutVersion = 1
)

// trackerIndex is where the engine's table ends, and the function that harden
// adds to it stands. Images hold it.
const trackerIndex = 542

// edition is one build of QuickJS and what amber has to know of it.
type edition struct {
	wasm    []byte
	digest  string // sha256 of wasm, in hex: no other is run
	abi     int    // hostABI, and
	layout  int    // layoutVersion, when images of it were made
	guarded harden.Counts
	paying  harden.FuelCounts
	tracker uint32
	loop    uint32 // the index of js_std_loop
}

// editions are the engines of this build: its own, then those that are carried
// along, so that runs which an earlier build suspended can go on here. A build
// that comes with another QuickJS, ABI or layout moves the one before it to the end
// of this list, until no snapshot names it any more.
func editions() []*edition {
	return []*edition{{
		wasm:   qjsWasm,
		digest: "88fcbeead33cca3ec8394feb0fb3eec8047ec9ac5062aba7a63799cee11989b7",
		abi:    hostABI, layout: layoutVersion,
		guarded: harden.Counts{Prologues: 418, Moves: 138},
		paying:  harden.FuelCounts{Loops: 1726, Bulk: 4},
		tracker: trackerIndex,
		loop:    1100,
	}}
}

// identity is the digest that snapshots are bound to. It does not depend on how
// the code is rewritten: a rewriter changes no memory layout.
func (ed *edition) identity() Digest {
	return sha256.Sum256(fmt.Appendf(nil, "amber engine\nwasm %s\nhost abi %d\nlayout %d\nstack %d\n",
		ed.digest, ed.abi, ed.layout, stackSize))
}

// hardened returns the engine ready to compile.
func (ed *edition) hardened() ([]byte, error) {
	if sum := sha256.Sum256(ed.wasm); hex.EncodeToString(sum[:]) != ed.digest {
		return nil, fmt.Errorf("vm: engine %x is not the one this build is for: pin github.com/fastschema/qjs v0.0.6", sum)
	}
	wasm, err := harden.Rewrite(ed.wasm, ed.guarded)
	if err != nil {
		return nil, err
	}
	if wasm, err = harden.AddFuel(wasm, ed.paying); err != nil {
		return nil, err
	}
	if wasm, err = harden.AddLoop(wasm, ed.loop); err != nil {
		return nil, err
	}
	wasm, index, err := harden.AddTracker(wasm)
	if err == nil && index != ed.tracker {
		err = fmt.Errorf("vm: the rejection tracker is %d in the engine's table, not %d", index, ed.tracker)
	}
	return wasm, err
}

// module is an edition of this host, compiled when it is first needed.
type module struct {
	*edition
	id Digest

	mu       sync.Mutex
	compiled wazero.CompiledModule
}

func (e *Engine) compiled(ctx context.Context, m *module) (wazero.CompiledModule, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.compiled != nil {
		return m.compiled, nil
	}
	wasm, err := m.hardened()
	if err != nil {
		return nil, err
	}
	if m.compiled, err = e.runtime.CompileModule(ctx, wasm); err != nil {
		return nil, fmt.Errorf("compile engine: %w", err)
	}
	e.sealCache(ctx)
	return m.compiled, nil
}

// module finds an edition by the identity that snapshots and images name.
func (e *Engine) module(id Digest) *module {
	for _, m := range e.modules {
		if m.id == id {
			return m
		}
	}
	return nil
}
