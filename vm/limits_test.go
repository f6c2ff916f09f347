package vm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/vm"
)

func wantError(t *testing.T, out *vm.Outcome, code, message string) {
	t.Helper()
	if !out.Ended || out.Err == nil || out.Err.Code != code || !strings.Contains(out.Err.Message, message) {
		t.Errorf("ended %v, result %.100s, error %+v; want %s: %s", out.Ended, out.Result, out.Err, code, message)
	}
}

// TestCPULimit: what computes for too long ends, whatever it does meanwhile.
func TestCPULimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.CPU = 20 * time.Millisecond })
	for _, code := range []string{
		`for (;;);`,
		`while (1) await 0;`,
		`for (;;) try { throw 1 } catch {} finally { continue }`,
		`/(a+)+b/.test('a'.repeat(40))`,
		`'a'.repeat(3e6).indexOf('a'.repeat(1.5e6) + 'b')`,
		`let a = 3n; for (;;) a = a * a % (1n << 50000n)`,
		`const p = new Proxy({}, { get: () => p }); for (;;) p.x`,
		`const f = () => Promise.resolve().then(f); await f()`,
		`for (;;) new Uint8Array(1e7)`,
		`for (;;) eval('((((1))))')`,
		`setTimeout(() => { for (;;); }, 1); await tools.a.b()`,
		`const f = new Function('s', 's;'.repeat(1e4)); for (;;) f()`,
	} {
		out := startAs(t, e, `module.exports = async () => { `+code+` }`, "")
		if !out.Ended {
			var err error
			if out, err = e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(1, "null")}); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, out, service.CodeCPULimit, "CPU time limit exceeded")
		if out.Err.Stack != "" || out.CPU <= 0 || out.CPU > 30*time.Millisecond { // it may be less: the clock also stops it
			t.Errorf("%s: %v, %+v", code, out.CPU, out.Err)
		}
	}
	wantResult(t, startAs(t, e, `module.exports = () => 1`, ""), "1")
}

// TestRunCPULimit: slices that are short each add up.
func TestRunCPULimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.RunCPU = 200 * time.Millisecond })
	out := startAs(t, e, `module.exports = async () => { for (let n = 0; ; n++) { for (let i = 0; i < 3e5; i++); await tools.a.b(n) } }`, "")
	spent, slices := out.CPU, 1
	for ; !out.Ended && slices < 1000; slices++ {
		next, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[0], "0")})
		if err != nil {
			t.Fatal(err)
		}
		out = next
		spent += out.CPU
	}
	wantError(t, out, service.CodeCPULimit, "CPU time limit exceeded")
	if slices < 3 || spent < 190*time.Millisecond || spent > 400*time.Millisecond {
		t.Errorf("%d slices of %v in all", slices, spent)
	}
}

// TestClockLimit: what costs little fuel for its time is stopped by the clock, with
// fuel left. More tasks than processors run at once, so that fast ones are slow
// enough as well.
func TestClockLimit(t *testing.T) {
	t.Parallel()
	tasks := 2 * runtime.GOMAXPROCS(0)
	const limit = 10 * time.Millisecond
	e := newEngine(t, func(o *vm.Options) { o.Concurrency, o.Limits.CPU = tasks, limit })
	var all sync.WaitGroup
	for range tasks {
		all.Go(func() {
			out, err := e.Start(context.Background(), vm.StartParams{Frame: frame, Name: "t", Code: `module.exports = async () => { for (;;) await null }`})
			if err != nil {
				t.Error(err)
				return
			}
			wantError(t, out, service.CodeCPULimit, "CPU time limit exceeded")
			if out.CPU <= 0 || out.CPU >= limit {
				t.Errorf("stopped at %v of %v", out.CPU, limit)
			}
		})
	}
	all.Wait()
}

