package migrations_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestKeystoreSpellings(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	tests := []struct {
		name string
		does string // with scope s
		want string
	}{
		{"insert by the first spelling", `insert into keystore (scope, name, value) values ('s', 'n', 'v')`, "n v"},
		{"insert by the second", `insert into keystore (scope, key_name, key_value) values ('s', 'n', 'v')`, "n v"},
		{"insert by both", `insert into keystore (scope, name, value, key_name, key_value) values ('s', 'n', 'v', 'x', 'y')`, "n v"},
		{"update value", `update keystore set value = 'w' where scope = 's'`, "n w"},
		{"update key_value", `update keystore set key_value = 'w' where scope = 's'`, "n w"},
		{"update name", `update keystore set name = 'm' where scope = 's'`, "m v"},
		{"update key_name", `update keystore set key_name = 'm' where scope = 's'`, "m v"},
		{"update something else", `update keystore set description = 'd' where scope = 's'`, "n v"},
		{"upsert by the second spelling", `insert into keystore (scope, key_name, key_value) values ('s', 'n', 'w')
			on conflict (scope, name) do update set key_value = excluded.key_value`, "n w"},
	}
	for i, tt := range tests {
		exec(t, conn, `delete from keystore`)
		if i > 2 {
			exec(t, conn, `insert into keystore (scope, name, value) values ('s', 'n', 'v')`)
		}
		exec(t, conn, tt.does)
		got := column[string](t, conn, `select concat_ws(' ', name, value) from keystore
			where name is not distinct from key_name and value is not distinct from key_value`)
		if !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%s: rows whose spellings agree = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestUpdatedAtMoves(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	for table, insert := range map[string]string{
		"task_functions": `insert into task_functions (name, code, updated_at) values ('a', '0', '2020-01-01')`,
		"task_runs":      `insert into task_runs (task_name, updated_at) values ('a', '2020-01-01')`,
		"stack_runs":     `insert into stack_runs (service_name, method_name, updated_at) values ('a', 'b', '2020-01-01')`,
		"keystore":       `insert into keystore (name, value, updated_at) values ('a', '0', '2020-01-01')`,
	} {
		exec(t, conn, insert)
		exec(t, conn, `update `+table+` set id = id`)
		if at := column[time.Time](t, conn, `select updated_at from `+table)[0]; at.Year() == 2020 {
			t.Errorf("%s: updated_at stayed %v", table, at)
		}
		exec(t, conn, `update `+table+` set updated_at = '2021-01-01'`)
		if at := column[time.Time](t, conn, `select updated_at from `+table)[0].UTC(); at.Year() != 2021 {
			t.Errorf("%s: updated_at = %v, want what the writer set", table, at)
		}
	}
}

func TestWake(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	const id = "00000000-0000-7000-8000-000000000001"
	insertStack := func(status string) string {
		return fmt.Sprintf(`insert into stack_runs (id, service_name, method_name, status) values ('%s', 'a', 'b', '%s')`, id, status)
	}
	insertTask := func(status string) string {
		return fmt.Sprintf(`insert into task_runs (id, task_name, status) values ('%s', 'a', '%s')`, id, status)
	}
	tests := []struct {
		name   string
		before string
		does   string
		want   []string
	}{
		{"stack run born pending", ``, insertStack("pending"), []string{"stack_runs:" + id}},
		{"stack run born without a status", ``, `insert into stack_runs (id, service_name, method_name) values ('` + id + `', 'a', 'b')`, []string{"stack_runs:" + id}},
		{"stack run born pending_execution", ``, insertStack("pending_execution"), []string{"stack_runs:" + id}},
		{"stack run born pending_resume", ``, insertStack("pending_resume"), []string{"stack_runs:" + id}},
		{"stack run born processing", ``, insertStack("processing"), nil},
		{"stack run born sleeping", ``, insertStack("sleeping"), nil},
		{"stack run reset", insertStack("processing"), `update stack_runs set status = 'pending'`, []string{"stack_runs:" + id}},
		{"stack run to resume", insertStack("suspended_waiting_child"), `update stack_runs set status = 'pending_resume'`, []string{"stack_runs:" + id}},
		{"stack run pending as before", insertStack("pending"), `update stack_runs set status = 'pending'`, nil},
		{"stack run claimed", insertStack("pending"), `update stack_runs set status = 'processing'`, nil},
		{"stack run ended", insertStack("processing"), `update stack_runs set status = 'completed'`, nil},
		{"stack run's other column", insertStack("pending"), `update stack_runs set attempt = 1`, nil},
		{"task run born queued", ``, insertTask("queued"), []string{"task_runs:" + id}},
		{"task run born processing", ``, insertTask("processing"), nil},
		{"task run queued again", insertTask("failed"), `update task_runs set status = 'queued'`, []string{"task_runs:" + id}},
		{"task run started", insertTask("queued"), `update task_runs set status = 'processing'`, nil},
	}
	for _, tt := range tests {
		exec(t, conn, `delete from task_runs`)
		exec(t, conn, `delete from stack_runs`)
		if tt.before != "" {
			exec(t, conn, tt.before)
		}
		exec(t, conn, `listen amber_wake`)
		exec(t, conn, tt.does)
		exec(t, conn, `notify amber_wake, 'end'`)
		var got []string
		for {
			n, err := conn.WaitForNotification(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if n.Payload == "end" {
				break
			}
			got = append(got, n.Payload)
		}
		exec(t, conn, `unlisten amber_wake`)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: heard %q, want %q", tt.name, got, tt.want)
		}
	}
}

// runTree makes run 1, which calls run 2, which calls run 3, and run 4, which
// has nothing to do with them. Frame n is the body of run n: a nested one is
// also the call of the run above it. Each has a snapshot of two rows, replies and a log.
const runTree = `
insert into task_runs (id, task_name, parent_run_id)
select n(i), 'task', case when i in (2, 3) then n(i - 1) end from generate_series(1, 4) i;
insert into stack_runs (id, service_name, method_name, child_task_run_id, parent_task_run_id, parent_stack_run_id)
select f(i), 'tasks', 'execute', n(i), case when i in (2, 3) then n(i - 1) end, case when i in (2, 3) then f(i - 1) end
from generate_series(1, 4) i;
insert into amber.snapshots (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
select id, 1, 1, '', '', 1, 'k', 0, '' from stack_runs;
insert into amber.increments (stack_run_id, version, codec, engine, image, sequence, key_id, size, data)
select id, 2, 2, '', '', 2, 'k', 0, 'amb1\002' from stack_runs;
insert into amber.replies (stack_run_id, kind, key_id, data)
select id, kind, 'k', '' from stack_runs, unnest(array['request', 'reply']) kind;
insert into amber.logs (task_run_id, stack_run_id, at, level, message)
select child_task_run_id, id, now(), 'info', 'hello' from stack_runs;
insert into task_locks (task_run_id) select id from task_runs;
`

// runTables are those with rows of a run, and how many rows each run has there.
var runTables = map[string]int{
	"task_runs": 1, "stack_runs": 1, "task_locks": 1,
	"amber.snapshots": 2, "amber.replies": 2, "amber.logs": 1,
}

func TestDeletingARun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		does string
		left int // runs of the tree of which everything remains
		kept int // calls of deleted runs that remain, failed, since their callers do
	}{
		{"with all nested ones", `delete from task_runs where id = n(1)`, 1, 0},
		{"a nested one", `delete from task_runs where id = n(2)`, 2, 1},
		{"the innermost one", `delete from task_runs where id = n(3)`, 3, 1},
		{"another one", `delete from task_runs where id = n(4)`, 3, 0},
		{"all", `delete from task_runs`, 0, 0},
		{"none", `delete from task_runs where false`, 4, 0},
		{"in a ring", `update task_runs set parent_run_id = n(3) where id = n(1); delete from task_runs where id = n(2)`, 1, 0},
		{"its own parent", `update task_runs set parent_run_id = n(4) where id = n(4); delete from task_runs where id = n(4)`, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := migrated(t)
			exec(t, conn, `create function n(i int) returns uuid immutable return ('00000000-0000-7000-8000-00000000000' || i)::uuid`)
			exec(t, conn, `create function f(i int) returns uuid immutable return ('00000000-0000-7000-8000-00000000001' || i)::uuid`)
			script(t, conn, runTree)
			script(t, conn, tt.does)
			for table, each := range runTables {
				want := tt.left * each
				if table == "stack_runs" || table == "amber.replies" {
					want += tt.kept * each
				}
				if n := count(t, conn, table); n != want {
					t.Errorf("%d rows left in %s, want %d", n, table, want)
				}
			}
			if n := count(t, conn, `stack_runs where status = 'failed' and error->>'code' = 'RUN_DELETED'`); n != tt.kept {
				t.Errorf("%d calls failed because their run is gone, want %d", n, tt.kept)
			}
		})
	}
}

func TestDeletingADeepRun(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	exec(t, conn, `insert into task_runs (id, task_name, parent_run_id)
		select lpad(to_hex(i), 32, '0')::uuid, 'task', case when i > 1 then lpad(to_hex(i - 1), 32, '0')::uuid end
		from generate_series(1, 2000) i`)
	exec(t, conn, `delete from task_runs where parent_run_id is null`)
	if n := count(t, conn, "task_runs"); n != 0 {
		t.Errorf("%d runs left, want none", n)
	}
}
