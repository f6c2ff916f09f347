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
	most int    // bytes that a chain of snapshots should have
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
	c := &codec{keys: o.Keys, max: uint64(o.memoryPages()) * wasmPage, most: o.Limits.Snapshot}
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
	s.changes = differences(s.changes[:0], s.image, nil, memory)
	s.known = true
	head := Header{Version: versionKeyFrame, Engine: s.image.module.id, Image: s.image.digest,
		Frame: frame, Sequence: st.sequence, Size: uint32(len(memory))}
	if from := st.base; from != nil {
		b.runs = differences(b.runs[:0], s.image, &from.was, memory)
		if from.worth(b.runs, s.changes) {
			increment := head
			increment.Version, increment.Base = versionIncrement, from.content
			snap, err := c.encode(b, &Snapshot{Header: increment, base: from.snap}, s.image, memory, b.runs, st)
			if err != nil || snap.Stored() <= c.most {
				return snap, err
			}
		}
	}
	return c.encode(b, &Snapshot{Header: head}, s.image, memory, s.changes, st)
}

// encode completes snap, which has these words of memory.
func (c *codec) encode(b *buffers, snap *Snapshot, image *Image, memory []byte, runs []run, st state) (*Snapshot, error) {
	b.delta = appendDelta(b.delta[:0], image, memory, runs, st)
	snap.Codec = c.pack(b)
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

// opened is a snapshot decrypted and checked: the deltas of its chain, key frame
// first. They lie in buffers of the codec.
type opened struct {
	deltas []restorer
	next   *base // what the next snapshot may be an increment to, but for its pages
	bufs   []*buffers
}

// last has what the host has to know of the body.
func (o *opened) last() restorer { return o.deltas[len(o.deltas)-1] }

// restore makes of memory, which holds the image and then zeros, what the body left.
func (o *opened) restore(image *Image, memory []byte) {
	for _, d := range o.deltas {
		d.restore(image, memory)
	}
}

// base is what the next snapshot of the body, whose memory that is, may be an
// increment to, or nil.
func (o *opened) base(memory []byte) *base {
	if o.next != nil {
		words := make([]delta, len(o.deltas))
		for i, d := range o.deltas {
			words[i] = d.(delta)
		}
		o.next.was = pagesOf(memory, words)
	}
	return o.next
}

// open decrypts and checks a snapshot and all that it is based on, then passes
// them to use, which must not keep them.
func (c *codec) open(s *Snapshot, image *Image, use func(*opened) error) error {
	chain, err := s.chain()
	if err != nil {
		return err
	}
	o := new(opened)
	defer func() {
		for _, b := range o.bufs {
			c.put(b)
		}
	}()
	var before Digest // the content of the one before
	since, large := 0, false
	for i, p := range chain {
		packed, err := p.unseal(c.keys)
		if err != nil {
			return err
		}
		if p.Increment() && p.Base != before {
			return badSnapshot("number %d is not based on that number %d", p.Sequence, p.Sequence-1)
		}
		b := c.bufs.Get().(*buffers)
		o.bufs = append(o.bufs, b)
		d, err := c.decode(b, p, image, packed)
		if err != nil {
			return err
		}
		o.deltas = append(o.deltas, d)
		if i == 0 {
			large = len(b.delta) > fewBytes && p.Codec != codecPagesZstd
		} else {
			since += len(b.delta)
		}
		if i < len(chain)-1 || large {
			before = p.content(packed)
		}
	}
	if large && len(chain) < maxChain {
		o.next = &base{snap: s, content: before, since: since}
	}
	return use(o)
}

// decode reads what one snapshot holds. The delta lies in b.
func (c *codec) decode(b *buffers, s *Snapshot, image *Image, packed []byte) (d restorer, err error) {
	if err := c.unpack(b, s.Codec, packed); err != nil {
		return nil, badSnapshot("decompress: %v", err)
	}
	if s.Codec == codecPagesZstd {
		d, err = parsePages(b.delta, image, c.max)
	} else {
		words, wrong := parseDelta(b.delta, image, c.max, b.runs[:0])
		d, err, b.runs = words, wrong, words.runs
	}
	if err != nil {
		return nil, err
	}
	if d.memory() != s.Size {
		return nil, badSnapshot("memory of %d bytes, its header says %d", d.memory(), s.Size)
	}
	return d, nil
}

// put keeps small buffers for the next slice; a rare large one is let go.
func (c *codec) put(b *buffers) {
	if cap(b.delta)+cap(b.packed)+8*cap(b.runs) <= 4<<20 {
		c.bufs.Put(b)
	}
}
