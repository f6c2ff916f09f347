package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestTogether: suspensions that come at one time are one transaction; and those
// that cannot be committed in it keep nobody else from it.
func TestTogether(t *testing.T) {
	t.Parallel()
	const runs = 6
	d := newDB(t, map[string]string{
		"waits": `module.exports = async (n, { tools }) => { const v = await tools.gate.pass(n); return [v, await tools.echo.value(n)] }`,
		"odd":   `module.exports = async (n, { tools }) => { try { return await tools.gate.pass('\u0000') } catch (e) { return e.code } }`,
		"long":  `module.exports = async (n, { tools }) => { try { await tools.gate.pass(n) } catch (e) { return e.code } }`,
	})
	g := &gate{open: make(chan struct{})}
	p, _ := d.host(func(c *stack.Config) { c.Services["gate"] = g; c.Grace = time.Minute })
	start := func(task string) uuid.UUID {
		t.Helper()
		r, err := p.Start(t.Context(), stack.StartParams{Task: task, Input: json.RawMessage("1")})
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	var ids []uuid.UUID
	waiting, letGo := d.store.HoldSuspensions()
	for range runs {
		ids = append(ids, start("waits"))
	}
	d.eventually("all have come to their first await", func() bool { return waiting() == runs })
	letGo()
	d.eventually("all are suspended", func() bool {
		return d.count(`select count(*) from stack_runs where status = 'suspended_waiting_child'`) == runs
	})
	if n := d.count(`select count(distinct xmin::text) from stack_runs where status = 'suspended_waiting_child'`); n != 1 {
		t.Errorf("%d suspensions are %d transactions, want 1", runs, n)
	}

	waiting, letGo = d.store.HoldSuspensions()
	stolen, cancelled, odd := start("waits"), start("long"), start("odd")
	for range runs {
		ids = append(ids, start("waits"))
	}
	d.eventually("all others too", func() bool { return waiting() == runs+3 })
	d.exec(`update stack_runs set claimed_by = gen_random_uuid() where child_task_run_id = '` + stolen.String() + `'`)
	if in, err := d.store.Cancel(t.Context(), stack.Host{}, cancelled, time.Minute); err != nil || in.Ended {
		t.Fatalf("cancel: %+v, %v", in, err)
	}
	letGo()
	close(g.open)
	for _, id := range append(ids, stolen) { // which is claimed once more, since its holder is nobody
		wantResult(t, d.wait(p, id), `[1,1]`)
	}
	if r := d.wait(p, cancelled); r.Status != stack.StatusCancelled {
		t.Errorf("a run that was cancelled is %s: %s", r.Status, r.Error)
	}
	wantResult(t, d.wait(p, odd), `"INVALID_ARGUMENT"`)
}

// TestTogetherSettles: what many runs do at once has few transactions, and each reply
// comes to the run that asked for it.
func TestTogetherSettles(t *testing.T) {
	t.Parallel()
	const runs, calls = 24, 20
	d := newDB(t, map[string]string{
		"child": `module.exports = async (n, { tools }) => (await tools.echo.value(n)) + 1`,
		"many": fmt.Sprintf(`module.exports = async (n, { tools }) => {
			let sum = 0;
			for (let i = 0; i < %d; i++) sum += await (i %% 4 ? tools.echo.value(n * 1000 + i) : tools.tasks.execute('child', n));
			return sum }`, calls),
	})
	p, _ := d.host(func(c *stack.Config) { c.Services["echo"] = prompt{} })
	var ids []uuid.UUID
	for n := range runs {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "many", Input: json.RawMessage(fmt.Sprint(n))})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	for n, id := range ids {
		want := 0
		for i := range calls {
			if i%4 == 0 {
				want += n + 1
			} else {
				want += n*1000 + i
			}
		}
		wantResult(t, d.wait(p, id), fmt.Sprint(want))
	}
	slices := d.count(`select sum(sequence)::int from stack_runs`)
	if n := d.count(`select count(distinct xmin::text) from amber.replies where kind = 'request'`); n >= slices {
		t.Errorf("%d suspensions are %d transactions: none is of two", slices, n)
	}
}

// prompt answers at once.
type prompt struct{}

func (prompt) Call(_ context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	return c.Args()[0], nil
}

// TestTogetherBelow: a body that is cancelled by one of its own group, which settles
// the end of its caller, does not go on.
func TestTogetherBelow(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"root":   `module.exports = async (n, { tools }) => { await Promise.all([tools.first.pass(1), tools.tasks.execute('caller')]); await tools.last.pass(1) }`,
		"caller": `module.exports = async (n, { tools }) => { tools.tasks.execute('below'); await tools.second.pass(1) }`,
		"below":  `module.exports = async (n, { tools }) => { await tools.first.pass(1); await tools.tasks.execute('never') }`,
		"never":  `module.exports = async (n, { tools }) => { await tools.last.pass(1) }`,
	})
	gates := map[string]service.Service{}
	for _, name := range []string{"first", "second", "last"} {
		gates[name] = &gate{open: make(chan struct{})}
	}
	p, _ := d.host(func(c *stack.Config) { c.Services = gates })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "root"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("all are asked", func() bool {
		return d.count(`select count(*) from stack_runs where service_name in ('first', 'second')`) == 3
	})
	waiting, letGo := d.store.HoldSuspensions()
	close(gates["second"].(*gate).open) // the caller ends, and is settled by the root's next suspension
	d.eventually("the caller has ended", func() bool { return p.Taken()["frames"] <= 3 })
	close(gates["first"].(*gate).open)
	d.eventually("root and below suspend", func() bool { return waiting() == 2 })
	letGo()
	d.eventually("the root goes on", func() bool { // alone, below may be first: then what it called is cancelled with it
		return d.count(`select count(*) from stack_runs where service_name = 'last' and parent_task_run_id = $1`, r.ID) > 0
	})
	close(gates["last"].(*gate).open)
	d.wait(p, r.ID)
	d.eventually("all that was made is over", func() bool {
		return d.count(`select count(*) from stack_runs where status not in ('completed', 'failed', 'cancelled')`) == 0
	})
	if n := d.count(`select count(*) from amber.snapshots`); n > 0 {
		t.Errorf("%d snapshots are left", n)
	}
	if n := d.count(`select count(*) from task_runs where task_name = 'never' and status <> 'cancelled'`); n > 0 {
		t.Error("what a body called goes on that had been cancelled")
	}
}
