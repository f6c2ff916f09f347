package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestNoRoom: a host that has room for one thing at a time, and for no bytes but
// what it works on, does everything all the same.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	d := newDB(t, loadTasks)
	d.exec(`create table ledger (label text, key text)`)
	p, _ := d.host(func(c *stack.Config) {
		c.Memory, c.MaxBodies, c.MaxCalls = 1, 1, 1
		c.Services["ledger"] = ledger{d.pool}
	})
	want := map[uuid.UUID][]string{}
	for i := range 10 {
		for _, shape := range []string{"chain", "fan", "nap", "deep", "calls"} {
			label := fmt.Sprintf("r%02d%s-", i, shape[:1])
			r, err := p.Start(t.Context(), stack.StartParams{Task: shape, Input: json.RawMessage(`{"label":"` + label + `"}`)})
			if err != nil {
				t.Fatal(err)
			}
			want[r.ID] = labels(shape, label)
		}
	}
	for id, labels := range want {
		text, _ := json.Marshal(labels)
		wantResult(t, d.wait(p, id), string(text))
	}
	if n := d.count(`select count(*) - count(distinct key) from ledger`); n != 0 {
		t.Errorf("%d effects were repeated although nothing was disturbed", n)
	}
}

// big answers load(bytes) with a text of that length, and notes how large the
// heap has been.
type big struct {
	most atomic.Uint64
	max  int
}

func (b *big) MaxReply() int { return b.max }

func (b *big) Call(_ context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	n, err := strconv.Atoi(string(c.Args()[0]))
	if err != nil {
		return nil, err
	}
	text := make(json.RawMessage, 0, n+2)
	text = append(append(append(text, '"'), strings.Repeat("x", n)...), '"')
	b.look()
	return text, nil
}

// look measures what is reachable, not what is garbage.
func (b *big) look() {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	for {
		most := b.most.Load()
		if m.HeapAlloc <= most || b.most.CompareAndSwap(most, m.HeapAlloc) {
			return
		}
	}
}

var bigTasks = map[string]string{
	"loads": `module.exports = async ({ calls, bytes }, { tools }) => {
		let sum = 0;
		await Promise.all(Array.from({ length: calls }, async () => { const { length } = await tools.big.load(bytes); sum += length }));
		return sum }`,
}

const (
	bigCalls = 40
	bigBytes = 4 << 20
)

// playBig runs a task that asks for much at once, and reports how large the heap became.
func playBig(ctx context.Context, c child) error {
	b := &big{max: bigBytes + 2}
	p := c.processor(func(cfg *stack.Config) {
		cfg.Exclusive, cfg.Memory = true, 32<<20
		cfg.Services["big"] = b
	})
	b.look()
	before := b.most.Load()
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(working) }()
	<-p.Ready()
	r, err := p.Wait(ctx, uuid.MustParse(c.argument))
	stop()
	if err != nil {
		return err
	}
	fmt.Printf("%s %d\n", r.Result, b.most.Load()-before)
	return <-done
}

// TestLargeReplies: the replies to one body come in pieces, and what a host keeps
// of them is bounded, however many calls there are.
func TestLargeReplies(t *testing.T) {
	t.Parallel()
	d := newDB(t, bigTasks)
	run := d.enqueue("loads", fmt.Sprintf(`{"calls":%d,"bytes":%d}`, bigCalls, bigBytes))
	cmd := d.command("big", run.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var sum, heap int
	if _, scanErr := fmt.Sscan(string(out), &sum, &heap); err != nil || scanErr != nil || sum != bigCalls*bigBytes {
		t.Fatalf("host: %v, %q, want %d bytes\n%s", err, out, bigCalls*bigBytes, d.dump())
	}
	t.Logf("the heap grew by %d MiB", heap>>20)
	if all := bigCalls * bigBytes; heap > all*3/4 {
		t.Errorf("the heap grew by %d MiB for %d MiB of replies, of which 16 MiB should be at hand", heap>>20, all>>20)
	}
	if n := d.count(`select sequence from stack_runs where child_task_run_id = $1`, run); n < bigCalls*bigBytes/(16<<20) {
		t.Errorf("the body was suspended %d times: it got more than 16 MiB at once", n)
	}
}

// TestPieces: replies that came while no host ran are read in pieces too.
func TestPieces(t *testing.T) {
	t.Parallel()
	d := newDB(t, bigTasks)
	release := make(chan struct{})
	_, stop := d.host(func(c *stack.Config) {
		c.Services["big"] = serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, ctx.Err()
		})
		c.Drain = -1
	})
	const calls, bytes = 12, 3 << 20
	run := d.enqueue("loads", fmt.Sprintf(`{"calls":%d,"bytes":%d}`, calls, bytes))
	d.eventually("the calls are made", func() bool {
		return d.count(`select count(*) from stack_runs where service_name = 'big'`) == calls
	})
	stop()
	d.exec(`update stack_runs set status = 'completed', result = to_jsonb(repeat('x', $1)), ended_at = now(), claimed_by = null where service_name = 'big'`, bytes)
	p, _ := d.host(nil)
	wantResult(t, d.wait(p, run), fmt.Sprint(calls*bytes))
	if n := d.count(`select sequence from stack_runs where child_task_run_id = $1`, run); n < 3 {
		t.Errorf("%d MiB of replies were handed over in %d pieces", calls*bytes>>20, n)
	}
}

