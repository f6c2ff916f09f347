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
	for name, c := range map[string]struct {
		image string
		parts []string
		want  string
	}{
		"whole pages": {"waiting-1", []string{"waiting-1.snapshot"},
			`{"total":7.5,"seen":[[0,0],[1,1],[2,2],[3,3]],"rows":[{"i":0,"name":"row 0"},{"i":1,"name":"row 1"}],"input":{"a":1}}`},
		"words": {"waiting-2", []string{"waiting-2.snapshot"},
			`{"total":7.5,"seen":[[0,10],["done 0",1],[1,20],["done 1",3],[2,30],["done 2",5],[3,40],["done 3",7]],` +
				`"rows":[{"i":0,"name":"row 0"},{"i":1,"name":"row 1"}],"input":{"a":1}}`},
		"increments": {"waiting-2", []string{"waiting-3.snapshot.1", "waiting-3.snapshot.2", "waiting-3.snapshot.3", "waiting-3.snapshot.4"},
			`{"left":6290,"sold":[[0,2],[1,2],[2,2],[3,2],[4,2]],"input":{"a":1}}`},
	} {
		image := golden(t, c.image+".image")
		var parts [][]byte
		for _, p := range c.parts {
			parts = append(parts, golden(t, p))
		}
		snap, err := vm.DecodeSnapshot(parts...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e := newEngine(t, func(o *vm.Options) {
			o.Keys = ring
			o.LoadImage = func(context.Context, vm.Digest) ([]byte, error) { return image, nil }
		})
		if c.image == "waiting-1" && snap.Image == e.Image().Digest() {
			t.Errorf("%s: its image is this build's", name)
		}
		call := uint32(snap.Sequence) // each slice made one
		out, err := e.Resume(t.Context(), frame, snap, []vm.Reply{value(call, `{"price":2}`)})
		for err == nil && !out.Ended {
			out, err = e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[0], `{"price":2}`)})
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantResult(t, out, c.want)
	}
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
