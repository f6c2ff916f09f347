package migrations_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/supabase/local"
)

// projectRoles are the roles of a Supabase project. They are a whole server's,
// and other tests have a superuser called postgres: hence a server of its own.
const projectRoles = `
alter role postgres rename to bootstrap;
create role postgres login createdb createrole replication bypassrls password 'postgres';
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, pg_monitor to postgres with admin option;
create role supabase_auth_admin noinherit createrole;
create role supabase_storage_admin noinherit createrole;
create role supabase_realtime_admin noinherit;
alter role authenticator set statement_timeout = '8s';
alter role postgres set statement_timeout = '2min';
`

// projectDatabase is what a project has before anybody adds to it. What hosted
// projects do not let postgres do belongs to others here.
const projectDatabase = `
grant all on schema public to postgres;
grant usage on schema public to anon, authenticated, service_role;
create schema auth authorization supabase_auth_admin;
create schema storage authorization supabase_storage_admin;
create schema realtime authorization supabase_realtime_admin;
create schema extensions;
create schema graphql_public;
grant usage on schema auth, storage, realtime to postgres, anon, authenticated, service_role;
grant usage, create on schema extensions to postgres;
grant usage on schema extensions to anon, authenticated, service_role;
create function auth.role() returns text language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role') $$;
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
alter function auth.role() owner to supabase_auth_admin;
alter function auth.uid() owner to supabase_auth_admin;
create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;
`

// What is created in public is everybody's: in projects of before May 2026.
// Newer ones give nothing to anybody.
const (
	exposed = `
alter default privileges for role postgres in schema public grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on sequences to postgres, anon, authenticated, service_role;
`
	unexposed = `
alter default privileges for role postgres revoke execute on functions from public;
`
)

// TestSupabase migrates projects as hosted ones are: by postgres, who is no superuser.
func TestSupabase(t *testing.T) {
	t.Parallel()
	project := newProjects(t)
	for variant, privileges := range map[string]string{"exposed": exposed, "unexposed": unexposed} {
		want := sync.OnceValue(func() []string {
			conn := project(t, privileges)
			apply(t, conn)
			return shape(t, conn)
		})
		t.Run(variant+" empty", func(t *testing.T) {
			t.Parallel()
			conn := project(t, privileges)
			report := apply(t, conn)
			if len(report.Changes)+len(report.Warnings) > 0 {
				t.Errorf("did %+v, want no changes", report)
			}
			checkProject(t, conn)
		})
		for _, tt := range originals {
			if !slices.Contains([]string{"a b c f g", "e", "l"}, tt.name) {
				continue // as the schema is the same, the others are for TestAdoption
			}
			t.Run(variant+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				conn := project(t, privileges)
				load(t, conn, tt.files)
				checkAdoption(t, conn, want(), tt.own, tt.ended)
				checkProject(t, conn)
			})
		}
		t.Run(variant+" tables of supabase_admin", func(t *testing.T) {
			t.Parallel()
			conn := project(t, privileges)
			admin := sibling(t, conn, func(c *pgx.ConnConfig) { c.User = "supabase_admin" })
			load(t, admin, "d rows_d")
			exec(t, admin, `grant select on all tables in schema public to postgres`) // for the test to look
			checkRefused(t, conn, migrations.ErrUnsuitable, "public.stack_runs belongs to the role supabase_admin, and postgres may not alter it")
		})
		t.Run(variant+" functions of supabase_admin", func(t *testing.T) {
			t.Parallel()
			conn := project(t, privileges)
			load(t, conn, "l_setup l_keystore rows_l")
			script(t, sibling(t, conn, func(c *pgx.ConnConfig) { c.User = "supabase_admin" }), `
				alter function process_stack_run() owner to supabase_admin;
				alter function get_keystore_value(text, text) owner to supabase_admin`)
			report := apply(t, conn)
			for _, want := range []string{"the function public.process_stack_run() is kept, since it belongs to another role",
				"the function public.get_keystore_value(p_key_name text, p_namespace text) shows every secret"} {
				if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
					t.Errorf("not warned of: %s\nin %q", want, report.Warnings)
				}
			}
		})
	}
}

// checkProject checks who may do what, and that what is published is.
func checkProject(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if column[bool](t, conn, `select rolsuper from pg_roles where rolname = current_user`)[0] {
		t.Fatal("the test migrates as a superuser")
	}
	checkPrivileges(t, conn)
	published := column[string](t, conn, `select tablename::text from pg_publication_tables where pubname = 'supabase_realtime' order by 1`)
	if !slices.Equal(published, []string{"stack_runs", "task_runs"}) {
		t.Errorf("published %q", published)
	}
	exec(t, conn, `set role service_role`)
	checkInserts(t, conn, false)
	exec(t, conn, `insert into task_functions (name, code) values ('visible', '0')`)
	exec(t, conn, `insert into task_runs (task_name, owner, status) values ('mine', '00000000-0000-4000-8000-00000000000a', 'completed')`)
	exec(t, conn, `set role anon`)
	if n := count(t, conn, `task_functions where name = 'visible'`); n != 1 {
		t.Error("anon does not see the task")
	}
	for _, table := range []string{"task_runs", "stack_runs", "keystore", "config_parameters", "task_locks"} {
		refused(t, conn, `select from `+table)
	}
	refused(t, conn, `insert into task_runs (task_name) values ('mine')`)
	exec(t, conn, `set role authenticated`)
	exec(t, conn, `select set_config('request.jwt.claims', '{"sub": "00000000-0000-4000-8000-00000000000a"}', false)`)
	if got := column[string](t, conn, `select task_name from task_runs`); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("a user sees the runs %q", got)
	}
	refused(t, conn, `select from stack_runs`)
	refused(t, conn, `update task_runs set status = 'queued'`)
	exec(t, conn, `reset role`)
}

// newProjects starts a server whose postgres is no superuser, and returns what
// makes a project on it and connects as postgres.
func newProjects(t *testing.T) func(t *testing.T, privileges string) *pgx.Conn {
	t.Helper()
	dir := pgtest.Dir(t)
	if err := startServer(t, dir).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Plain(t, dir)
	server := startServer(t, dir)
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dsn, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, connect(t, dsn.String()), `create role supabase_admin superuser login createdb createrole replication bypassrls password 'postgres'`)
	dsn.User = url.UserPassword("supabase_admin", "postgres")
	script(t, connect(t, dsn.String()), projectRoles)

	var mutex sync.Mutex
	made := 0
	return func(t *testing.T, privileges string) *pgx.Conn {
		t.Helper()
		mutex.Lock() // Postgres copies template1 for one at a time
		defer mutex.Unlock()
		made++
		name := fmt.Sprintf("project_%d", made)
		exec(t, connect(t, dsn.String()), `create database `+name+` owner postgres`)
		mine := *dsn
		mine.Path = "/" + name
		script(t, connect(t, mine.String()), projectDatabase+privileges)
		mine.User = url.UserPassword("postgres", "postgres")
		return connect(t, mine.String())
	}
}

// startServer starts a server on a free port; another process may be quicker to
// take it, so it is tried a few times.
func startServer(t *testing.T, dir string) *local.Server {
	t.Helper()
	var err error
	for range 10 {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		var server *local.Server
		server, err = local.Start(t.Context(), local.Config{Dir: dir, Port: port, BinDir: os.Getenv("AMBER_POSTGRES_BIN"), Settings: map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
		}})
		if err == nil {
			return server
		}
		if !strings.Contains(err.Error(), "port") {
			break
		}
	}
	t.Fatal(err)
	return nil
}
