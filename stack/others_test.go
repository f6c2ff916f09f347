package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// TestRowsOfOthers: what a client inserts or resets with SQL is picked up.
func TestRowsOfOthers(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"flaky":  `module.exports = async (i, { tools }) => { try { return await tools.echo.value(7) } catch (e) { return e.message } }`,
	})
	// No hint is lost here, so the sweep may be rare: triggers and NOTIFY wake the host.
	p, _ := d.host(func(c *stack.Config) { c.Sweep = 10 * time.Minute })
	d.run(p, "double", `{"n":1}`) // the host is up and listens

	t.Run("pending stack_run of a queued run", func(t *testing.T) {
		d := &db{t: t, pool: d.pool, store: d.store}
		run := uuid.New()
		d.exec(`with r as (insert into task_runs (id, task_name, input) values ($1, 'double', '{"n":4}'))
			insert into stack_runs (parent_task_run_id, service_name, method_name, args) values ($1, 'tasks', 'execute', '["double",{"n":4}]')`, run)
		wantResult(t, d.wait(p, run), `8`)
		if n := d.count(`select count(*) from task_runs where id = $1 or parent_run_id = $1`, run); n != 1 {
			t.Errorf("%d runs, want the one the client inserted", n)
		}
	})
	t.Run("pending call of a service", func(t *testing.T) {
		d := &db{t: t, pool: d.pool, store: d.store}
		id := uuid.New()
		d.exec(`insert into stack_runs (id, service_name, method_name, args) values ($1, 'echo', 'value', '["trigger_test"]')`, id)
		d.eventually("the call is answered", func() bool {
			return d.count(`select count(*) from stack_runs where id = $1 and status = 'completed' and result = '"trigger_test"'`, id) == 1
		})
	})
	t.Run("pending call of an unknown service", func(t *testing.T) {
		d := &db{t: t, pool: d.pool, store: d.store}
		id := uuid.New()
		d.exec(`insert into stack_runs (id, service_name, method_name, args) values ($1, 'test_service', 'echo', '{"not":"an array"}')`, id)
		d.eventually("the call fails with a reason", func() bool {
			return d.count(`select count(*) from stack_runs where id = $1 and status = 'failed' and error->>'code' = 'UNKNOWN_SERVICE'`, id) == 1
		})
	})
	t.Run("a call reset to pending after it failed", func(t *testing.T) {
		d := &db{t: t, pool: d.pool, store: d.store}
		id := uuid.New()
		d.exec(`insert into stack_runs (id, service_name, method_name, args, status) values ($1, 'echo', 'value', '[1]', 'failed')`, id)
		d.exec(`update stack_runs set status = 'pending' where id = $1`, id)
		d.eventually("the call is made again", func() bool {
			return d.count(`select count(*) from stack_runs where id = $1 and status = 'completed' and result = '1'`, id) == 1
		})
	})
}

