package stack_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// keeps waits for an hour with so many MB in its memory.
const keeps = `module.exports = async ({ mb }, { tools }) => { const kept = new Uint8Array(mb * 1e6); await tools.sleep(3600000); return kept.length }`

// withMemory makes a host one with that limit of memory, in MiB, that reads images
// from the database; what it gives to one VM is 16 MiB more.
func (d *db) withMemory(limit uint32) func(*stack.Config) {
	d.t.Helper()
	e, err := vm.New(context.Background(), vm.Options{CacheDir: engineCache(), Keys: ring(d.t), Limits: vm.Limits{Memory: limit << 20},
		LoadImage: func(ctx context.Context, digest vm.Digest) ([]byte, error) { return d.store.Image(ctx, digest[:]) }})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { e.Close(context.Background()) })
	return func(c *stack.Config) {
		c.Engine, c.HostName, c.Lease = e, fmt.Sprintf("%d MiB", limit), 1500*time.Millisecond
	}
}

// keep starts a run of keeps on p, and returns it when it waits.
func (d *db) keep(p *stack.Processor, mb int) uuid.UUID {
	d.t.Helper()
	r, err := p.Start(d.t.Context(), stack.StartParams{Task: "keeps", Input: fmt.Appendf(nil, `{"mb":%d}`, mb)})
	if err != nil {
		d.t.Fatal(err)
	}
	d.eventually("it waits", func() bool {
		return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`, r.ID) == 1
	})
	return r.ID
}

func (d *db) ring() {
	d.t.Helper()
	d.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
}

// TestBodyLargerThanAHostTakes: a host that ends the call which a body waits for
// leaves the body to others, and passes it by, if it is larger than it takes; the
// run says which setting to raise, and goes on when a host starts that takes it.
// Smaller bodies of the same host go on.
func TestBodyLargerThanAHostTakes(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"keeps": keeps, "adds": adds})
	p, stop := d.host(d.withMemory(64))
	large, small := d.keep(p, 40), d.keep(p, 1)
	stop()
	p, _ = d.host(d.withMemory(8))
	d.ring()
	wantResult(t, d.wait(p, small), "1000000")
	d.eventually("the large one is told to be stuck", func() bool {
		r, err := d.store.Run(t.Context(), large)
		if err != nil || r.StuckReason == nil {
			return false
		}
		var takes, gives, more int
		_, err = fmt.Sscanf(*r.StuckReason, "It takes %d MiB of memory, and the largest host that runs gives %d MiB to one task. "+
			"It goes on by itself when a host starts whose limit-memory (AMBER_LIMIT_MEMORY) is larger than that host's by %d MiB or more.", &takes, &gives, &more)
		if err != nil || takes < 40 || takes > 48 || gives != 24 || more != takes-gives {
			t.Fatalf("stuck since %q (%v)", *r.StuckReason, err)
		}
		return true
	})
	if n := d.count(`select count(*) from stack_runs where child_task_run_id = $1 and attempt = 0 and status = 'pending_resume' and stuck_reason is not null`, large); n != 1 {
		t.Errorf("a host that is too small took it\n%s", d.dump())
	}
	wantResult(t, d.wait(p, d.enqueue("adds", `{"n":1}`)), "2") // nothing stands behind it
	p, _ = d.host(d.withMemory(64))
	wantResult(t, d.wait(p, large), "40000000")
	if n := d.count(`select (select count(*) from task_runs where stuck_reason is not null) + (select count(*) from stack_runs where stuck_reason is not null)`); n != 0 {
		t.Errorf("%d rows are stuck\n%s", n, d.dump())
	}
}

// TestHostsOfTwoSizes: while a host runs that is large enough, bodies are never
// stuck and nobody takes one that is too large for it.
func TestHostsOfTwoSizes(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"keeps": keeps})
	large, _ := d.host(d.withMemory(32))
	small, _ := d.host(d.withMemory(4))
	d.exec(`create table told (host text)`)
	d.exec(`create function tell() returns trigger language plpgsql as $$ begin
		insert into told values (coalesce(new.stuck_reason, (select name from amber.hosts where id = new.claimed_by))); return null; end $$`)
	d.exec(`create trigger stuck after update on stack_runs for each row when (new.stuck_reason is not null) execute function tell()`)
	d.exec(`create trigger taken after update on stack_runs for each row when (new.claimed_by is not null and new.sequence > 0 and old.claimed_by is null
		and (new.vm_state ->> 'memoryBytes')::int > 20 * 1024 * 1024) execute function tell()`)
	var runs []uuid.UUID
	for range 6 {
		runs = append(runs, d.keep(large, 24), d.keep(small, 1))
	}
	d.ring()
	for i, id := range runs {
		wantResult(t, d.wait(small, id), []string{"24000000", "1000000"}[i%2])
	}
	if n := d.count(`select count(*) from told where host = '32 MiB'`); n != 6 {
		t.Errorf("%d times the large host took a large body, want 6", n)
	}
	if n := d.count(`select count(*) from told where host is distinct from '32 MiB'`); n != 0 {
		t.Errorf("%d times a body was stuck, or taken by the small host", n)
	}
}

// TestWhoIsLargeEnough: what is parked for want of memory is what no host could go
// on with that runs and has the engine and the keys.
func TestWhoIsLargeEnough(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"keeps": keeps})
	p, stop := d.host(nil)
	id := d.keep(p, 30)
	stop()
	d.exec(`update stack_runs set status = 'pending_resume' where child_task_run_id = $1`, id)
	d.exec(`delete from amber.hosts`)
	var size uint64
	if err := d.pool.QueryRow(t.Context(), `select size from amber.snapshots`).Scan(&size); err != nil {
		t.Fatal(err)
	}
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	host := func(memory uint64, engines ...string) stack.Host {
		return stack.Host{Name: "test", Engines: append(engines, e.Identities()...), Memory: memory}
	}
	small := host(size - 1)
	for _, c := range []struct {
		name    string
		hosts   []stack.Host
		sql     string // what becomes of the last one
		parked  bool
		claimed bool // by the last one
	}{
		{name: "no host"},
		{name: "one that is too small", hosts: []stack.Host{small}, parked: true},
		{name: "one that is just large enough", hosts: []stack.Host{small, host(size)}, claimed: true},
		{name: "one that does not tell", hosts: []stack.Host{small, host(0)}, claimed: true},
		{name: "one that carries its engine along", hosts: []stack.Host{small, host(size, "another")}, claimed: true},
		{name: "a large one without the engine", hosts: []stack.Host{small, {Name: "test", Engines: []string{"another"}, Memory: 2 * size}}, parked: true},
		{name: "only one without the engine", hosts: []stack.Host{{Name: "test", Engines: []string{"another"}, Memory: 1}}},
		{name: "a large one without the key", hosts: []stack.Host{small, host(size)}, sql: `update amber.hosts set keys = '{other}' where id = $1`, parked: true, claimed: true},
		{name: "a large one that is gone", hosts: []stack.Host{small, host(size)}, sql: `update amber.hosts set expires_at = now() - interval '1 s' where id = $1`, parked: true},
	} {
		d.exec(`delete from amber.hosts`)
		var last stack.Host
		for _, h := range c.hosts {
			if last, err = d.store.Register(t.Context(), h, time.Hour, false); err != nil {
				t.Fatal(err)
			}
		}
		if c.sql != "" {
			d.exec(c.sql, last.ID)
		}
		n, err := d.store.ParkTooLarge(t.Context())
		if err != nil || (n == 1) != c.parked {
			t.Errorf("%s: %d rows are parked (%v)", c.name, n, err)
		}
		d.exec(`update stack_runs set stuck_reason = null`)
		claims, err := d.store.Claim(t.Context(), last, stack.ClaimAll, 10)
		if err != nil || (len(claims) == 1) != c.claimed {
			t.Errorf("%s: it claims %d (%v)", c.name, len(claims), err)
		}
		d.exec(`update stack_runs set status = 'pending_resume', claimed_by = null where child_task_run_id = $1`, id)
	}
}

// TestRegisterWhileParking: a row that is being parked, for want of the host that
// is just registering, goes on.
func TestRegisterWhileParking(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"keeps": keeps})
	p, stop := d.host(nil)
	id := d.keep(p, 30)
	stop()
	d.exec(`update stack_runs set status = 'pending_resume' where child_task_run_id = $1`, id)
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Register(t.Context(), stack.Host{Name: "small", Engines: e.Identities(), Memory: 1 << 20}, time.Hour, false); err != nil {
		t.Fatal(err)
	}
	tx, err := d.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `select from stack_runs where child_task_run_id = $1 for update`, id); err != nil {
		t.Fatal(err)
	}
	waiting := func(what string) {
		d.eventually(what, func() bool {
			return d.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ $1`, what) == 1
		})
	}
	parked, registered := make(chan string, 1), make(chan error, 1)
	go func() {
		n, err := d.store.ParkTooLarge(context.Background())
		parked <- fmt.Sprint(n, err)
	}()
	waiting("large as materialized")
	go func() {
		_, err := d.store.Register(context.Background(), stack.Host{Name: "large", Engines: e.Identities(), Memory: e.MaxMemory()}, time.Hour, false)
		registered <- err
	}()
	waiting("pg_advisory_xact_lock")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-parked; got != "1 <nil>" {
		t.Errorf("parked %s, want 1", got)
	}
	if err := <-registered; err != nil {
		t.Error(err)
	}
	if n := d.count(`select count(*) from stack_runs where stuck_reason is not null`); n != 0 {
		t.Errorf("it is stuck although a host takes it\n%s", d.dump())
	}
	if n := d.count(`select count(*) from task_runs where stuck_reason is not null`); n != 0 {
		t.Error("its run is shown as stuck")
	}
}