// TestUsageOfIncrements: what a body used is carried on where its snapshots are
// increments: slices that are short each reach RunCPU, and lines RunLines.
func TestUsageOfIncrements(t *testing.T) {
	t.Parallel()
	const runCPU, runLines = 100 * time.Millisecond, 8
	e := newEngine(t, func(o *vm.Options) { o.Limits.RunCPU, o.Limits.RunLines = runCPU, runLines })
	out := startAs(t, e, `module.exports = async () => {
		const kept = Array.from({ length: 5000 }, (_, i) => 'row ' + i);
		for (let n = 0; ; n++) {
			console.log(n);
			for (let i = 0; i < 5e4; i++);
			kept[n] = await tools.a.b();
		} }`, "")
	spent, lines, slices, increments := out.CPU, len(out.Logs), 1, 0
	last := out.Logs
	for ; !out.Ended && slices < 1000; slices++ {
		if out.Snapshot.Increment() {
			increments++
		}
		snap, err := vm.DecodeSnapshot(stored(out.Snapshot)...)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = e.Resume(t.Context(), frame, snap, []vm.Reply{value(out.Open[0], "0")}); err != nil {
			t.Fatal(err)
		}
		spent += out.CPU
		lines += len(out.Logs)
		if len(out.Logs) > 0 {
			last = out.Logs
		}
	}
	wantError(t, out, service.CodeCPULimit, "CPU time limit exceeded")
	if spent < runCPU || spent > runCPU*3/2 {
		t.Errorf("%d slices of %v in all", slices, spent)
	}
	if lines != runLines || !strings.HasPrefix(last[len(last)-1].Message, fmt.Sprintf("the task has written %d lines", runLines-1)) {
		t.Errorf("%d lines in %d slices, the last %q", lines, slices, last[len(last)-1].Message)
	}
	if increments < slices/2 {
		t.Errorf("%d increments in %d slices", increments, slices)
	}
}

// TestFuelIsFair: the same work costs the same, alone or beside others.
func TestFuelIsFair(t *testing.T) {
	t.Parallel()
	const code = `module.exports = () => { const a = []; for (let i = 0; i < 2e4; i++) a.push({ i, s: 'x' + i }); return JSON.stringify(a).length }`
	for _, e := range []*vm.Engine{shared, other} { // which compile it
		startAs(t, e, code, "")
	}
	alone := startAs(t, shared, code, "").CPU
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		for range 5 {
			_, _ = other.Start(context.Background(), vm.StartParams{Frame: frame, Name: "busy", Code: code})
		}
	}()
	beside := startAs(t, shared, code, "").CPU
	<-busy
	if alone == 0 || beside < alone*99/100 || beside > alone*101/100 {
		t.Errorf("%v alone, %v beside others", alone, beside)
	}
}

// TestLoopStopsNobody: while a task loops, Go collects garbage, and the host
// takes the slice back as soon as it wants.
func TestLoopStopsNobody(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.CPU, o.Limits.RunCPU = time.Hour, time.Hour })
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the host leaves")
	ended := make(chan error, 1)
	go func() {
		out, err := e.Start(ctx, vm.StartParams{Frame: frame, Name: "loop", Code: `module.exports = () => { for (;;); }`})
		if out != nil {
			err = fmt.Errorf("ended with %+v", out.Err)
		}
		ended <- err
	}()
	for range 5 {
		runtime.GC()
		wantResult(t, startAs(t, e, `module.exports = () => 1`, ""), "1")
	}
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Memory = 8 << 20 })
	for _, code := range []string{
		`const a = []; for (;;) a.push({ a })`,
		`let s = 'x'; for (;;) s += s + '1'`,
		`const a = []; for (;;) a.push(new ArrayBuffer(1e5))`,
		`let f = () => 0; for (;;) { const g = f; f = () => g }`,
		`return new Uint8Array(64 << 20).length`,
		`return ['x'.repeat(7e6), 'y'.repeat(7e6)]`, // there is no room for its JSON
		`await tools.a.b(['x'.repeat(7e6), 'y'.repeat(7e6)])`,
	} {
		wantError(t, startAs(t, e, `module.exports = async () => { `+code+` }`, ""), service.CodeMemoryLimit, "out of memory")
	}
	waiting := startAs(t, e, `module.exports = async () => { const kept = []; for (let i = 0; ; i++) { kept.push(new Array(1e5).fill(i)); await tools.a.b() } }`, "")
	for !waiting.Ended {
		if size := waiting.Snapshot.Size; size > (8+16)<<20 {
			t.Fatalf("%d bytes of memory", size)
		}
		next, err := e.Resume(t.Context(), frame, waiting.Snapshot, []vm.Reply{value(waiting.Open[0], "0")})
		if err != nil {
			t.Fatal(err)
		}
		waiting = next
	}
	wantError(t, waiting, service.CodeMemoryLimit, "out of memory")
	caught := startAs(t, e, `module.exports = () => { try { const a = []; for (;;) a.push(new Array(1000).fill(0)) } catch (e) { return e.name + e.message } }`, "")
	wantResult(t, caught, `"InternalErrorout of memory"`)
}

