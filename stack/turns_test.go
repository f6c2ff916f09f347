package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// ahead counts what is claimed before a run.
func (d *db) ahead(run uuid.UUID) int {
	d.t.Helper()
	return d.count(`select count(*) from stack_runs r, stack_runs s
		where s.child_task_run_id = $1 and r.status in ('pending', 'pending_resume', 'pending_execution')
			and (-r.priority, r.turn_at, r.created_at) < (-s.priority, s.turn_at, s.created_at)`, run)
}

// TestTurnsOfOneRun: of the calls that one run left to any host, or that slept and are
// due, most are claimed after a run that is started later.
func TestTurnsOfOneRun(t *testing.T) {
	t.Parallel()
	d := newDB(t, fairTasks)
	p, stop := d.host(func(c *stack.Config) { c.Services["counted"], c.Drain = new(counted), -1 })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "delayed", Input: json.RawMessage(`800`)})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("its calls sleep", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 800 })
	stop()
	due := func(run uuid.UUID) {
		t.Helper()
		d.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
		if n, err := d.store.WakeDue(t.Context(), 1000); err != nil || n != 800 {
			t.Fatalf("%d are due, %v", n, err)
		}
		later, err := d.store.Start(t.Context(), stack.Host{}, stack.StartParams{Task: "trivial"}, false)
		if err != nil {
			t.Fatal(err)
		}
		if n := d.ahead(later.TaskRun); n > 400 {
			t.Errorf("%d of 800 calls that were due come before a run that was started then", n)
		}
	}
	due(r.ID)
	d.exec(`delete from task_runs`)

	p, stop = d.host(func(c *stack.Config) { c.Services["counted"], c.MaxBodies, c.Drain = new(counted), 1, -1 })
	if _, err = p.Start(t.Context(), stack.StartParams{Task: "wide", Input: json.RawMessage(`800`)}); err != nil {
		t.Fatal(err)
	}
	d.eventually("its calls wait", func() bool {
		return d.count(`select count(*) from stack_runs where parent_stack_run_id is not null`) >= 800
	})
	stop()
	later, err := d.store.Start(t.Context(), stack.Host{}, stack.StartParams{Task: "trivial"}, false)
	if err != nil {
		t.Fatal(err)
	}
	all := d.count(`select count(*) from stack_runs where status = 'pending' and parent_stack_run_id is not null`)
	if n := d.ahead(later.TaskRun); all < 600 || n > all/2 {
		t.Errorf("%d of %d calls that were left to any host come before a run that was started later", n, all)
	}
}

