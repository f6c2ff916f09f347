package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// counted answers after a millisecond, and counts.
type counted struct{ calls atomic.Int64 }

func (c *counted) Call(ctx context.Context, _ service.Call, _ service.Meta) (json.RawMessage, error) {
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
	}
	c.calls.Add(1)
	return json.RawMessage(`1`), nil
}

var fairTasks = map[string]string{
	"wide":    `module.exports = async (n, { tools }) => (await Promise.all(Array.from({ length: n }, () => tools.tasks.execute('leaf')))).length`,
	"delayed": `module.exports = async (n, { tools }) => (await Promise.all(Array.from({ length: n }, () => tools.with({ delay: 3000 }).tasks.execute('leaf')))).length`,
	"calls":   `module.exports = async (n, { tools }) => (await Promise.all(Array.from({ length: n }, () => tools.counted.go()))).length`,
	"leaf":    `module.exports = async (i, { tools }) => await tools.counted.go()`,
	"trivial": `module.exports = async (i, { tools }) => await tools.echo.value(i)`,
}

// TestFair: a run with thousands of calls does not hold up others, which are started
// while it is at work, wherever they run.
func TestFair(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		task  string
		n     string
		hosts int
	}{{"wide", "800", 1}, {"wide", "800", 2}, {"calls", "800", 1}, {"calls", "800", 2}, {"delayed", "800", 1}} {
		t.Run(c.task, func(t *testing.T) {
			t.Parallel()
			d := newDB(t, fairTasks)
			s := new(counted)
			var p *stack.Processor
			for range c.hosts {
				p, _ = d.host(func(cfg *stack.Config) {
					cfg.Services["counted"], cfg.MaxBodies, cfg.MaxCalls = s, 100, 8
				})
			}
			wide, err := p.Start(t.Context(), stack.StartParams{Task: c.task, Input: json.RawMessage(c.n)})
			if err != nil {
				t.Fatal(err)
			}
			d.eventually("it is at work", func() bool { return s.calls.Load() > 50 })
			var took []int64
			for i := 0; s.calls.Load() < 600 && i < 12; i++ {
				before := s.calls.Load()
				wantResult(t, d.run(p, "trivial", "7"), `7`)
				took = append(took, s.calls.Load()-before)
			}
			slices.Sort(took)
			if len(took) < 5 || took[len(took)/2] > 200 {
				t.Errorf("meanwhile %d others ended; calls of the wide one during each: %d", len(took), took)
			}
			t.Logf("%d others; calls of the wide one during the median one: %d, the slowest: %d", len(took), took[len(took)/2], took[len(took)-1])
			wantResult(t, d.wait(p, wide.ID), c.n)
		})
	}
}

// TestPriority: of what waits, higher priorities come first, and what they call has theirs.
func TestPriority(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => await tools.tasks.execute('inner', i)`,
		"inner": `module.exports = async (i, { tools }) => i`,
	})
	var order []uuid.UUID
	for _, priority := range []int{0, -5, 9, 3} {
		b, err := d.store.Start(t.Context(), stack.Host{}, stack.StartParams{Task: "outer", Priority: priority}, false)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, b.TaskRun)
	}
	p, _ := d.host(func(c *stack.Config) { c.MaxBodies = 1 })
	for _, id := range order {
		d.wait(p, id)
	}
	rows, err := d.pool.Query(t.Context(), `select priority from stack_runs where parent_stack_run_id is null order by started_at`)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for rows.Next() {
		var n int
		_ = rows.Scan(&n)
		got = append(got, n)
	}
	if want := []int{9, 3, 0, -5}; !slices.Equal(got, want) {
		t.Errorf("they began in the order %v, want %v", got, want)
	}
	if n := d.count(`select count(*) from stack_runs c join stack_runs p on p.id = c.parent_stack_run_id where c.priority = p.priority`); n != 4 {
		t.Errorf("%d of 4 nested tasks have the priority of their caller", n)
	}
}

// TestQueueFull: beyond so many runs that wait another is refused, and nothing is
// written; what is there under its key is found; when there is room again it is taken.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"gate": `module.exports = async (i, { tools }) => { const t = Date.now(); while (Date.now() < t + 300); return 1 }`,
	})
	p, _ := d.host(func(c *stack.Config) { c.MaxBodies, c.MaxQueued = 1, 3 })
	key := stack.StartParams{Task: "gate", IdempotencyKey: uuid.NewString()}
	first, err := p.Start(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var full *service.Error
	taken := 1
	for ; taken < 20; taken++ {
		if _, err = p.Start(t.Context(), stack.StartParams{Task: "gate"}); err != nil {
			break
		}
	}
	if !errors.As(err, &full) || full.Code != stack.CodeQueueFull || full.Status != 429 || full.RetryAfter <= 0 {
		t.Fatalf("after %d runs: %v", taken, err)
	}
	if taken < 4 {
		t.Errorf("%d runs are refused, the first one included", taken)
	}
	if again, err := p.Start(t.Context(), key); err != nil || again.ID != first.ID {
		t.Errorf("under its key: %v %v", again.ID, err)
	}
	if n := d.count(`select count(*) from task_runs`); n != taken {
		t.Errorf("%d runs, want %d", n, taken)
	}
	later, err := p.Start(t.Context(), stack.StartParams{Task: "gate", Delay: time.Millisecond})
	if err != nil {
		t.Errorf("one that begins later: %v", err)
	}
	d.wait(p, later.ID)
	d.eventually("there is room again", func() bool {
		_, err := p.Start(t.Context(), stack.StartParams{Task: "gate"})
		return err == nil
	})
}