func TestValueLimits(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Value = 10_000 })
	for _, text := range []string{`'x'.repeat(9998)`, `'é'.repeat(4999)`, `'漢'.repeat(3332)`, `'😀'.repeat(2499)`} {
		out := startAs(t, e, `module.exports = () => `+text, "")
		if out.Err != nil || len(out.Result) < 9998 {
			t.Errorf("%s: %d bytes, %v", text, len(out.Result), out.Err)
		}
		wantError(t, startAs(t, e, `module.exports = () => `+text+` + 'xyz'`, ""), service.CodeResultTooLarge, "bytes, at most 10000")
		out = startAs(t, e, `module.exports = async () => { try { await tools.a.b(`+text+` + 'xyz') } catch (e) { return [e.name, e.code, e.message] } }`, "")
		if !strings.Contains(string(out.Result), `["RangeError","ARGUMENTS_TOO_LARGE","the arguments of tools.a.b are `) || len(out.Calls) != 0 {
			t.Errorf("%s: %s, %v", text, out.Result, out.Err)
		}
		if out = startAs(t, e, `module.exports = async () => { await tools.a.b((`+text+`).slice(2)) }`, ""); out.Snapshot == nil {
			t.Errorf("%s: %v", text, out.Err)
		}
	}
	large := `"` + strings.Repeat("x", 10_000) + `"`
	wantError(t, startAs(t, e, `module.exports = (x) => 1`, large), service.CodeArgumentsTooLarge, "the task's input is 10002 bytes")
	out := startAs(t, e, `module.exports = async () => { try { await tools.a.b() } catch (e) { return e.code } }`, "")
	out, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(1, large)})
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, out, `"RESULT_TOO_LARGE"`)
}

// TestAllCallsLimit: options and names count as well, and so do all calls together.
func TestAllCallsLimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Value = 100_000 })
	for code, want := range map[string]string{
		`await tools.with({ x: 'x'.repeat(2e5) }).a.b()`:                             "call 1 with its options is 200",
		`await tools['x'.repeat(2e5)].b()`:                                           "call 1 with its options is 200",
		`for (let i = 0; i < 10; i++) tools.a.b('x'.repeat(9e4)); await tools.a.b()`: "what the task calls without waiting is 9",
	} {
		wantError(t, startAs(t, e, `module.exports = async () => { `+code+` }`, ""), service.CodeArgumentsTooLarge, want)
	}
	out := startAs(t, e, `module.exports = async () => { for (let i = 0; i < 8; i++) tools.a.b('x'.repeat(9e4)); await tools.a.b() }`, "")
	if out.Ended || len(out.Calls) != 9 {
		t.Errorf("%d calls, %v", len(out.Calls), out.Err)
	}
}

func TestSnapshotLimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Snapshot = 64 << 10 })
	out := startAs(t, e, `module.exports = async () => { const kept = Array.from({ length: 2e5 }, Math.random); await tools.a.b(); return kept }`, "")
	wantError(t, out, service.CodeSnapshotTooLarge, "what the task remembers while it waits is ")
	if out.Snapshot != nil {
		t.Error("there is a snapshot all the same")
	}
}

