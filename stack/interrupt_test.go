package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// cancelTasks tidy up when they are cancelled, and say so.
var cancelTasks = map[string]string{
	"sleeper": `module.exports = async (i, { tools }) => {
		try { await tools.sleep(3600000); return 'slept' }
		catch (e) { console.log('caught ' + e.name + ' ' + (e instanceof (e.name === 'TimeoutError' ? TimeoutError : CancelledError))); await tools.echo.value('tidy'); return 'tidied' }
		finally { console.log('finally') } }`,
	"gate":    `module.exports = async (i, { tools }) => { try { return await tools.gate.pass(1) } catch (e) { console.log('caught ' + e.name); throw e } }`,
	"spin":    `module.exports = async (i, { tools }) => { const t = Date.now(); while (Date.now() < t + 1200); return await tools.echo.value('went on') }`,
	"returns": `module.exports = async (i, { tools }) => { const t = Date.now(); while (Date.now() < t + 1200); return 'all the same' }`,
	"outer": `module.exports = async (i, { tools }) => {
		try { return await Promise.all([tools.tasks.execute('sleeper'), tools.sleep(3600000)]) }
		catch (e) { console.log('outer caught ' + e.name); await tools.sleep(1); throw e } }`,
	"flaky":    `module.exports = async (i, { tools }) => { try { return await tools.with({ retries: 9, backoff: 3600000 }).flaky.go() } catch (e) { console.log('caught ' + e.name); throw e } }`,
	"stubborn": `module.exports = async (i, { tools }) => { for (;;) { try { await tools.sleep(3600000) } catch (e) { console.log('caught ' + e.name) } } }`,
}

// interruptible are points of a run's life, and what it logs when it is interrupted there.
var interruptible = []struct {
	name, task string
	params     stack.StartParams
	ready      string // finds a row when the run is there
	logs       string // CLASS is that of the error
}{
	{"before it begins", "sleeper", stack.StartParams{Delay: time.Hour}, `select id from stack_runs where child_task_run_id = $1 and status = 'sleeping'`, `[]`},
	{"waiting on a timer", "sleeper", stack.StartParams{}, itWaits, `["caught CLASS true", "finally"]`},
	{"waiting on a call", "gate", stack.StartParams{}, itWaits, `["caught CLASS"]`},
	{"between tries", "flaky", stack.StartParams{}, `select id from stack_runs where parent_task_run_id = $1 and service_name = 'flaky' and status = 'sleeping'`, `["caught CLASS"]`},
	{"running", "spin", stack.StartParams{}, `select id from stack_runs where child_task_run_id = $1 and status = 'processing'`, `[]`},
	{"about to return", "returns", stack.StartParams{}, `select id from stack_runs where child_task_run_id = $1 and status = 'processing'`, `[]`},
	{"waiting on children", "outer", stack.StartParams{},
		`select c.id from stack_runs b join stack_runs c on c.parent_stack_run_id = b.id where b.parent_task_run_id = $1 and b.call_id is not null and c.status = 'sleeping'`,
		`["caught CLASS true", "finally", "outer caught CLASS"]`},
}

const itWaits = `select id from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`

// TestCancel: a run that is cancelled at any point of its life sees it at its open
// awaits, has time to tidy up, and ends as cancelled whatever it makes of it.
func TestCancel(t *testing.T) {
	t.Parallel()
	d, p := interrupting(t)
	d.interruptEverywhere(p, "CancelledError", func(d *db, run uuid.UUID) stack.Run {
		if _, err := p.Cancel(d.t.Context(), run); err != nil {
			d.t.Fatal(err)
		}
		r := d.wait(p, run)
		var e service.Error
		if r.Status != stack.StatusCancelled || json.Unmarshal(r.Error, &e) != nil || e.Name != "CancelledError" || e.Code != service.CodeCancelled {
			d.t.Errorf("the run is %s: %s %s", r.Status, r.Error, r.Result)
		}
		return r
	})
	if n := d.count(`select count(*) from task_runs where status <> 'cancelled'`); n != 0 {
		t.Errorf("%d runs are not cancelled", n)
	}
	if n := d.count(`select count(*) from amber.snapshots`); n != 0 {
		t.Errorf("%d snapshots left", n)
	}
	if _, err := p.Cancel(t.Context(), uuid.New()); err != stack.ErrRunNotFound {
		t.Errorf("no run: %v", err)
	}
}

