package vm

import (
	"fmt"
	"sync"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
)

// codec makes snapshots of memory and memory of snapshots.
type codec struct {
	keys *keys.Ring
	max  uint64 // bytes of memory that a snapshot may stand for
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	bufs sync.Pool // *buffers
}

// buffers are the scratch of one encoding or decoding.
type buffers struct{ delta, packed []byte }

func newCodec(o Options) (*codec, error) {
	c := &codec{keys: o.Keys, max: uint64(o.memoryPages()) * wasmPage}
	c.bufs.New = func() any { return new(buffers) }
	var err error
	// Both are safe for concurrent use with the *All methods.
	if c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(o.Concurrency),
		zstd.WithEncoderCRC(false)); err != nil { // AES-GCM authenticates already
		return nil, fmt.Errorf("new zstd encoder: %w", err)
	}
	const listSlack = 1 << 20 // numbers before the pages
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(o.Concurrency), zstd.WithDecoderMaxMemory(c.max+listSlack)); err != nil {
		return nil, fmt.Errorf("new zstd decoder: %w", err)
	}
	return c, nil
}

// save makes the snapshot of a waiting VM.
func (c *codec) save(image *Image, memory []byte, open []uint32, frame uuid.UUID, sequence uint64) (*Snapshot, error) {
	b := c.bufs.Get().(*buffers)
	defer c.put(b)
	b.delta = appendDelta(b.delta[:0], image, memory, open)
	b.packed = c.enc.EncodeAll(b.delta, b.packed[:0])
	s := &Snapshot{Header: Header{
		Version: snapshotVersion, Codec: codecXORZstd, Engine: engineIdentity(), Image: image.digest,
		Frame: frame, Sequence: sequence, Size: uint32(len(memory)),
	}}
	if err := s.seal(c.keys, b.packed); err != nil {
		return nil, err
	}
	return s, nil
}

// open decrypts and checks a snapshot, then passes its delta to use, which must
// not keep it.
func (c *codec) open(s *Snapshot, image *Image, use func(delta) error) error {
	packed, err := s.unseal(c.keys)
	if err != nil {
		return err
	}
	b := c.bufs.Get().(*buffers)
	defer c.put(b)
	if b.delta, err = c.dec.DecodeAll(packed, b.delta[:0]); err != nil {
		return badSnapshot("decompress: %v", err)
	}
	d, err := parseDelta(b.delta, image, c.max)
	if err != nil {
		return err
	}
	if d.size != s.Size {
		return badSnapshot("memory of %d bytes, its header says %d", d.size, s.Size)
	}
	return use(d)
}

// put keeps small buffers for the next slice; a rare large one is let go.
func (c *codec) put(b *buffers) {
	if cap(b.delta)+cap(b.packed) <= 4<<20 {
		c.bufs.Put(b)
	}
}
