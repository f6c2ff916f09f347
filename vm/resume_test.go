package vm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
	"github.com/google/uuid"
)

// TestLocalsSurvive: everything a function holds is there after each of its
// awaits, in an engine that never saw it before.
func TestLocalsSurvive(t *testing.T) {
	t.Parallel()
	out := start(t, `
class Account { #sum = 0; static made = 0; constructor() { Account.made++ } add(n) { this.#sum += n; return this } get sum() { return this.#sum } }
function* count() { let n = 0; for (;;) n += yield n }
module.exports = async function (input, { tools }) {
  const account = new Account(), seen = new Map([['first', { deep: [1, 2, 3] }]]), unique = new Set(), weak = new WeakMap();
  const key = {}, steps = count(), log = [], big = 2n ** 70n, when = new Date(86400000), pattern = /a(\d)/g, bytes = new Uint8Array([1, 2, 3]);
  weak.set(key, 'kept'); steps.next(); pattern.exec('a1a2');
  const symbol = Symbol('s'), later = (n) => account.sum + n;
  for (let i = 0; i < 5; i++) {
    try {
      const r = await tools.shop.orders.get({ i });
      account.add(r.n); seen.set('k' + i, r); unique.add(r.n % 2); steps.next(r.n);
      if (i === 3) continue;
    } catch (e) { log.push('caught ' + e.message) } finally { log.push('finally ' + i) }
  }
  return { sum: account.sum, made: Account.made, size: seen.size, deep: seen.get('first').deep, unique: [...unique], weak: weak.get(key),
    step: steps.next(0).value, log, big: String(big), when, next: pattern.exec('a1a2')[1], bytes: [...bytes], symbol: String(symbol), later: later(1) };
}`, `{}`)
	n := 0
	out = finish(t, out, func(c vm.Call) vm.Reply {
		if n++; n == 2 {
			return failure(c.ID, &service.Error{Message: "sold out"})
		}
		return value(c.ID, fmt.Sprintf(`{"n":%d}`, n))
	})
	wantResult(t, out, `{"sum":13,"made":1,"size":5,"deep":[1,2,3],"unique":[1,0],"weak":"kept","step":13,`+
		`"log":["finally 0","caught sold out","finally 1","finally 2","finally 3","finally 4"],"big":"1180591620717411303424",`+
		`"when":"1970-01-02T00:00:00.000Z","next":"2","bytes":[1,2,3],"symbol":"Symbol(s)","later":14}`)
}

// TestEveryOrder settles four parallel calls in each of the 24 orders, each
// reply in a slice of its own, and then all in one.
func TestEveryOrder(t *testing.T) {
	t.Parallel()
	const code = `module.exports = async () => {
  const order = [];
  const all = await Promise.all([1, 2, 3, 4].map(async (n) => { const v = await tools.a.b(n); order.push(n); await 0; return v }));
  return { all, order };
}`
	first := start(t, code, "")
	if len(first.Calls) != 4 || !slices.Equal(first.Open, []uint32{1, 2, 3, 4}) {
		t.Fatalf("%d calls, open %v", len(first.Calls), first.Open)
	}
	permute([]uint32{1, 2, 3, 4}, func(order []uint32) {
		want := fmt.Sprintf(`{"all":[10,20,30,40],"order":%s}`, strings.Join(strings.Fields(fmt.Sprint(order)), ","))
		one, all := first, []vm.Reply{}
		for _, id := range order {
			r := value(id, fmt.Sprint(id*10))
			one = resume(t, one, r)
			all = append(all, r)
		}
		wantResult(t, one, want)
		wantResult(t, resume(t, first, all...), want)
	})
}

func permute(list []uint32, use func([]uint32)) {
	var step func(int)
	step = func(k int) {
		if k == len(list) {
			use(list)
			return
		}
		for i := k; i < len(list); i++ {
			list[k], list[i] = list[i], list[k]
			step(k + 1)
			list[k], list[i] = list[i], list[k]
		}
	}
	step(0)
}

// TestRepliesAreTurns: what a reply sets off is done before the next one is
// settled, even if the host brings both at once.
func TestRepliesAreTurns(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => {
  const log = [];
  const one = async (n) => { await tools.a.b(n); for (let i = 0; i < 3; i++) { log.push(n + '.' + i); await 0 } };
  await Promise.all([one(1), one(2)]);
  return log;
}`, "")
	wantResult(t, resume(t, out, value(1, "0"), value(2, "0")), `["1.0","1.1","1.2","2.0","2.1","2.2"]`)
}

func TestEndStopsReplies(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = () => Promise.race([tools.a.b(1), tools.a.b(2)])`, "")
	out = resume(t, out, value(2, `"second"`), value(1, `"first"`))
	wantResult(t, out, `"second"`)
	if !slices.Equal(out.Open, []uint32{1}) {
		t.Errorf("open %v, want the loser", out.Open)
	}
}

