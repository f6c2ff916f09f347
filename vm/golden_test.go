package vm_test

import (
	"context"
	"os"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// TestOldSleepers: what earlier builds suspended goes on here: with their image,
// their prelude and their form of snapshots.
func TestOldSleepers(t *testing.T) {
	t.Parallel()
	ring, err := keys.ParseRing("golden:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"waiting-1": `{"total":7.5,"seen":[[0,0],[1,1],[2,2],[3,3]],"rows":[{"i":0,"name":"row 0"},{"i":1,"name":"row 1"}],"input":{"a":1}}`,
		"waiting-2": `{"total":7.5,"seen":[[0,10],["done 0",1],[1,20],["done 1",3],[2,30],["done 2",5],[3,40],["done 3",7]],"rows":[{"i":0,"name":"row 0"},{"i":1,"name":"row 1"}],"input":{"a":1}}`,
	} {
		image, err := os.ReadFile("testdata/" + name + ".image.bin")
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile("testdata/" + name + ".snapshot.bin")
		if err != nil {
			t.Fatal(err)
		}
		snap, err := vm.DecodeSnapshot(data)
		if err != nil {
			t.Fatal(err)
		}
		e := newEngine(t, func(o *vm.Options) {
			o.Keys = ring
			o.LoadImage = func(context.Context, vm.Digest) ([]byte, error) { return image, nil }
		})
		if name == "waiting-1" && snap.Image == e.Image().Digest() {
			t.Errorf("%s: its image is this build's", name)
		}
		out, err := e.Resume(t.Context(), frame, snap, []vm.Reply{value(2, `{"price":2}`)})
		for err == nil && !out.Ended {
			out, err = e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[0], `{"price":2}`)})
		}
		if err != nil {
			t.Fatal(err)
		}
		wantResult(t, out, want)
	}
}