// TestCallsInFlight: more calls than may be in flight wait for others to end,
// in order, and each gets its answer.
func TestCallsInFlight(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Calls = 10 })
	out := startAs(t, e, `module.exports = async () => {
		const all = await Promise.all(Array.from({ length: 35 }, (_, i) => tools.a.b(i)));
		return all.reduce((sum, n) => sum + n, 0) }`, "")
	sent := 0
	for !out.Ended {
		for _, c := range out.Calls {
			if want := fmt.Sprint(sent); string(c.Args()[0]) != want || c.ID != uint32(sent+1) {
				t.Errorf("call %d is %s", sent, c.Args()[0])
			}
			sent++
		}
		if len(out.Open) != min(10, 35-sent+len(out.Open)) {
			t.Fatalf("%d calls are open after %d", len(out.Open), sent)
		}
		next, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[len(out.Open)/2], "2")})
		if err != nil {
			t.Fatal(err)
		}
		out = next
	}
	wantResult(t, out, "70")
	out = startAs(t, e, `module.exports = () => { for (let i = 0; i < 12; i++) tools.a.b(i); return new Promise((done) => queueMicrotask(() => queueMicrotask(() => queueMicrotask(done)))) }`, "")
	wantResult(t, out, "null")
	if len(out.Calls) != 10 || len(out.Logs) != 1 || !strings.Contains(out.Logs[0].Message, "more than 10 calls were in flight") {
		t.Errorf("%d calls, logs %+v", len(out.Calls), out.Logs)
	}
}

// TestQueuedTimers: a timer that waited for its turn sleeps only what is left,
// and one that is cleared meanwhile is never sent.
func TestQueuedTimers(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Calls = 1 })
	out := startAs(t, e, `module.exports = async () => {
		const first = tools.a.b().then((v) => v);
		const cleared = setTimeout(() => { throw new Error('cleared') }, 5);
		await new Promise((done) => { setTimeout(done, 1000000); clearTimeout(cleared); });
		return await first }`, "")
	out, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(1, `"a"`)})
	if err != nil || len(out.Calls) != 1 || out.Calls[0].ID != 3 {
		t.Fatalf("%v, %s", err, wire(out.Calls))
	}
	var left float64
	if err := json.Unmarshal(out.Calls[0].Args()[0], &left); err != nil || left > 1000000 || left < 500000 {
		t.Errorf("it sleeps %v ms", left)
	}
	if out, err = e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(3, `null`)}); err != nil {
		t.Fatal(err)
	}
	wantResult(t, out, `"a"`)
}

func TestLogLimits(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) {
		o.Limits.Lines, o.Limits.LineBytes, o.Limits.RunLines, o.Limits.RunLineBytes = 10, 2000, 25, 1<<20
	})
	out := startAs(t, e, `module.exports = async () => { for (let n = 0; ; n++) { for (let i = 0; i < 15; i++) console.log(n, i); await tools.a.b(n) } }`, "")
	var counts []int
	var last string
	for range 4 {
		counts = append(counts, len(out.Logs))
		if len(out.Logs) > 0 {
			last = out.Logs[len(out.Logs)-1].Message
		}
		next, err := e.Resume(t.Context(), frame, out.Snapshot, []vm.Reply{value(out.Open[0], "0")})
		if err != nil {
			t.Fatal(err)
		}
		out = next
	}
	if fmt.Sprint(counts) != "[10 10 5 0]" || !strings.HasPrefix(last, "the task has written 24 lines") {
		t.Errorf("lines %v, the last %q", counts, last)
	}
	out = startAs(t, e, `module.exports = () => { for (let i = 0; i < 9; i++) console.log('x'.repeat(900)) }`, "")
	if n := len(out.Logs); n != 4 || !strings.Contains(out.Logs[3].Message, "3 lines of 2700 bytes") {
		t.Errorf("%d lines: %+v", n, out.Logs)
	}
}

// TestBusy: who would wait behind too many others is told so.
func TestBusy(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Concurrency, o.Queue = 1, 1 })
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := e.Start(ctx, vm.StartParams{Frame: frame, Name: "loop", Code: `module.exports = () => { for (;;); }`})
			errs <- err
		}()
	}
	if err := <-errs; !errors.Is(err, vm.ErrBusy) {
		t.Errorf("the third: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestClearedTimers: a timer that is cleared in the slice that set it was never
// a call, however many there are.
func TestClearedTimers(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Limits.Value = 10_000 })
	out := startAs(t, e, `module.exports = async () => {
		const kept = setTimeout(() => {}, 5);
		for (let i = 0; i < 30000; i++) clearTimeout(setTimeout(() => {}, i));
		const answer = tools.a.b();
		clearTimeout(setTimeout(() => {}, 1));
		return await answer }`, "")
	if len(out.Calls) != 2 || len(out.Cancelled) != 0 || len(out.Open) != 2 {
		t.Fatalf("%d calls, %d cancelled, %d open; %v", len(out.Calls), len(out.Cancelled), len(out.Open), out.Err)
	}
	wantResult(t, resume(t, out, value(out.Open[1], "7")), "7")
}