// TestRunTimeoutAnywhere: the same of a run whose time is over, which has failed.
func TestRunTimeoutAnywhere(t *testing.T) {
	t.Parallel()
	d, p := interrupting(t)
	d.interruptEverywhere(p, "TimeoutError", func(d *db, run uuid.UUID) stack.Run {
		d.exec(`update stack_runs set deadline_at = now() where child_task_run_id = $1`, run)
		r := d.wait(p, run)
		if e := wantError(d.t, r, service.CodeTimeout); e.Name != "TimeoutError" {
			d.t.Errorf("the run failed with %+v", e)
		}
		return r
	})
	if n := d.count(`select count(*) from task_runs where status <> 'failed'`); n != 0 {
		t.Errorf("%d runs have not failed", n)
	}
	if n := d.count(`select (select count(*) from task_runs where cancel_requested_at is not null) + (select count(*) from stack_runs where cancel_requested_at is not null)`); n != 0 {
		t.Errorf("%d rows say that somebody cancelled them", n)
	}
}

// interrupting has a host for runs that are interrupted, at services that are slow or fail.
func interrupting(t *testing.T) (*db, *stack.Processor) {
	d := newDB(t, cancelTasks)
	g := &gate{open: make(chan struct{})}
	f := &flaky{errs: []error{&service.Error{Message: "down", Status: 500}}, policy: quick}
	p, _ := d.host(func(c *stack.Config) {
		c.Sweep = 50 * time.Millisecond
		c.Services["gate"], c.Services["flaky"] = g, f
	})
	return d, p
}

// interruptEverywhere interrupts a run at each point of its life. A cancel after that
// changes nothing, and nothing is left.
func (d *db) interruptEverywhere(p *stack.Processor, class string, interrupt func(*db, uuid.UUID) stack.Run) {
	t := d.t.(*testing.T)
	for _, c := range interruptible {
		t.Run(c.name, func(t *testing.T) {
			d := d.in(t)
			c.params.Task = c.task
			r, err := p.Start(t.Context(), c.params)
			if err != nil {
				t.Fatal(err)
			}
			d.stackRun(c.ready, r.ID)
			r = interrupt(d, r.ID)
			var logs string
			if err := d.pool.QueryRow(t.Context(), `with recursive runs as (select $1::uuid as id union all select t.id from task_runs t join runs r on t.parent_run_id = r.id)
				select coalesce(jsonb_agg(message order by l.id), '[]') from amber.logs l where task_run_id in (select id from runs) and message ~ '^(outer )?caught|^finally'`, r.ID).Scan(&logs); err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(c.logs, "CLASS", class); logs != want {
				t.Errorf("logs %s, want %s", logs, want)
			}
			if again, err := p.Cancel(t.Context(), r.ID); err != nil || again.Status != r.Status || !again.EndedAt.Equal(*r.EndedAt) {
				t.Errorf("cancelled after that: %v %v", again, err)
			}
		})
	}
	if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'failed', 'cancelled')`); n != 0 {
		t.Errorf("%d rows left:\n%s", n, d.dump())
	}
}

// TestLooksCancelled: a run that nobody cancelled is not cancelled, whatever it throws.
func TestLooksCancelled(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"own":     `module.exports = async () => { throw Object.assign(new Error('the order is off'), { code: 'CANCELLED' }) }`,
		"class":   `module.exports = async () => { throw new CancelledError('of my own') }`,
		"sleeper": cancelTasks["sleeper"],
		"caller":  `module.exports = async (i, { tools }) => await tools.tasks.execute('sleeper')`,
	})
	p, _ := d.host(nil)
	wantError(t, d.run(p, "own", "null"), service.CodeCancelled)
	wantError(t, d.run(p, "class", "null"), "")
	r, err := p.Start(t.Context(), stack.StartParams{Task: "caller"})
	if err != nil {
		t.Fatal(err)
	}
	const nested = `select c.child_task_run_id from stack_runs b join stack_runs c on c.parent_stack_run_id = b.id
		where b.parent_task_run_id = $1 and c.status = 'suspended_waiting_child'`
	child := d.stackRun(nested, r.ID)
	if _, err := p.Cancel(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	if e := wantError(t, d.wait(p, r.ID), service.CodeCancelled); e.Name != "CancelledError" {
		t.Errorf("the caller failed with %+v", e)
	}
	if r := d.wait(p, child); r.Status != stack.StatusCancelled {
		t.Errorf("what was cancelled is %s", r.Status)
	}
}

// TestCancelTwice: a second cancel ends a run that takes its time to tidy up, and so
// does the end of that time.
func TestCancelTwice(t *testing.T) {
	t.Parallel()
	d := newDB(t, cancelTasks)
	for _, grace := range []time.Duration{time.Hour, 200 * time.Millisecond} {
		t.Run(grace.String(), func(t *testing.T) {
			d := d.in(t)
			p, stop := d.host(func(c *stack.Config) { c.Grace = grace })
			defer stop()
			r, err := p.Start(t.Context(), stack.StartParams{Task: "stubborn"})
			if err != nil {
				t.Fatal(err)
			}
			d.stackRun(bodyOf, r.ID)
			if r, err = p.Cancel(t.Context(), r.ID); err != nil || r.Ended() {
				t.Fatalf("%v %v", r.Status, err)
			}
			if grace == time.Hour {
				d.stackRun(`select id from stack_runs where parent_task_run_id = $1 and call_id = 2 and status = 'sleeping'`, r.ID) // it goes on
				if r, err = p.Cancel(t.Context(), r.ID); err != nil || !r.Ended() {
					t.Fatalf("%v %v", r.Status, err)
				}
			}
			if r = d.wait(p, r.ID); r.Status != stack.StatusCancelled {
				t.Errorf("the run is %s: %s", r.Status, r.Error)
			}
			if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'failed', 'cancelled')`); n != 0 {
				t.Errorf("%d rows left:\n%s", n, d.dump())
			}
		})
	}
}

