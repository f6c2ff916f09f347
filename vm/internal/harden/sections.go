package harden

import "fmt"

// The engine has one global, its stack pointer; the limit becomes the second.
const (
	globalStackPointer = 0
	globalStackLimit   = 1
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

// addLimit appends the stack limit to the module's globals. It starts at zero,
// which no stack pointer is below: an instance is guarded once a limit is set.
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
	out := appendU32(nil, count+1)
	out = append(out, body[start:]...)
	return append(out, typeI32, mutable, opI32Const, 0, opEnd), nil
}

func addExports(body []byte) ([]byte, error) {
	r := &reader{b: body}
	count := r.u32()
	if r.err != nil {
		return nil, r.err
	}
	out := appendU32(nil, count+2)
	out = append(out, body[r.p:]...)
	out = appendExport(out, StackPointer, globalStackPointer)
	return appendExport(out, StackLimit, globalStackLimit), nil
}

func appendExport(b []byte, name string, global uint32) []byte {
	const kindGlobal = 3
	b = appendU32(b, uint32(len(name)))
	b = append(b, name...)
	b = append(b, kindGlobal)
	return appendU32(b, global)
}
