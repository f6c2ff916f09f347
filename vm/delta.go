package vm

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// pageSize is the grain at which memory is compared, and wordSize that of what
// is kept of a page that differs.
const (
	pageSize = 4096
	wordSize = 4
	// blockSize is what is looked at as a whole in a page that differs.
	blockSize = 32
)

var zeroPage [pageSize]byte

func isZero(page []byte) bool { return bytes.Equal(page, zeroPage[:len(page)]) }

// A delta is what a VM's memory has that its image has not, or, in an increment,
// that it had not at the snapshot before, together with what the host has to know
// of the body:
//
//	usage        fuel, log lines, their bytes: a uvarint each
//	open calls   uvarint count, then the ids as uvarint steps
//	memory size  uvarint, in bytes
//	runs         uvarint count, then for each: uvarint words that are as in the
//	             image (zero beyond it), uvarint words that are not
//	words        those of the runs, as they are in memory: one after the other,
//	             or, if there are many, all first bytes, all second bytes, and so on
//
// A task touches a few words in many pages: 2,000 in 48 for a small one. Whole
// pages would be a hundred kilobytes for the compressor to run through. Of many
// words the upper bytes are alike, pointers and tags, and compress to half
// when they stand together.
//
// The guest's stack is left out: no call is running.

// run is a stretch of words that differ from the image's.
type run struct{ at, words uint32 } // at: in bytes

// manyWords are turned before compression.
const manyWords = 4 << 10

func appendDelta(b []byte, image *Image, memory []byte, runs []run, st state) []byte {
	for _, v := range []int64{st.usage.fuel, st.usage.lines, st.usage.lineBytes} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = appendSteps(b, st.open)
	b = binary.AppendUvarint(b, uint64(len(memory)))
	b = binary.AppendUvarint(b, uint64(len(runs)))
	last, words := uint32(0), 0
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64((r.at-last)/wordSize))
		b = binary.AppendUvarint(b, uint64(r.words))
		last = r.at + r.words*wordSize
		words += int(r.words)
	}
	b = slices.Grow(b, words*wordSize)
	if words < manyWords {
		for _, r := range runs {
			b = append(b, memory[r.at:r.at+r.words*wordSize]...)
		}
		return b
	}
	n := len(b)
	b = b[:n+words*wordSize]
	planes := planesOf(b[n:])
	i := 0
	for _, r := range runs {
		for word := memory[r.at : r.at+r.words*wordSize]; len(word) > 0; word = word[wordSize:] {
			planes[0][i], planes[1][i], planes[2][i], planes[3][i] = word[0], word[1], word[2], word[3]
			i++
		}
	}
	return b
}

// planesOf are the quarters of b.
func planesOf(b []byte) (p [wordSize][]byte) {
	n := len(b) / wordSize
	for i := range p {
		p[i] = b[i*n : (i+1)*n]
	}
	return p
}

// differences appends the runs in which memory differs from what it was: from the
// pages in was, and for those that are not there from the image.
func differences(runs []run, image *Image, was *pages, memory []byte) []run {
	for at := 0; at < len(memory); at += pageSize {
		if at == int(image.StackLow) {
			at = int(image.StackHigh)
		}
		page, before := memory[at:at+pageSize], image.page(at)
		if was != nil {
			if page := was.page(at); page != nil {
				before = page
			}
		}
		if !bytes.Equal(page, before) {
			runs = pageDifferences(runs, uint32(at), (*[pageSize]byte)(page), (*[pageSize]byte)(before))
		}
	}
	return runs
}

func pageDifferences(runs []run, at uint32, page, before *[pageSize]byte) []run {
	end := at - 1 // of the last run: none ends there
	for i := 0; i < pageSize; i += blockSize {
		now, was := (*[blockSize]byte)(page[i:]), (*[blockSize]byte)(before[i:])
		if equalBlocks(now, was) {
			continue
		}
		for k := 0; k < blockSize; k += wordSize {
			if binary.LittleEndian.Uint32(now[k:]) == binary.LittleEndian.Uint32(was[k:]) {
				continue
			}
			word := at + uint32(i+k)
			if word == end {
				runs[len(runs)-1].words++
			} else {
				runs = append(runs, run{word, 1})
			}
			end = word + wordSize
		}
	}
	return runs
}

// equalBlocks compares without a branch, since most blocks of a page are equal.
func equalBlocks(a, b *[blockSize]byte) bool {
	le := binary.LittleEndian
	return (le.Uint64(a[0:])^le.Uint64(b[0:]))|(le.Uint64(a[8:])^le.Uint64(b[8:]))|
		(le.Uint64(a[16:])^le.Uint64(b[16:]))|(le.Uint64(a[24:])^le.Uint64(b[24:])) == 0
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

// delta is a decoded delta, checked against an image: it can be restored.
type delta struct {
	open  []uint32
	usage usage
	size  uint32 // of memory
	runs  []run
	words []byte
}

func (d delta) memory() uint32           { return d.size }
func (d delta) state() ([]uint32, usage) { return d.open, d.usage }

// parseDelta appends to runs.
func parseDelta(b []byte, image *Image, maxMemory uint64, runs []run) (delta, error) {
	r := deltaReader{b: b}
	d := delta{usage: usage{r.count(), r.count(), r.count()}, open: r.steps(1 << 24)}
	size := r.uvarint()
	if r.bad || size > maxMemory || size < uint64(len(image.memory)) || size%wasmPage != 0 {
		return delta{}, badSnapshot("memory of %d bytes for an image of %d, at most %d", size, len(image.memory), maxMemory)
	}
	d.size = uint32(size)
	if len(d.open) > 0 && d.open[0] == 0 {
		return delta{}, badSnapshot("call 0 is open")
	}
	words := uint64(0)
	end := uint64(0)
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		skip, count := r.uvarint(), r.uvarint()
		if skip > size || count > size || count == 0 {
			return delta{}, badSnapshot("a run of %d words after %d", count, skip)
		}
		at := end + skip*wordSize
		end = at + count*wordSize
		if end > size || at < uint64(image.StackHigh) && end > uint64(image.StackLow) {
			return delta{}, badSnapshot("words at %d to %d are out of place", at, end)
		}
		runs = append(runs, run{uint32(at), uint32(count)})
		words += count
	}
	d.runs, d.words = runs, r.b
	if r.bad || uint64(len(d.words)) != words*wordSize {
		return delta{}, badSnapshot("its delta is cut off")
	}
	return d, nil
}

// restore writes the delta into memory that holds the image and then zeros, or
// what the deltas before it left there.
func (d delta) restore(_ *Image, memory []byte) {
	words := d.words
	if len(words) < manyWords*wordSize {
		for _, r := range d.runs {
			words = words[copy(memory[r.at:r.at+r.words*wordSize], words):]
		}
		return
	}
	planes := planesOf(words)
	i := 0
	for _, r := range d.runs {
		for word := memory[r.at : r.at+r.words*wordSize]; len(word) > 0; word = word[wordSize:] {
			word[0], word[1], word[2], word[3] = planes[0][i], planes[1][i], planes[2][i], planes[3][i]
			i++
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

// count reads a number that fits an int64.
func (r *deltaReader) count() int64 {
	v := r.uvarint()
	if v > 1<<62 {
		r.bad = true
		return 0
	}
	return int64(v)
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
