package stack_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/stack"
)

// TestUpdatesStayHot: the indexes by which removing finds what is due cost the
// updates of what works nothing: as many of them as before leave all indexes alone.
func TestUpdatesStayHot(t *testing.T) {
	t.Parallel()
	hot := func(prepare string) (share map[string]float64) {
		d := newDB(t, removedTasks)
		if prepare != "" {
			d.exec(prepare)
		}
		p, stop := d.host(func(c *stack.Config) { c.Remove = time.Hour })
		for range 25 {
			d.run(p, "all", "null")
		}
		stop()
		d.pool.Close()
		conn, err := pgx.Connect(t.Context(), d.dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for others := 1; others > 0; { // they tell what they did when they leave
			if err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`).Scan(&others); err != nil {
				t.Fatal(err)
			}
		}
		share = map[string]float64{}
		for _, table := range []string{"task_runs", "stack_runs"} {
			var all, hot float64
			if err := conn.QueryRow(t.Context(), `select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = $1::text::regclass`, table).Scan(&all, &hot); err != nil {
				t.Fatal(err)
			}
			if all < 100 {
				t.Fatalf("%v updates of %s: nothing is tested", all, table)
			}
			share[table] = hot / all
		}
		return share
	}
	without, with := hot(`drop index task_runs_ended, stack_runs_alone`), hot("")
	t.Logf("updates that leave indexes alone: %.3v without the indexes, %.3v with them", without, with)
	for table, share := range without {
		if with[table] < 0.95*share-0.01 {
			t.Errorf("%s: %.3f of the updates leave indexes alone, instead of %.3f", table, with[table], share)
		}
	}
}
