package harden

import "fmt"

// The engine has one global, its stack pointer; the limit and the floor are added.
const (
	globalStackPointer = 0
	globalStackLimit   = 1
	globalStackFloor   = 2
)

const (
	typeI32 = 0x7f
	typeI64 = 0x7e
	mutable = 0x01
)

// checkImports makes sure that function 0, which the guards call, is the one
// host function that the engine reaches JavaScript's host through.
func checkImports(body []byte) ([]byte, error) {
	r := &reader{b: body}
	r.u32()
	module, name, kind := r.name(), r.name(), r.byte()
	if r.err != nil {
		return nil, r.err
	}
	if module != "env" || name != "jsFunctionProxy" || kind != 0 {
		return nil, fmt.Errorf("first import is %s.%s, not env.jsFunctionProxy", module, name)
	}
	return body, nil
}

// addLimit appends the stack's limit and floor to the module's globals. They start
// at zero, which no stack pointer is below: an instance is guarded once they are set.
func addLimit(body []byte) ([]byte, error) {
	r := &reader{b: body}
	count, start := r.u32(), r.p
	typ, mut := r.byte(), r.byte()
	if r.err != nil {
		return nil, r.err
	}
	if count != 1 || typ != typeI32 || mut != mutable {
		return nil, fmt.Errorf("%d globals, the first of type %#x: want one mutable i32", count, typ)
	}
	out := appendU32(nil, count+2)
	out = append(out, body[start:]...)
	for range 2 {
		out = append(out, typeI32, mutable, opI32Const, 0, opEnd)
	}
	return out, nil
}

func addExports(body []byte) ([]byte, error) {
	r := &reader{b: body}
	count := r.u32()
	if r.err != nil {
		return nil, r.err
	}
	out := appendU32(nil, count+3)
	out = append(out, body[r.p:]...)
	out = appendExport(out, StackPointer, kindGlobal, globalStackPointer)
	out = appendExport(out, StackLimit, kindGlobal, globalStackLimit)
	return appendExport(out, StackFloor, kindGlobal, globalStackFloor), nil
}

// What is exported.
const (
	kindFunction = 0
	kindGlobal   = 3
)

func appendExport(b []byte, name string, kind byte, index uint32) []byte {
	b = appendU32(b, uint32(len(name)))
	b = append(b, name...)
	b = append(b, kind)
	return appendU32(b, index)
}
