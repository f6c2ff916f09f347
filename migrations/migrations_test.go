package migrations_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
)

func TestApply(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmpty(t))

	applied, err := migrations.Apply(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(applied, migrations.Names()) {
		t.Errorf("applied %q, want %q", applied, migrations.Names())
	}
	recorded := column[string](t, conn, `select name from amber.migrations order by name`)
	if !slices.Equal(recorded, migrations.Names()) {
		t.Errorf("recorded %q, want %q", recorded, migrations.Names())
	}

	exec(t, conn, `insert into task_functions (name, code) values ('kept', '0')`)
	again, err := migrations.Apply(t.Context(), conn)
	if err != nil || len(again) != 0 {
		t.Errorf("second Apply = %q, %v, want nothing", again, err)
	}
	if n := count(t, conn, `task_functions`); n != 1 {
		t.Errorf("%d rows after the second Apply, want 1", n)
	}
}

func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.NewEmpty(t)
	const programs = 5
	applied := make([][]string, programs)
	errs := make([]error, programs)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range programs {
		conn := connect(t, dsn)
		group.Go(func() {
			<-start
			applied[i], errs[i] = migrations.Apply(t.Context(), conn)
		})
	}
	close(start)
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	all := slices.Sorted(slices.Values(slices.Concat(applied...)))
	if !slices.Equal(all, migrations.Names()) {
		t.Errorf("applied %q in all, want each of %q once", all, migrations.Names())
	}
}

// A table of ours that is there already, with other columns, fails the first
// index on it: by then a good part of the file has been run.
func TestApplyFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmpty(t))
	exec(t, conn, `create table public.stack_runs (id uuid)`)

	applied, err := migrations.Apply(t.Context(), conn)
	if err == nil || len(applied) != 0 {
		t.Fatalf("Apply = %q, %v, want an error", applied, err)
	}
	if line := lineOf(t, err); !strings.Contains(line, "index") || !strings.Contains(line, "stack_runs") {
		t.Errorf("error %q names the line %q, want that of an index on stack_runs", err, line)
	}
	left := column[string](t, conn, `
		select relname from pg_class
		where relnamespace in (select oid from pg_namespace where nspname in ('public', 'amber')) and relname <> 'stack_runs'`)
	if len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}

	exec(t, conn, `drop table public.stack_runs`)
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Errorf("Apply after the repair: %v", err)
	}
}

func TestApplyRefusesChangedFile(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	name := migrations.Names()[0]
	exec(t, conn, `update amber.migrations set checksum = '\x00' where name = $1`, name)

	_, err := migrations.Apply(t.Context(), conn)
	if !errors.Is(err, migrations.ErrChanged) || !strings.Contains(err.Error(), name) {
		t.Errorf("Apply = %v, want ErrChanged about %s", err, name)
	}
}

func TestApplyRefusesNewerDatabase(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	exec(t, conn, `insert into amber.migrations (name, checksum) values ('9999_later.sql', '\x00')`)

	_, err := migrations.Apply(t.Context(), conn)
	if !errors.Is(err, migrations.ErrNewer) || !strings.Contains(err.Error(), "9999_later.sql") || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("Apply = %v, want ErrNewer about 9999_later.sql", err)
	}
}

// A database of a newer amber is left alone even where a file of this one is
// missing from it.
func TestApplyRefusesBeforeItApplies(t *testing.T) {
	t.Parallel()
	conn := migrated(t)
	exec(t, conn, `delete from amber.migrations`)
	exec(t, conn, `insert into amber.migrations (name, checksum) values ('9999_later.sql', '\x00')`)

	applied, err := migrations.Apply(t.Context(), conn)
	if !errors.Is(err, migrations.ErrNewer) || len(applied) != 0 {
		t.Errorf("Apply = %q, %v, want ErrNewer", applied, err)
	}
}

func TestApplyStopsWithItsContext(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmpty(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := migrations.Apply(ctx, conn); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply = %v, want context.Canceled", err)
	}
}

// A pooler in transaction mode and simple clients keep no prepared statement.
func TestApplyWithSimpleProtocol(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(pgtest.NewEmpty(t))
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for range 2 {
		if _, err := migrations.Apply(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
}

// connect opens a connection of this test's own.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// migrated connects to a database with the schema and, before it was made, what
// the given statements did.
func migrated(t *testing.T, before ...string) *pgx.Conn {
	t.Helper()
	conn := connect(t, pgtest.NewEmpty(t))
	for _, sql := range before {
		script(t, conn, sql)
	}
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// script runs several statements.
func script(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// column returns the rows of a query with one column.
func column[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

func count(t *testing.T, conn *pgx.Conn, table string) int {
	t.Helper()
	return column[int](t, conn, `select count(*) from `+table)[0]
}

// lineOf returns the line of the migration that an error names as file:line.
func lineOf(t *testing.T, err error) string {
	t.Helper()
	m := regexp.MustCompile(`(\d{4}_\w+\.sql):(\d+): `).FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("error %q names no line", err)
	}
	text, readErr := os.ReadFile(filepath.Join("sql", m[1]))
	if readErr != nil {
		t.Fatal(readErr)
	}
	n, convErr := strconv.Atoi(m[2])
	if convErr != nil {
		t.Fatal(convErr)
	}
	return strings.Split(string(text), "\n")[n-1]
}
