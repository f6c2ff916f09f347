package stack_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/amberhost/amber/stack"
)

// insist runs a statement again when Postgres chose it to end a deadlock, as clients do.
func (d *db) insist(sql string, args ...any) {
	d.t.Helper()
	for {
		_, err := d.pool.Exec(context.Background(), sql, args...)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "40P01" {
			if err != nil {
				d.t.Fatal(err)
			}
			return
		}
	}
}

// TestDeletedWhileItRuns: a run that is deleted while a host works for it leaves
// nothing behind, and the host goes on with others.
func TestDeletedWhileItRuns(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	d.publish(map[string]string{
		"busy": `module.exports = async ({ n }, { tools }) => {
			for (let i = 0; i < n; i++) { console.log(i); await Promise.all([tools.echo.value(i), tools.tasks.execute('pair'), tools.sleep(1)]) } }`,
	})
	ids := []string{}
	for i := range 12 {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "busy", Input: []byte(`{"n":100000}`)})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("it is at work", func() bool {
			return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and sequence > $2`, r.ID, i%4) == 1
		})
		ids = append(ids, d.ids(r.ID)...)
		if i%2 == 0 {
			d.insist(`delete from stack_runs where child_task_run_id = $1`, r.ID)
		}
		d.insist(`delete from task_runs where id = $1`, r.ID)
	}
	wantResult(t, d.run(p, "pair", "null"), `["a","b"]`)
	d.eventually("nothing is held any more", func() bool { return d.count(`select count(*) from stack_runs where status = 'processing'`) == 0 })
	if left := d.mentions(ids); len(left) > 0 {
		t.Errorf("rows are left: %v", left)
	}
	if n := d.count(`select count(*) from task_runs`); n != 1 {
		t.Errorf("%d runs are left, want the last one", n)
	}
}

// TestDeletingIsLinear: to delete a run with many calls looks at so many rows for each
// of them, and not at all that there are for each, also over a connection that plans as it likes.
func TestDeletingIsLinear(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	few, many := d.run(p, "wide", `{"calls":60,"runs":20,"lines":0}`), d.run(p, "wide", `{"calls":1200,"runs":200,"lines":0}`)
	d.exec(`vacuum analyze`)
	conn, err := pgx.Connect(t.Context(), d.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	each := map[uuid.UUID]float64{}
	for _, run := range []stack.Run{few, many} {
		rows := d.count(`select count(*) from stack_runs s where s.parent_task_run_id = $1 or s.parent_task_run_id in (select id from task_runs where parent_run_id = $1)`, run.ID)
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		looked := 0
		_, err = tx.Exec(t.Context(), `delete from task_runs where id = $1`, run.ID)
		if err == nil {
			err = tx.QueryRow(t.Context(), `select sum(pg_stat_get_xact_tuples_fetched(c.oid) + pg_stat_get_xact_tuples_returned(c.oid))::int
				from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'amber') and c.relkind = 'r'`).Scan(&looked)
		}
		if err := errors.Join(err, tx.Rollback(t.Context())); err != nil {
			t.Fatal(err)
		}
		each[run.ID] = float64(looked) / float64(rows)
	}
	t.Logf("rows looked at for each row of the run: %.1f of few, %.1f of many", each[few.ID], each[many.ID])
	if each[many.ID] > 200 { // there are 1,400: to look at all for each would be more
		t.Errorf("each row of a run with many calls costs a look at %.1f rows", each[many.ID])
	}
}