// TestRunTimeout: a run that takes longer than it may fails with a TimeoutError, which
// its awaits see, and what it called does too.
func TestRunTimeout(t *testing.T) {
	t.Parallel()
	d := newDB(t, cancelTasks)
	p, _ := d.host(nil)
	for task, lines := range map[string]int{"sleeper": 2, "outer": 3} {
		r, err := p.Start(t.Context(), stack.StartParams{Task: task, Timeout: 1500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, d.wait(p, r.ID), service.CodeTimeout)
		if n := d.count(`with recursive runs as (select $1::uuid as id union all select t.id from task_runs t join runs r on t.parent_run_id = r.id)
			select count(*) from amber.logs where task_run_id in (select id from runs) and (message ~ 'caught TimeoutError' or message = 'finally')`, r.ID); n != lines {
			t.Errorf("%s: %d lines, want %d", task, n, lines)
		}
		if n := d.count(`select count(*) from task_runs where id = $1 and deadline_at is not null`, r.ID); n != 1 {
			t.Error("the run does not tell its deadline")
		}
	}
}

// TestStartLater: a run begins when it is told to, and not before.
func TestStartLater(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"now": `module.exports = async (i, { tools }) => 'now'`,
		"later": `module.exports = async (i, { tools }) => {
			const t = Date.now();
			const a = await tools.with({ delay: 120 }).tasks.execute('now'), b = await tools.with({ scheduledFor: new Date(t + 300).toISOString() }).tasks.execute('now');
			return [a, b, Date.now() - t >= 300] }`,
	})
	p, _ := d.host(nil)
	for _, params := range []stack.StartParams{{Delay: 200 * time.Millisecond}, {At: time.Now().Add(200 * time.Millisecond)}} {
		params.Task = "now"
		r, err := p.Start(t.Context(), params)
		if err != nil || r.Status != stack.StatusQueued {
			t.Fatalf("%v %v", r.Status, err)
		}
		wantResult(t, d.wait(p, r.ID), `"now"`)
	}
	wantResult(t, d.run(p, "later", "null"), `["now", "now", true]`)
	if n := d.count(`select count(*) from task_runs where scheduled_for is not null and started_at < scheduled_for`); n != 0 {
		t.Errorf("%d runs began early", n)
	}
	if n := d.count(`select count(*) from task_runs where scheduled_for is not null`); n != 4 {
		t.Errorf("%d runs tell when they were to begin, want 4", n)
	}
	for _, bad := range []stack.StartParams{{Delay: -1}, {Delay: 1, At: time.Now()}, {Timeout: -1}, {Priority: 5000}, {At: time.Now().AddDate(20, 0, 0)}} {
		bad.Task = "now"
		if _, err := p.Start(t.Context(), bad); err == nil {
			t.Errorf("%s is taken", fmt.Sprint(bad))
		}
	}
}