// TestHandEdits: statuses that somebody sets by hand do not strand a run.
func TestHandEdits(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"sleeper": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`})
	p, _ := d.host(nil)
	start := func() stack.Run {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper"})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the timer sleeps", func() bool {
			return d.count(`select count(*) from stack_runs where status = 'sleeping' and parent_task_run_id = $1`, r.ID) == 1
		})
		return r
	}
	woken := start()
	d.exec(`update stack_runs set status = 'pending' where status = 'sleeping' and parent_task_run_id = $1`, woken.ID)
	wantResult(t, d.wait(p, woken.ID), `{"slept":true,"duration":3600000}`)

	held := start()
	d.exec(`update stack_runs set status = 'processing', updated_at = now() - interval '2 minutes' where child_task_run_id = $1`, held.ID)
	d.eventually("a body that nobody holds is taken up", func() bool {
		return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`, held.ID) == 1
	})

	d.exec(`update stack_runs set status = 'pending' where child_task_run_id = $1`, woken.ID)
	d.eventually("a body of an ended run is parked", func() bool {
		return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and stuck_reason like '%has ended%'`, woken.ID) == 1
	})
	if n := d.count(`select count(*) from task_runs where id = $1 and stuck_reason is not null`, woken.ID); n != 0 {
		t.Error("a completed run is shown as stuck")
	}
}

// TestAnotherKey: a host that lacks a key of this database, or has another one
// under its id, says so and touches nothing; one that has both goes on.
func TestAnotherKey(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"sleeper": `module.exports = async (i, { tools }) => [await tools.sleep(100), 'woke']`})
	p, stop := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("it sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	stop()
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	const other = "other:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
	for entry, want := range map[string]string{
		other: `sealed with key "test", which this host does not have`,
		"test:" + strings.TrimPrefix(other, "other:"): `key "test" is not the key of that id`,
	} {
		ring, err := keys.ParseRing(entry)
		if err != nil {
			t.Fatal(err)
		}
		p := stack.NewProcessor(stack.Config{Store: stack.NewStore(d.pool, ring), Engine: e, HostName: "test"})
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	both, err := keys.ParseRing(other + "," + testKey)
	if err != nil {
		t.Fatal(err)
	}
	p, _ = d.host(func(c *stack.Config) { c.Store = stack.NewStore(d.pool, both) })
	wantResult(t, d.wait(p, r.ID), `[{"slept":true,"duration":100},"woke"]`)
	if n := d.count(`select count(*) from task_runs where stuck_reason is not null`); n != 0 {
		t.Error("the run is shown as stuck")
	}
	if n := d.count(`select count(distinct key_id) from amber.replies`); n != 2 {
		t.Errorf("rows are sealed with %d keys, want both", n)
	}
}

func TestQueuedRunWithoutABodyIsAdopted(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"double": `module.exports = async ({ n }) => n * 2`})
	p, _ := d.host(nil)
	run := uuid.New()
	d.exec(`insert into task_runs (id, task_name, input, status) values ($1, 'double', '{"n":5}', 'queued')`, run)
	wantResult(t, d.wait(p, run), `10`)
	later := uuid.New()
	d.exec(`insert into task_runs (id, task_name, input, status, scheduled_for, created_at)
		values ($1, 'double', '{"n":6}', 'queued', now() + interval '1 day', now() - interval '1 hour')`, later)
	missing := uuid.New()
	d.exec(`insert into task_runs (id, task_name, status) values ($1, 'no such task', 'queued')`, missing)
	wantError(t, d.wait(p, missing), service.CodeTaskNotFound)
	if n := d.count(`select count(*) from task_runs where id = $1 and status = 'queued'`, later); n != 1 {
		t.Error("a run that is scheduled for tomorrow did not wait")
	}
	d.exec(`update task_runs set scheduled_for = now() where id = $1`, later)
	wantResult(t, d.wait(p, later), `12`)
}

// TestReplyGivenWithSQL: a waiting body hears of a call that somebody completed
// by hand, and of one that was failed by hand.
func TestReplyGivenWithSQL(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"wait": `module.exports = async (i, { tools }) => { try { return await tools.sleep(3600000) } catch (e) { return 'failed: ' + e.message } }`,
	})
	p, _ := d.host(nil)
	for _, c := range []struct{ set, want string }{
		{`status = 'completed', result = '{"by":"hand"}'`, `{"by":"hand"}`},
		{`status = 'failed', error = '"no more patience"'`, `"failed: no more patience"`},
		{`status = 'failed', error = '{"message":"an object"}'`, `"failed: an object"`},
	} {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "wait"})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the timer sleeps", func() bool {
			return d.count(`select count(*) from stack_runs where status = 'sleeping' and parent_task_run_id = $1`, r.ID) == 1
		})
		d.exec(`update stack_runs set `+c.set+`, ended_at = now() where status = 'sleeping' and parent_task_run_id = $1`, r.ID)
		wantResult(t, d.wait(p, r.ID), c.want)
	}
}

// gate is a service whose calls wait until they are let go, and that counts.
type gate struct {
	open   chan struct{}
	answer json.RawMessage // nil: the first argument
	calls  atomic.Int64
	keys   sync.Map
}

func (g *gate) Call(ctx context.Context, c service.Call, m service.Meta) (json.RawMessage, error) {
	g.calls.Add(1)
	var claims struct{ Sub string }
	_ = json.Unmarshal(m.Claims, &claims)
	g.keys.Store([4]string{m.IdempotencyKey, m.Task, m.Owner, claims.Sub}, true)
	select {
	case <-g.open:
		if g.answer != nil {
			return g.answer, nil
		}
		return c.Args()[0], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestDrainAndTakeOver: a host that leaves gives back what it held; another one
// makes the call again under the same key and the run goes on.
func TestDrainAndTakeOver(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => [await tools.tasks.execute('inner'), 'outer']`,
		"inner": `module.exports = async (i, { tools }) => { const before = new Map([['k', 1]]); const v = await tools.gate.pass('x'); return [v, before.get('k')] }`,
	})
	g := &gate{open: make(chan struct{})}
	with := func(c *stack.Config) {
		c.Services = map[string]service.Service{"gate": g}
		c.Drain = 10 * time.Millisecond
	}
	p, stop := d.host(with)
	owner := uuid.NewString()
	r, err := p.Start(t.Context(), stack.StartParams{Task: "outer",
		Caller: stack.Caller{Owner: owner, Role: "authenticated", Claims: json.RawMessage(`{"sub":"` + owner + `"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the call is made", func() bool { return g.calls.Load() == 1 })
	stop()
	if n := d.count(`select count(*) from stack_runs where claimed_by is not null or status = 'processing'`); n != 0 {
		t.Fatalf("a host that left still holds %d rows\n%s", n, d.dump())
	}
	close(g.open)
	p, _ = d.host(with)
	wantResult(t, d.wait(p, r.ID), `[["x",1],"outer"]`)
	seen := 0
	g.keys.Range(func(key, _ any) bool {
		seen++
		if k := key.([4]string); k[1] != "inner" || k[2] != owner || k[3] != owner {
			t.Errorf("the call was made as %v, not for %s", k, owner)
		}
		return true
	})
	if g.calls.Load() != 2 || seen != 1 {
		t.Errorf("%d calls under %d keys and callers, want 2 under 1", g.calls.Load(), seen)
	}
}

// TestHostsShare: four hosts, one database, many runs: each ends once, with the
// right result.
func TestHostsShare(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"mix": `module.exports = async ({ n }, { tools }) => {
			const [a, b] = await Promise.all([tools.tasks.execute('double', { n }), tools.sleep(n % 7), tools.echo.value(n)]);
			return a + await tools.echo.value(1) + await tools.tasks.execute('double', { n: 1 }) }`,
	})
	const runs = 40
	ids := make([]uuid.UUID, runs)
	for i := range ids {
		ids[i] = d.enqueue("mix", fmt.Sprintf(`{"n":%d}`, i)) // nobody holds them
	}
	var p *stack.Processor
	for range 4 {
		p, _ = d.host(func(c *stack.Config) { c.MaxBodies = 8 })
	}
	for i, id := range ids {
		wantResult(t, d.wait(p, id), fmt.Sprint(i*2+3))
	}
	if n := d.count(`select count(*) from stack_runs where status not in ('completed')`); n != 0 {
		t.Errorf("%d rows have not completed\n%s", n, d.dump())
	}
	if n := d.count(`select count(*) from stack_runs`); n != runs*6 {
		t.Errorf("%d rows, want %d: a call was made twice", n, runs*6)
	}
}

// TestLostLease: a host whose incarnation is declared dead while it works
// commits nothing more under it, and goes on as a new one.
func TestLostLease(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"pass": `module.exports = async (i, { tools }) => await tools.gate.pass('once')`,
	})
	g := &gate{open: make(chan struct{})}
	p, _ := d.host(func(c *stack.Config) {
		c.Services = map[string]service.Service{"gate": g}
		c.Lease = 1500 * time.Millisecond
	})
	r, err := p.Start(t.Context(), stack.StartParams{Task: "pass"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the call is made", func() bool { return g.calls.Load() == 1 })
	var old uuid.UUID
	if err := d.pool.QueryRow(t.Context(), `
		update amber.hosts set expires_at = now() - interval '1 hour'
		where id = (select claimed_by from stack_runs where service_name = 'gate') returning id`).Scan(&old); err != nil {
		t.Fatal(err)
	}
	d.eventually("the call is claimed by the new incarnation", func() bool {
		return d.count(`select count(*) from stack_runs where service_name = 'gate' and status = 'processing' and claimed_by <> $1`, old) == 1
	})
	close(g.open)
	wantResult(t, d.wait(p, r.ID), `"once"`)
	if n := d.count(`select attempt from stack_runs where service_name = 'gate'`); n < 1 {
		t.Errorf("attempt is %d: the call was not claimed again", n)
	}
}

// TestNoMemoryForWhatSleeps: a body that waits for a timer has no frame, timer
// or goroutine in the process; the tables alone wake it.
func TestSleepersOutliveTheirHost(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleeper": `module.exports = async ({ ms }, { tools }) => { const t = Date.now(); await tools.sleep(ms); return Date.now() - t >= ms }`,
		"parent":  `module.exports = async (i, { tools }) => await tools.tasks.execute('sleeper', { ms: 400 })`,
	})
	p, stop := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "parent"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the timer sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	stop()
	if n := d.count(`select count(*) from stack_runs where claimed_by is not null`); n != 0 {
		t.Errorf("%d rows are held by a host that left", n)
	}
	p, _ = d.host(nil)
	wantResult(t, d.wait(p, r.ID), `true`)
}

// TestUnreadableSnapshotIsParked: a body whose snapshot is damaged is taken out
// of circulation with a reason, and blocks nobody.
func TestUnreadableSnapshotIsParked(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleeper": `module.exports = async (i, { tools }) => await tools.sleep(200)`,
		"ok":      `module.exports = async () => 'ok'`,
	})
	p, stop := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("it sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	stop()
	d.exec(`update amber.snapshots set data = set_byte(data, octet_length(data) - 3, 255 - get_byte(data, octet_length(data) - 3))`)
	p, _ = d.host(nil)
	d.eventually("the run is parked with a reason", func() bool {
		return d.count(`select count(*) from task_runs where id = $1 and stuck_reason like '%snapshot%'`, r.ID) == 1
	})
	wantResult(t, d.run(p, "ok", "null"), `"ok"`)
	if n := d.count(`select count(*) from stack_runs where status = 'processing'`); n != 0 {
		t.Errorf("%d rows are still held", n)
	}
}

// vault has secrets in arguments and replies.
type vault struct{}

func (vault) Call(_ context.Context, c service.Call, _ service.Meta) (json.RawMessage, error) {
	if c.Method() == "get" {
		return json.RawMessage(`"hunter2"`), nil
	}
	return json.RawMessage(`true`), nil
}

func (vault) Secret(c service.Call) (args, reply bool) {
	return c.Method() == "set", c.Method() == "get"
}

// TestSecretsAreNotShown: the task gets the secret, the public rows do not, and
// neither does anybody who reads the engine's tables.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"t": `module.exports = async (i, { tools }) => {
		const s = await tools.vault.get('k'); await tools.vault.set('k', s); await tools.sleep(1); return s.length }`})
	p, _ := d.host(func(c *stack.Config) { c.Services = map[string]service.Service{"vault": vault{}} })
	wantResult(t, d.run(p, "t", "null"), `7`)
	if n := d.count(`select count(*) from stack_runs where result = '{"redacted": true}' and method_name = 'get'
		or args = '[{"redacted": true}]' and method_name = 'set'`); n != 2 {
		t.Errorf("%d rows are redacted, want 2", n)
	}
	for _, table := range []string{"stack_runs", "task_runs", "amber.replies", "amber.snapshots", "amber.logs"} {
		if n := d.count(`select count(*) from ` + table + ` x where x::text like '%hunter2%' or x::text like '%68756e74657232%'`); n != 0 {
			t.Errorf("%s shows the secret", table)
		}
	}
}

// TestConnectionsCut: while runs are under way every connection is cut again
// and again, before and after commits are answered. Every run still ends once,
// with the right result.
func TestConnectionsCut(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"add": `module.exports = async ({ a, b }) => a + b`,
		"sum": `module.exports = async ({ n }, { tools }) => { let s = 0;
			for (let i = 1; i <= n; i++) s = await tools.tasks.execute('add', { a: s, b: await tools.echo.value(i) });
			await tools.sleep(20); return s }`,
	})
	ids := make([]uuid.UUID, 12)
	for i := range ids {
		ids[i] = d.enqueue("sum", fmt.Sprintf(`{"n":%d}`, 10+i))
	}
	p, _ := d.host(nil)
	for cuts := 0; cuts < 25; cuts++ {
		d.cut()
		time.Sleep(20 * time.Millisecond) // the load, not a synchronisation
	}
	for i, id := range ids {
		n := 10 + i
		d.eventually("the run ends", func() bool { r, err := d.store.Run(context.Background(), id); return err == nil && r.Ended() })
		wantResult(t, d.wait(p, id), fmt.Sprint(n*(n+1)/2))
	}
	if n := d.count(`select count(*) from stack_runs where status <> 'completed'`); n != 0 {
		t.Errorf("%d rows have not completed\n%s", n, d.dump())
	}
}

// cut ends every connection to the database but the one it uses.
func (d *db) cut() {
	conn, err := pgx.Connect(context.Background(), d.dsn)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid()`); err != nil {
		d.t.Fatal(err)
	}
}

// TestRefusedByPostgres: what no check of ours foresees, Postgres refuses. The
// task gets an error or the run is parked with the reason; nothing spins.
func TestRefusedByPostgres(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"reply":  `module.exports = async (i, { tools }) => { try { return await tools.echo.value('poison') } catch (e) { return e.code } }`,
		"result": `module.exports = async () => 'poison'`,
		"call":   `module.exports = async (i, { tools }) => await tools.sleep(1, 'poison')`,
		"ok":     `module.exports = async () => 'ok'`,
	})
	d.exec(`alter table stack_runs add constraint poison_result check (result is distinct from '"poison"')`)
	d.exec(`alter table stack_runs add constraint poison_args check (args is distinct from '[1, "poison"]')`)
	p, _ := d.host(nil)
	wantResult(t, d.run(p, "reply", "null"), `"INVALID_RESULT"`)
	wantError(t, d.run(p, "result", "null"), service.CodeInvalidResult)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "call"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the run is parked with the reason", func() bool {
		return d.count(`select count(*) from task_runs where id = $1 and stuck_reason like '%poison_args%'`, r.ID) == 1
	})
	wantResult(t, d.run(p, "ok", "null"), `"ok"`)
	if n := d.count(`select count(*) from stack_runs where status = 'processing'`); n != 0 {
		t.Errorf("%d rows are still held\n%s", n, d.dump())
	}
}

