package stack_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// TestCancelBesideCommits: what is committed below a body while that ends stays
// as it is if it has ended, and is cancelled if it has not, calls that are just
// being made included.
func TestCancelBesideCommits(t *testing.T) {
	t.Parallel()
	d, _, host := newPair(t)
	for name, beside := range map[string]struct{ sql, want string }{
		"a call ends": {`update stack_runs set status = 'completed', result = '1', ended_at = now() where id = @call`, "completed"},
		"a call is made": {`insert into stack_runs (id, parent_stack_run_id, service_name, method_name, status, call_id)
			values (@new, @middle, 'sleep', 'sleep', 'sleeping', 9)`, "cancelled"},
	} {
		body, err := d.store.Start(t.Context(), host, stack.StartParams{Task: "pair"}, true)
		if err != nil {
			t.Fatal(err)
		}
		middle, call, made := uuid.New(), uuid.New(), uuid.New()
		add := func(id, parent uuid.UUID, status string) {
			d.exec(`insert into stack_runs (id, parent_stack_run_id, service_name, method_name, status, call_id) values ($1, $2, 'echo', 'value', $3, 1)`, id, parent, status)
		}
		add(middle, body.ID, "suspended_waiting_child")
		add(call, middle, "processing")

		tx, err := d.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background())
		// As everybody does: the body above first.
		if _, err := tx.Exec(t.Context(), `select from stack_runs where id = $1 for update`, middle); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), beside.sql, pgx.NamedArgs{"call": call, "new": made, "middle": middle}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := d.store.Complete(context.Background(), host, stack.Ending{ID: body.ID, TaskRun: body.TaskRun, CancelOpen: true,
				Reply: service.Reply{Value: json.RawMessage(`1`)}, Slice: stack.Slice{Held: true}})
			done <- err
		}()
		d.eventually("the end waits for the other commit", func() bool {
			return d.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ 'cancel open'`) == 1
		})
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		looked := call
		if name == "a call is made" {
			looked = made
		}
		var got string
		if err := d.pool.QueryRow(t.Context(), `select status from stack_runs where id = $1`, looked).Scan(&got); err != nil || got != beside.want {
			t.Errorf("%s while the caller's caller ends: it is %s, want %s (%v)", name, got, beside.want, err)
		}
		if n := d.count(`select count(*) from stack_runs where id = $1 and status = 'cancelled'`, middle); n != 1 {
			t.Errorf("%s: the body between is not cancelled", name)
		}
	}
}

// TestCancelBesideFirstSuspension: a body that is being suspended for the first time
// while its caller ends is cancelled and leaves no snapshot behind, nor a call.
func TestCancelBesideFirstSuspension(t *testing.T) {
	t.Parallel()
	d, e, host := newPair(t)
	root, err := d.store.Start(t.Context(), host, stack.StartParams{Task: "pair"}, true)
	if err != nil {
		t.Fatal(err)
	}
	nested := stack.Child{ID: uuid.New(), CallID: 1, Call: call("tasks"), TaskRun: uuid.New(), Task: "pair", Input: json.RawMessage(`null`)}
	suspend := func(id, run uuid.UUID, calls ...stack.Child) error {
		out, err := e.Start(t.Context(), vm.StartParams{Frame: id, Name: "pair", Code: root.Code})
		if err != nil {
			return err
		}
		_, err = d.store.Suspend(context.Background(), host, stack.Suspension{ID: id, TaskRun: run, Task: "pair", Root: root.TaskRun,
			Slice: stack.Slice{Held: true}, Snapshot: out.Snapshot, Calls: calls, Waits: len(calls)})
		return err
	}
	if err := suspend(root.ID, root.TaskRun, nested); err != nil {
		t.Fatal(err)
	}

	tx, err := d.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `select from task_runs where id = $1 for update`, nested.TaskRun); err != nil { // which Suspend comes to last
		t.Fatal(err)
	}
	done := make(chan error, 2)
	waiting := func(n int) func() bool {
		return func() bool {
			return d.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == n
		}
	}
	go func() {
		done <- suspend(nested.ID, nested.TaskRun, stack.Child{ID: uuid.New(), CallID: 1, Call: call("echo")})
	}()
	d.eventually("the suspension waits for the test", waiting(1))
	go func() {
		_, err := d.store.Complete(context.Background(), host, stack.Ending{ID: root.ID, TaskRun: root.TaskRun, CancelOpen: true,
			Reply: service.Reply{Value: json.RawMessage(`1`)}, Slice: stack.Slice{Sequence: 1}})
		done <- err
	}()
	d.eventually("the end waits for the suspension", waiting(2))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := d.count(`select count(*) from stack_runs where status = 'cancelled' and sequence = 1`); n != 1 {
		t.Errorf("the nested body was not suspended and then cancelled\n%s", d.dump())
	}
	if n := d.count(`select count(*) from amber.snapshots`); n != 0 {
		t.Errorf("%d snapshots are left of bodies that have ended", n)
	}
	if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'cancelled')`); n != 0 {
		t.Errorf("%d rows are open below a body that has ended\n%s", n, d.dump())
	}
}
