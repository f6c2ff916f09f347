package stack_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/amberhost/amber/internal/pgtest"
	"github.com/amberhost/amber/stack"
)

// through is the database through a PgBouncer.
func (d *db) through(pooling pgtest.Pooling, servers int) *db {
	dsn := pgtest.Bouncer(d.t, d.dsn, pooling, servers) + "&pool_max_conns=16"
	if pooling == pgtest.PoolTransactions {
		dsn += "&default_query_exec_mode=cache_describe"
	}
	return openDB(d.t, dsn)
}

var pooledTasks = map[string]string{
	"double": `module.exports = async ({ n }) => n * 2`,
	"mix": `module.exports = async ({ n }, { tools }) => {
		console.log('mix', n);
		const [a, b] = await Promise.all([tools.tasks.execute('double', { n }), tools.echo.value(n), tools.sleep(n % 7)]);
		try { await tools.echo.fail('no') } catch (e) { if (!e.message.includes('no')) throw e }
		await Promise.race([tools.echo.value('first'), tools.sleep(3600000)]);
		return a + b + await tools.tasks.execute('double', { n: 1 }) }`,
	"sleeper": `module.exports = async ({ ms }, { tools }) => { await tools.sleep(ms); return 'woke' }`,
	"secret":  `module.exports = async (i, { tools }) => { await tools.vault.set('k', 'v'); return (await tools.vault.get('k')).length }`,
	"five":    `module.exports = async (i, { tools }) => { let s = 0; for (let n = 0; n < 5; n++) s += await tools.echo.value(n) + await tools.tasks.execute('double', { n }); return s }`,
	"broken":  `module.exports = async () => { throw new TypeError('broken') }`,
}

// TestPoolers: everything works alike on Postgres itself, through a pooler that
// gives each connection a session, and through one that gives it another
// session for each transaction; and on a single connection, which no commit may
// keep while it waits for a second.
func TestPoolers(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(d *db) *db{
		"direct":             func(d *db) *db { return d },
		"one connection":     func(d *db) *db { return openDB(d.t, d.dsn+"&pool_max_conns=1") },
		"session pooler":     func(d *db) *db { return d.through(pgtest.PoolSessions, 60) },
		"transaction pooler": func(d *db) *db { return d.through(pgtest.PoolTransactions, 4) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := connect(newDB(t, nil))
			for name, code := range pooledTasks {
				if _, err := d.store.Publish(t.Context(), stack.Task{Name: name, Code: code}); err != nil {
					t.Fatal(err)
				}
			}
			with := func(c *stack.Config) { c.Services["vault"] = vault{} }
			first, leave := d.host(with)
			second, _ := d.host(with)

			wantResult(t, d.run(first, "mix", `{"n":5}`), `17`)
			wantResult(t, d.run(second, "secret", `null`), `7`)
			wantError(t, d.run(first, "broken", `null`), "")
			checkInject(d, first)
			checkRowsOfOthers(d, second)
			checkListing(d)

			const runs = 50 // more than there are connections, of any kind
			var group errgroup.Group
			for n := range runs {
				group.Go(func() error {
					id := d.enqueue("mix", fmt.Sprintf(`{"n":%d}`, n))
					wantResult(t, d.wait([]*stack.Processor{first, second}[n%2], id), fmt.Sprint(3*n+2))
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'failed', 'cancelled')`); n != 0 {
				t.Errorf("%d rows go on\n%s", n, d.dump())
			}

			asleep := d.enqueue("sleeper", `{"ms":100}`)
			d.eventually("it sleeps", func() bool {
				return d.count(`select count(*) from stack_runs where status = 'sleeping' and parent_task_run_id = $1`, asleep) == 1
			})
			leave() // the second wakes it
			wantResult(t, d.wait(second, asleep), `"woke"`)
			if n := d.count(`select count(*) from amber.hosts`); n != 1 {
				t.Errorf("%d hosts, want the one that is left", n)
			}
		})
	}
}

// TestKilledThroughAPooler: hosts that die behind a transaction pooler, at each
// suspension, leave nothing that the next one cannot go on with.
func TestKilledThroughAPooler(t *testing.T) {
	t.Parallel()
	d := newDB(t, pooledTasks).through(pgtest.PoolTransactions, 4)
	id := d.enqueue("five", "null")
	if died := d.seeThrough(id); died < 5 {
		t.Errorf("%d hosts died", died)
	}
	r, err := d.store.Run(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, r, `30`)
}

func checkInject(d *db, p *stack.Processor) {
	d.t.Helper()
	r, err := p.Start(d.t.Context(), stack.StartParams{Task: "sleeper", Input: json.RawMessage(`{"ms":3600000}`)})
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := p.Inject(d.t.Context(), d.stackRun(bodyOf, r.ID), nil); err != nil {
		d.t.Fatal(err)
	}
	wantResult(d.t, d.wait(p, r.ID), `"woke"`)
}

func checkRowsOfOthers(d *db, p *stack.Processor) {
	d.t.Helper()
	id := uuid.New()
	d.exec(`insert into stack_runs (id, service_name, method_name, args) values ($1, 'tasks', 'execute', '["double",{"n":4}]')`, id)
	if r, err := p.Process(d.t.Context(), id); err != nil || string(r.Result) != `8` {
		d.t.Errorf("%+v %v", r, err)
	}
	run := uuid.New()
	d.exec(`insert into task_runs (id, task_name, input) values ($1, 'double', '{"n":6}')`, run)
	wantResult(d.t, d.wait(p, run), `12`)
}

func checkListing(d *db) {
	d.t.Helper()
	runs, err := d.store.Runs(d.t.Context(), stack.RunFilter{Task: "mix", Roots: true})
	if err != nil || len(runs) != 1 {
		d.t.Fatalf("%d runs, %v", len(runs), err)
	}
	if nodes, err := d.store.Tree(d.t.Context(), runs[0].ID); err != nil || len(nodes) != 8 {
		d.t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if lines, err := d.store.Logs(d.t.Context(), runs[0].ID, 0); err != nil || len(lines) == 0 {
		d.t.Errorf("%d lines, %v", len(lines), err)
	}
	if _, err := d.store.KeyUse(d.t.Context()); err != nil {
		d.t.Error(err)
	}
}

// TestNamedStatementsThroughAPooler: what this package is run with behind a
// transaction pooler matters: with names for its statements it does not work.
func TestNamedStatementsThroughAPooler(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	d = openDB(t, pgtest.Bouncer(t, d.dsn, pgtest.PoolTransactions, 2)+"&pool_max_conns=8")
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for range 20 {
				if err := d.store.NoteKey(t.Context()); err != nil {
					return err
				}
				if _, err := d.store.Timers(t.Context(), time.Second, 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err == nil {
		t.Error("named statements work through this pooler: the tests that leave them out prove nothing")
	}
}
