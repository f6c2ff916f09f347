// Package harden rewrites the QuickJS engine's WebAssembly so that the guest
// cannot overrun its stack.
//
// As built, the engine keeps its C stack in 64 KiB of linear memory right next
// to static data and checks nothing: some 220 JavaScript frames overwrite the
// tables that the interpreter runs on. [Rewrite] exports the stack pointer, so
// that the host can move the stack to a larger block, adds a limit and a floor,
// and guards every place that lowers the stack pointer. Where frames are of any
// size (alloca), going below the limit takes the limit along: it says how far down
// such a frame ever was.
// A guest that would go below the floor calls the host function with
// [TrapStack], which must not return.
//
// [AddTracker] adds a function through which the engine tells its host of
// promises that are rejected with nothing listening. [AddLoop] exports the function
// that runs the engine's jobs.
//
// Only code is rewritten: memory has the same layout with and without it, and
// a memory image taken with one rewriter runs under another.
//
// Rewrite recognises one build of the engine and refuses any other: it checks
// the shape of what it relies on and the number of places it guarded.
package harden

import "fmt"

// The exports that [Rewrite] adds. All are mutable i32 globals.
const (
	StackPointer = "__stack_pointer"
	StackLimit   = "__stack_limit" // the lowest that alloca left the stack pointer at since the host set it
	StackFloor   = "__stack_floor" // below which no stack pointer goes
)

// TrapStack is the second argument of the host function when the stack pointer
// would be below the floor; the first, a JSContext, is null as in no call of the
// engine.
const TrapStack = 1

// Counts are the places that a rewrite guarded.
type Counts struct {
	Prologues int // functions that open a frame of a fixed size
	Moves     int // other places that lower the stack pointer: alloca
}

// Rewrite returns wasm with a guarded, movable stack. It fails unless wasm is
// laid out as the engine is and exactly want places were guarded.
func Rewrite(wasm []byte, want Counts) ([]byte, error) {
	out, got, err := rewrite(wasm)
	if err != nil {
		return nil, fmt.Errorf("rewrite engine: %w", err)
	}
	if got != want {
		return nil, fmt.Errorf("rewrite engine: guarded %+v, expected %+v: not the engine this was made for", got, want)
	}
	return out, nil
}

func rewrite(wasm []byte) ([]byte, Counts, error) {
	var counts Counts
	sections, err := readSections(wasm)
	if err != nil {
		return nil, counts, err
	}
	steps := map[byte]func([]byte) ([]byte, error){
		sectionImport: checkImports,
		sectionGlobal: addLimit,
		sectionExport: addExports,
		sectionCode:   counts.guardAll,
	}
	for i, s := range sections {
		step := steps[s.id]
		if step == nil {
			continue
		}
		delete(steps, s.id)
		if sections[i].body, err = step(s.body); err != nil {
			return nil, counts, fmt.Errorf("section %d: %w", s.id, err)
		}
	}
	if len(steps) > 0 {
		return nil, counts, fmt.Errorf("%w: %d sections missing", errMalformed, len(steps))
	}
	return writeSections(sections), counts, nil
}
