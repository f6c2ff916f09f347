package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestInsertsOfOldClients(t *testing.T) {
	t.Parallel()
	conn := migrated(t, prelude)
	exec(t, conn, `set role service_role`)
	checkInserts(t, conn, false)
}

// checkInserts inserts rows as the clients of each generation do, in a
// transaction that it takes back. The earliest one's runs need its columns.
func checkInserts(t *testing.T, conn *pgx.Conn, earliest bool) {
	t.Helper()
	const run = `'00000000-0000-4000-9000-000000000001'`
	tests := []struct {
		name, does string
		want       string // a condition that selects one row
	}{
		{"a run, bare", `insert into task_runs (task_name, input, status) values ('new', '{"n":1}', 'queued')`,
			`task_runs where task_name = 'new' and created_at is not null and id is not null`},
		{"a run by the processor", `insert into task_runs (id, task_name, input, status, created_at, updated_at) values (` + run + `, 'other', null, 'processing', now(), now())`,
			`task_runs where id = ` + run},
		{"a run is suspended", `update task_runs set status = 'suspended', suspended_at = now(), waiting_on_stack_run_id = gen_random_uuid() where id = ` + run,
			`task_runs where id = ` + run + ` and status = 'suspended'`},
		{"a call, bare", `insert into stack_runs (service_name, method_name, args, status) values ('test_service', 'echo', '["trigger_test"]', 'pending')`,
			`stack_runs where service_name = 'test_service' and module_name = 'test_service' and parent_run_id is null`},
		{"a call without a status", `insert into stack_runs (service_name, method_name) values ('no_status', 'echo')`,
			`stack_runs where service_name = 'no_status' and status = 'pending' and args = '[]'`},
		{"a call of a run", `insert into stack_runs (id, parent_task_run_id, parent_stack_run_id, service_name, method_name, args, status, vm_state, waiting_on_stack_run_id, created_at, updated_at)
			values ('00000000-0000-4000-9000-000000000002', ` + run + `, null, 'tasks', 'execute', '["new", {}]', 'pending', '{"task_code": "0"}', null, now(), now())`,
			`stack_runs where parent_run_id = ` + run},
		{"a call of a run that is nowhere", `insert into stack_runs (parent_task_run_id, service_name, method_name) values (gen_random_uuid(), 'nowhere', 'x')`,
			`stack_runs where service_name = 'nowhere'`},
		{"a call with a path", `insert into stack_runs (service_name, method_name, method_path, args) values ('gapi', 'list', '["admin", "domains", "list"]', '[{}]')`,
			`stack_runs where method_path = '["admin", "domains", "list"]'`},
		{"a module call", `insert into stack_runs (parent_run_id, module_name, method_name, args, status) values (` + run + `, 'a_module', 'x', '{}', 'pending')`,
			`stack_runs where service_name = 'a_module' and parent_task_run_id = ` + run},
		{"a module call of a call", `insert into stack_runs (parent_run_id, module_name, method_name) values ('00000000-0000-4000-9000-000000000002', 'nested_module', 'x')`,
			`stack_runs where service_name = 'nested_module' and parent_task_run_id is null and parent_stack_run_id is null`},
		{"a call ends in text", `update stack_runs set status = 'failed', error = '"text"', ended_at = now() where method_name = 'list'`,
			`stack_runs where error = '"text"'`},
		{"a key", `insert into keystore (scope, name, value) values ('new', 'first', 'v')`, `keystore where key_name = 'first' and key_value = 'v'`},
		{"a key in the second spelling", `insert into keystore (key_name, key_value, description) values ('second', 'v', 'd')`,
			`keystore where scope = 'global' and name = 'second' and value = 'v'`},
		{"a key is put again", `insert into keystore (scope, name, value) values ('new', 'first', 'w') on conflict (scope, name) do update set value = excluded.value`,
			`keystore where scope = 'new' and key_value = 'w'`},
		{"a key is put again in the second spelling", `insert into keystore (scope, key_name, key_value) values ('new', 'first', 'x')
			on conflict (scope, key_name) do update set key_value = excluded.key_value`, `keystore where scope = 'new' and value = 'x'`},
		{"a task is published twice", `insert into task_functions (name, code, description, version) values ('new', '0', null, 'latest');
			insert into task_functions (name, code) values ('new', '1') on conflict (name) do update set code = excluded.code, updated_at = now()`,
			`task_functions where name = 'new' and code = '1'`},
		{"a parameter", `insert into config_parameters (name, value) values ('supabase_anon_key', 'x') on conflict (name) do update set value = excluded.value`,
			`config_parameters where name = 'supabase_anon_key' and value = 'x'`},
		{"a lock", `insert into task_locks (task_run_id, locked_by) values (` + run + `, 'me')`, `task_locks where locked_at is not null`},
		{"a run is deleted with its calls", `delete from task_runs where id = ` + run,
			`(select) gone where not exists (select from stack_runs where parent_task_run_id = ` + run + `) and not exists (select from task_locks where locked_by = 'me')`},
	}
	if earliest {
		tests = append(tests, tests[0])
		tests[len(tests)-1].does = `insert into task_runs (name, args, status) values ('earliest', '{"n":1}', 'queued')`
		tests[len(tests)-1].want = `task_runs where task_name = 'earliest' and input = '{"n": 1}'`
	}
	exec(t, conn, `begin`)
	for _, tt := range tests {
		script(t, conn, tt.does)
		if n := count(t, conn, tt.want); n != 1 {
			t.Errorf("%s: %d rows in %s, want 1", tt.name, n, tt.want)
		}
	}
	exec(t, conn, `rollback`)
}
