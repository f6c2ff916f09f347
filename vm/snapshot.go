package vm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/google/uuid"
)

// Header says what a snapshot is of and what can open it. It is stored in the
// clear and authenticated with the rest.
type Header struct {
	Version, Codec byte
	Engine, Image  Digest
	Frame          uuid.UUID // the stack_run that waits
	Sequence       uint64    // counts the snapshots of the frame, from 1
	KeyID          string    // of the key that sealed it
	Size           uint32    // of the VM's memory in bytes
	Base           Digest    // of the content of the snapshot before it, if it is an increment to that one
}

// Increment reports whether the snapshot is no key frame: it takes those before
// it, back to a key frame, to resume it.
func (h Header) Increment() bool { return h.Version == versionIncrement }

// Snapshot is a waiting VM: the difference between its memory and its image's (a
// key frame), or what it was at the snapshot before (an increment), compressed
// and encrypted. It does not change.
type Snapshot struct {
	Header
	sealed []byte
	base   *Snapshot // the one that an increment is based on, if it is at hand
}

const (
	snapshotMagic    = "amb1"
	versionKeyFrame  = 1
	versionIncrement = 2 // has a Base

	codecPagesZstd = 1 // delta_v1.go, then zstd; read, not written
	codecWordsZstd = 2 // delta.go, then zstd
	codecWordsS2   = 3 // delta.go, then S2: a quarter of the time and 6 % more bytes where there are few

	headerSize = len(snapshotMagic) + 2 + 32 + 32 + 16 + 8 + 4 // of a key frame
	maxKeyID   = 255
)

// associated is the header as far as it is authenticated as data: all of it but
// the key's id, which is not known before sealing; another id opens nothing.
func (h Header) associated() []byte {
	b := make([]byte, 0, headerSize+len(h.Base)+64)
	b = append(b, snapshotMagic...)
	b = append(b, h.Version, h.Codec)
	b = append(b, h.Engine[:]...)
	b = append(b, h.Image[:]...)
	b = append(b, h.Frame[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Sequence)
	b = binary.BigEndian.AppendUint32(b, h.Size)
	if h.Increment() {
		b = append(b, h.Base[:]...)
	}
	return b
}

// Encode returns the snapshot's own bytes for storage, without those of the ones
// that it is based on.
func (s *Snapshot) Encode() []byte {
	b := s.associated()
	b = append(b, byte(len(s.KeyID)))
	b = append(b, s.KeyID...)
	return append(b, s.sealed...)
}

// DecodeSnapshot reads what Encode wrote: of a key frame, or of a chain from a
// key frame on, in order. It returns the last one, which [Engine.Resume] takes.
// It checks the form alone: whether the content is genuine, and one part based on
// the other, shows when it is resumed. Its error wraps ErrBadSnapshot.
func DecodeSnapshot(parts ...[]byte) (s *Snapshot, err error) {
	for _, b := range parts {
		before := s
		if s, err = decodePart(b); err != nil {
			return nil, err
		}
		s.base = before
	}
	if s == nil {
		return nil, badSnapshot("no bytes")
	}
	return s, nil
}

func decodePart(b []byte) (*Snapshot, error) {
	if len(b) < headerSize+1 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, badSnapshot("%d bytes that are none", len(b))
	}
	s := new(Snapshot)
	r := b[len(snapshotMagic):]
	s.Version, s.Codec = r[0], r[1]
	if s.Version < versionKeyFrame || s.Version > versionIncrement || s.Codec < codecPagesZstd || s.Codec > codecWordsS2 ||
		s.Increment() && s.Codec == codecPagesZstd {
		return nil, badSnapshot("version %d with codec %d is not known here", s.Version, s.Codec)
	}
	r = r[2+copy(s.Engine[:], r[2:]):]
	r = r[copy(s.Image[:], r):]
	r = r[copy(s.Frame[:], r):]
	s.Sequence, s.Size = binary.BigEndian.Uint64(r), binary.BigEndian.Uint32(r[8:])
	r = r[12:]
	if s.Increment() {
		r = r[copy(s.Base[:], r):]
	}
	if len(r) == 0 || len(r) <= int(r[0]) {
		return nil, badSnapshot("cut off")
	}
	s.KeyID, s.sealed = string(r[1:1+int(r[0])]), append([]byte(nil), r[1+int(r[0]):]...)
	return s, nil
}

// Reseal returns the snapshot sealed with the ring's first key; those that it is
// based on stay as they are, and it stays based on them. Its error wraps
// keys.ErrUnknownKey, or ErrBadSnapshot if s is not genuine.
func (s *Snapshot) Reseal(ring *keys.Ring) (*Snapshot, error) {
	packed, err := s.unseal(ring)
	if err != nil {
		return nil, err
	}
	anew := &Snapshot{Header: s.Header, base: s.base}
	return anew, anew.seal(ring, packed)
}

// seal encrypts the content and notes with which key.
func (s *Snapshot) seal(ring *keys.Ring, packed []byte) (err error) {
	if s.KeyID, s.sealed, err = ring.Seal(packed, s.associated()); err != nil {
		return fmt.Errorf("seal snapshot: %w", err)
	}
	if len(s.KeyID) > maxKeyID {
		return fmt.Errorf("seal snapshot: key id of %d bytes", len(s.KeyID))
	}
	return nil
}

func (s *Snapshot) unseal(ring *keys.Ring) (packed []byte, err error) {
	packed, err = ring.Open(s.KeyID, s.sealed, s.associated())
	if errors.Is(err, keys.ErrForged) {
		return nil, fmt.Errorf("%w: sealed with another key of that id, or damaged: %w", ErrBadSnapshot, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	return packed, nil
}

func (s *Snapshot) String() string {
	return fmt.Sprintf("snapshot %d of %v (%d bytes)", s.Sequence, s.Frame, len(s.sealed))
}
