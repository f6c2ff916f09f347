package vm_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/amberhost/amber/vm"
)

// TestImagesAreBounded: an engine keeps the eight images that it used last, besides
// its own, and idle VMs of those alone; one that it has dropped is loaded again.
func TestImagesAreBounded(t *testing.T) {
	t.Parallel()
	const most = 8
	stored := map[vm.Digest][]byte{}
	var waiting []*vm.Outcome // each on an image of its own
	for n := range most + 2 {
		e := newEngine(t, func(o *vm.Options) { o.Concurrency, o.Limits.Memory = 1, uint32(n+5)<<20 })
		b, err := e.Image().Encode()
		if err != nil {
			t.Fatal(err)
		}
		stored[e.Image().Digest()] = b
		waiting = append(waiting, startAs(t, e, `module.exports = async (n) => n + await tools.a.b()`, fmt.Sprint(n)))
	}
	loads := 0
	e := newEngine(t, func(o *vm.Options) {
		o.Concurrency, o.IdleMemory = 1, 1<<30
		o.LoadImage = func(_ context.Context, d vm.Digest) ([]byte, error) { loads++; return stored[d], nil }
	})
	use := func(n, want int) {
		t.Helper()
		before := loads
		out, err := e.Resume(t.Context(), frame, waiting[n].Snapshot, []vm.Reply{value(waiting[n].Open[0], "100")})
		if err != nil {
			t.Fatal(err)
		}
		wantResult(t, out, fmt.Sprint(100+n))
		if loads-before != want {
			t.Errorf("image %d: loaded %d times, want %d", n, loads-before, want)
		}
	}
	own := startAs(t, e, `module.exports = async () => await tools.a.b()`, "null")
	for n := range most {
		use(n, 1)
	}
	use(0, 0)
	use(most, 1)
	use(1, 1) // which went for the last one: it was used least lately
	use(0, 0)
	use(most+1, 1)
	for n := 4; n < most+2; n++ {
		use(n, 0)
	}
	out, err := e.Resume(t.Context(), frame, own.Snapshot, []vm.Reply{value(own.Open[0], "7")})
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, out, "7") // its own image stays, however long it was not used
	if live, idle, _ := e.VMs(); live != idle || idle != most+1 {
		t.Errorf("%d VMs, %d idle ones; want one for each of %d images", live, idle, most+1)
	}
}