// TestTurnsOfClaimedCalls: calls that a host claims from the tables take turns with
// those of the run that theirs is nested in.
func TestTurnsOfClaimedCalls(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => await tools.tasks.execute('inner')`,
		"inner": `module.exports = async (i, { tools }) => await tools.gate.pass()`,
	})
	called := make(chan struct{}, 1)
	p, stop := d.host(func(c *stack.Config) {
		c.Drain = -1
		c.Services["gate"] = serviceFunc(func(ctx context.Context, _ service.Call) (json.RawMessage, error) {
			called <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	r, err := p.Start(t.Context(), stack.StartParams{Task: "outer"})
	if err != nil {
		t.Fatal(err)
	}
	<-called
	stop()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	h, err := d.store.Register(t.Context(), stack.Host{Name: "next", Engines: e.Identities()}, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := d.store.Claim(t.Context(), h, stack.ClaimCalls, 10)
	if err != nil || len(claims) != 1 {
		t.Fatalf("%d calls, %v", len(claims), err)
	}
	if err := d.store.Open(t.Context(), h, &claims[0]); err != nil {
		t.Fatal(err)
	}
	if got := claims[0].Call.Root; got != r.ID {
		t.Errorf("the call is one of %v, want %v", got, r.ID)
	}
}

// TestWakingTakesTurns: bodies that compute without end after they woke do not keep
// others from waking.
func TestWakingTakesTurns(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"heavy": `module.exports = async (i, { tools }) => { await tools.sleep(10); for (;;); }`,
		"light": `module.exports = async (i, { tools }) => { await tools.sleep(10); return 'light' }`,
	})
	p, stop := d.host(func(c *stack.Config) { c.Drain = -1 })
	defer stop() // which stops the heavy ones
	for range 2 * stack.Wakers() {
		if _, err := p.Start(t.Context(), stack.StartParams{Task: "heavy"}); err != nil {
			t.Fatal(err)
		}
	}
	d.eventually("they are awake", func() bool {
		return d.count(`select count(*) from stack_runs where service_name = 'sleep' and status = 'completed'`) == 2*stack.Wakers()
	})
	wantResult(t, d.run(p, "light", "null"), `"light"`)
}

// TestFewAreAtHand: however many rows wait, a host claims few that it does not run yet,
// and runs at once what is under suspicion.
func TestFewAreAtHand(t *testing.T) {
	t.Parallel()
	const many = 600
	d := newDB(t, map[string]string{
		"heavy": `module.exports = async () => { for (;;); }`,
		"light": `module.exports = async () => 'light'`,
	})
	for range many {
		d.enqueue("heavy", "null")
	}
	p, stop := d.host(func(c *stack.Config) { c.Drain = -1 })
	defer stop() // which stops the heavy ones
	d.eventually("some are claimed", func() bool { return d.count(`select count(*) from stack_runs where status = 'processing'`) >= 100 })
	time.Sleep(300 * time.Millisecond) // for it to claim more
	running := p.Taken()["frames"]     // counted first: more may begin
	if n := d.count(`select count(*) from stack_runs where status = 'processing'`); n > int(running)+200 || n == many {
		t.Errorf("%d are claimed while %d run", n, running)
	}
	suspect := d.enqueue("light", "null")
	d.exec(`insert into amber.crashes select id, 0, 2 from stack_runs where child_task_run_id = $1`, suspect)
	wantResult(t, d.wait(p, suspect), `"light"`)
	if n := p.Taken()["frames"]; n >= 100 {
		t.Errorf("%d bodies ran before the suspect", n)
	}
}

// TestTimersDueAtOnce: a host that has just started answers all timers that are due
// at the same moment, more than it reads at a time between its sweeps, none early,
// and in the order in which they are due.
func TestTimersDueAtOnce(t *testing.T) {
	t.Parallel()
	const runs, each = 3, 900
	d := newDB(t, map[string]string{"timers": `module.exports = async (n, { tools }) => {
		let first = Infinity, seen = [];
		await Promise.all(Array.from({ length: n }, (_, i) => tools.sleep(3600000).then(() => {
			first = Math.min(first, Date.now() - i % 3);
			seen.push(i % 3);
		})));
		return { first, seen: seen.length, sorted: seen.every((v, i) => i === 0 || seen[i - 1] <= v) } }`})
	p, stop := d.host(nil)
	var ids []uuid.UUID
	for range runs {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "timers", Input: json.RawMessage(fmt.Sprint(each))})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	d.eventually("all sleep", func() bool {
		return d.count(`select count(*) from stack_runs where service_name = 'sleep' and call_id is not null`) == runs*each
	})
	stop()
	at := time.Now().Add(time.Second).UnixMilli()
	d.exec(`update stack_runs s set due_at = to_timestamp(($1::bigint + n % 3)::numeric / 1000) from (
		select id, row_number() over (partition by parent_stack_run_id order by call_id) - 1 as n from stack_runs where status = 'sleeping') t
		where s.id = t.id`, at)
	p, _ = d.host(func(c *stack.Config) { c.Sweep, c.Lease = time.Hour, time.Hour })
	for _, id := range ids {
		r := d.wait(p, id)
		var got struct {
			First  int64
			Seen   int
			Sorted bool
		}
		if err := json.Unmarshal(r.Result, &got); err != nil {
			t.Fatalf("%s: %s", r.Status, r.Error)
		}
		if got.First < at || got.Seen != each || !got.Sorted {
			t.Errorf("%d of %d timers, in order: %v, the first one %d ms late", got.Seen, each, got.Sorted, got.First-at)
		}
	}
}

// TestQueueIsBounded: however fast runs are started, and end, not many more wait than
// may.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	const most = 20
	d := newDB(t, fairTasks)
	p, _ := d.host(func(c *stack.Config) { c.MaxBodies, c.MaxQueued = 12, most })
	var refused, taken atomic.Int64
	var longest []int
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 150 {
				_, err := p.Start(t.Context(), stack.StartParams{Task: "trivial"})
				var full *service.Error
				switch {
				case err == nil:
					taken.Add(1)
				case errors.As(err, &full) && full.Code == stack.CodeQueueFull:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
			longest = append(longest, d.count(`select count(*) from stack_runs where status = 'pending' and parent_stack_run_id is null`))
		}
	}
	if n := slices.Max(longest); n > 2*most {
		t.Errorf("%d runs waited at once; %d may", n, most)
	}
	t.Logf("%d were taken, %d refused; at most %d waited", taken.Load(), refused.Load(), slices.Max(longest))
	d.eventually("all have ended", func() bool {
		return int64(d.count(`select count(*) from task_runs where status = 'completed'`)) == taken.Load()
	})
}
