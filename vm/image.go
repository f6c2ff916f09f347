package vm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Digest is a sha256.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Image is the memory of a booted engine, and where in it the host finds what
// it calls. Every VM starts as a copy of one, and a Snapshot is a difference
// against one. It does not change.
type Image struct {
	anchors
	module *module // that runs it
	memory []byte
	blank  []bool // by page: it is all zeros
	digest Digest
}

// anchors are the addresses and JavaScript values of an image that its host
// uses. A value is as good in one VM of an image as in any other.
type anchors struct {
	Context             uint32 // JSContext
	StackLow, StackHigh uint32 // the guest's C stack; empty whenever no call is running
	Arguments           uint32 // room for the arguments of one call
	Drain               uint32 // used no more
	Undefined           uint64 // the JavaScript value
	Exception           uint64 // what a function returns that has thrown

	Wake, Start, Settle, Describe, Wrapped uint64 // the prelude's functions; Wrapped is called no more
}

// maxArguments is how many values fit at anchors.Arguments.
const maxArguments = 8

// Digest names the image: two processes that boot the same engine with the
// same memory limit get the same one.
func (i *Image) Digest() Digest { return i.digest }

func newImage(m *module, a anchors, memory []byte) *Image {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, a) // a hash takes everything
	h.Write(memory)
	i := &Image{anchors: a, module: m, memory: memory, blank: make([]bool, len(memory)/pageSize)}
	for p := range i.blank {
		i.blank[p] = isZero(memory[p*pageSize : (p+1)*pageSize])
	}
	h.Sum(i.digest[:0])
	return i
}

// page returns the page at an address, which is zero beyond the image. Those that
// are all zeros are one and the same: it stays in the processor's cache.
func (i *Image) page(at int) []byte {
	if at >= len(i.memory) || i.blank[at/pageSize] {
		return zeroPage[:]
	}
	return i.memory[at : at+pageSize]
}

const imageMagic = "amberimg"

// Encode returns the image as other hosts load it: some 150 KB, of the same
// engine only.
func (i *Image) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(imageMagic)
	b.Write(i.module.id[:])
	if err := binary.Write(&b, binary.LittleEndian, i.anchors); err != nil {
		return nil, fmt.Errorf("encode image: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("encode image: %w", err)
	}
	return enc.EncodeAll(i.memory, b.Bytes()), nil
}

// decodeImage reads what Encode wrote and checks that it is the image asked
// for. The digest covers every byte that reaches a VM.
func (e *Engine) decodeImage(want Digest, b []byte) (*Image, error) {
	var a anchors
	head := len(imageMagic) + len(Digest{})
	size := binary.Size(a)
	if len(b) < head+size || string(b[:len(imageMagic)]) != imageMagic {
		return nil, fmt.Errorf("%w: %v: damaged", ErrUnknownImage, want)
	}
	m := e.module(Digest(b[len(imageMagic):head]))
	if m == nil {
		return nil, fmt.Errorf("%w: image %v", ErrUnknownEngine, want)
	}
	if _, err := binary.Decode(b[head:], binary.LittleEndian, &a); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrUnknownImage, want, err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(e.MaxMemory()))
	if err != nil {
		return nil, fmt.Errorf("decode image: %w", err)
	}
	defer dec.Close()
	memory, err := dec.DecodeAll(b[head+size:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrUnknownImage, want, err)
	}
	i := newImage(m, a, memory)
	if i.digest != want || !i.plausible() {
		return nil, fmt.Errorf("%w: %v: its bytes are another image's", ErrUnknownImage, want)
	}
	return i, nil
}

func (i *Image) plausible() bool {
	n := uint32(len(i.memory))
	return n%wasmPage == 0 && i.StackLow%pageSize == 0 && i.StackHigh%pageSize == 0 &&
		i.StackLow < i.StackHigh && i.StackHigh <= n && i.Arguments < n-maxArguments*8
}
