package stack_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// TestRowsOfOthers: what a client inserts or resets with SQL is picked up.
func TestRowsOfOthers(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"flaky":  `module.exports = async (i, { tools }) => { try { return await tools.echo.value(7) } catch (e) { return e.message } }`,
	})
	// No hint is lost here, so the sweep may be rare: triggers and NOTIFY wake the host.
	p, _ := d.host(func(c *stack.Config) { c.Sweep = 10 * time.Minute })
	d.run(p, "double", `{"n":1}`) // the host is up and listens

	t.Run("pending stack_run of a queued run", func(t *testing.T) {
		d := d.in(t)
		run := uuid.New()
		d.exec(`with r as (insert into task_runs (id, task_name, input) values ($1, 'double', '{"n":4}'))
			insert into stack_runs (parent_task_run_id, service_name, method_name, args) values ($1, 'tasks', 'execute', '["double",{"n":4}]')`, run)
		wantResult(t, d.wait(p, run), `8`)
		if n := d.count(`select count(*) from task_runs where id = $1 or parent_run_id = $1`, run); n != 1 {
			t.Errorf("%d runs, want the one the client inserted", n)
		}
	})
	t.Run("pending call of a service", func(t *testing.T) {
		d := d.in(t)
		id := uuid.New()
		d.exec(`insert into stack_runs (id, service_name, method_name, args) values ($1, 'echo', 'value', '["trigger_test"]')`, id)
		d.eventually("the call is answered", func() bool {
			return d.count(`select count(*) from stack_runs where id = $1 and status = 'completed' and result = '"trigger_test"'`, id) == 1
		})
	})
	t.Run("pending call of an unknown service", func(t *testing.T) {
		d := d.in(t)
		id := uuid.New()
		d.exec(`insert into stack_runs (id, service_name, method_name, args) values ($1, 'test_service', 'echo', '{"not":"an array"}')`, id)
		d.eventually("the call fails with a reason", func() bool {
			return d.count(`select count(*) from stack_runs where id = $1 and status = 'failed' and error->>'code' = 'UNKNOWN_SERVICE'`, id) == 1
		})
	})
	t.Run("a call reset to pending after it failed", func(t *testing.T) {
		d := d.in(t)
		id := uuid.New()
		d.exec(`insert into stack_runs (id, service_name, method_name, args, status) values ($1, 'echo', 'value', '[1]', 'failed')`, id)
		d.exec(`update stack_runs set status = 'pending' where id = $1`, id)
		d.eventually("the call is made again", func() bool {
			return d.count(`select count(*) from stack_runs where id = $1 and status = 'completed' and result = '1'`, id) == 1
		})
	})
}

