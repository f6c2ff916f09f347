package migrations_test

import (
	"slices"
	"strings"
	"testing"
)

// unionSchema is what every generation of the original's clients reads or
// writes: column, type, "not null", default. The tables may have more.
const unionSchema = `
task_functions
	id uuid not null default gen_random_uuid()
	name text not null
	code text not null
	description text
	schema jsonb
	version text default 'latest'::text
	created_at timestamp with time zone not null default now()
	updated_at timestamp with time zone not null default now()
task_runs
	id uuid not null default gen_random_uuid()
	task_function_id uuid
	task_name text not null
	input jsonb
	status text not null default 'queued'::text
	result jsonb
	error jsonb
	logs jsonb
	vm_logs jsonb
	log_entries jsonb
	aggregated_results jsonb
	parent_run_id uuid
	waiting_on_stack_run_id uuid
	suspended_at timestamp with time zone
	resumed_at timestamp with time zone
	started_at timestamp with time zone
	ended_at timestamp with time zone
	created_at timestamp with time zone not null default now()
	updated_at timestamp with time zone not null default now()
stack_runs
	id uuid not null default gen_random_uuid()
	parent_task_run_id uuid
	parent_stack_run_id uuid
	parent_run_id uuid
	service_name text not null
	method_name text not null
	method_path jsonb
	module_name text
	args jsonb default '[]'::jsonb
	status text not null default 'pending'::text
	vm_state jsonb
	resume_payload jsonb
	result jsonb
	error jsonb
	waiting_on_stack_run_id uuid
	child_stack_run_id uuid
	call_site_id text
	logs jsonb
	started_at timestamp with time zone
	ended_at timestamp with time zone
	created_at timestamp with time zone not null default now()
	updated_at timestamp with time zone not null default now()
keystore
	id uuid not null default gen_random_uuid()
	scope text not null default 'global'::text
	name text not null
	value text not null
	key_name text
	key_value text
	description text
	created_at timestamp with time zone not null default now()
	updated_at timestamp with time zone not null default now()
config_parameters
	name text not null
	value text
task_locks
	id uuid not null default gen_random_uuid()
	task_run_id uuid
	locked_at timestamp with time zone default now()
	locked_by text
	created_at timestamp with time zone not null default now()
`

func TestUnionSchema(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	have := column[string](t, conn, `
		select concat_ws(' ', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
		                 case when a.attnotnull then 'not null' end, 'default ' || pg_get_expr(d.adbin, d.adrelid))
		from pg_attribute a
		join pg_class c on c.oid = a.attrelid
		left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
		where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0`)
	var table string
	for line := range strings.Lines(strings.TrimSpace(unionSchema)) {
		if !strings.HasPrefix(line, "\t") {
			table = strings.TrimSpace(line)
			continue
		}
		if want := table + "." + strings.TrimSpace(line); !slices.Contains(have, want) {
			t.Errorf("no column %s", want)
		}
	}
}

func TestUniqueKeys(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	exec(t, conn, `insert into task_functions (name, code) values ('a', '0')`)
	exec(t, conn, `insert into task_runs (id, task_name, idempotency_key) values ('00000000-0000-7000-8000-000000000001', 'a', 'k')`)
	exec(t, conn, `insert into keystore (scope, name, value) values ('s', 'n', 'v')`)
	exec(t, conn, `insert into task_locks (task_run_id) values ('00000000-0000-7000-8000-000000000001')`)
	for _, twice := range []string{
		`insert into task_functions (name, code) values ('a', '1')`,
		`insert into task_runs (task_name, idempotency_key) values ('a', 'k')`,
		`insert into keystore (scope, name, value) values ('s', 'n', 'w')`,
		`insert into task_locks (task_run_id) values ('00000000-0000-7000-8000-000000000001')`,
	} {
		if code := failure(t, conn, twice); code != uniqueViolation {
			t.Errorf("%s: code %q, want %s", twice, code, uniqueViolation)
		}
	}
	exec(t, conn, `insert into task_runs (task_name, idempotency_key) values ('b', 'k'), ('a', null), ('a', null)`)
	exec(t, conn, `insert into keystore (scope, name, value) values ('other', 'n', 'v')`)
}

func TestRowLevelSecurityIsOnEverywhere(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	open := column[string](t, conn, `
		select oid::regclass::text from pg_class
		where relnamespace in ('public'::regnamespace, 'amber'::regnamespace) and relkind in ('r', 'p') and not relrowsecurity`)
	if len(open) != 0 {
		t.Errorf("tables without row level security: %q", open)
	}
}

func TestPublication(t *testing.T) {
	t.Parallel()
	const published = `
		select schemaname || '.' || tablename from pg_publication_tables
		where pubname = 'supabase_realtime' order by 1`
	tests := []struct {
		name, before string
		want         []string
	}{
		{"absent", `select`, nil},
		{"empty", `create publication supabase_realtime`, []string{"public.stack_runs", "public.task_runs"}},
		{"with a table", `create table mine (id int primary key); create publication supabase_realtime for table mine`,
			[]string{"public.mine", "public.stack_runs", "public.task_runs"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn := migrated(t, tt.before)
			if got := column[string](t, conn, published); !slices.Equal(got, tt.want) {
				t.Errorf("published %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("for all tables", func(t *testing.T) {
		t.Parallel()
		conn := migrated(t, `create publication supabase_realtime for all tables`)
		if got := column[string](t, conn, published); !slices.Contains(got, "public.task_runs") {
			t.Errorf("published %q, want all tables", got)
		}
	})
}