// TestRejection: a failed call is an Error with the task's own lines.
func TestRejection(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => {
  const inner = async () => {
    return await tools.tasks.execute('child', {});
  };
  try { await inner() } catch (e) {
    return [e instanceof Error, e.name, e.message, e.code, e.status, e.stack, Object.keys(e)];
  }
}`, "")
	out = resume(t, out, failure(1, &service.Error{Name: "TypeError", Message: "no", Code: "SOLD_OUT", Status: 409, Stack: "secret"}))
	for _, part := range []string{`[true,"TypeError","no","SOLD_OUT",409,"TypeError: no\n    at `, `task.js:3:`, `task.js:5:`, `["code","status"]]`} {
		if !strings.Contains(string(out.Result), part) {
			t.Errorf("%s is not in %s", part, out.Result)
		}
	}
	out = start(t, "module.exports = async () => {\n  await tools.a.b();\n}", "")
	out = resume(t, out, failure(1, &service.Error{Message: "no", Code: "X", Status: 409}))
	if out.Err == nil || out.Err.Message != "no" || out.Err.Code != "X" || out.Err.Status != 409 || !strings.HasPrefix(out.Err.Stack, "Error: no\n    at <anonymous> (task.js:2:") {
		t.Errorf("uncaught: %+v", out.Err)
	}
	for _, status := range []string{`404.5`, `1e30`, `-1`, `'404'`, `{}`, `0 / 0`} { // not one of HTTP
		out = start(t, `module.exports = () => { throw Object.assign(new Error('no'), { status: `+status+` }) }`, "")
		if out.Err == nil || out.Err.Message != "no" || out.Err.Status != 0 {
			t.Errorf("status %s: %+v", status, out.Err)
		}
	}
}

func TestForgottenRejectionIsLogged(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => { tools.mail.send('x'); await tools.a.b(); return 1 }`, "")
	out = resume(t, out, failure(1, &service.Error{Message: "no server"}), value(2, "1"))
	wantResult(t, out, "1")
	if len(out.Logs) != 1 || out.Logs[0].Level != "warn" || out.Logs[0].Message != "tools.mail.send(…) failed and nothing awaited it: no server" {
		t.Errorf("logs %v", out.Logs)
	}
	out = start(t, `module.exports = async () => { const p = tools.mail.send('x'); await tools.a.b(); try { await p } catch (e) { return e.message } }`, "")
	out = resume(t, out, failure(1, &service.Error{Message: "no server"}), value(2, "1"))
	wantResult(t, out, `"no server"`)
	if len(out.Logs) != 0 {
		t.Errorf("logs %v", out.Logs)
	}
}

func TestUndefinedReply(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => (await tools.a.b()) === undefined`, "")
	wantResult(t, resume(t, out, vm.Reply{ID: 1}), `true`)
}

