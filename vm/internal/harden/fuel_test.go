package harden_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// busy is a module whose functions work: loop(n) goes round n times; nested(n)
// too, each time with a loop of as many rounds as are left; fill(n) fills n
// bytes; grow(n) asks for n pages beyond the one there is, of four.
var busy = [][]byte{
	section(1, 2, 0x60, 4, 0x7f, 0x7e, 0x7f, 0x7f, 1, 0x7e, 0x60, 1, 0x7f, 1, 0x7f),
	section(2, append([]byte{1, 3, 'e', 'n', 'v', 15}, append([]byte("jsFunctionProxy"), 0, 0)...)...),
	section(3, 4, 1, 1, 1, 1),
	section(5, 1, 1, 1, 4),
	section(6, 0),
	section(7, 4, 4, 'l', 'o', 'o', 'p', 0, 1, 6, 'n', 'e', 's', 't', 'e', 'd', 0, 2, 4, 'f', 'i', 'l', 'l', 0, 3, 4, 'g', 'r', 'o', 'w', 0, 4),
	section(10, 4,
		16, 0, 0x03, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x41, 7, 0x0b,
		34, 1, 1, 0x7f, 0x03, 0x40, 0x20, 0, 0x21, 1,
		0x03, 0x40, 0x20, 1, 0x41, 1, 0x6b, 0x22, 1, 0x0d, 0, 0x0b,
		0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x41, 7, 0x0b,
		13, 0, 0x41, 0, 0x41, 1, 0x20, 0, 0xfc, 11, 0, 0x41, 7, 0x0b,
		6, 0, 0x20, 0, 0x40, 0, 0x0b,
	),
}

var busyCounts = harden.FuelCounts{Loops: 3, Bulk: 2}

// tank runs a module with fuel, and counts how often it asks for more.
type tank struct {
	size, ticks, most int
}

func (f *tank) host(_ context.Context, m api.Module, c uint32, code uint64, _, _ uint32) uint64 {
	if c != 0 || code != harden.Tick {
		panic("the host was called with something else")
	}
	if f.ticks++; f.ticks >= f.most {
		panic(errTrap)
	}
	m.ExportedGlobal(harden.Fuel).(api.MutableGlobal).Set(uint64(f.size))
	return 0
}

func TestAddFuel(t *testing.T) {
	t.Parallel()
	wasm, err := harden.AddFuel(module(busy...), busyCounts)
	if err != nil {
		t.Fatal(err)
	}
	const forever = 1 << 30
	for _, c := range []struct {
		function   string
		n          uint64
		size, most int
		result     uint64
		ticks      int
		stopped    bool
	}{
		{"loop", 9, 9, forever, 7, 0, false},
		{"loop", 10, 9, forever, 7, 1, false},
		{"loop", 1005, 9, forever, 7, 100, false},
		{"loop", 0, 9, 1000, 0, 1000, true},     // that is 2^32 times
		{"nested", 10, 9, forever, 7, 6, false}, // 10 rounds, and 10 + 9 + ... + 1
		{"nested", 0, 999, 1000, 0, 1000, true},
		{"fill", 9 * 64, 9, forever, 7, 0, false},
		{"fill", 10 * 64, 9, forever, 7, 1, false},
		{"fill", 1<<32 - 1, 9, 1, 0, 1, true},         // stopped before it begins
		{"fill", 1<<32 - 1, 1<<31 - 1, 1, 0, 0, true}, // more than there is
		{"grow", 1, 2500, forever, 1, 0, false},
		{"grow", 1, 2499, forever, 1, 1, false},
		{"grow", 3, 3*2500 - 1, forever, 1, 1, false},
		{"grow", 1000, 9, forever, 1<<32 - 1, 1, false},
		{"grow", 1<<32 - 1, 9, 1, 0, 1, true},
	} {
		r := wazero.NewRuntime(t.Context())
		f := &tank{size: c.size, most: c.most}
		if _, err := r.NewHostModuleBuilder("env").NewFunctionBuilder().WithFunc(f.host).Export("jsFunctionProxy").Instantiate(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, err := r.Instantiate(t.Context(), wasm)
		if err != nil {
			t.Fatal(err)
		}
		m.ExportedGlobal(harden.Fuel).(api.MutableGlobal).Set(uint64(c.size))
		got, err := m.ExportedFunction(c.function).Call(t.Context(), c.n)
		if f.ticks != c.ticks || (err != nil) != c.stopped || err == nil && got[0] != c.result || f.ticks >= c.most && !errors.Is(err, errTrap) {
			t.Errorf("%s(%d) with %d: %d ticks, %v, %v; want %d ticks, %d", c.function, c.n, c.size, f.ticks, got, err, c.ticks, c.result)
		}
		r.Close(context.Background())
	}
}

func TestAddFuelRefuses(t *testing.T) {
	t.Parallel()
	for _, want := range []harden.FuelCounts{{Loops: 2, Bulk: 2}, {Loops: 3, Bulk: 1}} {
		if _, err := harden.AddFuel(module(busy...), want); err == nil {
			t.Errorf("%+v was taken", want)
		}
	}
	for i := range busy {
		if i == 3 { // it does not look at the memory
			continue
		}
		if _, err := harden.AddFuel(module(slices.Delete(slices.Clone(busy), i, i+1)...), busyCounts); err == nil {
			t.Errorf("no error without section %d", busy[i][0])
		}
	}
	whole := module(busy...)
	for i := range whole {
		if _, err := harden.AddFuel(whole[:i], busyCounts); err == nil {
			t.Errorf("a module cut to %d bytes was taken", i)
		}
	}
}
