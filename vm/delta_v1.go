package vm

import "crypto/subtle"

// pageDelta is a delta of the first kind, which snapshots of earlier builds
// hold and none is made of any more:
//
//	open calls   uvarint count, then the ids as uvarint steps
//	memory size  uvarint, in bytes
//	pages        uvarint count, then the page numbers as uvarint steps
//	content      each page XORed with the image's, or as it is beyond the image
type pageDelta struct {
	open    []uint32
	size    uint32 // of memory
	pages   []uint32
	content []byte
}

func (d pageDelta) memory() uint32           { return d.size }
func (d pageDelta) state() ([]uint32, usage) { return d.open, usage{} }

func parsePages(b []byte, image *Image, maxMemory uint64) (pageDelta, error) {
	r := deltaReader{b: b}
	d := pageDelta{open: r.steps(1 << 24)}
	size := r.uvarint()
	if r.bad || size > maxMemory || size < uint64(len(image.memory)) || size%wasmPage != 0 {
		return pageDelta{}, badSnapshot("memory of %d bytes for an image of %d, at most %d", size, len(image.memory), maxMemory)
	}
	d.size = uint32(size)
	d.pages, d.content = r.steps(d.size/pageSize), r.b
	if r.bad || len(d.content) != len(d.pages)*pageSize {
		return pageDelta{}, badSnapshot("its delta is cut off")
	}
	for _, p := range d.pages {
		if at := p * pageSize; p >= d.size/pageSize || at >= image.StackLow && at < image.StackHigh {
			return pageDelta{}, badSnapshot("page %d is out of place", p)
		}
	}
	if len(d.open) > 0 && d.open[0] == 0 {
		return pageDelta{}, badSnapshot("call 0 is open")
	}
	return d, nil
}

// restore writes the delta into memory that holds the image and then zeros.
func (d pageDelta) restore(image *Image, memory []byte) {
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
