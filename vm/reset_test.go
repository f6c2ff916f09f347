package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/google/uuid"
)

// soloEngine is one whose pool has a single VM at a time, under a key of its own.
func soloEngine(t *testing.T, l Limits) *Engine {
	t.Helper()
	entry, err := keys.NewKey("test")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.ParseRing(entry)
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(t.Context(), Options{Keys: ring, CacheDir: SharedCache, Concurrency: 1, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

// wide is a function with an operand stack of 48 KB, which the engine allocates
// on the guest's C stack, and which it leaves as it found it: wide(g, k) calls k
// from below that.
const wide = `const wide = new Function('g', 'k', 'k(); if (g) g(' + '0,'.repeat(6000) + 'k())');
	const down = (n) => n ? [n, down(n - 1)].length : 0;`

// TestResetIsWhole: a VM that comes back from the pool is what a new one is,
// whatever ran in it before: the image, zeros beyond and on the stack, and globals.
func TestResetIsWhole(t *testing.T) {
	t.Parallel()
	const answer = `{"n":1}`
	for name, c := range map[string]struct {
		code    string
		answers int
		grows   bool // memory
		deep    int  // how far below the top of its stack the guest writes at least
	}{
		"a new VM":               {},
		"suspended":              {code: `async () => { const kept = [1]; await tools.a.b(); return kept }`},
		"suspended with 3 MB":    {code: `async () => { const kept = new Array(4e5).fill(7); await tools.a.b(); return kept.length }`, grows: true},
		"resumed, suspended":     {code: `async () => { for (;;) await tools.a.b() }`, answers: 2},
		"resumed with 3 MB":      {code: `async () => { const kept = new Array(4e5).fill(7); for (let i = 0; ; i++) kept[i] = await tools.a.b() }`, answers: 3, grows: true},
		"resumed, ended":         {code: `async () => { await tools.a.b(); return 'x'.repeat(1000) }`, answers: 1},
		"ended":                  {code: `(x) => JSON.stringify(Array.from({ length: 100 }, (_, i) => ({ i }))).length`},
		"ended, grown":           {code: `() => new Array(1e6).fill(1).length`, grows: true},
		"threw":                  {code: `() => { throw new TypeError('no') }`},
		"refused":                {code: `} {`},
		"recursed":               {code: `() => { ` + wide + ` return down(1500) }`, deep: 256 << 10},
		"recursed, suspended":    {code: `async () => { ` + wide + ` down(1500); await tools.a.b() }`, deep: 256 << 10},
		"below one wide frame":   {code: `() => { ` + wide + ` wide(null, () => down(3)); return 1 }`, deep: 48 << 10},
		"below ten wide frames":  {code: `() => { ` + wide + ` let n = 10; const k = () => n-- ? wide(null, k) : down(3); k(); return 1 }`, deep: 400 << 10},
		"wide frames, suspended": {code: `async () => { ` + wide + ` let n = 10; const k = () => n-- ? wide(null, k) : down(3); k(); await tools.a.b() }`, deep: 400 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := soloEngine(t, Limits{})
			before, err := e.take(t.Context(), e.base, uint32(len(e.base.memory)))
			if err != nil {
				t.Fatal(err)
			}
			fuel := before.fuel.Get()
			wantNew(t, before, fuel)
			e.give(t.Context(), before)
			if c.code != "" {
				frame := uuid.New()
				out, err := e.Start(t.Context(), StartParams{Frame: frame, Name: "t", Code: "module.exports = " + c.code})
				for ; err == nil && c.answers > 0; c.answers-- {
					r := Reply{ID: out.Open[0]}
					r.Value = json.RawMessage(answer)
					before = idleVM(t, e, out.Snapshot.Size)
					out, err = e.Resume(t.Context(), frame, out.Snapshot, []Reply{r})
				}
				if err != nil {
					t.Fatal(err)
				}
				wantTask(t, out, name)
			}
			if grown := int(before.memory.Size()) > len(e.base.memory); grown != c.grows {
				t.Errorf("the VM grew: %v", grown)
			}
			if wrote := stackUse(before); wrote < c.deep {
				t.Errorf("%d bytes of stack were written, want %d", wrote, c.deep)
			}
			after := e.pool.take(e.base, before.memory.Size())
			if after != before {
				t.Fatal("the VM did not come back to the pool")
			}
			after.reset()
			wantNew(t, after, fuel)
			e.give(t.Context(), after)
		})
	}
}

// idleVM is the VM that a slice with so much memory will have.
func idleVM(t *testing.T, e *Engine, size uint32) *sandbox {
	t.Helper()
	s := e.pool.take(e.base, size)
	if s == nil {
		t.Fatalf("no VM of %d bytes is idle", size)
	}
	e.pool.give(s)
	return s
}

// wantTask: the tasks of this file end in what their names say.
func wantTask(t *testing.T, out *Outcome, name string) {
	t.Helper()
	fails := name == "threw" || name == "refused"
	if fails != (out.Err != nil) {
		t.Fatalf("result %.100s, error %+v", out.Result, out.Err)
	}
}

// stackUse is how far below its top the stack holds something else than zeros.
func stackUse(s *sandbox) int {
	m, _ := s.memory.Read(s.image.StackLow, stackSize)
	return stackSize - (len(m) - len(bytes.TrimLeft(m, "\x00")))
}

func wantNew(t *testing.T, s *sandbox, fuel uint64) {
	t.Helper()
	image := s.image
	m, _ := s.memory.Read(0, s.memory.Size())
	rest := m[len(image.memory):]
	if !bytes.Equal(m[:len(image.memory)], image.memory) || len(bytes.TrimLeft(rest, "\x00")) > 0 {
		for i, b := range m {
			if i < len(image.memory) && b != image.memory[i] || i >= len(image.memory) && b != 0 {
				t.Fatalf("byte %#x differs; the stack is %#x to %#x, the image %#x long", i, image.StackLow, image.StackHigh, len(image.memory))
			}
		}
	}
	if sp, limit, f := s.stackPointer.Get(), s.stackLimit.Get(), s.fuel.Get(); uint32(sp) != image.StackHigh ||
		uint32(limit) != image.StackHigh-stackStep || f != fuel {
		t.Errorf("stack pointer %#x, limit %#x, fuel %d", sp, limit, f)
	}
}

// TestStackLimitFollows: the limit goes down in steps as far as the guest's stack
// does, and no further than its floor.
func TestStackLimitFollows(t *testing.T) {
	t.Parallel()
	e := soloEngine(t, Limits{})
	s, err := e.take(t.Context(), e.base, uint32(len(e.base.memory)))
	if err != nil {
		t.Fatal(err)
	}
	defer e.give(t.Context(), s)
	low, high := s.image.StackLow, s.image.StackHigh
	for _, c := range []struct {
		wanted, limit uint32
		overflows     bool
	}{
		{high - 64, high - stackStep, false},
		{high - stackStep, high - stackStep, false},
		{high - stackStep - 1, high - 2*stackStep, false},
		{high - 5*stackStep + 1, high - 5*stackStep, false},
		{high - 64, high - 5*stackStep, false}, // it stays there
		{low + stackRedZone + 1, low + stackRedZone, false},
		{low + stackRedZone, low + stackRedZone, false},
		{low + stackRedZone - 1, low + stackRedZone, true},
		{0, low + stackRedZone, true},
		{1<<32 - 64, low + stackRedZone, true}, // below address 0
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); (err != nil) != c.overflows || err != nil && !errors.Is(err, errStackOverflow) {
					t.Errorf("%#x: %v", c.wanted, err)
				}
			}()
			s.lowerStackLimit(int32(c.wanted))
		}()
		if got := uint32(s.stackLimit.Get()); got != c.limit {
			t.Errorf("%#x below %#x: limit %#x, want %#x", c.wanted, high, got, c.limit)
		}
	}
	// What a guest can have written by then, its red zone included, is cleared.
	for _, wanted := range []uint32{high - 64, high - 3*stackStep, low + stackRedZone} {
		s.lowerStackLimit(int32(wanted))
		written, _ := s.memory.Read(uint32(s.stackLimit.Get())-stackRedZone, high-uint32(s.stackLimit.Get())+stackRedZone)
		for i := range written {
			written[i] = 0xff
		}
		s.reset()
		wantNew(t, s, 0)
	}
}

