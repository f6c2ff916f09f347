package vm

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"slices"
)

// pageSize is the grain of a delta.
const pageSize = 4096

var zeroPage [pageSize]byte

func isZero(page []byte) bool { return bytes.Equal(page, zeroPage[:len(page)]) }

// A delta is what a VM's memory has that its image has not, together with the
// ids of the calls it waits for:
//
//	open calls   uvarint count, then the ids as uvarint steps
//	memory size  uvarint, in bytes
//	pages        uvarint count, then the page numbers as uvarint steps
//	content      each page XORed with the image's, or as it is beyond the image
//
// XOR leaves zeros where a page was touched only here and there, and zeros cost
// nothing once compressed. The guest's stack is left out: no call is running.

func appendDelta(b []byte, image *Image, memory []byte, open []uint32) []byte {
	b = appendSteps(b, open)
	b = binary.AppendUvarint(b, uint64(len(memory)))
	dirty := dirtyPages(image, memory)
	b = appendSteps(b, dirty)
	b = slices.Grow(b, len(dirty)*pageSize)
	for _, p := range dirty {
		at := int(p) * pageSize
		page := memory[at : at+pageSize]
		if at >= len(image.memory) {
			b = append(b, page...)
			continue
		}
		n := len(b)
		b = b[:n+pageSize]
		subtle.XORBytes(b[n:], page, image.memory[at:at+pageSize])
	}
	return b
}

func dirtyPages(image *Image, memory []byte) []uint32 {
	var dirty []uint32
	for at := 0; at < len(memory); at += pageSize {
		if at == int(image.StackLow) {
			at = int(image.StackHigh)
		}
		before := zeroPage[:]
		if at < len(image.memory) {
			before = image.memory[at : at+pageSize]
		}
		if !bytes.Equal(memory[at:at+pageSize], before) {
			dirty = append(dirty, uint32(at/pageSize))
		}
	}
	return dirty
}

// appendSteps appends an increasing list of numbers.
func appendSteps(b []byte, list []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	last := uint32(0)
	for _, v := range list {
		b = binary.AppendUvarint(b, uint64(v-last))
		last = v
	}
	return b
}

// delta is a decoded delta, checked against an image: it can be applied.
type delta struct {
	open    []uint32
	size    uint32 // of memory
	pages   []uint32
	content []byte
}

func parseDelta(b []byte, image *Image, maxMemory uint64) (delta, error) {
	r := deltaReader{b: b}
	d := delta{open: r.steps(1 << 24)}
	size := r.uvarint()
	if r.bad || size > maxMemory || size < uint64(len(image.memory)) || size%wasmPage != 0 {
		return delta{}, badSnapshot("memory of %d bytes for an image of %d, at most %d", size, len(image.memory), maxMemory)
	}
	d.size = uint32(size)
	d.pages, d.content = r.steps(d.size/pageSize), r.b
	if r.bad || len(d.content) != len(d.pages)*pageSize {
		return delta{}, badSnapshot("its delta is cut off")
	}
	for _, p := range d.pages {
		if at := p * pageSize; p >= d.size/pageSize || at >= image.StackLow && at < image.StackHigh {
			return delta{}, badSnapshot("page %d is out of place", p)
		}
	}
	if len(d.open) > 0 && d.open[0] == 0 {
		return delta{}, badSnapshot("call 0 is open")
	}
	return d, nil
}

// apply writes the delta into memory that holds the image and then zeros.
func (d delta) apply(image *Image, memory []byte) {
	for i, p := range d.pages {
		at := int(p) * pageSize
		page, content := memory[at:at+pageSize], d.content[i*pageSize:(i+1)*pageSize]
		if at >= len(image.memory) {
			copy(page, content)
		} else {
			subtle.XORBytes(page, image.memory[at:at+pageSize], content)
		}
	}
}

type deltaReader struct {
	b   []byte
	bad bool
}

func (r *deltaReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// steps reads a strictly increasing list of at most most numbers.
func (r *deltaReader) steps(most uint32) []uint32 {
	n := r.uvarint()
	if n > uint64(most) || n > uint64(len(r.b)) { // each takes a byte at least
		r.bad = true
		return nil
	}
	list := make([]uint32, 0, n)
	last := uint64(0)
	for i := uint64(0); i < n; i++ {
		step := r.uvarint()
		last += step
		if step > 1<<32-1 || last > 1<<32-1 || step == 0 && i > 0 {
			r.bad = true
			return nil
		}
		list = append(list, uint32(last))
	}
	return list
}
