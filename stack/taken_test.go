package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestNothingStaysTaken: whatever disturbs the work, a host gives back every slot
// and every byte that it took for it, when the work has ended and when it leaves
// in the middle of it.
func TestNothingStaysTaken(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"leaf": `module.exports = async (n, { tools }) => { await tools.flaky.value(n); return 'x'.repeat(3000) }`,
		"mix": `module.exports = async (n, { tools }) => {
			const all = [tools.sleep(n % 30), tools.sleep(5), tools.echo.panic(), tools.echo.fail('no'), tools.echo.raw('{'), tools.tasks.nothing(), tools.none(),
				tools.tasks.execute('nowhere'), tools.flaky.value('y'.repeat(5000)), ...[1, 2, 3].map(() => tools.tasks.execute('leaf', n))];
			await Promise.allSettled(all);
			await Promise.race([tools.tasks.execute('leaf', n), tools.sleep(20), tools.flaky.value(n)]);
			for (let i = 0; i < 3; i++) await tools.echo.value(i);
			if (n % 5 === 0) throw new Error('thrown');
			tools.echo.value('forgotten');
			return n }`,
	})
	// One statement in so many meets a conflict.
	d.exec(`create sequence tries`)
	d.exec(`create function conflict() returns trigger language plpgsql as $$ begin
		if nextval('tries') % 40 = 0 then raise exception 'conflict' using errcode = '40001'; end if; return new; end $$`)
	d.exec(`create trigger conflict before update on stack_runs for each row execute function conflict()`)
	with := func(c *stack.Config) {
		c.Memory, c.MaxBodies, c.MaxCalls, c.Lease, c.Drain = 256<<10, 6, 3, 1500*time.Millisecond, 20*time.Millisecond
		c.Services["flaky"] = serviceFunc(func(ctx context.Context, c service.Call) (json.RawMessage, error) {
			return c.Args()[0], ctx.Err()
		})
	}
	quiet := func(p *stack.Processor) {
		t.Helper()
		d.eventually("nothing is taken", func() bool { return len(p.Taken()) == 0 })
	}
	p, stop := d.host(with)
	other, stopOther := d.host(with)
	var runs []uuid.UUID
	start := func(n int) {
		for i := range n {
			r, err := p.Start(context.Background(), stack.StartParams{Task: "mix", Input: json.RawMessage(fmt.Sprint(i))})
			if err == nil { // a cut connection is the caller's to try again
				runs = append(runs, r.ID)
			}
		}
	}
	for round := range 3 {
		start(10)
		switch round {
		case 0:
			d.cut()
		case 1:
			d.exec(`update amber.hosts set expires_at = now() - interval '1 second'`)
		case 2:
			for _, id := range runs {
				_, _ = p.Inject(context.Background(), id, json.RawMessage(`"from outside"`)) // if it waits for one call only
			}
		}
	}
	for _, id := range runs {
		d.eventually("the run ends", func() bool { r, err := d.store.Run(context.Background(), id); return err == nil && r.Ended() })
	}
	quiet(p)
	quiet(other)
	start(30)
	stop()
	stopOther()
	for _, p := range []*stack.Processor{p, other} {
		if taken := p.Taken(); len(taken) > 0 {
			t.Errorf("a host that has left still has taken %v", taken)
		}
	}
}

// TestRepliesThatWait: a call that has been answered is not made again because
// its caller computes for longer than a host leaves alone what it does not know.
func TestRepliesThatWait(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"inner": `module.exports = async (n, { tools }) => { await tools.slow(n); return n }`,
		"outer": `module.exports = async (ms, { tools }) => {
			const later = [tools.slow(2), tools.tasks.execute('inner', 3)];
			await tools.echo.value(1);
			const until = Date.now() + ms;
			while (Date.now() < until);
			return await Promise.all(later) }`,
	})
	var calls atomic.Int64
	p, _ := d.host(func(c *stack.Config) {
		c.Lease = 3 * time.Second
		c.Services["slow"] = serviceFunc(func(_ context.Context, c service.Call) (json.RawMessage, error) {
			calls.Add(1)
			<-time.After(50 * time.Millisecond) // while the caller computes
			return c.Args()[0], nil
		})
	})
	wantResult(t, d.run(p, "outer", "3500"), `[2,3]`)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls were made, want 2", n)
	}
	if n := d.count(`select sum(attempt) from stack_runs`); n != 0 {
		t.Errorf("rows were claimed %d times that their host held all the time", n)
	}
}

