package migrations_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/migrations"
)

func TestSQL(t *testing.T) {
	t.Parallel()
	want := shape(t, migrated(t, prelude))
	conn := original(t, "")
	script(t, conn, migrations.SQL())
	if d := differences(shape(t, conn), want); d != "" {
		t.Errorf("the text makes other tables:%s", d)
	}
	if report := apply(t, conn); !reflect.DeepEqual(report, migrations.Report{}) {
		t.Errorf("after the text, Apply did %+v", report)
	}
}

// TestSQLIsForEmptyDatabases: it ends with advice where it cannot do the work.
func TestSQLIsForEmptyDatabases(t *testing.T) {
	t.Parallel()
	for advice, files := range map[string]string{
		"has the tables config_parameters, keystore, stack_runs, task_functions, task_runs": "a b c rows_a rows_stack",
		"has a schema of amber": "migrated",
	} {
		conn := connect(t, pgtest.New(t))
		if files != "migrated" {
			conn = original(t, files)
		}
		before := state(t, conn)
		_, err := conn.PgConn().Exec(t.Context(), migrations.SQL()).ReadAll()
		if err == nil || !strings.Contains(err.Error(), advice) || !strings.Contains(err.Error(), "amber migrate") {
			t.Errorf("on %s: %v, want %q", files, err, advice)
		}
		exec(t, conn, `rollback`)
		if d := differences(state(t, conn), before); d != "" {
			t.Errorf("on %s it changed%s", files, d)
		}
	}
}
