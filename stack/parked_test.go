package stack_test

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

// parkedEnv makes TestParkedRunsCostNothing fill the tables with so many runs that
// do not go on, and measure what that costs by the clock: "1000000".
const parkedEnv = "AMBER_TEST_PARKED"

// parkedTasks make what the tables are filled with, and what works beside it.
var parkedTasks = map[string]string{
	"sleeper": `module.exports = async (i, { tools }) => { await tools.sleep(30 * 24 * 3600e3) }`,
	"nested":  `module.exports = async (i, { tools }) => { await tools.tasks.execute('sleeper') }`,
	"pair":    `module.exports = async (i, { tools }) => { const a = tools.echo.value('a'), b = tools.echo.value('b'); return [await a, await b] }`,
	"work": `module.exports = async ({ n }, { tools }) => {
		for (let i = 0; i < n; i++) {
			const late = setTimeout(() => {}, 3600e3);
			console.log(await tools.echo.value(i), await tools.tasks.execute('pair'));
			clearTimeout(late);
			await tools.sleep(1);
			await Promise.race([tools.tasks.execute('sleeper'), tools.echo.value(i)]);
		}
		tools.echo.value('unsent');
		return n }`,
	"large": largeTask,
}

// shapes are what the tables are filled with: how many percent of it, and what
// the runs look like after their host has left them.
var parkedShapes = []struct {
	name, task string
	percent    int
	then       string // for the body, $1
}{
	{"sleeps", "sleeper", 40, ""},
	{"waits for a run that sleeps", "nested", 15, ""},
	{"was woken, and no host has its engine", "sleeper", 25, `
		with woken as (update stack_runs set status = 'completed', ended_at = now() where parent_stack_run_id = $1 returning id),
			run as (update task_runs set stuck_reason = 'No host that runs has the engine' where id = (select child_task_run_id from stack_runs where id = $1))
		update stack_runs set status = 'pending_resume', engine = 'gone', stuck_reason = 'No host that runs has the engine' where id = $1`},
	{"has not begun, and no host has its key", "sleeper", 5, `
		with gone as (delete from stack_runs where parent_stack_run_id = $1), run as (update task_runs set status = 'queued', stuck_reason = 'No host that runs can open it'
			where id = (select child_task_run_id from stack_runs where id = $1))
		update stack_runs set status = 'pending', sequence = 0, stuck_key = 'gone', stuck_reason = 'No host that runs can open it' where id = $1`},
	{"is for another day", "sleeper", 5, `
		with body as (delete from stack_runs where parent_stack_run_id = $1 or id = $1)
		update task_runs set status = 'queued', scheduled_for = now() + interval '30 days' where id = (select child_task_run_id from stack_runs where id = $1)`},
	{"has ended", "pair", 10, ""},
}

