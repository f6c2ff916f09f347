package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
)

// soloEngine is one whose pool has a single VM at a time, under a key of its own.
func soloEngine(t *testing.T, l Limits) *Engine {
	t.Helper()
	return insideEngine(t, Options{Concurrency: 1, Limits: l})
}

// wide is a function with an operand stack of 48 KB, which the engine allocates
// on the guest's C stack, and which it leaves as it found it: wide(g, k) calls k
// from below that.
const wide = `const wide = new Function('g', 'k', 'k(); if (g) g(' + '0,'.repeat(6000) + 'k())');
	const down = (n) => n ? [n, down(n - 1)].length : 0;`

// scatter changes every other word of 8 MB.
const scatter = `const kept = new Uint32Array(2e6); for (let i = 0; i < kept.length; i += 2) kept[i] = i + 1;`

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
		"scattered, suspended":   {code: `async () => { ` + scatter + ` await tools.a.b(); return kept.length }`, grows: true},
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
		uint32(limit) != image.StackHigh || uint32(s.stackFloor.Get()) != image.StackLow+stackRedZone || f != fuel {
		t.Errorf("stack pointer %#x, limit %#x, floor %#x, fuel %d", sp, limit, s.stackFloor.Get(), f)
	}
}

// TestStackIsClear: wherever a guest's stack ends, and whatever of the engine runs
// there, all of it is cleared.
func TestStackIsClear(t *testing.T) {
	t.Parallel()
	e := soloEngine(t, Limits{})
	const code = `const work = () => [JSON.stringify({ a: [1.5, { b: 'x' }] }), 'a1b2'.replace(/[0-9]+/g, (n) => n * 2), [3, 1, 2].sort((a, b) => a - b),
			String(new Date(0)), (1 / 3).toString(7), String(7n ** 90n / 3n), parseFloat('1.25e3'), new Map([[1, 2]]).get(1), eval('1 + 1')].length;
		const deep = (n) => n ? [deep(n - 1)].length : work();
		module.exports = (n) => deep(n)`
	deepest := 0
	for n := 0; n < 2500; n += 13 {
		out, err := e.Start(t.Context(), StartParams{Name: "t", Code: code, Input: fmt.Append(nil, n)})
		if err != nil || out.Err != nil {
			t.Fatal(err, out)
		}
		memory := uint32(len(e.base.memory))
		s := idleVM(t, e, memory)
		deepest = max(deepest, stackUse(s))
		s.reset()
		if wrote := stackUse(s); wrote > 0 {
			t.Fatalf("%d calls deep %d bytes of stack are left", n, wrote)
		}
	}
	if deepest < stackSize/2 {
		t.Errorf("the deepest stack was of %d bytes", deepest)
	}
}

// TestRedZoneIsClear: what is written below the limit, in its red zone, is cleared
// as well, wherever the limit is.
func TestRedZoneIsClear(t *testing.T) {
	t.Parallel()
	e := soloEngine(t, Limits{})
	s, err := e.take(t.Context(), e.base, uint32(len(e.base.memory)))
	if err != nil {
		t.Fatal(err)
	}
	defer e.give(t.Context(), s)
	floor, high := s.image.StackLow+stackRedZone, s.image.StackHigh
	for _, limit := range []uint32{high, high - 16, high - pageSize, high - pageSize - 16, floor + 16, floor} {
		s.stackLimit.Set(uint64(limit))
		written, _ := s.memory.Read(limit-stackRedZone, high-limit+stackRedZone)
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
	twin, _ := e.images.put(twinOf(e.base, 1))
	images := []*Image{e.base, twin}
	for range 2 { // the first time round there is none for the second image, then one for each
		for _, image := range images {
			s, err := e.take(t.Context(), image, size)
			if err != nil {
				t.Fatal(err)
			}
			if s.image != image {
				t.Fatal("a VM of another image")
			}
			wantNew(t, s, 0)
			e.drop(e.pool.give(s))
		}
	}
	if _, idle, _ := e.VMs(); idle != len(images) {
		t.Errorf("%d VMs are idle, want one of each image", idle)
	}
}

// twinOf is an image that differs from another in its last byte.
func twinOf(image *Image, last byte) *Image {
	memory := bytes.Clone(image.memory)
	memory[len(memory)-1] ^= last
	return newImage(image.module, image.anchors, memory)
}

// TestVMOfADroppedImage: a VM that is in use while its image is dropped works on,
// and is not kept after.
func TestVMOfADroppedImage(t *testing.T) {
	t.Parallel()
	e := soloEngine(t, Limits{})
	image, _ := e.images.put(twinOf(e.base, 1))
	size := uint32(len(image.memory))
	used, err := e.take(t.Context(), image, size)
	if err != nil {
		t.Fatal(err)
	}
	var dropped *Image
	for n := byte(2); dropped == nil; n++ {
		_, dropped = e.images.put(twinOf(e.base, n))
	}
	if dropped != image || len(e.pool.forget(image)) != 0 {
		t.Fatal("another image was dropped, or a VM that is in use")
	}
	wantNew(t, used, 0)
	again, _ := e.images.put(twinOf(e.base, 1)) // the same, but for the pointer
	e.give(t.Context(), used)
	if live, idle, _ := e.VMs(); live != 0 || idle != 0 {
		t.Errorf("%d VMs, %d idle, want none", live, idle)
	}
	s, err := e.take(t.Context(), again, size)
	if err != nil {
		t.Fatal(err)
	}
	e.give(t.Context(), s)
	if live, idle, _ := e.VMs(); live != 1 || idle != 1 {
		t.Errorf("%d VMs, %d idle, want that of the image that is kept", live, idle)
	}
}