// TestRefusedStaysRefused: a nested task that was refused is not started by the
// host that takes over.
func TestRefusedStaysRefused(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"down": `module.exports = async (n, { tools }) => {
		try { return await tools.tasks.execute('down', n + 1) } catch (e) { const until = Date.now() + 700; while (Date.now() < until); return [n, e.code] } }`})
	for _, c := range []struct {
		set  func(*stack.Config)
		want string
		runs int
	}{
		{func(c *stack.Config) { c.MaxDepth = 3 }, `[4, "DEPTH_LIMIT"]`, 4},
		{func(c *stack.Config) { c.MaxNested = 2 }, `[3, "NESTED_LIMIT"]`, 3},
	} {
		d.exec(`delete from task_runs`)
		set := func(cfg *stack.Config) { c.set(cfg); cfg.Drain = -1 }
		p, stop := d.host(set)
		r, err := p.Start(t.Context(), stack.StartParams{Task: "down", Input: json.RawMessage("1")})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the innermost is refused", func() bool {
			return d.count(`select count(*) from stack_runs where child_task_run_id is null`) == 1
		})
		stop()
		p, stop = d.host(set)
		wantResult(t, d.wait(p, r.ID), c.want)
		if n := d.count(`select count(*) from task_runs`); n != c.runs {
			t.Errorf("%d runs, want %d", n, c.runs)
		}
		stop()
	}
}

// TestNestedLimitCountsOnce: tasks of a slice that is not committed, and run
// again, are not counted.
func TestNestedLimitCountsOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"leaf": `module.exports = async (n) => n`,
		"fan":  `module.exports = async (n, { tools }) => (await Promise.all(Array.from({ length: n }, (_, i) => tools.tasks.execute('leaf', i)))).length`,
	})
	d.exec(`create sequence tries`)
	d.exec(`create function conflict() returns trigger language plpgsql as $$ begin
		if nextval('tries') <= 3 then raise exception 'conflict' using errcode = '40001'; end if; return new; end $$`)
	d.exec(`create trigger conflict before insert on amber.snapshots for each row execute function conflict()`)
	p, _ := d.host(func(c *stack.Config) { c.MaxNested = 15 })
	wantResult(t, d.run(p, "fan", "10"), "10")
}

// TestOrderOfPieces: what is answered here while earlier replies wait in the
// table comes after them.
func TestOrderOfPieces(t *testing.T) {
	t.Parallel()
	const calls, bytes = 24, 3 << 20
	d := newDB(t, map[string]string{"order": `module.exports = async (calls, { tools }) => {
		const order = [];
		await Promise.all([...Array.from({ length: calls }, (_, i) => tools.big.load(i).then(() => order.push(i))), tools.late(calls).then((n) => order.push(n))]);
		return order }`})
	blocked := serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	_, stop := d.host(func(c *stack.Config) { c.Services["big"], c.Services["late"], c.Drain = blocked, blocked, -1 })
	run := d.enqueue("order", fmt.Sprint(calls))
	d.eventually("the calls are made", func() bool {
		return d.count(`select count(*) from stack_runs where service_name in ('big', 'late')`) == calls+1
	})
	stop()
	d.exec(`update stack_runs set status = 'completed', result = to_jsonb(repeat('x', $1)), claimed_by = null,
		ended_at = now() - interval '1 hour' + make_interval(secs => call_id) where service_name = 'big'`, bytes)
	p, _ := d.host(func(c *stack.Config) {
		c.Services["late"] = serviceFunc(func(_ context.Context, c service.Call) (json.RawMessage, error) {
			d.eventually("the first piece is handed over", func() bool {
				return d.count(`select sequence from stack_runs where child_task_run_id = $1`, run) > 1
			})
			return c.Args()[0], nil
		})
	})
	var want []int
	for i := range calls + 1 {
		want = append(want, i)
	}
	text, _ := json.Marshal(want)
	wantResult(t, d.wait(p, run), string(text))
}

// TestManyStarts: of runs that are started at the same moment a host holds no more
// than it works for; the others are queued.
func TestManyStarts(t *testing.T) {
	t.Parallel()
	const most, starts = 4, 60
	d := newDB(t, map[string]string{"looks": `module.exports = async (n, { tools }) => {
		const until = Date.now() + 40;
		while (Date.now() < until);
		await tools.look(); return n }`})
	var held atomic.Int64
	p, _ := d.host(func(c *stack.Config) {
		c.MaxBodies = most
		c.Services["look"] = serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
			var n int64
			err := d.pool.QueryRow(ctx, `select count(*) from stack_runs where status = 'processing' and child_task_run_id is not null`).Scan(&n)
			for before := held.Load(); n > before && !held.CompareAndSwap(before, n); before = held.Load() {
			}
			return json.RawMessage("1"), err
		})
	})
	var all sync.WaitGroup
	for i := range starts {
		all.Go(func() { wantResult(t, d.run(p, "looks", fmt.Sprint(i)), fmt.Sprint(i)) })
	}
	all.Wait()
	if n := held.Load(); n > 3*most { // bodies that were resumed come on top
		t.Errorf("%d bodies were held at once by a host that works for %d", n, most)
	}
}