// serviceFunc is a service that is a function.
type serviceFunc func(context.Context, service.Call) (json.RawMessage, error)

func (f serviceFunc) Call(ctx context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	return f(ctx, c)
}

// TestTooLargeReply: one that the task could not take is refused at once, and
// the task can catch that.
func TestTooLargeReply(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"greedy": `module.exports = async (n, { tools }) => {
		try { return (await tools.big.load(n)).length } catch (e) { return e.code + ': ' + e.message } }`})
	p, _ := d.host(func(c *stack.Config) { c.Services["big"] = &big{max: 1} })
	wantResult(t, d.run(p, "greedy", "1000000"), "1000000")
	wantResult(t, d.run(p, "greedy", "9000000"), `"RESULT_TOO_LARGE: The reply of tools.big.load is 9000002 bytes, at most 8388608: keep large data elsewhere and pass its name."`)
	if n := d.count(`select max(length(data)) from amber.replies`); n > 2<<20 {
		t.Errorf("a row of %d bytes was kept of it", n)
	}
}

// TestManyNested: nested tasks that a host has no room for wait in the table, for
// any host, and it never holds more than it works for.
func TestManyNested(t *testing.T) {
	t.Parallel()
	const most, width = 4, 12
	d := newDB(t, map[string]string{
		"tree": `module.exports = async ({ depth, width }, { tools }) => {
			await tools.look();
			if (depth === 0) return 1;
			const below = await Promise.all(Array.from({ length: width }, () => tools.tasks.execute('tree', { depth: depth - 1, width })));
			return 1 + below.reduce((a, b) => a + b, 0) }`,
	})
	var mu sync.Mutex
	held := map[int]int{}
	p, _ := d.host(func(c *stack.Config) {
		c.MaxBodies = most
		c.Services["look"] = serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
			var n int
			err := d.pool.QueryRow(ctx, `select count(*) from stack_runs where status = 'processing' and child_task_run_id is not null`).Scan(&n)
			mu.Lock()
			defer mu.Unlock()
			held[n]++
			return json.RawMessage("true"), err
		})
	})
	wantResult(t, d.run(p, "tree", fmt.Sprintf(`{"depth":2,"width":%d}`, width)), fmt.Sprint(1+width+width*width))
	for n := range held {
		if n > 3*most { // bodies that were resumed come on top
			t.Errorf("%d bodies were held at once by a host that works for %d: %v", n, most, maps.Clone(held))
		}
	}
}

