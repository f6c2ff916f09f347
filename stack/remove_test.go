package stack_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/stack"
)

const week = 7 * 24 * time.Hour

var removedTasks = map[string]string{
	"pair": `module.exports = async (i, { tools }) => { console.log('a'); return [await tools.echo.value('a'), await tools.echo.value('b')] }`,
	// All that a run leaves anywhere: nested runs, lines, tries, a failure that is kept, calls that were called off.
	"all": `module.exports = async (i, { tools }) => {
		console.log('begun');
		await tools.tasks.execute('pair');
		await tools.with({ retries: 1, backoff: 1 }).echo.fail('x').catch(() => {});
		await Promise.race([tools.tasks.execute('waits'), tools.sleep(1)]);
		await tools.tasks.execute('fails') }`,
	"fails":  `module.exports = async (i, { tools }) => { console.log('fails'); await tools.echo.value(1); throw new Error('no') }`,
	"waits":  `module.exports = async (i, { tools }) => { await tools.tasks.execute('sleeps') }`,
	"sleeps": `module.exports = async (i, { tools }) => { await tools.sleep(30 * 24 * 3600e3) }`,
	"wide": `module.exports = async ({ calls, runs, lines }, { tools }) => {
		for (let i = 0; i < lines; i++) console.log('line ' + i);
		await Promise.all(Array.from({ length: calls }, () => tools.echo.value(1)));
		await Promise.all(Array.from({ length: runs }, () => tools.tasks.execute('pair')));
		throw new Error('no') }`,
	"deep": `module.exports = async (n, { tools }) => { await tools.echo.value(1); if (n > 0) await tools.tasks.execute('deep', n - 1) }`,
}

// removing is a database in which everything counts as having ended after retention
// came, and a host.
func removing(t *testing.T) (d *db, p *stack.Processor, stop func()) {
	t.Helper()
	d = newDB(t, removedTasks)
	d.exec(`update amber.removal set since = '-infinity'`)
	p, stop = d.host(func(c *stack.Config) { c.Remove = time.Hour })
	return d, p, stop
}

// age has a run have ended so long ago.
func (d *db) age(run uuid.UUID, days int) {
	d.t.Helper()
	d.exec(`update task_runs set ended_at = ended_at - make_interval(days => $2) where id = $1`, run, days)
}

// round removes batches until a round is over, and returns what each did.
func (d *db) round(retention time.Duration) (batches []stack.Removed) {
	d.t.Helper()
	for {
		d.exec(`update amber.removal set next_at = now()`)
		did, err := d.store.RemoveEnded(d.t.Context(), retention, time.Hour)
		if err != nil {
			d.t.Fatal(err)
		}
		batches = append(batches, did)
		if did.Over {
			return batches
		}
	}
}

func (d *db) there(run uuid.UUID) bool {
	d.t.Helper()
	return d.count(`select count(*) from task_runs where id = $1`, run) == 1
}

// ids are those of all rows below a run.
func (d *db) ids(run uuid.UUID) (ids []string) {
	d.t.Helper()
	rows, err := d.pool.Query(context.Background(), `
		with recursive runs as (
			select $1::uuid as id union select t.id from task_runs t join runs r on t.parent_run_id = r.id
		)
		select id::text from runs
		union select s.id::text from stack_runs s join runs r on r.id in (s.parent_task_run_id, s.child_task_run_id)`, run)
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return ids
}

// mentions are the rows of any table that have one of these ids in any column, by table.
func (d *db) mentions(ids []string) map[string]int {
	d.t.Helper()
	rows, err := d.pool.Query(context.Background(), `
		select format('%I.%I', table_schema, table_name) from information_schema.tables
		where table_schema in ('public', 'amber') and table_type = 'BASE TABLE' and table_name not in ('images', 'migrations') order by 1`)
	if err != nil {
		d.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		d.t.Fatal(err)
	}
	found := map[string]int{}
	for _, table := range tables {
		if n := d.count(`select count(*) from only `+table+` t where to_jsonb(t)::text ~ $1`, strings.Join(ids, "|")); n > 0 {
			found[table] = n
		}
	}
	return found
}

