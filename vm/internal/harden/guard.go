package harden

import "bytes"

// guardAll guards every function of the code section.
func (c *Counts) guardAll(body []byte) ([]byte, error) {
	r := &reader{b: body}
	count := r.u32()
	out := appendU32(make([]byte, 0, len(body)+len(body)/32), count)
	for ; count > 0 && r.err == nil; count-- {
		f := c.guard(&reader{b: r.bytes(r.u32())}, r)
		out = appendU32(out, uint32(len(f)))
		out = append(out, f...)
	}
	if !r.done() {
		r.fail()
	}
	return out, r.err
}

// guard copies one function body and inserts its guards. Code may be inserted
// anywhere between two instructions: branches name blocks, not addresses.
func (c *Counts) guard(f, outer *reader) []byte {
	for n := f.u32(); n > 0 && f.err == nil; n-- { // local declarations
		f.u32()
		f.byte()
	}
	out := bytes.Clone(f.b[:min(f.p, len(f.b))])
	prologue := frameSize(f)
	if prologue != nil {
		c.Prologues++
		out = appendPrologueGuard(out, prologue)
	}
	for first, last := prologue != nil, byte(0); !f.done(); {
		start := f.p
		op := f.skip()
		if f.err != nil {
			break
		}
		out = append(out, f.b[start:f.p]...)
		if op == opGlobalSet && f.b[start+1] == globalStackPointer {
			// An epilogue adds the frame's size back; the first set after a
			// guarded prologue stores what has been checked already.
			if last != opI32Add && !first {
				c.Moves++
				out = appendMoveGuard(out)
			}
			first = false
		}
		last = op
	}
	if f.err != nil && outer.err == nil {
		outer.err = f.err
	}
	return out
}

// frameSize returns the i32.const instruction of a function that opens a frame,
// "global.get 0; i32.const N; i32.sub", and nil for any other. It does not
// move f.
func frameSize(f *reader) []byte {
	r := &reader{b: f.b, p: f.p}
	if r.byte() != opGlobalGet || r.byte() != globalStackPointer {
		return nil
	}
	start := r.p
	if r.byte() != opI32Const {
		return nil
	}
	r.leb(32)
	end := r.p
	if r.byte() != opI32Sub || r.err != nil {
		return nil
	}
	return r.b[start:end]
}

// appendPrologueGuard guards a frame of that size, before it is opened.
func appendPrologueGuard(b, size []byte) []byte {
	wanted := append([]byte{opGlobalGet, globalStackPointer}, size...)
	return appendTrapBelowFloor(b, append(wanted, opI32Sub))
}

// appendMoveGuard guards a stack pointer that is set already: if sp < limit: trap
// if it is below the floor; limit = sp. Prologues do not do that: there it would
// cost a loop of JavaScript 7 % of its speed, and here nothing.
func appendMoveGuard(b []byte) []byte {
	moved := []byte{opGlobalGet, globalStackPointer}
	b = append(append(b, moved...), opGlobalGet, globalStackLimit, opI32LtS, opIf, blockEmpty)
	b = appendTrapBelowFloor(b, moved)
	return append(append(b, moved...), opGlobalSet, globalStackLimit, opEnd)
}

// appendTrapBelowFloor: if wanted < floor, trap. The comparison is signed, so that
// a difference below address zero counts as below the floor.
func appendTrapBelowFloor(b, wanted []byte) []byte {
	b = append(append(b, wanted...), opGlobalGet, globalStackFloor, opI32LtS)
	return append(b,
		opIf, blockEmpty,
		opI32Const, 0, opI64Const, TrapStack, opI32Const, 0, opI32Const, 0,
		opCall, 0, opDrop, opUnreachable,
		opEnd)
}
