package vm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/amberhost/amber/vm"
)

func TestBootIsDeterministic(t *testing.T) {
	t.Parallel()
	if shared.Image().Digest() != other.Image().Digest() || shared.Identity() != other.Identity() {
		t.Fatal("two boots differ")
	}
	t.Log(shared.Image().Digest())
	a, err := shared.Image().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := other.Image().Encode(); !bytes.Equal(a, b) {
		t.Error("two encodings differ")
	}
	if len(a) > 300<<10 {
		t.Errorf("image of %d bytes", len(a))
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := vm.New(t.Context(), vm.Options{}); err == nil {
		t.Error("no keys were taken")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.New(t.Context(), vm.Options{Keys: ring(), CacheDir: dir}); !errors.Is(err, vm.ErrCache) {
		t.Errorf("a cache that others can write: %v", err)
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("shutting down")
	cancel(why)
	busy := newEngine(t, func(o *vm.Options) { o.Concurrency = 1 })
	if _, err := busy.Start(ctx, vm.StartParams{Name: "t", Code: "module.exports = () => 1"}); !errors.Is(err, why) {
		t.Errorf("Start: %v", err)
	}
}

// TestTrapsHarmNobody: VMs that trapped or grew are thrown away while others go on.
func TestTrapsHarmNobody(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Concurrency, o.Limits.Memory = 2, 8<<20 })
	var wg sync.WaitGroup
	for i, code := range []string{
		`module.exports = function f() { return f() + 1 }`,
		`module.exports = () => { const a = []; for (;;) a.push(new Array(1000).fill(0)) }`,
		`module.exports = () => 'x'.repeat(2 ** 29).length`,
		`module.exports = (x) => x.n`,
	} {
		wg.Go(func() {
			for n := range 10 {
				out := startAs(t, e, code, fmt.Sprintf(`{"n":%d}`, n))
				if i < 3 && out.Err == nil || i == 3 && string(out.Result) != fmt.Sprint(n) {
					t.Errorf("%s: result %s, error %v", code, out.Result, out.Err)
				}
			}
		})
	}
	wg.Wait()
}

// TestNothingLeaks: Go's heap, the process and the pool are as large after many
// suspensions as after few. AMBER_LONG=1 makes 100,000 of them.
func TestNothingLeaks(t *testing.T) {
	e := newEngine(t, func(o *vm.Options) { o.Concurrency = 1 })
	after := func(cycles int) usage {
		for range cycles {
			out := startAs(t, e, `module.exports = async (x) => await tools.a.b(x)`, `{"a":1}`)
			out, err := e.Resume(context.Background(), frame, out.Snapshot, []vm.Reply{value(1, "1")})
			if err != nil || !out.Ended {
				t.Fatal(err, out)
			}
		}
		return measure(e)
	}
	cycles := 3_000
	if long {
		cycles = 100_000
	}
	few := after(50)
	many := after(cycles)
	if many.VMs != few.VMs || many.Idle != few.Idle || many.Memory != few.Memory || many.Heap > few.Heap+4<<20 || !raceDetector && many.Mapped > few.Mapped+64<<20 {
		t.Errorf("%+v, after %d cycles %+v", few, cycles, many)
	}
}

// TestVMsShareNoRandomness: of many VMs of one image no two see the same value.
// AMBER_LONG=1 makes 100,000 of them.
func TestVMsShareNoRandomness(t *testing.T) {
	t.Parallel()
	vms := 2_000
	if long {
		vms = 100_000
	}
	var mu sync.Mutex
	seen := make(map[string]bool, 4*vms)
	var starters sync.WaitGroup
	for range 4 {
		starters.Go(func() {
			for range vms / 4 {
				out := startAs(t, shared, `module.exports = () => [Math.random(), Math.random(), crypto.randomUUID(), crypto.getRandomValues(new BigUint64Array(2)).join()].map(String)`, "")
				var values []string
				if err := json.Unmarshal(out.Result, &values); err != nil || len(values) != 4 {
					t.Error(err, out.Err)
					return
				}
				mu.Lock()
				for _, v := range values {
					if seen[v] {
						t.Errorf("%s came twice", v)
					}
					seen[v] = true
				}
				mu.Unlock()
			}
		})
	}
	starters.Wait()
	if len(seen) != 4*vms {
		t.Errorf("%d values of %d", len(seen), 4*vms)
	}
}
