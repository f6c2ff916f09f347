package harden

import "fmt"

// The last argument of the host function, next to a null context, when a
// promise was rejected that nothing listens to, and when something listens to
// such a promise after all. The second argument is the reason, the third the
// promise's object.
const (
	Rejected = 2
	Heard    = 3
)

// AddTracker appends a function of the type of QuickJS's promise rejection
// trackers, which calls the host, to the engine's code and to its table. It
// returns the function's index in the table, which the engine calls once it
// stands in its JSRuntime: no export sets it.
func AddTracker(wasm []byte) ([]byte, uint32, error) {
	out, index, err := addTracker(wasm)
	if err != nil {
		return nil, 0, fmt.Errorf("add rejection tracker: %w", err)
	}
	return out, index, nil
}

// trackerType is (context i32, promise i64, reason i64, handled i32, opaque
// i32) without a result, as the type section writes it.
var trackerType = string([]byte{0x60, 5, typeI32, typeI64, typeI64, typeI32, typeI32, 0})

// trackerCode calls function 0 with (null, reason, promise, Rejected + handled).
var trackerCode = []byte{0, // no locals
	opI32Const, 0, opLocalGet, 2, opLocalGet, 1, opI32WrapI64,
	opLocalGet, 3, opI32Const, Rejected, opI32Add, opCall, 0, opDrop, opEnd}

func addTracker(wasm []byte) ([]byte, uint32, error) {
	sections, err := readSections(wasm)
	if err != nil {
		return nil, 0, err
	}
	var typ, functions, size uint32
	steps := map[byte]func(*reader) []byte{
		sectionType:     func(r *reader) []byte { typ = findTracker(r); return r.b },
		sectionImport:   func(r *reader) []byte { functions = importedFunctions(r); return r.b },
		sectionFunction: func(r *reader) []byte { n := r.u32(); functions += n; return appendU32(longer(r, n), typ) },
		sectionTable:    func(r *reader) []byte { return growTable(r, &size) },
		sectionElement:  func(r *reader) []byte { return appendElement(r, size, functions) },
		sectionCode: func(r *reader) []byte {
			return append(appendU32(longer(r, r.u32()), uint32(len(trackerCode))), trackerCode...)
		},
	}
	for i, s := range sections {
		if step := steps[s.id]; step != nil {
			delete(steps, s.id)
			r := &reader{b: s.body}
			sections[i].body = step(r)
			if r.err != nil {
				return nil, 0, fmt.Errorf("section %d: %w", s.id, r.err)
			}
		}
	}
	if len(steps) > 0 {
		return nil, 0, fmt.Errorf("%w: %d sections missing", errMalformed, len(steps))
	}
	return writeSections(sections), size, nil
}

// longer starts a vector of one more than n entries and copies what r has left.
func longer(r *reader, n uint32) []byte {
	return append(appendU32(nil, n+1), r.b[r.p:]...)
}

// findTracker returns the number of the tracker's type. The engine has it: it
// calls trackers.
func findTracker(r *reader) uint32 {
	for i, n := uint32(0), r.u32(); i < n && r.err == nil; i++ {
		start := r.p
		r.byte()
		r.bytes(r.u32())
		r.bytes(r.u32())
		if string(r.b[start:r.p]) == trackerType {
			return i
		}
	}
	r.fail()
	return 0
}

// importedFunctions counts the imports, all of which must be functions.
func importedFunctions(r *reader) uint32 {
	n := r.u32()
	for range n {
		r.name()
		r.name()
		if r.byte() != 0 || r.err != nil {
			r.fail()
			return 0
		}
		r.u32()
	}
	return n
}

// growTable makes the one table, which must be of a fixed size, larger by one.
func growTable(r *reader, size *uint32) []byte {
	count, typ, limited := r.u32(), r.byte(), r.byte()
	least, most := r.u32(), r.u32()
	if count != 1 || limited != 1 || least != most || !r.done() {
		r.fail()
	}
	*size = least
	return appendU32(appendU32([]byte{1, typ, 1}, least+1), least+1)
}

// appendElement adds a segment that puts function into the table at index at.
func appendElement(r *reader, at, function uint32) []byte {
	out := append(longer(r, r.u32()), 0, opI32Const)
	out = append(appendS32(out, at), opEnd, 1)
	return appendU32(out, function)
}

// appendS32 appends v, which is not negative, as a signed number.
func appendS32(b []byte, v uint32) []byte {
	for v >= 0x40 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}