// TestHandEdits: statuses that somebody sets by hand do not strand a run.
func TestHandEdits(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"sleeper": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`})
	p, _ := d.host(nil)
	start := func() stack.Run {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper"})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the timer sleeps", func() bool {
			return d.count(`select count(*) from stack_runs where status = 'sleeping' and parent_task_run_id = $1`, r.ID) == 1
		})
		return r
	}
	woken := start()
	d.exec(`update stack_runs set status = 'pending' where status = 'sleeping' and parent_task_run_id = $1`, woken.ID)
	wantResult(t, d.wait(p, woken.ID), `{"slept":true,"duration":3600000}`)

	held := start()
	d.exec(`update stack_runs set status = 'processing', updated_at = now() - interval '2 minutes' where child_task_run_id = $1`, held.ID)
	d.eventually("a body that nobody holds is taken up", func() bool {
		return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`, held.ID) == 1
	})

	d.exec(`update stack_runs set status = 'pending' where child_task_run_id = $1`, woken.ID)
	d.eventually("a body of an ended run is parked", func() bool {
		return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and stuck_reason like '%has ended%'`, woken.ID) == 1
	})
	if n := d.count(`select count(*) from task_runs where id = $1 and stuck_reason is not null`, woken.ID); n != 0 {
		t.Error("a completed run is shown as stuck")
	}
}

// TestAnotherKey: a host that lacks a key of this database, or has another one
// under its id, says so and touches nothing; one that has both goes on.
func TestAnotherKey(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"sleeper": `module.exports = async (i, { tools }) => [await tools.sleep(100), 'woke']`})
	p, stop := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("it sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	stop()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	const other = "other:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
	for entry, want := range map[string]string{
		other: `sealed with key "test", which this host does not have`,
		"test:" + strings.TrimPrefix(other, "other:"): `key "test" is not the key of that id`,
	} {
		ring, err := keys.ParseRing(entry)
		if err != nil {
			t.Fatal(err)
		}
		p := stack.NewProcessor(stack.Config{Store: stack.NewStore(d.pool, ring), Engine: e, HostName: "test"})
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	both, err := keys.ParseRing(other + "," + testKey)
	if err != nil {
		t.Fatal(err)
	}
	p, _ = d.host(func(c *stack.Config) { c.Store = stack.NewStore(d.pool, both) })
	wantResult(t, d.wait(p, r.ID), `[{"slept":true,"duration":100},"woke"]`)
	if n := d.count(`select count(*) from task_runs where stuck_reason is not null`); n != 0 {
		t.Error("the run is shown as stuck")
	}
	if n := d.count(`select count(distinct key_id) from amber.replies`); n != 2 {
		t.Errorf("rows are sealed with %d keys, want both", n)
	}
}

func TestQueuedRunWithoutABodyIsAdopted(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"double": `module.exports = async ({ n }) => n * 2`})
	p, _ := d.host(nil)
	run := uuid.New()
	d.exec(`insert into task_runs (id, task_name, input, status) values ($1, 'double', '{"n":5}', 'queued')`, run)
	wantResult(t, d.wait(p, run), `10`)
	later := uuid.New()
	d.exec(`insert into task_runs (id, task_name, input, status, scheduled_for, created_at)
		values ($1, 'double', '{"n":6}', 'queued', now() + interval '1 day', now() - interval '1 hour')`, later)
	missing := uuid.New()
	d.exec(`insert into task_runs (id, task_name, status) values ($1, 'no such task', 'queued')`, missing)
	wantError(t, d.wait(p, missing), service.CodeTaskNotFound)
	if n := d.count(`select count(*) from task_runs where id = $1 and status = 'queued'`, later); n != 1 {
		t.Error("a run that is scheduled for tomorrow did not wait")
	}
	d.exec(`update task_runs set scheduled_for = now() where id = $1`, later)
	wantResult(t, d.wait(p, later), `12`)
}

// TestReplyGivenWithSQL: a waiting body hears of a call that somebody completed
// by hand, and of one that was failed by hand.
func TestReplyGivenWithSQL(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"wait": `module.exports = async (i, { tools }) => { try { return await tools.sleep(3600000) } catch (e) { return 'failed: ' + e.message } }`,
	})
	p, _ := d.host(nil)
	for _, c := range []struct{ set, want string }{
		{`status = 'completed', result = '{"by":"hand"}'`, `{"by":"hand"}`},
		{`status = 'failed', error = '"no more patience"'`, `"failed: no more patience"`},
		{`status = 'failed', error = '{"message":"an object"}'`, `"failed: an object"`},
	} {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "wait"})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the timer sleeps", func() bool {
			return d.count(`select count(*) from stack_runs where status = 'sleeping' and parent_task_run_id = $1`, r.ID) == 1
		})
		d.exec(`update stack_runs set `+c.set+`, ended_at = now() where status = 'sleeping' and parent_task_run_id = $1`, r.ID)
		wantResult(t, d.wait(p, r.ID), c.want)
	}
}

// TestDeletedUnderARun: whoever deletes rows under a run that waits for them
// gets a run that ends or says why it does not.
func TestDeletedUnderARun(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleeper": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`,
		"parent":  `module.exports = async (i, { tools }) => { try { return await tools.tasks.execute('sleeper') } catch (e) { return e.code } }`,
	})
	p, _ := d.host(nil)
	start := func() stack.Run {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "parent"})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the nested run sleeps", func() bool {
			return d.count(`select count(*) from stack_runs s join task_runs t on t.id = s.parent_task_run_id
				where s.status = 'sleeping' and t.parent_run_id = $1`, r.ID) == 1
		})
		return r
	}
	nested := start()
	d.exec(`delete from task_runs where parent_run_id = $1`, nested.ID)
	wantResult(t, d.wait(p, nested.ID), `"RUN_DELETED"`)

	call := start()
	d.exec(`delete from stack_runs where parent_task_run_id = $1 and call_id is not null`, call.ID)
	if n := d.count(`select count(*) from task_runs where id = $1 and stuck_reason like '%was deleted%'`, call.ID); n != 1 {
		t.Errorf("the run does not say why it is stuck\n%s", d.dump())
	}

	body := start()
	d.exec(`delete from stack_runs where child_task_run_id = $1`, body.ID)
	if r := d.wait(p, body.ID); r.Status != stack.StatusFailed || !strings.Contains(string(r.Error), "RUN_DELETED") {
		t.Errorf("a run without its body is %s: %s", r.Status, r.Error)
	}
	if n := d.count(`select count(*) from task_runs where parent_run_id = $1 and status <> 'failed'`, body.ID); n != 0 {
		t.Errorf("%d nested runs of a deleted body have not failed\n%s", n, d.dump())
	}

	whole := start()
	d.exec(`delete from task_runs where id = $1`, whole.ID)
	if n := d.count(`select count(*) from stack_runs where parent_task_run_id = $1`, whole.ID); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// TestTimersInOrder: timers that are all overdue, because no host was there,
// are answered in the order in which they were due, and once: though the sweep
// reads some of them again before their ends are committed.
func TestTimersInOrder(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"timers": `module.exports = async (i, { tools }) => {
		const seen = [];
		for (const h of [40, 10, 30, 20]) setTimeout(() => seen.push(h), h * 3600000);
		await tools.sleep(50 * 3600000); return seen }`})
	for range 5 { // who comes first is a matter of luck where order is not kept
		ids := []uuid.UUID{}
		p, stop := d.host(nil)
		for range 5 {
			r, err := p.Start(t.Context(), stack.StartParams{Task: "timers"})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
			d.stackRun(bodyOf, r.ID)
		}
		stop()
		d.exec(`update stack_runs set due_at = due_at - interval '60 hours' where status = 'sleeping'`)
		p, stop = d.host(func(c *stack.Config) { c.Sweep, c.Lease = time.Millisecond, time.Hour })
		for _, id := range ids {
			wantResult(t, d.wait(p, id), `[10,20,30,40]`)
		}
		stop()
	}
}
