package harden_test

import (
	"context"
	"slices"
	"testing"

	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/tetratelabs/wazero"
)

// trackable exports f, which calls entry 1 of its table, as the engine calls a
// tracker: with (5, promise, reason, handled, 0).
var trackable = [][]byte{
	section(1, 3, 0x60, 4, 0x7f, 0x7e, 0x7f, 0x7f, 1, 0x7e, 0x60, 5, 0x7f, 0x7e, 0x7e, 0x7f, 0x7f, 0, 0x60, 3, 0x7e, 0x7e, 0x7f, 0),
	section(2, append([]byte{1, 3, 'e', 'n', 'v', 15}, append([]byte("jsFunctionProxy"), 0, 0)...)...),
	section(3, 1, 2),
	section(4, 1, 0x70, 1, 1, 1),
	section(7, 1, 1, 'f', 0, 1),
	section(9, 1, 0, 0x41, 0, 0x0b, 1, 1),
	section(10, 1, 17, 0, 0x41, 5, 0x20, 0, 0x20, 1, 0x20, 2, 0x41, 0, 0x41, 1, 0x11, 1, 0, 0x0b),
}

func TestAddTracker(t *testing.T) {
	t.Parallel()
	wasm, index, err := harden.AddTracker(module(trackable...))
	if err != nil || index != 1 {
		t.Fatal(index, err)
	}
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { r.Close(context.Background()) })
	var got [][4]uint64
	if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func(_ context.Context, c uint32, v uint64, object, what uint32) uint64 {
		got = append(got, [4]uint64{uint64(c), v, uint64(object), uint64(what)})
		return 0
	}).Export("jsFunctionProxy").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	for handled := range uint64(2) {
		if _, err := m.ExportedFunction("f").Call(ctx, 0xffffffff_00001234, 77, handled); err != nil {
			t.Fatal(err)
		}
	}
	if want := [][4]uint64{{0, 77, 0x1234, harden.Rejected}, {0, 77, 0x1234, harden.Heard}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAddTrackerRefuses(t *testing.T) {
	t.Parallel()
	for i := range trackable {
		if i == 4 { // it does not need the exports
			continue
		}
		if _, _, err := harden.AddTracker(module(slices.Delete(slices.Clone(trackable), i, i+1)...)); err == nil {
			t.Errorf("no error without section %d", trackable[i][0])
		}
	}
	if _, _, err := harden.AddTracker([]byte("no wasm")); err == nil {
		t.Error("no error without a header")
	}
}
