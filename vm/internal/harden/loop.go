package harden

import (
	"fmt"
	"slices"
)

// Loop is the export that [AddLoop] adds: a function that takes a JSContext and
// runs its jobs until there are none, or one throws, whose exception is pending then.
const Loop = "__loop"

// loopType is (context i32) without a result, as the type section writes it.
var loopType = []byte{0x60, 1, typeI32, 0}

// AddLoop exports a function of the engine, the one with that index, as its loop. The
// engine has it and calls it after each evaluation, but does not export it. AddLoop
// fails if no function with that index has the loop's type.
func AddLoop(wasm []byte, function uint32) ([]byte, error) {
	out, err := addLoop(wasm, function)
	if err != nil {
		return nil, fmt.Errorf("add loop: %w", err)
	}
	return out, nil
}

func addLoop(wasm []byte, function uint32) ([]byte, error) {
	sections, err := readSections(wasm)
	if err != nil {
		return nil, err
	}
	var types [][]byte
	var imports uint32
	steps := map[byte]func(*reader) []byte{
		sectionType:   func(r *reader) []byte { types = typesOf(r); return r.b },
		sectionImport: func(r *reader) []byte { imports = importedFunctions(r); return r.b },
		sectionFunction: func(r *reader) []byte {
			own, i := functionTypes(r), int64(function)-int64(imports)
			if i < 0 || i >= int64(len(own)) || int(own[i]) >= len(types) || !slices.Equal(types[own[i]], loopType) {
				r.fail()
			}
			return r.b
		},
		sectionExport: func(r *reader) []byte {
			return appendExport(longer(r, r.u32()), Loop, kindFunction, function)
		},
	}
	for i, s := range sections {
		if step := steps[s.id]; step != nil {
			delete(steps, s.id)
			r := &reader{b: s.body}
			sections[i].body = step(r)
			if r.err != nil {
				return nil, fmt.Errorf("section %d: %w", s.id, r.err)
			}
		}
	}
	if len(steps) > 0 {
		return nil, fmt.Errorf("%w: %d sections missing", errMalformed, len(steps))
	}
	return writeSections(sections), nil
}

// typesOf are the function types, as the type section writes them.
func typesOf(r *reader) (types [][]byte) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		start := r.p
		r.byte()
		r.bytes(r.u32())
		r.bytes(r.u32())
		types = append(types, r.b[start:min(r.p, len(r.b))])
	}
	return types
}
