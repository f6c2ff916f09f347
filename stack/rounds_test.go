package stack_test

import (
	"testing"

	"github.com/amberhost/amber/stack"
)

// TestAdoptComesRound: a run without a body is found behind any number of queued
// runs that have one, and so is one that was inserted when the search had passed it.
func TestAdoptComesRound(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"adds": adds})
	for range 35 {
		d.enqueue("adds", `{"n":1}`)
	}
	adopted := func() int {
		d.t.Helper()
		n, err := d.store.Adopt(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, created := range []string{"now() - interval '2 seconds'", "now() - interval '1 day'"} {
		d.exec(`update task_runs set created_at = now() - interval '1 minute'`)
		d.exec(`insert into task_runs (task_name, input, status, created_at) values ('adds', '{"n":1}', 'queued', ` + created + `)`)
		n, calls := 0, 0
		for ; n == 0 && calls < 8; calls++ {
			n = adopted()
		}
		if n != 1 {
			t.Errorf("%d runs were adopted in %d calls, want the one without a body", n, calls)
		}
	}
	if n := d.count(`select count(*) from task_runs where status = 'processing'`); n != 2 {
		t.Errorf("%d runs were given a body, want 2", n)
	}
}

// TestAdoptWaitsForItsTime: what is scheduled for later is adopted then.
func TestAdoptWaitsForItsTime(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"adds": adds})
	d.exec(`insert into task_runs (task_name, status, created_at, scheduled_for)
		select 'adds', 'queued', now() - interval '1 day', now() + n * interval '1 hour' from generate_series(-2, 30) n where n <> 0`)
	n, err := d.store.Adopt(t.Context(), 10)
	if err != nil || n != 2 {
		t.Errorf("%d runs were adopted (%v), want those 2 whose time has come", n, err)
	}
	if n := d.count(`select count(*) from task_runs where status = 'processing' and scheduled_for < now()`); n != 2 {
		t.Errorf("%d of them are those whose time has come", n)
	}
}

// TestReapComesRound: a body that waits although its call has ended is found behind
// any number of bodies that were woken and cannot go on.
func TestReapComesRound(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	const body = `insert into stack_runs (id, service_name, method_name, status, stuck_reason)
		select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'tasks', 'execute', `
	d.exec(body + `'pending_resume', 'no engine' from generate_series(1, 1100) n`)
	d.exec(body + `'suspended_waiting_child', null from generate_series(1101, 1101) n`)
	d.exec(`insert into stack_runs (parent_stack_run_id, service_name, method_name, status, call_id, updated_at)
		select id, 'echo', 'value', 'completed', 1, now() - interval '1 minute' from stack_runs`)
	woken, calls := 0, 0
	for ; woken == 0 && calls < 10; calls++ {
		n, _, err := d.store.Reap(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		woken += n
	}
	if woken != 1 || calls == 1 {
		t.Errorf("%d bodies were woken by %d calls, want 1 by several", woken, calls)
	}
	if n := d.count(`select count(*) from stack_runs where status = 'pending_resume' and stuck_reason is null`); n != 1 {
		t.Errorf("%d bodies may go on, want 1", n)
	}
}

// TestRegisterFreesAllItCanRun: what is parked goes on when a host starts that has
// its engine, however much it is; the rest stays as it is.
func TestRegisterFreesAllItCanRun(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	d.exec(`insert into stack_runs (service_name, method_name, status, engine, stuck_reason)
		select 'tasks', 'execute', 'pending', e, 'parked' from generate_series(1, 1500), unnest(array[null, 'one', 'two']) e`)
	stuck := func() int { return d.count(`select count(*) from stack_runs where stuck_reason is not null`) }
	for _, c := range []struct {
		engine string
		want   int
	}{{"three", 3000}, {"two", 1500}, {"one", 0}} {
		if _, err := d.store.Register(t.Context(), stack.Host{Name: "host", Engines: []string{c.engine}}, 1e12, false); err != nil {
			t.Fatal(err)
		}
		if n := stuck(); n != c.want {
			t.Errorf("when a host with engine %s has started, %d rows are parked, want %d", c.engine, n, c.want)
		}
	}
}
