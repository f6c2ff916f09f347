package harden

// The opcodes that the rewriter reads or writes by name.
const (
	opUnreachable = 0x00
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opCall        = 0x10
	opDrop        = 0x1a
	opLocalGet    = 0x20
	opLocalTee    = 0x22
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI64Const    = 0x42
	opI32LtS      = 0x48
	opI32Add      = 0x6a
	opI32Sub      = 0x6b
	opI32Mul      = 0x6c
	opI32And      = 0x71
	opI32ShrU     = 0x76
	opI32WrapI64  = 0xa7
	opPrefix      = 0xfc // of the second page of opcodes
	subMemoryCopy = 10
	subMemoryFill = 11

	blockEmpty = 0x40
)

// skip reads one instruction and its immediates and returns its opcode. It
// knows WebAssembly 2.0 without SIMD, which is more than the engine uses, and
// fails on anything else: an unknown length would desynchronise the walk.
func (r *reader) skip() byte {
	op := r.byte()
	switch {
	case op == 0x02 || op == 0x03 || op == 0x04: // block, loop, if
		r.leb(33)
	case op == 0x0c || op == 0x0d || op == opCall, op == 0xd2: // br, br_if, call, ref.func
		r.u32()
	case op >= 0x20 && op <= 0x26: // locals, globals, tables
		r.u32()
	case op == 0x0e: // br_table
		for n := r.u32(); r.err == nil; n-- {
			r.u32()
			if n == 0 {
				break
			}
		}
	case op == 0x11: // call_indirect
		r.u32()
		r.u32()
	case op == 0x1c: // select with types
		r.bytes(r.u32())
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.u32()
		r.leb(64)
	case op == 0x3f || op == 0x40 || op == 0xd0: // memory.size, memory.grow, ref.null
		r.byte()
	case op == opI32Const:
		r.leb(32)
	case op == opI64Const:
		r.leb(64)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == 0xfc:
		r.skipPrefixed()
	case op <= 0x01, op == 0x05, op == opEnd, op == 0x0f, op == opDrop, op == 0x1b, op == 0xd1:
	case op >= 0x45 && op <= 0xc4: // numeric, no immediates
	default:
		r.fail()
	}
	return op
}

// skipPrefixed reads the rest of an instruction that starts with 0xfc.
func (r *reader) skipPrefixed() {
	switch sub := r.u32(); {
	case sub <= 7: // saturating truncation
	case sub == 8 || sub == 10 || sub == 12 || sub == 14: // memory.init, memory.copy, table.init, table.copy
		r.u32()
		r.u32()
	case sub <= 17:
		r.u32()
	default:
		r.fail()
	}
}
