package stack_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
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
