package vm_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
	"github.com/google/uuid"
)

// restless holds some 500 KB, and at each of its 40 awaits changes some of it:
// objects come and go, an array shrinks, memory grows, and words become again
// what they were before anything ran, zero. With ask.local it awaits nothing of
// the outside, and its result is what it would be if it was never suspended.
const restless = `module.exports = async ({ local, seed }, { tools }) => {
  const ask = local ? async (n) => n * 3 : (n) => tools.a.b(n);
  const orders = new Map(), list = Array.from({ length: 4000 }, (_, i) => 'entry ' + i * seed), words = new Uint32Array(20000), grown = [];
  for (let i = 0; i < 1500; i++) orders.set('order ' + i, { id: i, price: i / seed, tags: ['tag ' + i % 9] });
  let sum = 0, steps = (function* () { for (let n = seed; ; n += 7) yield n })();
  for (let i = 0; i < 40; i++) {
    const n = await ask(i + seed);
    words.fill(0, i * 400, i * 400 + 400); words.fill(n + 1, i * 400 + 400, i * 400 + 800);
    if (i % 5 === 4) { list.length = Math.floor(list.length * 0.8); orders.delete('order ' + (n % 1500)) }
    if (i % 9 === 8) grown.push(new Array(30000).fill(n));
    if (i === 30) grown.length = 1;
    orders.set('late ' + i, { id: n, price: steps.next().value, tags: [] });
    for (let k = 0; k < 5; k++) { const o = orders.get('order ' + (n * 37 + k * 101) % 1500); if (o) o.price += k }
    sum += n;
  }
  let digest = 7;
  const add = (v) => { digest = (digest * 31 + v) % 1000000007 };
  for (const [name, o] of orders) { add(name.length); add(o.id); add(Math.round(o.price * 8)) }
  for (const text of list) add(text.length);
  for (const w of words) add(w);
  for (const a of grown) add(a.reduce((x, y) => x + y, 0));
  return { sum, digest, orders: orders.size, list: list.length, grown: grown.length };
}`

// stored is a snapshot's chain as it is stored.
func stored(s *vm.Snapshot) (parts [][]byte) {
	for _, p := range s.Chain() {
		parts = append(parts, p.Encode())
	}
	return parts
}