func TestGrownMemorySurvives(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => { const a = Array.from({ length: 200000 }, (_, i) => ({ i })); await tools.a.b(); return a.reduce((s, x) => s + x.i, 0) }`, "")
	if out.Snapshot.Size <= 4<<20 {
		t.Errorf("memory of %d bytes", out.Snapshot.Size)
	}
	wantResult(t, resume(t, out, value(1, "0")), "19999900000")
}

// TestRefusedSnapshots: no byte of what is wrong, forged or another's reaches a VM.
func TestRefusedSnapshots(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	out := start(t, `module.exports = () => tools.a.b()`, "")
	good := out.Snapshot.Encode()
	reply := []vm.Reply{value(1, "1")}
	try := func(b []byte, frame uuid.UUID) error {
		snap, err := vm.DecodeSnapshot(b)
		if err != nil {
			return err
		}
		_, err = shared.Resume(ctx, frame, snap, reply)
		return err
	}
	if err := try(good, frame); err != nil {
		t.Fatal(err)
	}
	if err := try(good, uuid.New()); !errors.Is(err, vm.ErrBadSnapshot) {
		t.Errorf("another frame: %v", err)
	}
	for i := range good {
		if i > 200 && i%37 != 0 {
			continue
		}
		b := slices.Clone(good)
		b[i] ^= 1
		err := try(b, frame)
		if !errors.Is(err, vm.ErrBadSnapshot) && !errors.Is(err, vm.ErrUnknownEngine) && !errors.Is(err, vm.ErrUnknownImage) && !errors.Is(err, keys.ErrUnknownKey) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		if err := try(good[:i], frame); !errors.Is(err, vm.ErrBadSnapshot) && !errors.Is(err, keys.ErrUnknownKey) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	snap, _ := vm.DecodeSnapshot(good)
	strange := newEngine(t, func(o *vm.Options) { o.Keys = newRing(t, "other") })
	if _, err := strange.Resume(ctx, frame, snap, reply); !errors.Is(err, keys.ErrUnknownKey) {
		t.Errorf("another ring: %v", err)
	}
	renewed := newEngine(t, func(o *vm.Options) { o.Keys = newRing(t, "test") })
	_, err := renewed.Resume(ctx, frame, snap, reply)
	if !errors.Is(err, vm.ErrBadSnapshot) || !errors.Is(err, keys.ErrForged) || !strings.Contains(err.Error(), "another key of that id") {
		t.Errorf("another key of the same id: %v", err)
	}
}

func newRing(t *testing.T, id string) *keys.Ring {
	t.Helper()
	entry, err := keys.NewKey(id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := keys.ParseRing(entry)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestForeignImage resumes a run of a host with another memory limit, whose
// image this host has to load.
func TestForeignImage(t *testing.T) {
	t.Parallel()
	small := newEngine(t, func(o *vm.Options) { o.Limits.Memory = 16 << 20 })
	if small.Image().Digest() == shared.Image().Digest() {
		t.Fatal("the memory limit is not in the image")
	}
	out := startAs(t, small, `module.exports = async (x) => [x.a, await tools.a.b()]`, `{"a":1}`)
	if _, err := shared.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(1, "2")}); !errors.Is(err, vm.ErrUnknownImage) {
		t.Errorf("without LoadImage: %v", err)
	}
	var damaged bool
	e := newEngine(t, func(o *vm.Options) {
		o.LoadImage = func(_ context.Context, d vm.Digest) ([]byte, error) {
			if d != small.Image().Digest() {
				return nil, errors.New("asked for another")
			}
			b, err := small.Image().Encode()
			if damaged {
				b = b[:len(b)-9]
			}
			return b, err
		}
	})
	damaged = true
	if _, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(1, "2")}); !errors.Is(err, vm.ErrUnknownImage) {
		t.Errorf("damaged image: %v", err)
	}
	damaged = false
	next, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(1, "2")})
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, next, `[1,2]`)
}

func FuzzDecodeSnapshot(f *testing.F) {
	out := start(f, `module.exports = () => tools.a.b()`, "")
	f.Add(out.Snapshot.Encode())
	f.Add(steps(f, start(f, largeTask, `{}`), 1).Snapshot.Encode())
	f.Add([]byte("amb1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		snap, err := vm.DecodeSnapshot(b)
		if err != nil {
			if !errors.Is(err, vm.ErrBadSnapshot) {
				t.Errorf("%v", err)
			}
			return
		}
		if string(snap.Encode()) != string(b) {
			t.Error("decoded and encoded it differs")
		}
		if _, err := shared.Resume(context.Background(), snap.Frame, snap, nil); err == nil && !slices.Equal(b, out.Snapshot.Encode()) {
			t.Error("forged bytes ran")
		}
	})
}

// TestLateReplies: replies to calls that were given up, were settled before or
// never made change nothing, and a call is settled by its first reply only.
func TestLateReplies(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => {
  const id = setTimeout(() => {}, 1000), got = [];
  got.push(await tools.a.b('x')); clearTimeout(id);
  got.push(await tools.a.b('y'));
  return got;
}`, "")
	timer, first := out.Calls[0].ID, out.Calls[1].ID
	out = resume(t, out, value(first, `1`), value(first, `2`), value(99, `3`))
	if len(out.Cancelled) != 1 || len(out.Open) != 1 {
		t.Fatalf("cancelled %v, open %v", out.Cancelled, out.Open)
	}
	second := out.Open[0]
	out = resume(t, out, value(timer, `null`), value(first, `4`))
	if out.Ended || len(out.Open) != 1 {
		t.Fatalf("late replies: ended %v, open %v", out.Ended, out.Open)
	}
	wantResult(t, resume(t, out, value(second, `5`), value(timer, `null`)), `[1,5]`)
}
