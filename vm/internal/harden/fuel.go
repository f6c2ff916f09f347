package harden

import (
	"bytes"
	"fmt"
	"slices"
)

// Fuel is the export that [AddFuel] adds: a mutable i32 global that counts down
// while the guest works. Below zero the guest calls the host function with a
// null context and [Tick]; the host sets it anew and returns, or does not return.
const Fuel = "__fuel"

// Tick is the second argument of the host function when the fuel is used up.
const Tick = 4

// The price of work in units of fuel: one is about a nanosecond or three.
const (
	// PollFuel is what 10,000 backward jumps and calls of interpreted code cost:
	// QuickJS counts them itself and calls one function for each 10,000.
	PollFuel = 60_000
	// growFuel is what a page of memory costs, which has to be zeroed.
	growFuel = 2_500
	// bulkShift: so many bits of a size in bytes are dropped where memory is copied or filled.
	bulkShift = 6
)

// FuelCounts are the places that [AddFuel] made pay.
type FuelCounts struct {
	Loops int // loop headers
	Free  int // loop headers that do not pay: those around the interpreter's switch
	Bulk  int // memory.copy, memory.fill and memory.grow
	Polls int // functions that are called for each 10,000 jumps of interpreted code
}

// AddFuel makes the guest's work cost fuel. Every loop pays for each time round,
// so that no code runs long without paying, but for the interpreter's own loop,
// whose every turn is one instruction of bytecode: there QuickJS's poll for
// interrupts pays, which jumps back and calls go through.
//
// It fails unless exactly want places pay.
func AddFuel(wasm []byte, want FuelCounts) ([]byte, error) {
	out, got, err := addFuel(wasm)
	if err != nil {
		return nil, fmt.Errorf("add fuel: %w", err)
	}
	if got != want {
		return nil, fmt.Errorf("add fuel: %+v places pay, expected %+v: not the engine this was made for", got, want)
	}
	return out, nil
}

func addFuel(wasm []byte) ([]byte, FuelCounts, error) {
	var f fueller
	sections, err := readSections(wasm)
	if err != nil {
		return nil, f.counts, err
	}
	steps := map[byte]func(*reader) []byte{
		sectionType:     func(r *reader) []byte { f.parameters = parameterCounts(r); return r.b },
		sectionImport:   func(r *reader) []byte { f.imports = importedFunctions(r); return r.b },
		sectionFunction: func(r *reader) []byte { f.types = functionTypes(r); return r.b },
		sectionGlobal:   func(r *reader) []byte { return f.addGlobal(r) },
		sectionExport: func(r *reader) []byte {
			return appendExport(append(appendU32(nil, r.u32()+1), r.b[r.p:]...), Fuel, f.global)
		},
		sectionCode: func(r *reader) []byte { return f.all(r) },
	}
	for i, s := range sections {
		if step := steps[s.id]; step != nil {
			delete(steps, s.id)
			r := &reader{b: s.body}
			sections[i].body = step(r)
			if r.err != nil {
				return nil, f.counts, fmt.Errorf("section %d: %w", s.id, r.err)
			}
		}
	}
	if len(steps) > 0 {
		return nil, f.counts, fmt.Errorf("%w: %d sections missing", errMalformed, len(steps))
	}
	return writeSections(sections), f.counts, nil
}

// fueller walks the code section.
type fueller struct {
	counts     FuelCounts
	parameters []uint32 // of each type
	types      []uint32 // of each function that is not imported
	imports    uint32   // functions; those of the code section follow
	poll       uint32   // the function that polls
	global     uint32   // the fuel's index
}

// parameterCounts reads how many parameters each type has.
func parameterCounts(r *reader) (counts []uint32) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		if r.byte() != 0x60 {
			r.fail()
		}
		params := r.u32()
		r.bytes(params)
		r.bytes(r.u32())
		counts = append(counts, params)
	}
	return counts
}

func functionTypes(r *reader) (types []uint32) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		types = append(types, r.u32())
	}
	return types
}

// addGlobal appends the fuel, 0 at first, to the module's globals.
func (f *fueller) addGlobal(r *reader) []byte {
	f.global = r.u32()
	out := append(appendU32(nil, f.global+1), r.b[r.p:]...)
	return append(out, typeI32, mutable, opI32Const, 0, opEnd)
}