// TestDeepArguments are the task's own mistake.
func TestDeepArguments(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => { let o = []; for (let i = 0; i < 12000; i++) o = [o]; await tools.a.b(o) }`, "")
	wantError(t, out, service.CodeInvalidArgument, "the arguments of call 1 nest too deep")
}

// TestNothingRunsWhileLoading: code that is no body and no module but would be a
// script in place of the body does not run as one.
func TestNothingRunsWhileLoading(t *testing.T) {
	t.Parallel()
	const code = "let x = 1; 0 <!--x /*\n}, [globalThis.once = Math.random() + tools.echo.say(1)]: 0, async task2(){ `\n*/\nexport default () => typeof once; //`"
	for range 3 {
		out := start(t, code, "")
		if len(out.Calls) > 0 || out.Err == nil && string(out.Result) != `"undefined"` {
			t.Errorf("calls %s, result %s, %v", wire(out.Calls), out.Result, out.Err)
		}
	}
}

// TestOtherMemoryLimit: a body that is larger than this host allows says so.
func TestOtherMemoryLimit(t *testing.T) {
	t.Parallel()
	out := start(t, `module.exports = async () => { const kept = new Uint8Array(40e6); await tools.a.b(); return kept.length }`, "")
	if out.Snapshot == nil {
		t.Fatal(out.Err)
	}
	small := newEngine(t, func(o *vm.Options) {
		o.Limits.Memory = 8 << 20
		o.LoadImage = func(context.Context, vm.Digest) ([]byte, error) { return shared.Image().Encode() }
	})
	size := uint64(out.Snapshot.Size)
	if most := small.MaxMemory(); most < 8<<20 || most >= size || shared.MaxMemory() < size {
		t.Errorf("one VM has %d bytes here and %d there, and the body %d", most, shared.MaxMemory(), size)
	}
	if _, err := small.Resume(t.Context(), frame, out.Snapshot, nil); err == nil || errors.Is(err, vm.ErrBadSnapshot) || !strings.Contains(err.Error(), "raise its limit of memory") {
		t.Errorf("%v", err)
	}
}

// TestLoopsStarveNobody: tasks that loop, more of them than there are processors,
// leave turns to others: those end while all the loops go on.
func TestLoopsStarveNobody(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Concurrency, o.Limits.CPU, o.Limits.RunCPU = 2, time.Hour, time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() {
			_, err := e.Start(ctx, vm.StartParams{Frame: frame, Name: "loop", Code: `module.exports = () => { for (;;); }`})
			ended <- err
		}()
	}
	for began := time.Now(); e.UnderWay() < cap(ended); { // all of them, though two could keep both processors
		runtime.Gosched()
		if time.Since(began) > time.Minute {
			t.Fatal("the loops that began first let no other begin")
		}
	}
	for n := range 20 {
		wantResult(t, startAs(t, e, `module.exports = async (n) => n`, fmt.Sprint(n)), fmt.Sprint(n))
	}
	if len(ended) > 0 {
		t.Errorf("a loop has ended: %v", <-ended)
	}
	cancel()
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestMemoryOfManySlices: more slices than there is memory for end all the same.
func TestMemoryOfManySlices(t *testing.T) {
	t.Parallel()
	e := newEngine(t, func(o *vm.Options) { o.Concurrency, o.Memory = 2, 16<<20 })
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			out := startAs(t, e, `module.exports = (n) => { const kept = []; for (let i = 0; i < 100; i++) kept.push(new Uint8Array(1e5).fill(1)); let sum = 0; for (const a of kept) sum += a[5]; return sum + n }`, fmt.Sprint(n))
			wantResult(t, out, fmt.Sprint(100+n))
		})
	}
	all.Wait()
}

// TestFirstSnapshotIsSmall: what compiling and checking a task leave behind is not
// part of what it remembers.
func TestFirstSnapshotIsSmall(t *testing.T) {
	t.Parallel()
	if n := len(start(t, smallTask, `{}`).Snapshot.Encode()); n > 6<<10 {
		t.Errorf("a small task's first snapshot has %d bytes", n)
	}
}
