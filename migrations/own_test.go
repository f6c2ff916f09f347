package migrations_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
)

// TestKeepsWhatIsTheOwners: what somebody added to the original's tables stays
// and works, and the report names it where amber's rows meet it.
func TestKeepsWhatIsTheOwners(t *testing.T) {
	t.Parallel()
	conn := original(t, "a b c rows_a rows_stack")
	script(t, conn, `
		create table projects (id uuid primary key default gen_random_uuid(), last_run uuid references task_runs (id) on delete set null);
		insert into projects (last_run) values ('00000000-0000-4000-8000-000000000011');
		alter table task_runs add column project uuid references projects (id), add column cost numeric not null default 0,
			add column tenant text, add constraint tenant_is_short check (length(tenant) < 9);
		update task_runs set tenant = 'mine';
		alter table task_runs alter column tenant set not null;
		create index mine_by_project on task_runs (project);
		create view mine as select id, task_name, status from task_runs;
		create policy "everybody reads" on task_runs for select to authenticated using (true);
		create function mine() returns trigger language plpgsql as $$ begin return new; end $$;
		create trigger mine_watch after insert on task_runs for each row execute function mine();
		create constraint trigger mine_late after update on stack_runs deferrable initially deferred for each row execute function mine();
		create table other (updated_at timestamptz);
		create trigger other_touch before update on other for each row execute function update_updated_at_column();
		create table watched (id int);
		create trigger watched before insert on watched for each row execute function process_next_stack_run();
		grant select on stack_runs to public;
		alter table task_runs force row level security;
		alter table task_runs add constraint status_is_known check (status <> 'cancelled');`)
	rows := allRows(t, conn)
	report := apply(t, conn)
	checkRows(t, conn, rows, 10)

	got := shape(t, conn)
	for _, want := range []string{"column task_runs.project uuid", "column task_runs.cost numeric not null default 0", "column task_runs.tenant text",
		"trigger CREATE TRIGGER mine_watch", "trigger CREATE TRIGGER other_touch", "trigger CREATE TRIGGER watched",
		`policy task_runs everybody reads`, "index CREATE INDEX mine_by_project",
		"constraint task_runs tenant_is_short", "constraint task_runs task_runs_project_fkey", "constraint projects projects_last_run_fkey"} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("gone: %s", want)
		}
	}
	for _, want := range []string{"task_runs: the trigger mine_watch is kept", `task_runs: the policy "everybody reads" is kept: it lets authenticated`,
		"task_runs: the index mine_by_project is kept", "task_runs: the constraint tenant_is_short is kept, CHECK ((length(tenant) < 9))"} {
		if !slices.ContainsFunc(report.Warnings, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("not warned of: %s\nin %q", want, report.Warnings)
		}
	}
	for _, want := range []string{"task_runs.tenant: may be null, since amber does not write it", "stack_runs: privileges of everybody (public) are revoked",
		"task_runs: row level security no longer holds for the table's owner, as which amber works",
		"task_runs: the constraint status_is_known is dropped, CHECK ((status <> 'cancelled'::text))",
		"config_parameters: row level security is switched on",
		`stack_runs: the policy "Service role can do all on stack_runs" is dropped`,
		"stack_runs: the trigger tr_process_stack_run is dropped"} {
		if !slices.Contains(report.Changes, want) {
			t.Errorf("not reported: %s\nin %q", want, report.Changes)
		}
	}
	exec(t, conn, `insert into task_runs (task_name, status) values ('new', 'cancelled')`)
	exec(t, conn, `set role anon`)
	refused(t, conn, `select from stack_runs`)
}

// TestKeystoreFunctionsAreClosed: they read every secret with their owner's
// rights, and anybody could call them.
func TestKeystoreFunctionsAreClosed(t *testing.T) {
	t.Parallel()
	conn := original(t, "l_keystore")
	exec(t, conn, `set role anon`)
	exec(t, conn, `select get_keystore_value('ALONE')`)
	exec(t, conn, `reset role`)
	report := apply(t, conn)
	for _, role := range []string{"anon", "authenticated"} {
		exec(t, conn, `set role `+role)
		refused(t, conn, `select get_keystore_value('ALONE')`)
		refused(t, conn, `select set_keystore_value('ALONE', 'global', 'x')`)
		refused(t, conn, `select list_keystore_keys()`)
		exec(t, conn, `reset role`)
	}
	exec(t, conn, `set role service_role`)
	exec(t, conn, `select set_keystore_value('NEW', 'global', 'x'), set_keystore_value('ALONE', 'global', 'y')`)
	if got := column[string](t, conn, `select get_keystore_value(key_name) from keystore where key_name in ('NEW', 'ALONE') order by 1`); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("the functions give %q", got)
	}
	if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "owner_id") }) {
		t.Errorf("nobody was told that keys have owners: %q", report.Warnings)
	}
}

// TestKeysOfOtherNames: keys are known by their columns, and get our names.
func TestKeysOfOtherNames(t *testing.T) {
	t.Parallel()
	conn := original(t, "a b c rows_a rows_stack")
	script(t, conn, `alter table keystore rename constraint keystore_scope_name_key to one; alter table stack_runs rename constraint stack_runs_pkey to two;
		alter table task_runs rename constraint task_runs_task_function_id_fkey to three`)
	report := apply(t, conn)
	if d := differences(shape(t, conn), shape(t, migrated(t, prelude))); d != "" {
		t.Errorf("the tables are not those of an empty database:%s", d)
	}
	if want := "stack_runs: the constraint two is called stack_runs_pkey"; !slices.Contains(report.Changes, want) {
		t.Errorf("not reported: %s\nin %q", want, report.Changes)
	}
}

// TestTablesOfOurOwn: a copy of amber's public tables without its schema, as a
// dump of public alone has them, needs no change.
func TestTablesOfOurOwn(t *testing.T) {
	t.Parallel()
	conn := migrated(t, prelude)
	want := shape(t, conn)
	exec(t, conn, `insert into task_runs (task_name, status) values ('kept', 'completed')`)
	exec(t, conn, `drop schema amber cascade`)
	report := apply(t, conn)
	if !reflect.DeepEqual(report, migrations.Report{Files: migrations.Names()}) {
		t.Errorf("did %+v, want no change", report)
	}
	if d := differences(shape(t, conn), want); d != "" {
		t.Errorf("changed%s", d)
	}
	if n := count(t, conn, "task_runs"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// TestMigratedDatabaseIsLeftAlone: adoption is for databases without a record.
func TestMigratedDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	exec(t, conn, `create index idx_task_runs_status on task_runs (status)`)
	exec(t, conn, `insert into task_runs (task_name, status, created_at) values ('a', 'suspended', '2020-01-01')`)
	before := shape(t, conn)
	script(t, conn, `delete from amber.migrations where name > '0002'; drop index keystore_scope_key_name;
		alter table amber.hosts drop column keys; drop table amber.increments;
		drop function amber.sync_stack_run() cascade; drop function amber.sync_task_run() cascade`)
	if report := apply(t, conn); len(report.Changes)+len(report.Warnings) != 0 {
		t.Errorf("did %+v", report)
	}
	if d := differences(shape(t, conn), before); d != "" {
		t.Errorf("changed%s", d)
	}
	if n := count(t, conn, `task_runs where status = 'suspended'`); n != 1 {
		t.Error("a run of amber's own was ended")
	}
}
