package harden

import (
	"errors"
	"fmt"
)

// errMalformed is what every reader of this file reports: bytes that end early
// or numbers that do not fit.
var errMalformed = errors.New("malformed wasm")

// The section ids that the rewriter looks into.
const (
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionGlobal   = 6
	sectionExport   = 7
	sectionElement  = 9
	sectionCode     = 10
)

// reader walks over wasm bytes. The first problem sticks in err and every later
// read returns zero, so that callers check once per structure.
type reader struct {
	b   []byte
	p   int
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("%w at byte %d", errMalformed, r.p)
	}
	r.p = len(r.b)
}

func (r *reader) done() bool { return r.err != nil || r.p >= len(r.b) }

func (r *reader) byte() byte {
	if r.p >= len(r.b) {
		r.fail()
		return 0
	}
	r.p++
	return r.b[r.p-1]
}

// leb reads a LEB128 number of at most bits bits and returns its payload; for
// signed numbers only the length matters here.
func (r *reader) leb(bits int) uint64 {
	var v uint64
	for shift := 0; shift < bits; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) u32() uint32 {
	v := r.leb(32)
	if v > 0xffffffff {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *reader) bytes(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.b)-r.p) {
		r.fail()
		return nil
	}
	r.p += int(n)
	return r.b[r.p-int(n) : r.p]
}

func (r *reader) name() string { return string(r.bytes(r.u32())) }

// appendU32 appends v as LEB128.
func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// section is one section of a module, in file order.
type section struct {
	id   byte
	body []byte
}

func readSections(wasm []byte) ([]section, error) {
	if len(wasm) < 8 || string(wasm[:8]) != "\x00asm\x01\x00\x00\x00" {
		return nil, fmt.Errorf("%w: no wasm header", errMalformed)
	}
	r := &reader{b: wasm, p: 8}
	var out []section
	for !r.done() {
		id := r.byte()
		out = append(out, section{id, r.bytes(r.u32())})
	}
	return out, r.err
}

func writeSections(sections []section) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		out = append(out, s.id)
		out = appendU32(out, uint32(len(s.body)))
		out = append(out, s.body...)
	}
	return out
}