func (f *fueller) all(r *reader) []byte {
	count := r.u32()
	if int(count) != len(f.types) {
		r.fail()
	}
	var bodies []*reader
	for i := uint32(0); i < count && r.err == nil; i++ {
		bodies = append(bodies, &reader{b: r.bytes(r.u32())})
		if polls(*bodies[i]) {
			f.counts.Polls++
			f.poll = f.imports + i
		}
	}
	if !r.done() {
		r.fail()
	}
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/16), count)
	for i, body := range bodies {
		if r.err != nil || int(f.types[i]) >= len(f.parameters) {
			r.fail()
			break
		}
		code := f.function(body, f.parameters[f.types[i]])
		if body.err != nil {
			r.err = body.err
		}
		out = append(appendU32(out, uint32(len(code))), code...)
	}
	return out
}

// polls reports whether a body is that of the function that QuickJS calls when
// a counter of 10,000 has run out: context->interrupt_counter = 10000 comes first.
func polls(r reader) bool {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		r.u32()
		r.byte()
	}
	return r.err == nil && bytes.HasPrefix(r.b[r.p:], []byte{opLocalGet, 0, opI32Const, 0x90, 0xce, 0x00, opI32Store, 2, 0x90, 2})
}

// function copies one body and makes it pay. It gives it a local of its own,
// the last, for the size of what it copies, fills or grows by.
func (f *fueller) function(r *reader, parameters uint32) []byte {
	groups := r.u32()
	start, locals := r.p, parameters
	for n := groups; n > 0 && r.err == nil; n-- {
		locals += r.u32()
		r.byte()
	}
	if r.err != nil {
		return nil
	}
	declared, bulk := r.b[start:r.p], f.counts.Bulk
	code := f.code(r, locals, f.interpreterLoops(&reader{b: r.b, p: r.p}))
	if f.counts.Bulk == bulk {
		return slices.Concat(appendU32(nil, groups), declared, code)
	}
	return slices.Concat(appendU32(nil, groups+1), declared, []byte{1, typeI32}, code)
}

func (f *fueller) code(r *reader, local uint32, free map[int]bool) []byte {
	out := make([]byte, 0, len(r.b)+len(r.b)/8)
	if polls(reader{b: r.b}) {
		out = f.pay(out, appendI32Const(nil, PollFuel))
	}
	for !r.done() {
		start := r.p
		op := r.skip()
		switch {
		case r.err != nil:
		case op == opLoop && free[start]:
			f.counts.Free++
		case op == opLoop:
			f.counts.Loops++
			out = append(out, r.b[start:r.p]...)
			out = f.pay(out, []byte{opI32Const, 1})
			continue
		case op == opMemoryGrow, op == opPrefix && (r.b[start+1] == subMemoryCopy || r.b[start+1] == subMemoryFill):
			f.counts.Bulk++
			out = appendU32(append(out, opLocalTee), local)
			price := appendU32([]byte{opLocalGet}, local)
			if op == opMemoryGrow {
				// A growth that is refused costs no more than what can be there.
				price = append(append(price, opI32Const, 0xff, 0xff, 0x00, opI32And), appendI32Const(nil, growFuel)...)
				price = append(price, opI32Mul)
			} else {
				price = append(price, opI32Const, bulkShift, opI32ShrU)
			}
			out = f.pay(out, price)
		}
		out = append(out, r.b[start:r.p]...)
	}
	return out
}

// pay appends: fuel = fuel - price; if fuel < 0, call the host.
func (f *fueller) pay(b, price []byte) []byte {
	b = appendU32(append(b, opGlobalGet), f.global)
	b = append(append(b, price...), opI32Sub)
	b = appendU32(append(b, opGlobalSet), f.global)
	b = appendU32(append(b, opGlobalGet), f.global)
	return append(b,
		opI32Const, 0, opI32LtS,
		opIf, blockEmpty,
		opI32Const, 0, opI64Const, Tick, opI32Const, 0, opI32Const, 0,
		opCall, 0, opDrop,
		opEnd)
}

// interpreterCases is how many ways the interpreter's switch has at least.
const interpreterCases = 200

// interpreterLoops finds the loops around the interpreter's switch, by where
// their instructions begin. A function with such a switch is the interpreter if it
// polls.
func (f *fueller) interpreterLoops(r *reader) map[int]bool {
	found, polling := map[int]bool{}, false
	var open []int // where each open block begins; -1 if it is no loop
	for !r.done() {
		start := r.p
		op := r.skip()
		at := &reader{b: r.b, p: start + 1}
		switch {
		case op == opLoop:
			open = append(open, start)
		case op == opBlock, op == opIf:
			open = append(open, -1)
		case op == opEnd && len(open) > 0:
			open = open[:len(open)-1]
		case op == opCall && at.u32() == f.poll:
			polling = true
		case op == opBrTable && at.u32() >= interpreterCases:
			for _, begin := range open {
				found[begin] = true
			}
		}
	}
	if !polling {
		return nil
	}
	return found
}

func appendI32Const(b []byte, v int32) []byte {
	b = append(b, opI32Const)
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
