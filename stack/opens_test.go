package stack_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// keyed is a database in which one host runs that has key "test" alone, and
// where rows may be sealed with key "new".
type keyed struct {
	*db
	lacking *stack.Processor // the host
	newer   *stack.Store     // seals with "new", opens both
	first   func(*stack.Config)
}

func newKeyed(t *testing.T, tasks map[string]string) keyed {
	d := newDB(t, tasks)
	k := keyed{db: d}
	k.newer, k.first = d.withRing(newKey + "," + testKey)
	if err := k.newer.NoteKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.lacking, _ = d.host(func(c *stack.Config) { c.HostName, c.Lease = "lacking", 1500*time.Millisecond })
	return k
}

// enqueueNew queues a run whose request is sealed with "new".
func (k keyed) enqueueNew(task, input string) uuid.UUID {
	k.t.Helper()
	b, err := k.newer.Start(k.t.Context(), stack.Host{}, stack.StartParams{Task: task, Input: json.RawMessage(input)}, false)
	if err != nil {
		k.t.Fatal(err)
	}
	return b.TaskRun
}

// able starts a host that has both keys, beside the other.
func (k keyed) able() *stack.Processor {
	k.t.Helper()
	_, both := k.withRing(testKey + "," + newKey)
	p, _ := k.host(both)
	return p
}

// stuck waits until a run is told to be, for want of key "new".
func (k keyed) stuck(run uuid.UUID) {
	k.t.Helper()
	k.eventually("the run is told to be stuck", func() bool {
		return k.count(`select count(*) from task_runs t join stack_runs s on s.child_task_run_id = t.id
			where t.id = $1 and t.stuck_reason = s.stuck_reason and s.stuck_key = 'new' and s.status in ('pending', 'pending_resume')
				and t.stuck_reason ~ 'No host that runs can open it: it is sealed with key new( and key test)?\. It goes on by itself when a host starts'`, run) == 1
	})
}

func (k keyed) nothingStuck() {
	k.t.Helper()
	if n := k.count(`select (select count(*) from task_runs where stuck_reason is not null) +
		(select count(*) from stack_runs where stuck_reason is not null or stuck_key is not null)`); n != 0 {
		k.t.Errorf("%d rows are stuck\n%s", n, k.dump())
	}
}

const adds = `module.exports = async ({ n }, { tools }) => await tools.echo.value(n) + await tools.echo.value(1)`

// TestRowsOfAKeyThatAHostLacks: it passes them by and does the others; they are
// told to be stuck; and a host that has the key, started beside it, ends them.
func TestRowsOfAKeyThatAHostLacks(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"adds": adds})
	var foreign []uuid.UUID
	for n := range 5 {
		foreign = append(foreign, k.enqueueNew("adds", fmt.Sprintf(`{"n":%d}`, n)))
	}
	for n := range 5 {
		wantResult(t, k.wait(k.lacking, k.enqueue("adds", fmt.Sprintf(`{"n":%d}`, n))), fmt.Sprint(n+1)) // queued behind the others
	}
	if id, ok, err := k.lacking.ProcessNext(t.Context()); ok || err != nil {
		t.Errorf("it took %s (%v)", id, err)
	}
	for _, id := range foreign {
		k.stuck(id)
	}
	if n := k.count(`select count(*) from stack_runs where attempt > 0 and child_task_run_id = any($1)`, foreign); n != 0 {
		t.Errorf("%d rows were claimed by a host without their key", n)
	}
	p := k.able()
	for n, id := range foreign {
		wantResult(t, k.wait(p, id), fmt.Sprint(n+1))
	}
	k.nothingStuck()
}

// TestRowsOfAKeyThatAnotherHostHas are never stuck, and never claimed in vain.
func TestRowsOfAKeyThatAnotherHostHas(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"adds": adds})
	p := k.able()
	k.exec(`create table told (id uuid)`)
	k.exec(`create function tell() returns trigger language plpgsql as $$ begin insert into told values (new.id); return null; end $$`)
	k.exec(`create trigger tell after update on stack_runs for each row when (new.stuck_reason is not null) execute function tell()`)
	var runs []uuid.UUID
	for n := range 40 {
		runs = append(runs, k.enqueueNew("adds", fmt.Sprintf(`{"n":%d}`, n)), k.enqueue("adds", fmt.Sprintf(`{"n":%d}`, n)))
	}
	for i, id := range runs {
		wantResult(t, k.wait(p, id), fmt.Sprint(i/2+1))
	}
	if n := k.count(`select count(*) from stack_runs where attempt > 1`); n != 0 {
		t.Errorf("%d rows were claimed more than once", n)
	}
	if n := k.count(`select count(*) from told`); n != 0 {
		t.Errorf("%d times a row was stuck", n)
	}
}

// waits ends when its timer, which was set first, has rung.
const waits = `module.exports = async ({ n }, { tools }) => { const timer = tools.sleep(3600000);
	const call = tools.echo.value(n); return [await call, (await timer).slept] }`