// TestPoolKnowsImages: a VM of one image never runs what is of another of the
// same size.
func TestPoolKnowsImages(t *testing.T) {
	t.Parallel()
	e := soloEngine(t, Limits{})
	size := uint32(len(e.base.memory))
	memory := bytes.Clone(e.base.memory)
	memory[len(memory)-1] ^= 1
	twin := newImage(e.base.module, e.base.anchors, memory)
	images := []*Image{e.base, twin}
	for range 2 {
		for _, image := range images {
			s, err := e.take(t.Context(), image, size)
			if err != nil {
				t.Fatal(err)
			}
			if s.image != image {
				t.Fatal("a VM of another image")
			}
			wantNew(t, s, 0)
			// With this VM alone in the pool, the other image finds none.
			e.pool.give(s)
		}
		for _, s := range []*sandbox{e.pool.take(twin, size), e.pool.take(e.base, size)} {
			if s == nil || s.image != twin && s.image != e.base {
				t.Fatal("a VM is missing")
			}
			for _, image := range images {
				e.pool.give(s)
				if got := e.pool.take(image, size); (got == s) != (s.image == image) {
					t.Errorf("image %v is given a VM of %v", image.digest, s.image.digest)
				} else if got == nil {
					e.pool.take(s.image, size)
				}
			}
			e.pool.give(s)
		}
	}
}