// leaveTraces adds to a run what no task leaves in time, so that all tables have a row of it.
func (d *db) leaveTraces(run uuid.UUID) {
	d.t.Helper()
	body := d.id(`select id from stack_runs where child_task_run_id = $1`, run)
	d.exec(`insert into task_locks (task_run_id) values ($1)`, run)
	d.exec(`insert into amber.nested (root, tasks) values ($1, 1)`, run)
	d.exec(`insert into amber.crashes (stack_run_id, sequence, times) values ($1, 0, 1)`, body)
	d.exec(`insert into amber.attempts (stack_run_id, attempt, late) values ($1, 1, true)`, body)
	d.exec(`insert into amber.increments select stack_run_id, 2, codec, engine, image, sequence + 1, key_id, size, '\x0000000002'::bytea, now()
		from only amber.snapshots where stack_run_id = $1`, body)
	d.exec(`create table if not exists amber.adopted (table_name text not null, row_id text not null, original jsonb not null, adopted_at timestamptz not null default now())`)
	d.exec(`insert into amber.adopted (table_name, row_id, original) values ('task_runs', $1, '{}'), ('stack_runs', $2, '{}')`, run.String(), body.String())
}

// hanging are the tables that have rows of runs.
var hanging = []string{"public.task_runs", "public.stack_runs", "public.task_locks", "amber.snapshots", "amber.increments", "amber.replies", "amber.logs",
	"amber.nested", "amber.crashes", "amber.attempts", "amber.failures", "amber.adopted"}

// TestNothingIsLeftOfARun: in no table is there a row that names a run, or what was
// called below it, when it was removed because its time was over, or deleted.
func TestNothingIsLeftOfARun(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(d *db, run uuid.UUID){
		"its time is over": func(d *db, run uuid.UUID) { d.age(run, 8); d.round(week) },
		"it is deleted":    func(d *db, run uuid.UUID) { d.exec(`delete from task_runs where id = $1`, run) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, p, stop := removing(t)
			gone, stays := d.run(p, "all", "null"), d.run(p, "all", "null")
			stop() // it would tidy up some of what is to be removed
			for _, run := range []stack.Run{gone, stays} {
				if run.Status != stack.StatusFailed {
					t.Fatalf("it is %s: no failure is kept", run.Status)
				}
				d.leaveTraces(run.ID)
			}
			ids, others := d.ids(gone.ID), d.ids(stays.ID)
			before := d.mentions(others)
			for _, table := range hanging {
				if d.mentions(ids)[table] == 0 {
					t.Errorf("there is no row in %s: nothing is tested", table)
				}
			}
			remove(d, gone.ID)
			if left := d.mentions(ids); len(left) > 0 {
				t.Errorf("rows are left: %v", left)
			}
			if after := d.mentions(others); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("of the other run there are %v, were %v", after, before)
			}
		})
	}
}