// TestForgottenRows: a row that was claimed for this host by a commit whose
// answer never came is given back and run.
func TestForgottenRows(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	d.host(func(c *stack.Config) { c.Lease = time.Second })
	d.exec(`insert into stack_runs (service_name, method_name, args, status, claimed_by, updated_at)
		select 'echo', 'value', '[5]', 'processing', id, now() - interval '1 hour' from amber.hosts`)
	d.eventually("the call is made", func() bool {
		return d.count(`select count(*) from stack_runs where status = 'completed' and result = '5'`) == 1
	})
}

// TestDeletedUnderARun: whoever deletes rows under a run that waits for them
// gets a run that ends or says why it does not.
func TestDeletedUnderARun(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleeper": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`,
		"parent":  `module.exports = async (i, { tools }) => { try { return await tools.tasks.execute('sleeper') } catch (e) { return e.code } }`,
	})
	p, _ := d.host(nil)
	start := func() stack.Run {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "parent"})
		if err != nil {
			t.Fatal(err)
		}
		d.eventually("the nested run sleeps", func() bool {
			return d.count(`select count(*) from stack_runs s join task_runs t on t.id = s.parent_task_run_id
				where s.status = 'sleeping' and t.parent_run_id = $1`, r.ID) == 1
		})
		return r
	}
	nested := start()
	d.exec(`delete from task_runs where parent_run_id = $1`, nested.ID)
	wantResult(t, d.wait(p, nested.ID), `"RUN_DELETED"`)

	call := start()
	d.exec(`delete from stack_runs where parent_task_run_id = $1 and call_id is not null`, call.ID)
	if n := d.count(`select count(*) from task_runs where id = $1 and stuck_reason like '%was deleted%'`, call.ID); n != 1 {
		t.Errorf("the run does not say why it is stuck\n%s", d.dump())
	}

	body := start()
	d.exec(`delete from stack_runs where child_task_run_id = $1`, body.ID)
	if r := d.wait(p, body.ID); r.Status != stack.StatusFailed || !strings.Contains(string(r.Error), "RUN_DELETED") {
		t.Errorf("a run without its body is %s: %s", r.Status, r.Error)
	}
	if n := d.count(`select count(*) from task_runs where parent_run_id = $1 and status <> 'failed'`, body.ID); n != 0 {
		t.Errorf("%d nested runs of a deleted body have not failed\n%s", n, d.dump())
	}

	whole := start()
	d.exec(`delete from task_runs where id = $1`, whole.ID)
	if n := d.count(`select count(*) from stack_runs where parent_task_run_id = $1`, whole.ID); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}
