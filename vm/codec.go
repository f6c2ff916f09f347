package vm

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
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
type buffers struct {
	delta, packed []byte
	runs          []run
}

func newCodec(o Options) (*codec, error) {
	c := &codec{keys: o.Keys, max: uint64(o.memoryPages()) * wasmPage}
	c.bufs.New = func() any { return new(buffers) }
	var err error
	// Both are safe for concurrent use with the *All methods.
	if c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(o.Concurrency),
		zstd.WithEncoderCRC(false)); err != nil { // AES-GCM authenticates already
		return nil, fmt.Errorf("new zstd encoder: %w", err)
	}
	const listSlack = 1 << 20 // numbers before the words; a run of one takes no more than the word after it
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(o.Concurrency), zstd.WithDecoderMaxMemory(c.max+listSlack)); err != nil {
		return nil, fmt.Errorf("new zstd decoder: %w", err)
	}
	return c, nil
}

// save makes the snapshot of the waiting VM in s, and lets s know where it
// differs from its image.
func (c *codec) save(s *sandbox, frame uuid.UUID, st state) (*Snapshot, error) {
	b := c.bufs.Get().(*buffers)
	defer c.put(b)
	memory, _ := s.memory.Read(0, s.memory.Size())
	s.changes = differences(s.changes[:0], s.image, memory)
	s.known = true
	b.delta = appendDelta(b.delta[:0], s.image, memory, s.changes, st)
	kind := c.pack(b)
	snap := &Snapshot{Header: Header{
		Version: snapshotVersion, Codec: kind, Engine: s.image.module.id, Image: s.image.digest,
		Frame: frame, Sequence: st.sequence, Size: uint32(len(memory)),
	}}
	if err := snap.seal(c.keys, b.packed); err != nil {
		return nil, err
	}
	return snap, nil
}

// fewBytes is up to where a delta is compressed with S2.
const fewBytes = 32 << 10

// pack compresses b.delta into b.packed and says how.
func (c *codec) pack(b *buffers) (kind byte) {
	if len(b.delta) > fewBytes {
		b.packed = c.enc.EncodeAll(b.delta, b.packed[:0])
		return codecWordsZstd
	}
	b.packed = s2.EncodeBetter(b.packed[:cap(b.packed)], b.delta)
	return codecWordsS2
}

// unpack decompresses into b.delta, no more than there can be.
func (c *codec) unpack(b *buffers, kind byte, packed []byte) (err error) {
	if kind != codecWordsS2 {
		b.delta, err = c.dec.DecodeAll(packed, b.delta[:0])
		return err
	}
	if n, err := s2.DecodedLen(packed); err != nil || n > fewBytes {
		return fmt.Errorf("%d bytes, at most %d: %w", n, fewBytes, cmp.Or(err, s2.ErrTooLarge))
	}
	b.delta, err = s2.Decode(b.delta[:cap(b.delta)], packed)
	return err
}

// restorer is a decoded delta of either kind.
type restorer interface {
	memory() uint32 // its size
	state() (open []uint32, used usage)
	restore(image *Image, memory []byte)
}

// open decrypts and checks a snapshot, then passes its delta to use, which must
// not keep it.
func (c *codec) open(s *Snapshot, image *Image, use func(restorer) error) error {
	packed, err := s.unseal(c.keys)
	if err != nil {
		return err
	}
	b := c.bufs.Get().(*buffers)
	defer c.put(b)
	if err := c.unpack(b, s.Codec, packed); err != nil {
		return badSnapshot("decompress: %v", err)
	}
	var d restorer
	if s.Codec == codecPagesZstd {
		d, err = parsePages(b.delta, image, c.max)
	} else {
		words, wrong := parseDelta(b.delta, image, c.max, b.runs[:0])
		d, err, b.runs = words, wrong, words.runs
	}
	if err != nil {
		return err
	}
	if d.memory() != s.Size {
		return badSnapshot("memory of %d bytes, its header says %d", d.memory(), s.Size)
	}
	return use(d)
}

// put keeps small buffers for the next slice; a rare large one is let go.
func (c *codec) put(b *buffers) {
	if cap(b.delta)+cap(b.packed)+8*cap(b.runs) <= 4<<20 {
		c.bufs.Put(b)
	}
}
