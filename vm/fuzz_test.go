package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm/internal/harden"
	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
)

// fuzzEngine is an engine for fuzzing, with small limits.
func fuzzEngine(f *testing.F) *Engine {
	f.Helper()
	return insideEngine(f, Options{Concurrency: 1, Limits: Limits{Memory: 8 << 20, CPU: 100 * time.Millisecond}})
}

// FuzzHostABI calls everything that a guest can call with any arguments, as a
// guest would that a task has taken over: it may be stopped, and its host goes on.
func FuzzHostABI(f *testing.F) {
	e := fuzzEngine(f)
	const end, str = 1<<32 - 8, uint64(0xfffffff9) << 32
	for _, seed := range [][5]uint64{
		{0, 0, 0, 4, 0}, {0, 1, 0, 4, end}, {0, 1, 0, 4, 1<<32 - 1}, {0, 1, 5, 1 << 31, 4096}, {0, 0, harden.Tick, 0, 0}, {0, 0, harden.TrapStack, 0, 0},
		{0, 0, 1, 8, harden.Rejected}, {0, 0, str, end, harden.Rejected}, {0, 0, 0, end, harden.Heard}, {0, 0, 99, 99, 99},
		{opCall, 1, 1, str | end, 0}, {opCall, 1, 1, str | 1<<20, 0}, {opCall, 1, 0, str, 0}, {opLog, 1, str | 4, str | 1<<31, 0}, {opDone, 1, str, 0, 0},
		{opFail, 1, str | 1234567, 0, 0}, {opRandom, 1, 1 << 16, 0, 0}, {opRandom, 1, 1<<31 - 1, 0, 0}, {opCancel, 1, 7, 0, 0}, {opDone, 1, 1 << 63, 0, 0},
		{100, 0, 0, 4096, 0}, {100, 1, end, end, end}, {101, 0, 1 << 20, 1<<32 - 1, end}, {101, 1, 1<<32 - 4, 16, 8}, {102, 0, 0, 0, 0}, {103, end, end, 0, 0}, {104, 1, 2, 3, 4},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	f.Fuzz(func(t *testing.T, what, a, b, c, d uint64) {
		s, err := e.take(t.Context(), e.base, uint32(len(e.base.memory)))
		if err != nil {
			t.Fatal(err)
		}
		s.slice = &slice{limits: e.options.Limits}
		s.rejections = []rejection{{tagObject<<32 | 8, 8}}
		ctx := context.WithValue(context.Background(), sandboxKey{}, s)
		turn, err := e.turns.enter(ctx, uuid.Nil, uint64(s.memory.Size()))
		if err != nil {
			t.Fatal(err)
		}
		s.startMeter(ctx, e, turn, usage{})
		if err := callHost(ctx, s, what, a, b, c, d); err != nil {
			s.dead = true
		}
		if n := len(s.slice.out.Calls); n > 1 || len(s.slice.out.Logs) > 1 {
			t.Errorf("%d calls, logs %v", n, s.slice.out.Logs)
		}
		e.give(t.Context(), s)
		e.turns.leave(turn)
		out, err := e.Start(t.Context(), StartParams{Name: "t", Code: `module.exports = () => 1`})
		if err != nil || string(out.Result) != "1" {
			t.Fatalf("the next task: %v, %+v", err, out)
		}
	})
}

// callHost calls one function of the host. A panic with an error stops a guest,
// as wazero has it; one of Go's own is a fault of the host.
func callHost(ctx context.Context, s *sandbox, what, a, b, c, d uint64) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		var ok bool
		if err, ok = p.(error); !ok {
			panic(p)
		}
		var fault interface{ RuntimeError() }
		if errors.As(err, &fault) {
			panic(p)
		}
	}()
	switch {
	case what == 0: // the function itself, with the context a
		hostFunction(ctx, []uint64{a, b, c, d})
	case what < 100: // an operation, whose arguments are in memory
		const at = 1 << 20
		for i, v := range []uint64{what, b, c, d} {
			s.memory.WriteUint64Le(uint32(at+8*i), v)
		}
		hostFunction(ctx, []uint64{uint64(s.image.Context), 0, 4, at})
	default:
		stack := []uint64{a, b, c, d}
		functions := []func(){
			func() { fdWrite(slog.New(slog.DiscardHandler))(ctx, s.module, stack) },
			func() {
				s.memory.WriteUint32Le(uint32(b), uint32(c))
				fdWrite(slog.New(slog.DiscardHandler))(ctx, s.module, stack)
			},
			func() { clockTimeGet(ctx, s.module, stack) },
			func() { noStrings(ctx, s.module, stack) },
			func() { answer(wasiNoSys)(ctx, s.module, stack) },
		}
		functions[(what-100)%uint64(len(functions))]()
	}
	return nil
}