// TestSnapshotOfAKeyThatAHostLacks: whoever ends the call that a body waits for
// does not get the body if it lacks the key of its snapshot.
func TestSnapshotOfAKeyThatAHostLacks(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"waits": waits})
	k.exec(`update amber.hosts set keys = '{}'`) // as a host of a version that did not tell them
	n, stop := k.host(k.first)
	k.exec(`update amber.hosts set keys = '{test}' where name = 'lacking'`)
	r, err := n.Start(t.Context(), stack.StartParams{Task: "waits", Input: json.RawMessage(`{"n":7}`)})
	if err != nil {
		t.Fatal(err)
	}
	k.eventually("it sleeps", func() bool {
		return k.count(`select count(*) from stack_runs where status = 'sleeping' and exists (select from stack_runs where service_name = 'echo' and delivered)`) == 1
	})
	stop()
	k.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
	k.stuck(r.ID)
	if n := k.count(`select count(*) from stack_runs where attempt > 0 and child_task_run_id = $1`, r.ID); n != 0 {
		t.Error("a host without the key of the snapshot claimed it")
	}
	wantResult(t, k.wait(k.able(), r.ID), `[7,true]`)
	k.nothingStuck()
}

// TestReplyOfAKeyThatAHostLacks: a body that the host could open, with a reply
// that it could not, is left to a host that can.
func TestReplyOfAKeyThatAHostLacks(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"waits": `module.exports = async (i, { tools }) => (await tools.sleep(3600000)).slept`})
	r, err := k.lacking.Start(t.Context(), stack.StartParams{Task: "waits"})
	if err != nil {
		t.Fatal(err)
	}
	k.eventually("it sleeps", func() bool { return k.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	k.inject(r.ID, `{"slept":"no"}`)
	k.stuck(r.ID)
	wantResult(t, k.wait(k.able(), r.ID), `"no"`)
	k.nothingStuck()
}

// inject answers the call that a run waits for, sealed with "new", and leaves
// the body to whoever takes it.
func (k keyed) inject(id uuid.UUID, value string) {
	k.t.Helper()
	cfg := stack.Config{Services: map[string]service.Service{"echo": echo{}}}
	k.first(&cfg)
	if _, err := stack.NewProcessor(cfg).Inject(k.t.Context(), id, json.RawMessage(value)); err != nil {
		k.t.Fatal(err)
	}
}

// TestReplyOfALackedKeyWhileTheBodyRuns: the slice is committed all the same,
// and the body left to a host that can open the reply.
func TestReplyOfALackedKeyWhileTheBodyRuns(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"waits": `module.exports = async (i, { tools }) => {
		const answered = tools.sleep(3600000);
		await tools.sleep(3600000);
		await tools.sleep(1);
		return (await answered).slept }`})
	r, err := k.lacking.Start(t.Context(), stack.StartParams{Task: "waits"})
	if err != nil {
		t.Fatal(err)
	}
	k.eventually("it sleeps", func() bool { return k.count(`select count(*) from stack_runs where status = 'sleeping'`) == 2 })

	// The next suspension waits before it locks the body.
	k.exec(`create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); return null; end $$`)
	k.exec(`create trigger wait before update of sequence on stack_runs for each statement execute function wait()`)
	gate, err := k.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Release()
	if _, err := gate.Exec(t.Context(), `select pg_advisory_lock(1)`); err != nil {
		t.Fatal(err)
	}
	k.exec(`update stack_runs set due_at = now() where call_id = 2`)
	k.eventually("the second slice is to be committed", func() bool {
		return k.count(`select count(*) from pg_locks where locktype = 'advisory' and not granted
			and database = (select oid from pg_database where datname = current_database())`) == 1
	})
	var call uuid.UUID
	if err := k.pool.QueryRow(t.Context(), `select id from stack_runs where call_id = 1`).Scan(&call); err != nil {
		t.Fatal(err)
	}
	k.inject(call, `{"slept":"no"}`)
	if _, err := gate.Exec(t.Context(), `select pg_advisory_unlock(1)`); err != nil {
		t.Fatal(err)
	}

	k.stuck(r.ID)
	if n := k.count(`select count(*) from stack_runs where child_task_run_id = $1 and sequence = 2`, r.ID); n != 1 {
		t.Errorf("the slice was not committed\n%s", k.dump())
	}
	wantResult(t, k.wait(k.able(), r.ID), `"no"`)
	k.nothingStuck()
}

// TestResealedRowsGoOn: what is stuck for want of a key goes on, in the host
// that lacked it, once it is sealed with another.
func TestResealedRowsGoOn(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"adds": adds})
	id := k.enqueueNew("adds", `{"n":1}`)
	k.stuck(id)
	both, _ := k.withRing(testKey + "," + newKey)
	for n := 1; n > 0; {
		var err error
		if n, err = both.Reseal(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
	}
	wantResult(t, k.wait(k.lacking, id), `2`)
	k.nothingStuck()
}

// TestUnnotedKey: rows of a key that nobody noted are claimed, and parked, by a
// host that lacks it; they too go on when a host has it.
func TestUnnotedKey(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"adds": adds})
	k.exec(`delete from amber.keys where id = 'new'`)
	id := k.enqueueNew("adds", `{"n":1}`)
	k.eventually("it is parked", func() bool {
		return k.count(`select count(*) from stack_runs where child_task_run_id = $1 and stuck_key = 'new' and attempt = 1`, id) == 1
	})
	r, err := k.store.Run(t.Context(), id)
	if err != nil || r.StuckReason == nil || !strings.Contains(*r.StuckReason, `open with key "new": keys: unknown key`) {
		t.Errorf("%+v %v", r, err)
	}
	if err := k.newer.CheckKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "host lacking runs without key") {
		t.Errorf("a host that seals with it starts beside one that lacks it: %v", err)
	}
	k.exec(`update amber.hosts set keys = '{test,new}'`) // of the host that lacks it, so that the key can be noted
	if err := k.newer.NoteKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantResult(t, k.wait(k.able(), id), `2`)
	k.nothingStuck()
}