// fill makes so many runs that do not go on, as copies of some that a host made.
func (d *db) fill(runs int) {
	d.t.Helper()
	p, stop := d.host(nil)
	d.exec(`create table shapes (root uuid, copies int)`)
	for _, s := range parkedShapes {
		r, err := p.Start(d.t.Context(), stack.StartParams{Task: s.task})
		if err != nil {
			d.t.Fatal(err)
		}
		d.eventually(s.name+" has come to rest", func() bool {
			return d.count(`select count(*) from stack_runs s where (parent_task_run_id = $1 or child_task_run_id = $1) and status = 'processing'`, r.ID) == 0 &&
				d.count(`select count(*) from stack_runs s where child_task_run_id = $1 and (status = 'completed' or sequence = 1)`, r.ID) == 1
		})
		d.exec(`insert into shapes values ($1, $2)`, r.ID, runs*s.percent/100)
	}
	d.eventually("the nested run sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 5 })
	stop()
	for i, s := range parkedShapes {
		if s.then != "" {
			d.exec(s.then, d.id(`select s.id from stack_runs s join (select * from shapes order by root offset $1 limit 1) r on s.child_task_run_id = r.root`, i))
		}
	}
	d.copyShapes("substr(%I, 1, 64)") // nobody opens the snapshots
	d.exec(`drop table shapes`)
}

// copyShapes copies the trees of the table shapes, with that of each snapshot. The ids
// and times of a copy are those of its pattern some milliseconds ago.
func (d *db) copyShapes(snapshot string) {
	d.t.Helper()
	d.exec(`create function ago(id uuid, n int) returns uuid language sql immutable as $$
		select (lpad(to_hex(('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint - n * 7), 12, '0') || substr(replace(id::text, '-', ''), 13))::uuid $$`)
	d.exec(`create table parts as
		with recursive runs as (
			select root as id, copies from shapes
			union all select t.id, copies from task_runs t join runs on t.parent_run_id = runs.id
		)
		select id, copies from runs
		union select s.id, copies from stack_runs s join runs on runs.id in (s.parent_task_run_id, s.child_task_run_id)`)
	d.exec(`do $$
		declare t record; columns text; fields text;
		begin
			for t in select * from (values ('public', 'task_runs', 'id'), ('public', 'stack_runs', 'id'),
					('amber', 'snapshots', 'stack_run_id'), ('amber', 'replies', 'stack_run_id'),
					('amber', 'logs', 'task_run_id')) as t (schema, name, key) loop
				select string_agg(format('%I', column_name), ', '), string_agg(format(
						case when data_type = 'uuid' and column_name not in ('owner', 'task_function_id') then 'public.ago(%I, n)'
							when t.name = 'snapshots' and column_name = 'data' then '` + snapshot + `'
							when column_name = 'due_at' or column_name = 'scheduled_for' then '%I + n * interval ''1 second'''
							when data_type like 'timestamp%%' then '%I - n * interval ''7 ms''' else '%I' end, column_name), ', ')
					into columns, fields from information_schema.columns
					where table_schema = t.schema and table_name = t.name and is_identity = 'NO';
				execute format('alter table %I.%I disable trigger user', t.schema, t.name);
				execute format('insert into %I.%I (%s) select %s from (select t.*, n from %I.%I t join public.parts on parts.id = t.%I, generate_series(1, copies) n order by n desc) t',
					t.schema, t.name, columns, fields, t.schema, t.name, t.key);
				execute format('alter table %I.%I enable trigger user', t.schema, t.name);
			end loop;
		end $$`)
	d.exec(`drop table parts`)
	d.exec(`drop function ago`)
}

func (d *db) id(sql string, args ...any) (id uuid.UUID) {
	d.t.Helper()
	if err := d.pool.QueryRow(context.Background(), sql, args...).Scan(&id); err != nil {
		d.t.Fatal(err)
	}
	return id
}

// work has hosts do all that hosts do, until each of the loops has come round.
func (d *db) work() {
	d.t.Helper()
	lively := func(c *stack.Config) {
		c.Lease, c.Tidy, c.Remove = 600*time.Millisecond, time.Millisecond, time.Millisecond
	}
	p, stop := d.host(lively)
	wantResult(d.t, d.run(p, "work", `{"n":8}`), "8")
	d.run(p, "large", `{"times":20}`)
	wantResult(d.t, d.wait(p, d.enqueue("pair", "null")), `["a","b"]`)
	call := d.enqueue("sleeper", "null")
	d.eventually("a call waits to be answered", func() bool {
		return d.count(`select count(*) from stack_runs where parent_task_run_id = $1 and status = 'sleeping'`, call) == 1
	})
	if _, err := p.Inject(d.t.Context(), call, nil); err != nil {
		d.t.Fatal(err)
	}
	d.wait(p, call)
	d.exec(`insert into task_runs (task_name, input, status) values ('pair', 'null', 'queued')`)
	d.eventually("it is adopted and has ended", func() bool {
		return d.count(`select count(*) from task_runs where status in ('queued', 'processing') and scheduled_for is null and stuck_reason is null`) == 0
	})
	stop()
	d.exec(`insert into amber.images (digest, engine, data, used_at) select 'unused' || amber.images.engine::bytea, engine, data, now() - interval '2 days' from amber.images on conflict do nothing`)
	d.exec(`update amber.hosts set expires_at = now() - interval '1 second'`)
	p, stop = d.host(lively)
	renewed := func() int {
		return d.count(`select (extract(epoch from max(expires_at)) * 1000)::bigint from amber.hosts`)
	}
	for range 4 {
		before := renewed()
		d.eventually("the lease is renewed", func() bool { return renewed() > before })
	}
	wantResult(d.t, d.run(p, "pair", "null"), `["a","b"]`)
	stop()
}

// TestParkedRunsCostNothing: what runs wait in the tables, in whatever state, is
// not looked at by those that work beside them.
func TestParkedRunsCostNothing(t *testing.T) {
	t.Parallel()
	runs, err := strconv.Atoi(cmp.Or(os.Getenv(parkedEnv), "20000"))
	if err != nil {
		t.Fatalf("%s: %v", parkedEnv, err)
	}
	empty, full := newDB(t, parkedTasks), newDB(t, parkedTasks)
	full.fill(runs)
	full.exec(`update amber.removal set since = '-infinity'`) // it looks for all that has ended
	empty.work()
	before := empty.explain(t)
	t.Run("without statistics", func(t *testing.T) { compare(t, before, full.explain(t)) })
	full.exec(`vacuum analyze`)
	empty.exec(`vacuum analyze`)
	t.Run("with statistics", func(t *testing.T) { compare(t, before, full.explain(t)) })
	t.Run("counted", func(t *testing.T) { compareDepths(t, full.in(t)) })
	if os.Getenv(parkedEnv) != "" {
		t.Run("by the clock", func(t *testing.T) { compareTimes(t, empty.in(t), full.in(t)) })
	}
}

func (d *db) explain(t *testing.T) map[string]plan {
	t.Helper()
	e, p := d.in(t).explained()
	e.work()
	all, err := p.taken()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compare finds the statements that look at what is parked.
func compare(t *testing.T, empty, full map[string]plan) {
	t.Helper()
	for _, name := range []string{"RemoveEnded: turn", "RemoveEnded: due", "RemoveEnded: trees", "RemoveEnded: alone"} {
		if _, ok := full[name]; !ok {
			t.Errorf("%s was not run: nothing is tested", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(full)) {
		f, e := full[name], empty[name]
		if len(f.whole) > 0 {
			t.Errorf("%s reads all of %q:\n%s", name, f.whole, f.text)
		}
		allowed := 200
		if name == "Reap: late" {
			allowed = 6000 // of 250 ended calls and their callers at a time; without statistics Postgres sorts all
		}
		if f.pages > 4*e.pages+allowed || f.rows > 4*e.rows+allowed {
			t.Errorf("%s looks at %d pages and %d rows, instead of %d and %d:\n%s", name, f.pages, f.rows, e.pages, e.rows, f.text)
		}
		if os.Getenv(parkedEnv) != "" {
			t.Logf("%s: %.2f ms, %d pages, %d rows (%d and %d)\n%s", name, f.ms, f.pages, f.rows, e.pages, e.rows, f.text)
		}
	}

}
