package harden_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
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

// instantiate makes an instance whose host does not give in to guards.
func instantiate(t *testing.T, wasm []byte) api.Module {
	t.Helper()
	return instantiateWith(t, wasm, func(api.Module, uint32) { panic(errTrap) })
}

// instantiateWith makes one whose guards call below with the stack pointer wanted.
func instantiateWith(t *testing.T, wasm []byte, below func(m api.Module, wanted uint32)) api.Module {
	t.Helper()
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { r.Close(context.Background()) })
	_, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, c uint32, code uint64, wanted, _ uint32) uint64 {
		if c == 0 && code == harden.TrapStack {
			below(m, wanted)
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
	limit.Set(65536 - 100*64)
	for _, c := range []struct {
		function string
		argument uint64
		traps    bool
	}{
		{"f", 99, false}, // 100 frames fit
		{"f", 100, true},
		{"f", 1 << 20, true},
		{"g", 100 * 64, false},
		{"g", 100*64 + 1, true},
		{"g", 1 << 17, true}, // below address 0
	} {
		sp.Set(65536)
		_, err := m.ExportedFunction(c.function).Call(t.Context(), c.argument)
		if got := errors.Is(err, errTrap); got != c.traps || err != nil && !got {
			t.Errorf("%s(%d): %v", c.function, c.argument, err)
		}
	}
}

// TestLimitFollows: a guest goes on under a host that lowers the limit, which
// hears of the stack pointer wanted, and traps under one that returns without
// lowering it far enough.
func TestLimitFollows(t *testing.T) {
	t.Parallel()
	const top, limit = 65536, 65536 - 100*64
	wasm, err := harden.Rewrite(recursive, harden.Counts{Prologues: 1, Moves: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		function string
		argument uint64
		lowered  uint32 // to this limit each time the guest asks
		asks     []uint32
		traps    bool
	}{
		{"f", 99, 0, nil, false},
		{"f", 299, limit - 200*64, []uint32{limit - 64}, false},
		{"f", 300, limit - 200*64, []uint32{limit - 64, limit - 201*64}, true},
		{"f", 100, limit, []uint32{limit - 64}, true},
		{"g", 100 * 64, 0, nil, false},
		{"g", 200 * 64, limit - 100*64, []uint32{limit - 100*64}, false},
		{"g", 200*64 + 1, limit - 100*64, []uint32{limit - 100*64 - 1}, true},
		{"g", 1 << 17, 0, []uint32{1<<32 - top}, true}, // below address 0
	} {
		var asks []uint32
		m := instantiateWith(t, wasm, func(m api.Module, wanted uint32) {
			asks = append(asks, wanted)
			m.ExportedGlobal(harden.StackLimit).(api.MutableGlobal).Set(uint64(c.lowered))
		})
		m.ExportedGlobal(harden.StackLimit).(api.MutableGlobal).Set(limit)
		_, err := m.ExportedFunction(c.function).Call(t.Context(), c.argument)
		if traps := err != nil; traps != c.traps || traps && !strings.Contains(err.Error(), "unreachable") || !slices.Equal(asks, c.asks) {
			t.Errorf("%s(%d): %v, asked for %v, want %v", c.function, c.argument, err, asks, c.asks)
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