// TestIncrements: bodies that hold much, and whose VMs are reset for one
// another, come to the same end as if they had never been suspended, though each
// slice runs in another engine than the one before. One in 16 snapshots at least
// is a key frame; most are none.
func TestIncrements(t *testing.T) {
	t.Parallel()
	var want []string
	var outs []*vm.Outcome
	for seed := 1; seed <= 3; seed++ {
		out := start(t, restless, fmt.Sprintf(`{"local":true,"seed":%d}`, seed))
		if out.Err != nil {
			t.Fatal(out.Err)
		}
		want = append(want, string(out.Result))
		outs = append(outs, start(t, restless, fmt.Sprintf(`{"seed":%d}`, seed)))
	}
	increments, sizes := 0, map[uint32]bool{}
	since := make([]int, len(outs)) // snapshots since the key frame
	for i := range 40 {
		e := []*vm.Engine{other, shared}[i%2]
		for b, out := range outs {
			if out.Snapshot == nil {
				t.Fatalf("body %d ended at %d: %+v", b, i, out)
			}
			since[b]++
			if out.Snapshot.Increment() {
				increments++
			} else {
				since[b] = 0
			}
			if since[b] >= 16 || len(out.Snapshot.Chain()) != since[b]+1 {
				t.Errorf("body %d: a chain of %d, %d after a key frame", b, len(out.Snapshot.Chain()), since[b])
			}
			sizes[out.Snapshot.Size] = true
			snap, err := vm.DecodeSnapshot(stored(out.Snapshot)...)
			if err != nil {
				t.Fatal(err)
			}
			if outs[b], err = e.Resume(t.Context(), frame, snap, []vm.Reply{value(out.Open[0], fmt.Sprint((i+b+1)*3))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for b, out := range outs {
		wantResult(t, out, want[b])
	}
	if increments < 90 || len(sizes) < 3 {
		t.Errorf("%d of 120 snapshots were increments, of %d sizes of memory", increments, len(sizes))
	}
}

// steps runs a body of largeTask on for n awaits.
func steps(t testing.TB, out *vm.Outcome, n int) *vm.Outcome {
	t.Helper()
	for range n {
		out = resume(t, out, value(out.Open[0], `{"price":12.5}`))
	}
	return out
}

// TestIncrementsAreSmall: a body that holds 2 MB and changes little of it writes
// less than a tenth of it per await, key frames included.
func TestIncrementsAreSmall(t *testing.T) {
	t.Parallel()
	out := start(t, largeTask, `{}`)
	whole := len(out.Snapshot.Encode())
	const awaits = 48
	written := 0
	for range awaits {
		out = steps(t, out, 1)
		written += len(out.Snapshot.Encode())
	}
	if written/awaits > whole/10 {
		t.Errorf("%d bytes per await, of %d", written/awaits, whole)
	}
}

// TestSmallBodiesAreKeyFrames: to read and to write a chain would take longer.
func TestSmallBodiesAreKeyFrames(t *testing.T) {
	t.Parallel()
	out := start(t, smallTask, `{}`)
	for i := range 40 {
		if out.Snapshot.Increment() {
			t.Fatalf("snapshot %d is an increment", i+1)
		}
		out = steps(t, out, 1)
	}
}

// TestSnapshotsDoNotGrow over suspensions: 10,000 with AMBER_LONG set.
func TestSnapshotsDoNotGrow(t *testing.T) {
	t.Parallel()
	n := 500
	if os.Getenv("AMBER_LONG") != "" {
		n = 10_000
	}
	const medium = `module.exports = async (input, { tools }) => {
  const orders = Array.from({ length: 1500 }, (_, i) => ({ id: i, price: i / 4, tag: 'tag ' + i }));
  for (let i = 0; ; i++) orders[i % 1500].price = (await tools.shop.orders.get({ id: i })).price;
}`
	for name, code := range map[string]string{"small": smallTask, "large": medium} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := steps(t, start(t, code, `{}`), 48) // every field of every row has had its second value
			first := len(out.Snapshot.Chain()[0].Encode())
			memory := out.Snapshot.Size
			out = steps(t, out, n)
			last := len(out.Snapshot.Chain()[0].Encode())
			if last > first*11/10 || out.Snapshot.Size != memory {
				t.Errorf("after %d more suspensions a key frame has %d bytes, of %d of memory; before %d of %d", n, last, out.Snapshot.Size, first, memory)
			}
			if increments := out.Snapshot.Increment() || len(out.Snapshot.Chain()) > 1; name == "small" && increments {
				t.Error("it is an increment")
			}
		})
	}
}

// TestRefusedChains: no byte of a chain of which a part is missing, another's,
// or not in its place reaches a VM.
func TestRefusedChains(t *testing.T) {
	t.Parallel()
	fork := steps(t, start(t, largeTask, `{}`), 3)
	good, again := stored(steps(t, fork, 2).Snapshot), stored(steps(t, fork, 2).Snapshot)
	if len(good) != 6 {
		t.Fatalf("a chain of %d", len(good))
	}
	foreign := uuid.New()
	out, err := shared.Start(t.Context(), vm.StartParams{Frame: foreign, Name: "task", Code: largeTask})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if out, err = shared.Resume(t.Context(), foreign, out.Snapshot, []vm.Reply{value(out.Open[0], `{"price":12.5}`)}); err != nil {
			t.Fatal(err)
		}
	}
	theirs := stored(out.Snapshot)
	late := stored(steps(t, fork, 13).Snapshot) // 17 in all: a key frame again
	if len(late) != 1 {
		t.Fatalf("a chain of %d after 17 snapshots", len(late))
	}
	try := func(parts ...[]byte) error {
		snap, err := vm.DecodeSnapshot(parts...)
		if err != nil {
			return err
		}
		_, err = other.Resume(t.Context(), frame, snap, []vm.Reply{value(6, `{"price":1}`)})
		return err
	}
	flipped := func(part, at int) [][]byte {
		parts := slices.Clone(good)
		parts[part] = slices.Clone(parts[part])
		parts[part][at] ^= 1
		return parts
	}
	with := func(i int, part []byte) [][]byte {
		parts := slices.Clone(good)
		parts[i] = part
		return parts
	}
	const headBase = 4 + 2 + 32 + 32 + 16 + 8 + 4 // where the header of an increment says what it is based on
	for name, parts := range map[string][][]byte{
		"none":                        {},
		"no key frame":                good[1:],
		"an increment alone":          good[5:],
		"one missing":                 slices.Concat(good[:2], good[3:]),
		"the one before missing":      slices.Concat(good[:4], good[5:]),
		"two swapped":                 {good[0], good[2], good[1], good[3], good[4], good[5]},
		"reversed":                    {good[5], good[4], good[3], good[2], good[1], good[0]},
		"one repeated":                slices.Concat(good[:3], good[2:]),
		"the last repeated":           slices.Concat(good, good[5:]),
		"the key frame repeated":      slices.Concat(good[:1], good),
		"a key frame behind":          slices.Concat(good, late),
		"another slice's of that":     with(4, again[4]),
		"another slice's last":        with(5, again[5]),
		"another frame's key frame":   with(0, theirs[0]),
		"another frame's increment":   with(3, theirs[3]),
		"another frame's last":        with(5, theirs[5]),
		"another frame's":             theirs,
		"another key frame":           with(0, late[0]),
		"what it is based on flipped": flipped(5, headBase),
		"an early base flipped":       flipped(2, headBase+31),
		"a byte flipped":              flipped(3, len(good[3])-20),
		"a key frame flipped":         flipped(0, len(good[0])/2),
		"one cut off":                 with(3, good[3][:len(good[3])-1]),
		"the last cut off":            with(5, good[5][:headBase+5]),
		"an increment as a key frame": {flipped(1, 4)[1]},
		"a key frame as an increment": with(0, append(slices.Clone(good[0][:4]), append([]byte{2}, good[0][5:]...)...)),
	} {
		if err := try(parts...); !errors.Is(err, vm.ErrBadSnapshot) && !errors.Is(err, keys.ErrUnknownKey) ||
			errors.Is(err, keys.ErrUnknownKey) && name != "a key frame as an increment" && name != "an increment as a key frame" { // its id lies elsewhere
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := 1; n <= len(good); n++ { // each of them was a snapshot
		snap, err := vm.DecodeSnapshot(good[:n]...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Resume(t.Context(), frame, snap, []vm.Reply{value(uint32(n), `{"price":1}`)}); err != nil {
			t.Errorf("the first %d: %v", n, err)
		}
	}
}

// TestResealedChain: its parts are sealed anew one by one, and stay a chain.
func TestResealedChain(t *testing.T) {
	t.Parallel()
	old, fresh := newEntry(t, "old"), newEntry(t, "new")
	before := newEngine(t, func(o *vm.Options) { o.Keys = parseRing(t, old) })
	out := startAs(t, before, largeTask, `{}`)
	for range 3 {
		var err error
		if out, err = before.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[0], `{"price":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	parts := stored(out.Snapshot)
	both := newEngine(t, func(o *vm.Options) { o.Keys = parseRing(t, old+","+fresh) })
	after := newEngine(t, func(o *vm.Options) { o.Keys = parseRing(t, fresh) })
	for i := range parts {
		snap, err := vm.DecodeSnapshot(parts...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := both.Resume(t.Context(), frame, snap, []vm.Reply{value(out.Open[0], `{"price":1}`)}); err != nil {
			t.Errorf("%d parts sealed anew: %v", i, err)
		}
		part, err := vm.DecodeSnapshot(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if part, err = part.Reseal(parseRing(t, fresh+","+old)); err != nil {
			t.Fatal(err)
		}
		parts[i] = part.Encode()
	}
	snap, err := vm.DecodeSnapshot(parts...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Resume(t.Context(), frame, snap, []vm.Reply{value(out.Open[0], `{"price":1}`)}); err != nil {
		t.Errorf("all parts sealed anew: %v", err)
	}
}

// TestChainsKeepTheLimit: a body that fits is suspended for as long as it likes;
// where a chain would be too large there is a key frame.
func TestChainsKeepTheLimit(t *testing.T) {
	t.Parallel()
	out := start(t, largeTask, `{}`)
	most := len(out.Snapshot.Encode()) * 21 / 20
	e := newEngine(t, func(o *vm.Options) { o.Limits.Snapshot = most })
	frames, increments := 0, 0
	for i := range 32 {
		next, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[0], `{"price":1}`)})
		if err != nil || next.Ended {
			t.Fatalf("await %d: %+v %v", i, next, err)
		}
		out = next
		size := 0
		for _, p := range out.Snapshot.Chain() {
			size += len(p.Encode()) - 200 // at least: what headers take
		}
		if size > most {
			t.Errorf("await %d: a chain of %d bytes, at most %d", i, size, most)
		}
		if out.Snapshot.Increment() {
			increments++
		} else {
			frames++
		}
	}
	if frames < 3 || increments < 3 { // two of 32 would be by number
		t.Errorf("%d key frames and %d increments", frames, increments)
	}
}
