package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

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
