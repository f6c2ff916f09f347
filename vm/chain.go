package vm

import (
	"crypto/sha256"
	"slices"
)

// A body that holds much and changes little is not written anew at each await:
// its snapshots are increments, each to the one before, back to a key frame. All
// of them together are what it takes to resume it.

// maxChain is how many snapshots a chain has at most: one in so many at least is
// a key frame.
const maxChain = 16

// Chain returns the snapshots that it takes to resume s: a key frame, the
// increments to it, and s itself, which comes last.
func (s *Snapshot) Chain() []*Snapshot {
	var parts []*Snapshot
	for ; s != nil; s = s.base {
		parts = append(parts, s)
	}
	slices.Reverse(parts)
	return parts
}

// chain is Chain, if the headers say that it is one and complete.
func (s *Snapshot) chain() ([]*Snapshot, error) {
	parts := s.Chain()
	if len(parts) > maxChain {
		return nil, badSnapshot("a chain of %d, at most %d", len(parts), maxChain)
	}
	for i, p := range parts {
		switch {
		case i == 0 && p.Increment():
			return nil, badSnapshot("number %d is an increment to one that is missing", p.Sequence)
		case i == 0:
		case !p.Increment():
			return nil, badSnapshot("key frame %d comes after number %d", p.Sequence, p.base.Sequence)
		case p.Frame != p.base.Frame, p.Image != p.base.Image, p.Engine != p.base.Engine:
			return nil, badSnapshot("number %d is of another frame, image or engine than number %d", p.Sequence, p.base.Sequence)
		case p.Sequence != p.base.Sequence+1:
			return nil, badSnapshot("number %d comes after number %d", p.Sequence, p.base.Sequence)
		case p.Size < p.base.Size:
			return nil, badSnapshot("memory of %d bytes comes after %d", p.Size, p.base.Size)
		}
	}
	return parts, nil
}

// stored is the size of the chain in bytes, but for headers.
func (s *Snapshot) Stored() (n int) {
	for ; s != nil; s = s.base {
		n += len(s.sealed)
	}
	return n
}

// content identifies what a snapshot says, however it is sealed, and with it all
// that it is based on.
func (s *Snapshot) content(packed []byte) (d Digest) {
	h := sha256.New()
	h.Write(s.associated())
	h.Write(packed)
	h.Sum(d[:0])
	return d
}

// base is what the next snapshot of a body may be an increment to: the one that
// the body was resumed from.
type base struct {
	snap    *Snapshot
	content Digest
	since   int // bytes of deltas since the key frame
	was     pages
}

// worth reports whether an increment to b pays, if these words have changed since
// and those differ from the image: it takes half as many bytes as a key frame at
// most, and what it takes to resume from it twice as many.
func (b *base) worth(changed, differing []run) bool {
	increment, full := rawSize(changed), rawSize(differing)
	return full > fewBytes && 2*increment <= full && b.since+increment <= full
}

// rawSize is about the size of a delta of these words.
func rawSize(runs []run) int {
	n := 2 * len(runs)
	for _, r := range runs {
		n += int(r.words) * wordSize
	}
	return n
}

// pages are those pages of a VM's memory that differ from its image's.
type pages struct {
	at    []int32 // by number: 1 + where it is in bytes; 0: it does not differ
	bytes []byte
}

// pagesOf copies the pages that have words of one of the deltas.
func pagesOf(memory []byte, deltas []delta) (p pages) {
	p.at = make([]int32, len(memory)/pageSize)
	n := 0
	for _, d := range deltas {
		for _, r := range d.runs {
			for i := r.at / pageSize; i <= (r.at+r.words*wordSize-1)/pageSize; i++ {
				if p.at[i] == 0 {
					p.at[i] = 1
					n++
				}
			}
		}
	}
	p.bytes = make([]byte, 0, n*pageSize)
	for i := range p.at {
		if p.at[i] != 0 {
			p.at[i] = int32(len(p.bytes)) + 1
			p.bytes = append(p.bytes, memory[i*pageSize:(i+1)*pageSize]...)
		}
	}
	return p
}

// page returns the page at an address, or nil if it does not differ.
func (p *pages) page(at int) []byte {
	if i := at / pageSize; i < len(p.at) && p.at[i] != 0 {
		return p.bytes[p.at[i]-1:][:pageSize]
	}
	return nil
}
