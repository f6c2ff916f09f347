package stack_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

// TestRunOfAnInsertedRowIsMadeOnce: a host that was stopped after it had claimed a row
// which somebody inserted gives it no run when it goes on, once another host has.
func TestRunOfAnInsertedRowIsMadeOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async () => 1`})
	id, run := uuid.New(), uuid.New()
	d.exec(`insert into task_runs (id, task_name, input, status) values ($1, 't', '1', 'processing')`, run)
	d.exec(`insert into stack_runs (id, parent_task_run_id, service_name, method_name, args) values ($1, $2, 'tasks', 'execute', '["t", 1]')`, id, run)
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string) (stack.Host, stack.Claim) {
		h, err := d.store.Register(t.Context(), stack.Host{Name: name, Engines: e.Identities()}, 1<<40, false)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := d.store.ClaimRow(t.Context(), h, id)
		if err != nil || len(claims) != 1 {
			t.Fatal(claims, err)
		}
		return h, claims[0]
	}
	stopped, first := claim("stopped")
	d.exec(`update stack_runs set status = 'pending', claimed_by = null where id = $1`, id) // as Reap does
	other, second := claim("other")
	if err := d.store.Open(t.Context(), stopped, &first); err != stack.ErrClaimLost {
		t.Errorf("the host that was stopped: %v", err)
	}
	if err := d.store.Open(t.Context(), other, &second); err != nil || second.Body.TaskRun != run {
		t.Errorf("the other: %v %v", second.Body, err)
	}
	if n := d.count(`select count(*) from task_runs`); n != 1 {
		t.Errorf("%d runs", n)
	}
}
