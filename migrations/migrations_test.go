package migrations_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
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
	if !reflect.DeepEqual(applied, migrations.Report{Files: migrations.Names()}) {
		t.Errorf("applied %+v, want %q", applied, migrations.Names())
	}
	recorded := column[string](t, conn, `select name from amber.migrations order by name`)
	if !slices.Equal(recorded, migrations.Names()) {
		t.Errorf("recorded %q, want %q", recorded, migrations.Names())
	}

	exec(t, conn, `insert into task_functions (name, code) values ('kept', '0')`)
	again, err := migrations.Apply(t.Context(), conn)
	if err != nil || !reflect.DeepEqual(again, migrations.Report{}) {
		t.Errorf("second Apply = %+v, %v, want nothing", again, err)
	}
	if n := count(t, conn, `task_functions`); n != 1 {
		t.Errorf("%d rows after the second Apply, want 1", n)
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
	if !errors.Is(err, migrations.ErrNewer) || len(applied.Files) != 0 {
		t.Errorf("Apply = %+v, %v, want ErrNewer", applied, err)
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
