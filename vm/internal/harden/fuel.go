package harden

import (
	"fmt"
	"slices"
)

// Fuel is the export that [AddFuel] adds: a mutable i32 global that counts down
// while the guest works. Below zero the guest calls the host function with a
// null context and [Tick]; the host sets it anew and returns, or does not return.
const Fuel = "__fuel"

// Tick is the second argument of the host function when the fuel is used up.
const Tick = 4

// The price of work in units of fuel: one is some four nanoseconds.
const (
	// growFuel is what a page of memory costs, which has to be zeroed.
	growFuel = 2_500
	// bulkShift: so many bits of a size in bytes are dropped where memory is copied or filled.
	bulkShift = 6
)

// FuelCounts are the places that [AddFuel] made pay.
type FuelCounts struct {
	Loops int // loop headers
	Bulk  int // memory.copy, memory.fill and memory.grow
}

// AddFuel makes the guest's work cost fuel. Every loop pays one for each time
// round, so that no code runs long without paying. The interpreter's is among
// them: each turn of it is one instruction of bytecode.
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
		sectionImport:   func(r *reader) []byte { importedFunctions(r); return r.b },
		sectionFunction: func(r *reader) []byte { f.types = functionTypes(r); return r.b },
		sectionGlobal:   func(r *reader) []byte { return f.addGlobal(r) },
		sectionExport: func(r *reader) []byte {
			return appendExport(append(appendU32(nil, r.u32()+1), r.b[r.p:]...), Fuel, kindGlobal, f.global)
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
	out := appendU32(make([]byte, 0, len(r.b)+len(r.b)/16), count)
	for i := uint32(0); i < count && r.err == nil; i++ {
		body := &reader{b: r.bytes(r.u32())}
		if int(f.types[i]) >= len(f.parameters) {
			r.fail()
			break
		}
		code := f.function(body, f.parameters[f.types[i]])
		if body.err != nil {
			r.err = body.err
		}
		out = append(appendU32(out, uint32(len(code))), code...)
	}
	if !r.done() {
		r.fail()
	}
	return out
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
	code := f.code(r, locals)
	if f.counts.Bulk == bulk {
		return slices.Concat(appendU32(nil, groups), declared, code)
	}
	return slices.Concat(appendU32(nil, groups+1), declared, []byte{1, typeI32}, code)
}

func (f *fueller) code(r *reader, local uint32) []byte {
	out := make([]byte, 0, len(r.b)+len(r.b)/8)
	for !r.done() {
		start := r.p
		op := r.skip()
		switch {
		case r.err != nil:
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