// FuzzSnapshot opens what a host might find in its database: bytes that are no
// snapshot, and deltas that nobody made but that are sealed with its key.
func FuzzSnapshot(f *testing.F) {
	e := fuzzEngine(f)
	frame := uuid.New()
	waits, err := e.Start(context.Background(), StartParams{Frame: frame, Name: "t", Code: `module.exports = () => tools.a.b()`})
	if err != nil || waits.Snapshot == nil {
		f.Fatal(err, waits)
	}
	var delta []byte
	packed, err := waits.Snapshot.unseal(e.options.Keys)
	if err == nil {
		var b buffers
		err = e.codec.unpack(&b, waits.Snapshot.Codec, packed)
		delta = b.delta
	}
	if err != nil {
		f.Fatal(err)
	}
	// sealed makes a snapshot of content, which is packed or a delta.
	sealed := func(t testing.TB, content []byte, kind byte, size uint32) *Snapshot {
		snap := &Snapshot{Header: waits.Snapshot.Header}
		snap.Codec, snap.Size = kind, size
		if err := snap.seal(e.options.Keys, content); err != nil {
			t.Fatal(err)
		}
		return snap
	}
	size := waits.Snapshot.Size
	for _, seed := range snapshotSeeds(e, size) {
		for kind := range byte(6) {
			f.Add(seed, kind, size)
		}
	}
	bomb := append(binary.AppendUvarint(make([]byte, 4), uint64(size)), make([]byte, 64<<20)...)
	f.Add(e.codec.enc.EncodeAll(bomb, nil), byte(1), size)
	f.Add(e.codec.enc.EncodeAll(bomb[:16<<20], nil), byte(1), size)
	f.Add(waits.Snapshot.Encode(), byte(0), size)
	f.Add(s2.Encode(nil, bomb), byte(5), size)
	f.Add(binary.AppendUvarint(nil, 1<<40), byte(5), size)
	f.Add(delta, byte(4), size)
	f.Add(delta, byte(2), size)
	f.Add(delta, byte(3), size)
	f.Add(delta, byte(2), size+wasmPage)
	f.Add(delta[:len(delta)-1], byte(2), size)
	f.Fuzz(func(t *testing.T, content []byte, kind byte, size uint32) {
		var snap *Snapshot
		switch kind % 6 {
		case 0:
			var err error
			if snap, err = DecodeSnapshot(content); err != nil {
				if !errors.Is(err, ErrBadSnapshot) {
					t.Errorf("decode: %v", err)
				}
				return
			}
		case 1: // compressed, perhaps
			snap = sealed(t, content, codecWordsZstd, size)
		case 2:
			snap = sealed(t, e.codec.enc.EncodeAll(content, nil), codecWordsZstd, size)
		case 3:
			snap = sealed(t, e.codec.enc.EncodeAll(content, nil), codecPagesZstd, size)
		case 4:
			snap = sealed(t, s2.Encode(nil, content), codecWordsS2, size)
		case 5:
			snap = sealed(t, content, codecWordsS2, size)
		}
		image := slices.Clone(e.base.memory[:64<<10])
		reached := 0
		err := e.codec.open(snap, e.base, func(d *opened) error {
			reached++
			size := d.last().memory()
			if uint64(size) > e.MaxMemory() || size%wasmPage != 0 || int(size) < len(e.base.memory) {
				t.Errorf("memory of %d bytes", size)
			}
			memory := make([]byte, size)
			copy(memory, e.base.memory)
			stack := slices.Clone(memory[e.base.StackLow:e.base.StackHigh])
			d.restore(e.base, memory)
			if !slices.Equal(stack, memory[e.base.StackLow:e.base.StackHigh]) {
				t.Error("the stack was written")
			}
			return nil
		})
		if err != nil && (reached > 0 || !errors.Is(err, ErrBadSnapshot) && !errors.Is(err, keys.ErrUnknownKey)) {
			t.Errorf("open: %v", err)
		}
		if !slices.Equal(image, e.base.memory[:64<<10]) {
			t.Error("the image was written")
		}
		// What opens is a guest's memory, and the guest may do anything with it.
		out, err := e.Resume(t.Context(), snap.Frame, snap, []Reply{{ID: 1}})
		if err == nil && reached == 0 || err != nil && reached > 0 || err == nil && out == nil {
			t.Errorf("resume: %+v, %v; opened %d times", out, err, reached)
		}
	})
}