// listening waits for its context to end, and counts.
type listening struct{ ended atomic.Int64 }

func (l *listening) Call(ctx context.Context, _ service.Call, _ service.Meta) (json.RawMessage, error) {
	<-ctx.Done()
	l.ended.Add(1)
	return nil, context.Cause(ctx)
}

// TestServiceHearsOfCancel: a service that is at work for a run which was cancelled
// is told so, and gives its place to others.
func TestServiceHearsOfCancel(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => await tools.listening.go()`})
	l := new(listening)
	p, _ := d.host(func(c *stack.Config) { c.Services["listening"], c.Lease = l, 300*time.Millisecond })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "t"})
	if err != nil {
		t.Fatal(err)
	}
	d.stackRun(bodyOf, r.ID)
	if _, err := p.Cancel(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	if r := d.wait(p, r.ID); r.Status != stack.StatusCancelled {
		t.Errorf("the run is %s", r.Status)
	}
	d.eventually("the service is told", func() bool { return l.ended.Load() == 1 })
}

// TestLastBelow: a body that is to end goes on when all those below it have ended, and
// not when the first of them has.
func TestLastBelow(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => {
			try { return await Promise.all([tools.tasks.execute('quick'), tools.tasks.execute('slow')]) }
			catch (e) { console.log('outer caught ' + e.name); if (i) await tools.sleep(1); throw e } }`,
		"quick": `module.exports = async (i, { tools }) => { try { await tools.sleep(3600000) } finally { console.log('quick is done') } }`,
		"slow":  `module.exports = async (i, { tools }) => { try { await tools.sleep(3600000) } finally { await tools.gate.pass(1); console.log('slow is done') } }`,
	})
	for _, input := range []string{"0", "1"} { // it ends at once, or waits once more
		g := &gate{open: make(chan struct{})}
		p, stop := d.host(func(c *stack.Config) { c.Services["gate"], c.Grace = g, time.Hour })
		r, err := p.Start(t.Context(), stack.StartParams{Task: "outer", Input: json.RawMessage(input)})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("both wait", func() bool {
			return d.count(`select count(*) from stack_runs s join task_runs t on t.id = s.parent_task_run_id where t.parent_run_id = $1 and s.status = 'sleeping'`, r.ID) == 2
		})
		if _, err := p.Cancel(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		d.eventually("the one has ended, and the other tidies up", func() bool {
			return d.count(`select (select count(*) from task_runs where parent_run_id = $1 and task_name = 'quick' and status = 'cancelled')
				+ (select count(*) from stack_runs s join task_runs t on t.id = s.parent_task_run_id where t.parent_run_id = $1 and s.service_name = 'gate' and s.status = 'processing')`, r.ID) == 2
		})
		close(g.open)
		if r = d.wait(p, r.ID); r.Status != stack.StatusCancelled {
			t.Errorf("the run is %s", r.Status)
		}
		var logs string
		if err := d.pool.QueryRow(t.Context(), `select jsonb_agg(message order by l.id) from amber.logs l join task_runs t on t.id = l.task_run_id
			where (t.id = $1 or t.parent_run_id = $1) and message ~ 'is done$|caught'`, r.ID).Scan(&logs); err != nil {
			t.Fatal(err)
		}
		if want := `["quick is done", "slow is done", "outer caught CancelledError"]`; logs != want {
			t.Errorf("with %s: logs %s, want %s", input, logs, want)
		}
		stop()
	}
}

