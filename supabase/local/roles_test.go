package local_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
	"github.com/amberhost/amber/supabase/local"
)

// TestPostgresIsNoSuperuser: its password is public, so nothing that it may do
// leads to the account that the server runs as; what a project's owner does, it may.
func TestPostgresIsNoSuperuser(t *testing.T) {
	t.Parallel()
	s := start(t, local.Config{Dir: pgtest.Dir(t)})
	ctx := t.Context()
	conn := connect(t, s.URL())
	major := query(t, s, "select current_setting('server_version_num')::int / 10000 || ''")

	t.Run("attributes", func(t *testing.T) {
		createrole := map[bool]string{true: " createrole", false: ""}[major != "15"]
		scan(t, conn, "login createdb"+createrole+" bypassrls", `
			select concat_ws(' ', case when rolsuper then 'super' end, case when rolcanlogin then 'login' end, case when rolcreatedb then 'createdb' end,
				case when rolcreaterole then 'createrole' end, case when rolreplication then 'replication' end, case when rolbypassrls then 'bypassrls' end)
			from pg_roles where rolname = current_user`)
		scan(t, conn, "postgres", `select pg_get_userbyid(datdba)::text from pg_database where datname = 'postgres'`)
		scan(t, conn, "amber_superuser", `select string_agg(rolname, ' ') from pg_roles where rolsuper`)
	})
	t.Run("refused", func(t *testing.T) {
		for _, sql := range []string{
			`copy (select 1) to program 'cat'`,
			`copy (select 1) to '/tmp/amber-test-written'`,
			`create temporary table t (line text); copy t from '/etc/passwd'`,
			`select pg_read_file('/etc/passwd')`,
			`select pg_read_binary_file('postgresql.conf')`,
			`select lo_import('/etc/passwd')`,
			`alter system set archive_command = 'true'`,
			`create function f() returns int language c as '/tmp/amber-test', 'f'`,
			`select pg_create_logical_replication_slot('s', '/tmp/amber-test')`,
			`grant pg_execute_server_program to postgres`,
			`grant pg_read_server_files to postgres`,
			`grant amber_superuser to postgres`,
			`alter role postgres superuser`,
			`alter role postgres replication`,
			`alter role amber_superuser password 'x'`,
			`create role r superuser`,
			`set role amber_superuser`,
			`set session authorization amber_superuser`,
		} {
			_, err := conn.Exec(ctx, sql)
			if refusal := (*pgconn.PgError)(nil); !errors.As(err, &refusal) || refusal.Code != "42501" {
				t.Errorf("%s: %v, want permission denied", sql, err)
			}
		}
	})
	t.Run("the superuser cannot log in", func(t *testing.T) {
		cfg := conn.Config().Copy()
		cfg.User = "amber_superuser"
		for _, password := range []string{"postgres", ""} {
			cfg.Password = password
			if c, err := pgx.ConnectConfig(ctx, cfg); err == nil {
				_ = c.Close(ctx)
				t.Errorf("it can, with password %q", password)
			}
		}
	})
	t.Run("allowed", func(t *testing.T) {
		for _, sql := range []string{
			`create table mine (id int primary key)`,
			`create publication mine for table mine`,
			`create extension pgcrypto`,
			`create schema storage; grant usage on schema storage, public to anon`,
			`set role anon; reset role; set role service_role; reset role; set role authenticator; reset role`,
			`create database more`,
			`alter database postgres set statement_timeout = 0`,
			`select pg_terminate_backend(0)`,
			`select current_setting('data_directory')`,
		} {
			if strings.Contains(sql, "pgcrypto") && query(t, s, `select count(*)::text from pg_available_extensions where name = 'pgcrypto'`) == "0" {
				continue // a Postgres without contrib
			}
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
		if major != "15" {
			if _, err := conn.Exec(ctx, `create role mine login bypassrls; alter role authenticator password 'x'`); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("migrations", func(t *testing.T) {
		for _, url := range []string{s.URL(), strings.Replace(s.URL(), "/postgres?", "/more?", 1)} {
			conn := connect(t, url)
			for range 2 {
				if err := local.Prepare(ctx, conn); err != nil {
					t.Fatal(err)
				}
				if _, err := migrations.Apply(ctx, conn); err != nil {
					t.Fatal(err)
				}
			}
			scan(t, conn, "stack_runs task_runs", `select string_agg(tablename, ' ' order by tablename) from pg_publication_tables where pubname = 'supabase_realtime'`)
			if _, err := conn.Exec(ctx, `set role anon; select from task_functions; reset role; set role service_role; select from keystore`); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestOldData: a data directory whose postgres is the superuser goes on as it was.
func TestOldData(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	oldData(t, dir)
	s := start(t, local.Config{Dir: dir})
	conn := connect(t, s.URL())
	for range 2 {
		if err := local.Prepare(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if _, err := migrations.Apply(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		stop(t, s)
		s = start(t, local.Config{Dir: dir})
		conn = connect(t, s.URL())
	}
	scan(t, conn, "postgres", `select string_agg(rolname, ' ') from pg_roles where rolsuper`)
}

// oldData makes a data directory as amber did before postgres was no superuser.
func oldData(t *testing.T, dir string) {
	t.Helper()
	bin, _, err := local.FindBinaries(binDir())
	if err != nil {
		t.Fatal(err)
	}
	data, pwfile := filepath.Join(dir, "data"), filepath.Join(dir, "pw")
	if err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(pwfile, []byte("postgres\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	chownLike(t, data)
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "--username=postgres", "--pwfile="+pwfile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--lc-messages=C", "--locale=C", "--no-sync")
	cmd.Dir = data
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != os.Getuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
