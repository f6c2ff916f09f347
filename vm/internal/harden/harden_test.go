package harden_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// recursive is a module shaped like the engine: the host function is import 0,
// the stack pointer global 0, and f(n) opens a frame of 64 bytes and calls
// f(n-1) until n is 0. g(n) lowers the stack pointer by n, as alloca does.
var recursive = module(
	section(1, 3, 0x60, 4, 0x7f, 0x7e, 0x7f, 0x7f, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 0, 0),
	section(2, append([]byte{1, 3, 'e', 'n', 'v', 15}, append([]byte("jsFunctionProxy"), 0, 0)...)...),
	section(3, 2, 1, 1),
	section(5, 1, 0, 2),
	section(6, 1, 0x7f, 1, 0x41, 0x80, 0x80, 4, 0x0b), // 65536
	section(7, 2, 1, 'f', 0, 1, 1, 'g', 0, 2),
	section(10, 2,
		37, 1, 1, 0x7f,
		0x23, 0, 0x41, 0xc0, 0, 0x6b, 0x22, 1, 0x24, 0, // sp = frame = sp - 64
		0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 1, 0x1a, 0x0b,
		0x20, 1, 0x41, 0xc0, 0, 0x6a, 0x24, 0, // sp = frame + 64
		0x23, 0, 0x0b,
		11, 0, 0x23, 0, 0x20, 0, 0x6b, 0x24, 0, 0x23, 0, 0x0b,
	),
)

func module(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(sections, nil)...)
}

func section(id byte, body ...byte) []byte { return append([]byte{id, byte(len(body))}, body...) }

var errTrap = errors.New("stack")

func instantiate(t *testing.T, wasm []byte) api.Module {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { r.Close(context.Background()) })
	_, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func(_ context.Context, c uint32, code uint64, _, _ uint32) uint64 {
		if c == 0 && code == harden.TrapStack {
			panic(errTrap)
		}
		return 0
	}).Export("jsFunctionProxy").Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Instantiate(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStackIsGuarded(t *testing.T) {
	t.Parallel()
	wasm, err := harden.Rewrite(recursive, harden.Counts{Prologues: 1, Moves: 1})
	if err != nil {
		t.Fatal(err)
	}
	m := instantiate(t, wasm)
	sp := m.ExportedGlobal(harden.StackPointer).(api.MutableGlobal)
	limit := m.ExportedGlobal(harden.StackLimit).(api.MutableGlobal)
	const top, floor = 65536, 65536 - 100*64
	m.ExportedGlobal(harden.StackFloor).(api.MutableGlobal).Set(floor)
	for _, c := range []struct {
		function string
		argument uint64
		from, to uint32 // the limit before and after
		traps    bool
	}{
		{"f", 99, top, top, false}, // 100 frames fit
		{"f", 99, floor, floor, false},
		{"f", 100, top, top, true},
		{"f", 100, floor, floor, true},
		{"f", 1 << 20, top, top, true},
		{"g", 64, top - 128, top - 128, false}, // it does not come up
		{"g", 1, top, top - 1, false},
		{"g", 100 * 64, top, floor, false},
		{"g", 100*64 + 1, top, top, true},
		{"g", 100*64 + 1, floor, floor, true},
		{"g", 1 << 17, top, top, true}, // below address 0
	} {
		sp.Set(top)
		limit.Set(uint64(c.from))
		_, err := m.ExportedFunction(c.function).Call(t.Context(), c.argument)
		if got := errors.Is(err, errTrap); got != c.traps || err != nil && !got {
			t.Errorf("%s(%d): %v", c.function, c.argument, err)
		}
		if got := uint32(limit.Get()); got != c.to {
			t.Errorf("%s(%d): the limit went from %d to %d, want %d", c.function, c.argument, c.from, got, c.to)
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	t.Parallel()
	one := harden.Counts{Prologues: 1, Moves: 1}
	if _, err := harden.Rewrite(recursive, harden.Counts{Prologues: 2, Moves: 1}); err == nil {
		t.Error("another count was taken")
	}
	for i := range recursive {
		if _, err := harden.Rewrite(recursive[:i], one); err == nil {
			t.Errorf("a module cut to %d bytes was taken", i)
		}
	}
	for name, change := range map[string][2]string{
		"another import":    {"jsFunctionProxy", "jsFunctionProxx"},
		"an unknown opcode": {"\x24\x00\x23\x00\x0b", "\x24\x00\xfe\x00\x0b"},
	} {
		if _, err := harden.Rewrite(bytes.Replace(recursive, []byte(change[0]), []byte(change[1]), 1), one); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// FuzzRewrite: any bytes give an error or a module, never a panic.
func FuzzRewrite(f *testing.F) {
	f.Add(recursive)
	f.Add(module(busy...))
	f.Add(module(trackable...))
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = harden.Rewrite(b, harden.Counts{Prologues: 1, Moves: 1})
		_, _ = harden.AddFuel(b, busyCounts)
		_, _, _ = harden.AddTracker(b)
	})
}