// TestDepth: a task that calls itself without end is stopped, also where hosts
// take the rows from each other.
func TestDepth(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"endless": `module.exports = async (n, { tools }) => await tools.tasks.execute('endless', n + 1)`,
		"careful": `module.exports = async (n, { tools }) => { try { return await tools.tasks.execute('careful', n + 1) } catch (e) { return [n, e.code] } }`,
	})
	p, _ := d.host(func(c *stack.Config) { c.MaxDepth = 5 })
	e := wantError(t, d.run(p, "endless", "1"), service.CodeDepthLimit)
	if want := "The task endless is not started: it would be nested in 6 others, at most 5. Does a task call itself without end?"; e.Message != want {
		t.Errorf("message %q, want %q", e.Message, want)
	}
	wantResult(t, d.run(p, "careful", "1"), `[6, "DEPTH_LIMIT"]`)
	if n := d.count(`select count(*) from task_runs`); n != 12 {
		t.Errorf("%d runs, want 12", n)
	}
	other := newDB(t, map[string]string{"careful": `module.exports = async (n, { tools }) => { try { return await tools.tasks.execute('careful', n + 1) } catch (e) { return [n, e.code] } }`})
	for range 2 {
		p, _ = other.host(func(c *stack.Config) { c.MaxDepth, c.Memory = 5, 1 })
	}
	wantResult(t, other.run(p, "careful", "1"), `[6, "DEPTH_LIMIT"]`)
}

// TestSlowCallsLeaveRoom: calls that take long keep nobody from being served.
func TestSlowCallsLeaveRoom(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"slow":  `module.exports = async (n, { tools }) => (await Promise.all(Array.from({ length: n }, () => tools.slow('x'.repeat(1000))))).length`,
		"quick": `module.exports = async (n, { tools }) => { await tools.sleep(1); return n }`,
	})
	release := make(chan struct{})
	var started atomic.Int64
	p, _ := d.host(func(c *stack.Config) {
		c.MaxCalls, c.Memory = 4, 64<<10
		c.Services["slow"] = serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
			started.Add(1)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return json.RawMessage("1"), ctx.Err()
		})
	})
	r, err := p.Start(t.Context(), stack.StartParams{Task: "slow", Input: json.RawMessage("50")})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("as many calls are made as there may be", func() bool { return started.Load() == 4 })
	for i := range 5 {
		wantResult(t, d.run(p, "quick", fmt.Sprint(i)), fmt.Sprint(i))
	}
	if n := d.count(`select count(*) from stack_runs where service_name = 'slow' and status = 'pending'`); n == 0 {
		t.Error("the host holds all calls, though it has no memory for their arguments")
	}
	close(release)
	wantResult(t, d.wait(p, r.ID), "50")
	if n := started.Load(); n != 50 {
		t.Errorf("%d calls were made, want 50", n)
	}
}

// TestNestedLimit: a run that has tasks without end below it is stopped, whichever
// hosts they run on, and others are not.
func TestNestedLimit(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"bomb": `module.exports = async ({ depth }, { tools }) => {
			let sum = 1, refused = 0;
			if (depth > 0) for (const r of await Promise.allSettled(Array.from({ length: 8 }, () => tools.tasks.execute('bomb', { depth: depth - 1 })))) {
				if (r.status === 'fulfilled') sum += r.value.sum, refused += r.value.refused;
				else if (r.reason.code === 'NESTED_LIMIT') refused++;
				else throw r.reason;
			}
			return { sum, refused } }`,
	})
	for _, c := range []struct{ limit, hosts, runs, least, most int }{
		{20, 1, 3, 20, 20},
		{300, 2, 1, 300, 300 + 256 + 1024},
	} {
		var p *stack.Processor
		stops := make([]func(), c.hosts)
		for i := range stops {
			p, stops[i] = d.host(func(cfg *stack.Config) { cfg.MaxNested, cfg.MaxBodies = c.limit, 4 })
		}
		for range c.runs {
			r := d.run(p, "bomb", `{"depth":4}`)
			var got struct{ Sum, Refused int }
			if err := json.Unmarshal(r.Result, &got); err != nil {
				t.Fatalf("%v %s %s", err, r.Result, r.Error)
			}
			if nested := got.Sum - 1; nested < c.least || nested > c.most || got.Refused == 0 {
				t.Errorf("%d hosts let a run have %d tasks below it, and refused %d: want %d to %d", c.hosts, nested, got.Refused, c.least, c.most)
			}
		}
		for _, stop := range stops {
			stop()
		}
	}
	if _, stop := d.host(nil); true {
		stop()
	}
	if n := d.count(`select count(*) from amber.nested`); n != 0 {
		t.Errorf("%d trees that have ended are still counted", n)
	}
}
