package harden_test

import (
	"context"
	"slices"
	"testing"

	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/tetratelabs/wazero"
)

// looping has two functions besides the host's: 1 takes an i32 and adds it to the
// global that is exported, which is what a loop looks like; 2 returns one.
var looping = [][]byte{
	section(1, 3, 0x60, 4, 0x7f, 0x7e, 0x7f, 0x7f, 1, 0x7e, 0x60, 1, 0x7f, 0, 0x60, 0, 1, 0x7f),
	section(2, append([]byte{1, 3, 'e', 'n', 'v', 15}, append([]byte("jsFunctionProxy"), 0, 0)...)...),
	section(3, 2, 1, 2),
	section(6, 1, 0x7f, 1, 0x41, 0, 0x0b),
	section(7, 1, 3, 's', 'u', 'm', 3, 0),
	section(10, 2, 9, 0, 0x23, 0, 0x20, 0, 0x6a, 0x24, 0, 0x0b, 4, 0, 0x41, 1, 0x0b),
}

func TestAddLoop(t *testing.T) {
	t.Parallel()
	wasm, err := harden.AddLoop(module(looping...), 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { r.Close(context.Background()) })
	host := func(context.Context, uint32, uint64, uint32, uint32) uint64 { return 0 }
	if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(host).Export("jsFunctionProxy").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{40, 2} {
		if _, err := m.ExportedFunction(harden.Loop).Call(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if sum := m.ExportedGlobal("sum").Get(); sum != 42 {
		t.Errorf("the loop that is exported gives %d", sum)
	}
}

func TestAddLoopRefuses(t *testing.T) {
	t.Parallel()
	for _, function := range []uint32{0, 2, 3, 1<<32 - 1} { // the host's, of another type, none
		if _, err := harden.AddLoop(module(looping...), function); err == nil {
			t.Errorf("function %d was taken for the loop", function)
		}
	}
	for _, i := range []int{0, 1, 2, 4} {
		if _, err := harden.AddLoop(module(slices.Delete(slices.Clone(looping), i, i+1)...), 1); err == nil {
			t.Errorf("no error without section %d", looping[i][0])
		}
	}
	whole := module(looping[:5]...) // it does not look at the code
	for i := range whole {
		if _, err := harden.AddLoop(whole[:i], 1); err == nil {
			t.Errorf("a module cut to %d bytes was taken", i)
		}
	}
}