// snapshotSeeds are deltas with one thing wrong each.
func snapshotSeeds(e *Engine, size uint32) [][]byte {
	low := uint64(e.base.StackLow)
	numbers := func(list ...uint64) (b []byte) {
		for _, v := range list {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	// fuel, lines, bytes, open calls, memory, runs...
	words := func(rest ...uint64) []byte {
		return append(numbers(append([]uint64{0, 0, 0, 1, 1}, rest...)...), make([]byte, 4)...)
	}
	memory := uint64(size)
	return [][]byte{
		nil,
		words(memory, 1, 0, 1),
		words(memory, 1, low/wordSize, 1),                // in the stack
		words(memory, 1, low/wordSize-1, 2),              // into it
		words(memory, 1, memory/wordSize-1, 1),           // the last word
		words(memory, 1, memory/wordSize, 1),             // beyond memory
		words(memory, 1, 1<<63, 1),                       // far beyond
		words(memory, 1, 1<<62, 1<<62),                   // round the end
		words(memory, 2, 1, 0, 0, 1),                     // an empty run
		words(memory, 1<<62, 0, 1),                       // more runs than there are
		words(memory, 2, 0, 1, 1<<64-1, 1),               // backwards
		words(memory+1, 1, 0, 1),                         // no whole pages
		words(memory-wasmPage, 1, 0, 1),                  // less than the image
		words(1<<32, 1, 0, 1),                            // all that there can be
		words(1<<62, 1, 0, 1),                            //
		numbers(1<<63, 1<<63, 1<<63, 0, memory, 0),       // used more than can be
		numbers(0, 0, 0, 1, 0, memory, 0),                // call 0
		numbers(0, 0, 0, 2, 1, 0, memory, 0),             // a call twice
		numbers(0, 0, 0, 1<<40),                          // more calls than bytes
		numbers(0, 0, 0, 2, 1<<32-1, 1<<32-1, memory, 0), // ids too large
		slices.Repeat([]byte{0xff}, 64),
		append(numbers(1, 1, memory, 1, 0), make([]byte, pageSize)...), // pages: the first
		append(numbers(1, 1, memory, 1, low/pageSize), make([]byte, pageSize)...),
		append(numbers(1, 1, memory, 1, memory/pageSize), make([]byte, pageSize)...),
		append(numbers(1, 1, memory, 2, 1, 0), make([]byte, 2*pageSize)...),
		append(numbers(1, 1, memory, 1<<31), make([]byte, pageSize)...),
	}
}
