package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
)

// TestBombs: what decompresses to more than a VM's memory can be is refused before
// it takes that much of the host's, though it is sealed with the host's key and a
// delta that could be.
func TestBombs(t *testing.T) {
	t.Parallel()
	e := soloEngine(t, Limits{Memory: 8 << 20})
	frame := uuid.New()
	waits, err := e.Start(t.Context(), StartParams{Frame: frame, Name: "t", Code: `module.exports = () => tools.a.b()`})
	if err != nil || waits.Snapshot == nil {
		t.Fatal(err, waits)
	}
	size := waits.Snapshot.Size
	most := int(e.MaxMemory()) + 2<<20
	// A delta of no runs, after it zeros; pages would come after as many numbers.
	bomb := append(binary.AppendUvarint([]byte{0, 0, 0, 1, 1}, uint64(size)), make([]byte, 3*most)...)
	sized := e.codec.enc.EncodeAll(bomb, nil)
	var streamed bytes.Buffer // says nothing of how much will come
	w, err := zstd.NewWriter(&streamed)
	if err != nil {
		t.Fatal(err)
	}
	for rest := bomb; len(rest) > 0 && err == nil; {
		n := min(len(rest), 1<<20)
		_, err = w.Write(rest[:n])
		rest = rest[n:]
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for name, packed := range map[string][]byte{"its size in front": sized, "no size": streamed.Bytes(), "many frames": bytes.Repeat(e.codec.enc.EncodeAll(bomb[:most/2], nil), 6)} {
		for _, kind := range []byte{codecWordsZstd, codecPagesZstd} {
			var b buffers
			if err := e.codec.unpack(&b, kind, packed); err == nil || cap(b.delta) > 2*most {
				t.Errorf("%s, codec %d: %d bytes of %d, in a buffer of %d, error %v", name, kind, len(b.delta), len(bomb), cap(b.delta), err)
			}
			snap := &Snapshot{Header: waits.Snapshot.Header}
			snap.Codec = kind
			if err := snap.seal(e.options.Keys, packed); err != nil {
				t.Fatal(err)
			}
			_, err := e.Resume(t.Context(), frame, snap, []Reply{{ID: 1}})
			if !errors.Is(err, ErrBadSnapshot) || !strings.Contains(err.Error(), "decompress: ") {
				t.Errorf("%s, codec %d: %v", name, kind, err)
			}
		}
	}
	// What fits is decompressed.
	var b buffers
	if err := e.codec.unpack(&b, codecWordsZstd, e.codec.enc.EncodeAll(bomb[:e.MaxMemory()], nil)); err != nil || len(b.delta) != int(e.MaxMemory()) {
		t.Errorf("%d bytes: %v", len(b.delta), err)
	}
}
