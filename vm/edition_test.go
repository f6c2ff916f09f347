package vm

// These tests need an engine that is not this build's: the same one with a
// section that means nothing, which gives it other bytes and another identity.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/google/uuid"
)

func earlier() *edition {
	ed := *editions()[0]
	ed.wasm = slices.Concat(ed.wasm, []byte{0, 5, 4, 'n', 'o', 't', 'e'})
	sum := sha256.Sum256(ed.wasm)
	ed.digest = hex.EncodeToString(sum[:])
	return &ed
}

func engineWith(t *testing.T, ring *keys.Ring, load func(Digest) ([]byte, error), editions ...*edition) *Engine {
	t.Helper()
	return insideEngine(t, Options{Keys: ring, editions: editions,
		LoadImage: func(_ context.Context, d Digest) ([]byte, error) { return load(d) }})
}

// TestCarriedEngine: a host that carries an earlier engine along goes on with
// what that one suspended, on it; a host that does not says so.
func TestCarriedEngine(t *testing.T) {
	t.Parallel()
	ring := insideRing(t)
	none := func(Digest) ([]byte, error) { return nil, errors.New("no images") }
	old := engineWith(t, ring, none, earlier())
	frame := uuid.New()
	out, err := old.Start(t.Context(), StartParams{Frame: frame, Name: "t",
		Code: `module.exports = async () => { let sum = 0; for (let i = 0; i < 3; i++) sum += await tools.a.b(i); return sum }`})
	if err != nil || out.Snapshot == nil {
		t.Fatal(err, out)
	}
	images := func(d Digest) ([]byte, error) {
		if d != old.Image().Digest() {
			t.Errorf("image %v is asked for", d)
		}
		return old.Image().Encode()
	}
	fresh := engineWith(t, ring, images, editions()[0], earlier())
	if fresh.Identity() == old.Identity() || !slices.Equal(fresh.Identities(), []string{fresh.Identity(), old.Identity()}) {
		t.Errorf("%v carries %v", fresh.Identities(), old.Identity())
	}
	if fresh.modules[1].compiled != nil {
		t.Error("the earlier engine is compiled before it is needed")
	}
	one := func(e *Engine, out *Outcome) *Outcome {
		t.Helper()
		r := Reply{ID: out.Open[0]}
		r.Value = json.RawMessage(`2`)
		next, err := e.Resume(t.Context(), frame, out.Snapshot, []Reply{r})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	out = one(fresh, out)
	if out.Snapshot == nil || out.Snapshot.Engine.String() != old.Identity() || out.Snapshot.Image != old.Image().Digest() {
		t.Fatalf("%+v", out)
	}
	out = one(old, out) // and back
	if out = one(fresh, out); string(out.Result) != "6" {
		t.Errorf("%s %v", out.Result, out.Err)
	}
	first, err := old.Start(t.Context(), StartParams{Frame: frame, Name: "t", Code: `module.exports = async () => await tools.a.b()`})
	if err != nil {
		t.Fatal(err)
	}
	alone := engineWith(t, ring, images, editions()[0])
	if _, err := alone.Resume(t.Context(), frame, first.Snapshot, nil); !errors.Is(err, ErrUnknownEngine) {
		t.Errorf("without the earlier engine: %v", err)
	}
}
