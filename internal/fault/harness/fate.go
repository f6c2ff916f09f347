package harness

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/internal/fault/trees"
	"github.com/amberhost/amber/stack"
)

// fate is what is done to the root run of a tree besides faults.
type fate struct {
	hangs   bool              // it does not end by itself
	params  stack.StartParams // when it begins, and how long it may take
	cancel  bool
	after   time.Duration // its start
	again   time.Duration // after which it is cancelled once more; 0: it is not
	settled bool          // it was cancelled, and told that it will end so
}

// fateOf is the fate of a seed's tree: most have none.
func fateOf(seed uint64) (f fate) {
	r := rand.New(rand.NewPCG(seed, 3))
	up := func(most time.Duration) time.Duration { return 1 + time.Duration(r.Int64N(int64(most))) }
	switch n := r.IntN(100); {
	case n < 14:
		f.cancel, f.hangs, f.after = true, n < 9, up(1500*time.Millisecond)
		if r.IntN(3) == 0 {
			f.again = up(300 * time.Millisecond)
		}
	case n < 20:
		f.hangs, f.params.Timeout = n < 17, up(2*time.Second)
	case n < 25:
		f.params.Delay = up(time.Second)
	case n < 30:
		f.params.At = time.Now().Add(up(2 * time.Second))
	}
	if f.cancel && r.IntN(4) == 0 { // often before it begins
		f.params.Delay = up(1500 * time.Millisecond)
	}
	if r.IntN(5) == 0 {
		f.params.Priority = r.IntN(7) - 3
	}
	return f
}

// special reports whether the run is started with more than its task and input.
func (f fate) special() bool {
	return f.params.Timeout > 0 || f.params.Delay > 0 || !f.params.At.IsZero() || f.params.Priority != 0
}

// newRoot is the tree of a seed and its run, which has yet to be started.
func newRoot(seed uint64) root {
	f := fateOf(seed)
	return root{tree: trees.Generate(seed, trees.Options{Hangs: f.hangs}), run: uuid.New(), fate: f}
}

// grace is how long bodies that are interrupted may take to tidy up.
const grace = Lease

// interrupt cancels the run, if that is its fate.
func (p *play) interrupt(ctx context.Context, r *root) {
	if !r.fate.cancel {
		return
	}
	pause(ctx, r.fate.after)
	r.fate.settled = p.cancel(ctx, r.run)
	if r.fate.again > 0 {
		pause(ctx, r.fate.again)
		p.cancel(ctx, r.run)
	}
}

// cancel has a run be cancelled, by a client of a host or with the store, as often as
// it takes to be sure that it was. It reports whether it is to end as cancelled: it had
// not ended, and was not about to end for another reason.
func (p *play) cancel(ctx context.Context, run uuid.UUID) (settled bool) {
	byClient := p.rand.IntN(2) == 0
	for try := 0; ctx.Err() == nil; try++ {
		if byClient && try < 10 {
			if err := p.ask(ctx, http.MethodPost, "/functions/v1/tasks/cancel", map[string]any{"id": run}, ""); err == nil {
				r, err := p.store.Run(ctx, run)
				return err == nil && !r.Ended()
			}
		} else if in, err := p.store.Cancel(ctx, stack.Host{}, run, grace); err == nil {
			return !in.Ended
		}
		pause(ctx, 100*time.Millisecond)
	}
	return false
}

// cancelBelow cancels a run below some root, alone, if there is one that goes on.
func (p *play) cancelBelow(ctx context.Context) {
	var run uuid.UUID
	var tree, path string
	err := p.database.pool.QueryRow(ctx, `
		select t.id, t.input->>'tree', t.input->>'path' from public.task_runs t join public.stack_runs s on s.child_task_run_id = t.id
		where t.task_name = $1 and s.parent_stack_run_id is not null and s.status not in ('completed', 'failed', 'cancelled')
		order by random() limit 1`, trees.TaskName).Scan(&run, &tree, &path)
	if err != nil {
		return // there is none
	}
	p.mu.Lock()
	if p.below[tree] == nil {
		p.below[tree] = map[string]bool{}
	}
	p.below[tree][path] = true // asked for in vain, perhaps: then nothing comes of it
	p.mu.Unlock()
	p.cancel(ctx, run)
}

// cancelUnbegun inserts a run alone, for much later, and cancels it: nobody has made
// a body for it yet.
func (p *play) cancelUnbegun(ctx context.Context) {
	run := uuid.New()
	_, err := p.database.pool.Exec(ctx, `
		insert into public.task_runs (id, task_name, input, status, scheduled_for) values ($1, 'fault-leaf', '1', 'queued', now() + interval '1 hour')`, run)
	if err == nil {
		p.cancel(ctx, run) // if not, all does not come to rest
	}
}
