package migrations_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
)

// SQLSTATEs that the tests tell apart.
const (
	insufficientPrivilege = "42501"
	uniqueViolation       = "23505"
	checkViolation        = "23514"
)

// supabaseRoles makes the roles of a Supabase project, in a cluster that other
// tests share, and the default privileges that a project gives them: whatever
// is created in public is everybody's until it is revoked.
const supabaseRoles = `
do $$
declare r text;
begin
  foreach r in array array['anon', 'authenticated', 'service_role'] loop
    begin
      if to_regrole(r) is null then
        execute format('create role %I nologin noinherit', r);
      end if;
    exception when duplicate_object or unique_violation then
      null; -- another test was faster
    end;
  end loop;
end $$;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
`

const publicTables = `select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`

func TestPrivileges(t *testing.T) {
	t.Parallel()
	t.Run("roles only", func(t *testing.T) {
		t.Parallel()
		checkPrivileges(t, supabaseProject(t))
	})
	t.Run("as amber dev makes it", func(t *testing.T) {
		t.Parallel()
		checkPrivileges(t, connect(t, pgtest.New(t)))
	})
}

func checkPrivileges(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	const privileges = `
		select c.oid::regclass || ' ' || lower(p)
		from pg_class c, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
		where c.relnamespace in ('public'::regnamespace, 'amber'::regnamespace) and c.relkind = 'r'
		  and has_table_privilege($1, c.oid, p)
		order by 1`
	for role, want := range map[string][]string{
		"anon":          {"task_functions select"},
		"authenticated": {"task_functions select", "task_runs select"},
	} {
		if got := column[string](t, conn, privileges, role); !slices.Equal(got, want) {
			t.Errorf("%s may %q, want %q", role, got, want)
		}
	}
	for _, p := range column[string](t, conn, privileges, "service_role") {
		if strings.HasPrefix(p, "amber.") {
			t.Errorf("service_role may %s", p)
		}
	}
	for _, role := range []string{"anon", "authenticated", "service_role"} {
		if column[bool](t, conn, `select has_schema_privilege($1, 'amber', 'usage') or has_schema_privilege($1, 'amber', 'create')`, role)[0] {
			t.Errorf("%s may use schema amber", role)
		}
		callable := column[string](t, conn, `select oid::regprocedure::text from pg_proc
			where pronamespace = 'amber'::regnamespace and has_function_privilege($1, oid, 'execute')`, role)
		if len(callable) != 0 {
			t.Errorf("%s may call %q", role, callable)
		}
	}
}

// Roles belong to the whole server and the tests of this package share one, so
// this one does not run in parallel: it runs before any other makes a role.
func TestWithoutSupabaseRoles(t *testing.T) {
	conn := connect(t, pgtest.NewEmpty(t))
	if roles := column[string](t, conn, `select rolname::text from pg_roles where rolname in ('anon', 'authenticated', 'service_role')`); len(roles) != 0 {
		t.Skipf("the server has the roles %q from elsewhere", roles)
	}
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if policies := column[string](t, conn, `select policyname::text from pg_policies`); len(policies) != 0 {
		t.Errorf("policies %q for roles that are not there", policies)
	}
	exec(t, conn, `create role amber_stranger`)
	exec(t, conn, `set role amber_stranger`)
	for _, table := range column[string](t, conn, publicTables) {
		refused(t, conn, `select from `+table)
	}
	exec(t, conn, `reset role`)
	exec(t, conn, `drop role amber_stranger`)

	want := shape(t, conn)
	for _, tt := range originals {
		if tt.roles {
			continue
		}
		conn := connect(t, pgtest.NewEmpty(t))
		load(t, conn, tt.files)
		checkAdoption(t, conn, want, tt.own, tt.ended)
		checkInserts(t, conn, slices.Contains(tt.own, "task_runs.name"))
	}
}

func TestAnonReadsTasksOnly(t *testing.T) {
	t.Parallel()
	conn := supabaseProject(t)
	tables := column[string](t, conn, publicTables)
	exec(t, conn, `insert into task_functions (name, code) values ('a', '0')`)
	exec(t, conn, `set role anon`)
	for _, table := range tables {
		if table == "task_functions" {
			if n := count(t, conn, table); n != 1 {
				t.Errorf("anon sees %d tasks, want 1", n)
			}
		} else {
			refused(t, conn, `select from `+table)
		}
		refused(t, conn, `insert into `+table+` default values`)
		refused(t, conn, `delete from `+table)
		refused(t, conn, `truncate `+table)
	}
	refused(t, conn, `update task_functions set code = '1'`)
	refused(t, conn, `update task_runs set status = 'queued'`)
	refused(t, conn, `update keystore set value = ''`)
}

