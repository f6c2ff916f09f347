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