// TestRetention: what goes and what stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	ended := func(days int, then string) func() uuid.UUID {
		return func() uuid.UUID {
			run := d.run(p, "pair", "null").ID
			d.age(run, days)
			if then != "" {
				d.exec(then, run)
			}
			return run
		}
	}
	waiting := func(then string) func() uuid.UUID {
		return func() uuid.UUID {
			r, err := p.Start(t.Context(), stack.StartParams{Task: "waits"})
			if err != nil {
				t.Fatal(err)
			}
			d.eventually("it waits", func() bool {
				return d.count(`select count(*) from stack_runs s join task_runs t on t.id = s.parent_task_run_id where t.parent_run_id = $1 and s.status = 'sleeping'`, r.ID) == 1
			})
			d.exec(then, r.ID)
			return r.ID
		}
	}
	alone := func(then string) func() uuid.UUID {
		return func() uuid.UUID {
			return d.id(`insert into stack_runs (service_name, method_name, status, ended_at) values ('echo', 'value', 'completed', ` + then + `) returning id`)
		}
	}
	for name, days := range map[string]string{"short": "1 day", "long": "30 days", "for ever": "0"} {
		d.exec(`insert into task_functions (name, code, retention) select $1, code, $2 from task_functions where name = 'pair'`, name, days)
	}
	cases := []struct {
		name  string
		make  func() uuid.UUID
		stays bool
	}{
		{"ended longer ago", ended(8, ""), false},
		{"ended not so long ago", ended(6, ""), true},
		{"its task keeps for a shorter time", ended(2, `update task_runs set task_name = 'short' where id = $1`), false},
		{"it has not been that time", ended(0, `update task_runs set task_name = 'short' where id = $1`), true},
		{"its task keeps for longer", ended(29, `update task_runs set task_name = 'long' where id = $1`), true},
		{"longer than that", ended(31, `update task_runs set task_name = 'long' where id = $1`), false},
		{"its task keeps for ever", ended(4000, `update task_runs set task_name = 'for ever' where id = $1`), true},
		{"its task is gone", ended(8, `update task_runs set task_name = 'gone', task_function_id = null where id = $1`), false},
		{"failed", func() uuid.UUID { id := d.run(p, "fails", "null").ID; d.age(id, 8); return id }, false},
		{"failed, not so long ago", func() uuid.UUID { id := d.run(p, "fails", "null").ID; d.age(id, 6); return id }, true},
		{"ended by hand, nobody knows when, long ago", ended(0, `update task_runs set ended_at = null, created_at = now() - interval '30 days', updated_at = now() - interval '8 days' where id = $1`), false},
		{"ended by hand, not so long ago", ended(0, `update task_runs set ended_at = null, created_at = now() - interval '30 days', updated_at = now() where id = $1`), true},
		{"without a body", ended(8, `delete from stack_runs where child_task_run_id = $1`), false},
		{"waits for months", waiting(`update task_runs set created_at = now() - interval '90 days' where id = $1`), true},
		{"a nested one ended long ago, and its root goes on", waiting(`update task_runs set status = 'completed', ended_at = now() - interval '90 days' where parent_run_id = $1`), true},
		{"the run says that it has ended, and its body waits", waiting(`update task_runs set status = 'completed', ended_at = now() - interval '90 days' where id = $1`), true},
		{"what it called goes on", waiting(`with body as (update stack_runs set status = 'failed', claimed_by = null where child_task_run_id = $1)
			update task_runs set status = 'failed', ended_at = now() - interval '90 days' where id = $1`), true},
		{"a call of no run", alone(`now() - interval '8 days'`), false},
		{"a call of no run, not so long ago", alone(`now() - interval '6 days'`), true},
	}
	ids := make([]uuid.UUID, len(cases))
	for i, c := range cases {
		ids[i] = c.make()
	}
	check := func(stays func(i int) bool) {
		t.Helper()
		for i, c := range cases {
			if n := d.count(`select count(*) from (select id from task_runs union all select id from stack_runs) r where id = $1`, ids[i]); n == 1 != stays(i) {
				t.Errorf("%s: %d rows", c.name, n)
			}
		}
	}
	d.exec(`update amber.removal set since = now()`)
	d.exec(`update task_functions set retention = null`)
	d.round(week)
	check(func(int) bool { return true }) // what had ended before is nobody's wish to remove
	d.exec(`update task_functions set retention = case name when 'short' then interval '1 day' when 'long' then '30 days' when 'for ever' then '0' end`)
	d.exec(`update amber.removal set since = '-infinity'`)
	d.round(0)
	check(func(i int) bool { return cases[i].stays || i != 2 && i != 5 }) // for ever, but for those whose tasks say
	d.round(week)
	check(func(i int) bool { return cases[i].stays })
	if _, err := d.pool.Exec(t.Context(), `update task_functions set retention = '9 minutes'`); err == nil || !strings.Contains(err.Error(), "10_minutes_at_least") {
		t.Errorf("a retention that is too short: %v", err)
	}
}
