package vm_test

import (
	"errors"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
	"github.com/google/uuid"
)

// TestReseal: a snapshot under another key is the same snapshot, for who has that key.
func TestReseal(t *testing.T) {
	t.Parallel()
	old, fresh := newEntry(t, "old"), newEntry(t, "new")
	before := newEngine(t, func(o *vm.Options) { o.Keys = parseRing(t, old) })
	frame := uuid.New()
	out, err := before.Start(t.Context(), vm.StartParams{Frame: frame, Name: "t",
		Code: `module.exports = async (i, { tools }) => { const kept = [1]; return [...kept, await tools.a.b()] }`})
	if err != nil {
		t.Fatal(err)
	}
	resealed, err := out.Snapshot.Reseal(parseRing(t, fresh+","+old))
	if err != nil || resealed.KeyID != "new" || out.Snapshot.KeyID != "old" {
		t.Fatalf("%+v %v", resealed, err)
	}
	if resealed, err = vm.DecodeSnapshot(resealed.Encode()); err != nil {
		t.Fatal(err)
	}
	after := newEngine(t, func(o *vm.Options) { o.Keys = parseRing(t, fresh) })
	got, err := after.Resume(t.Context(), frame, resealed, []vm.Reply{value(1, "2")})
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, got, `[1,2]`)
	if _, err := before.Resume(t.Context(), frame, resealed, nil); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("the old key opens it: %v", err)
	}
	if _, err := out.Snapshot.Reseal(parseRing(t, fresh)); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("resealed without the key: %v", err)
	}
	data := out.Snapshot.Encode()
	data[len(data)-1] ^= 1
	damaged, err := vm.DecodeSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := damaged.Reseal(parseRing(t, fresh+","+old)); !errors.Is(err, vm.ErrBadSnapshot) {
		t.Errorf("resealed what was damaged: %v", err)
	}
}

func newEntry(t *testing.T, id string) string {
	t.Helper()
	entry, err := keys.NewKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

func parseRing(t *testing.T, entries string) *keys.Ring {
	t.Helper()
	ring, err := keys.ParseRing(entries)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