// TestLastBelowClaimed: the same of a body that any host might resume when it was to
// end: it is claimed when all those below it have ended.
func TestLastBelowClaimed(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => { try { return await Promise.all([tools.tasks.execute('slow'), tools.sleep(3600000)]) } finally { console.log('outer is done') } }`,
		"slow":  `module.exports = async (i, { tools }) => { try { await tools.sleep(3600000) } finally { await tools.gate.pass(1); console.log('slow is done') } }`,
	})
	p, stop := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "outer"})
	if err != nil {
		t.Fatal(err)
	}
	d.stackRun(`select s.id from stack_runs s join task_runs t on t.id = s.parent_task_run_id where t.parent_run_id = $1 and s.status = 'sleeping'`, r.ID)
	stop()
	d.exec(`update stack_runs set status = 'pending_resume' where child_task_run_id = $1`, r.ID)
	if _, err := d.store.Cancel(t.Context(), stack.Host{}, r.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	g := &gate{open: make(chan struct{})}
	p, _ = d.host(func(c *stack.Config) { c.Services["gate"], c.Sweep = g, 50*time.Millisecond })
	d.stackRun(`select s.id from stack_runs s join task_runs t on t.id = s.parent_task_run_id where t.parent_run_id = $1 and s.service_name = 'gate' and s.status = 'processing'`, r.ID)
	close(g.open)
	if r = d.wait(p, r.ID); r.Status != stack.StatusCancelled {
		t.Errorf("the run is %s", r.Status)
	}
	var logs string
	if err := d.pool.QueryRow(t.Context(), `select jsonb_agg(message order by l.id) from amber.logs l join task_runs t on t.id = l.task_run_id
		where (t.id = $1 or t.parent_run_id = $1) and message ~ 'is done$'`, r.ID).Scan(&logs); err != nil {
		t.Fatal(err)
	}
	if want := `["slow is done", "outer is done"]`; logs != want {
		t.Errorf("logs %s, want %s", logs, want)
	}
}

// TestInterruptedOnce: a body that tidies up since its own time is over goes on to do
// so when its caller is to end too.
func TestInterruptedOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => {
			try { return await tools.with({ timeout: 1 + i }).tasks.execute('inner') } catch (e) { console.log('outer caught ' + e.name); throw e } }`,
		"inner": `module.exports = async (i, { tools }) => {
			try { await tools.sleep(3600000) } finally { console.log('tidied up: ' + await tools.gate.pass('all of it')) } }`,
	})
	for name, end := range map[string]func(*stack.Processor, stack.Run){
		"timeout": func(*stack.Processor, stack.Run) {},
		"cancel": func(p *stack.Processor, r stack.Run) {
			if _, err := p.Cancel(t.Context(), r.ID); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := d.in(t)
			g := &gate{open: make(chan struct{})}
			p, stop := d.host(func(c *stack.Config) { c.Services["gate"], c.Grace = g, time.Hour })
			defer stop()
			params := stack.StartParams{Task: "outer", Input: json.RawMessage("150")}
			if name == "timeout" {
				params.Timeout = 600 * time.Millisecond
			}
			r, err := p.Start(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			d.stackRun(`select s.id from stack_runs s join task_runs t on t.id = s.parent_task_run_id where t.parent_run_id = $1 and s.service_name = 'gate'`, r.ID)
			end(p, r)
			d.stackRun(`select id from stack_runs where child_task_run_id = $1 and interrupt is not null`, r.ID)
			close(g.open)
			if r = d.wait(p, r.ID); r.Status == stack.StatusCompleted {
				t.Errorf("the run is %s", r.Status)
			}
			if n := d.count(`select count(*) from amber.logs l join task_runs t on t.id = l.task_run_id where t.parent_run_id = $1 and l.message = 'tidied up: all of it'`, r.ID); n != 1 {
				t.Errorf("the body below was interrupted once more:\n%s", d.dump())
			}
		})
	}
}