func TestAuthenticatedSeesItsOwnRuns(t *testing.T) {
	t.Parallel()
	const me, other = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
	conn := supabaseProject(t)
	exec(t, conn, `insert into task_functions (name, code) values ('a', '0')`)
	exec(t, conn, `insert into task_runs (task_name, owner) values ('mine', $1), ('theirs', $2), ('nobody''s', null)`, me, other)
	exec(t, conn, `set role authenticated`)
	for claims, want := range map[string][]string{
		`{"sub": "` + me + `"}`:                  {"mine"},
		`{"sub": "` + strings.ToUpper(me) + `"}`: {"mine"},
		`{"sub": "` + other + `"}`:               {"theirs"},
		`{"sub": "user_2abc"}`:                   nil, // another identity provider's: owns nothing, breaks nothing
		`{"role": "authenticated"}`:              nil,
		``:                                       nil,
	} {
		exec(t, conn, `select set_config('request.jwt.claims', $1, false)`, claims)
		if got := column[string](t, conn, `select task_name from task_runs`); !slices.Equal(got, want) {
			t.Errorf("with claims %s: sees %q, want %q", claims, got, want)
		}
	}
	if n := count(t, conn, "task_functions"); n != 1 {
		t.Errorf("sees %d tasks, want 1", n)
	}
	refused(t, conn, `select from stack_runs`)
	refused(t, conn, `select from keystore`)
	refused(t, conn, `insert into task_runs (task_name) values ('mine')`)
	refused(t, conn, `update task_runs set status = 'queued'`)
	refused(t, conn, `delete from task_runs`)
}

func TestServiceRoleHasAllOfPublic(t *testing.T) {
	t.Parallel()
	conn := supabaseProject(t)
	exec(t, conn, `set role service_role`)
	for _, sql := range []string{
		`insert into task_functions (name, code) values ('a', '0')`,
		`insert into task_runs (task_name) values ('a')`,
		`insert into stack_runs (service_name, method_name, child_task_run_id) select 'tasks', 'execute', id from task_runs`,
		`insert into keystore (name, value) values ('a', '0')`,
		`insert into config_parameters values ('a', '0')`,
		`insert into task_locks (task_run_id) select id from task_runs`,
		`update task_functions set code = '1'`,
		`update task_runs set status = 'cancelled'`,
		`update stack_runs set status = 'cancelled'`,
		`update keystore set value = '1'`,
		`update config_parameters set value = '1'`,
		`update task_locks set locked_by = 'me'`,
	} {
		exec(t, conn, sql)
	}
	tables := column[string](t, conn, publicTables)
	for _, table := range tables {
		if n := count(t, conn, table); n != 1 {
			t.Errorf("%d rows in %s, want 1", n, table)
		}
	}
	exec(t, conn, `delete from task_runs`) // reaches into schema amber, which the role itself cannot
	if n := count(t, conn, "stack_runs"); n != 0 {
		t.Errorf("%d stack runs left, want none", n)
	}
	refused(t, conn, `select from amber.migrations`)
	refused(t, conn, `select from amber.replies`)
	refused(t, conn, `select from amber.snapshots`)
}

// supabaseProject connects to a migrated database with Supabase's roles.
func supabaseProject(t *testing.T) *pgx.Conn {
	t.Helper()
	return migrated(t, supabaseRoles)
}

// refused reports a statement that does not lack the privilege.
func refused(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if code := failure(t, conn, sql); code != insufficientPrivilege {
		t.Errorf("%s: code %q, want %s", sql, code, insufficientPrivilege)
	}
}

// failure returns the SQLSTATE with which a statement fails, "" if it does not.
func failure(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	var pgErr *pgconn.PgError
	if err != nil && !errors.As(err, &pgErr) {
		t.Fatalf("%s: %v", sql, err)
	}
	if pgErr == nil {
		return ""
	}
	return pgErr.Code
}
