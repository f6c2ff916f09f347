package stack_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

// drowsyTask is largeTask with a sleep after each call: any host goes on with it.
var drowsyTask = strings.Replace(largeTask, `const n = await tools.echo.value(i);`, `const n = await tools.echo.value(i); await tools.sleep(1);`, 1)

// sleepyTask is largeTask with a long sleep before its end.
var sleepyTask = strings.Replace(largeTask, `let sum = 0;`, `await tools.sleep(3600000); let sum = 0;`, 1)

// largeResult is what the tasks return that hold much.
func largeResult(times int) string {
	prices := make([]float64, 8000)
	for i := range prices {
		prices[i] = float64(i) / 4
	}
	for n := range times {
		for k := range 10 {
			prices[(n*37+k*101)%8000] = float64(n + k)
		}
	}
	sum := 0.0
	for i, price := range prices {
		sum += price*float64(len(fmt.Sprint("order ", i))) + 2
	}
	text, _ := json.Marshal([]any{8000, sum})
	return string(text)
}

// mostRows is how many rows of snapshots some body has.
func (d *db) mostRows() int {
	return d.count(`select coalesce(max(n), 0) from (select count(*) as n from amber.snapshots group by stack_run_id) bodies`)
}

func (d *db) noSnapshots() {
	d.t.Helper()
	if n := d.count(`select count(*) from amber.snapshots`); n != 0 {
		d.t.Errorf("%d snapshots are left of runs that have ended", n)
	}
}

// TestLargeBodyOnManyHosts: each slice of a body that holds 2 MB runs in another
// process, the one before having died by SIGKILL right after it committed an
// increment.
func TestLargeBodyOnManyHosts(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"large": largeTask})
	id := d.enqueue("large", `{"times":20}`)
	deaths := d.seeThrough(id)
	if deaths < 20 {
		t.Errorf("%d hosts died", deaths)
	}
	r, err := d.store.Run(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wantResult(t, r, largeResult(20))
	d.noSnapshots()
}

// TestLargeBodiesAmongHosts: hosts take turns with bodies that hold 2 MB; one is
// killed, one told to leave. A body has 16 rows at most while it runs, and none
// when it has ended.
func TestLargeBodiesAmongHosts(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"drowsy": drowsyTask})
	f := &fleet{d: d}
	f.add()
	f.add()
	var runs []uuid.UUID
	for range 3 {
		runs = append(runs, d.enqueue("drowsy", `{"times":20}`))
	}
	most := 0
	reach := func(calls int) {
		d.eventually(fmt.Sprintf("%d calls have ended", calls), func() bool {
			most = max(most, d.mostRows())
			return d.count(`select count(*) from stack_runs where call_id is not null and status = 'completed'`) >= calls
		})
	}
	reach(30)
	f.add()
	f.remove(syscall.SIGKILL)
	reach(60)
	f.add()
	f.remove(syscall.SIGTERM)
	reach(3 * 2 * 20)
	p, _ := d.host(nil)
	for _, id := range runs {
		wantResult(t, d.wait(p, id), largeResult(20))
	}
	if most < 2 || most > 16 {
		t.Errorf("a body had %d rows of snapshots, want 2 to 16", most)
	}
	d.noSnapshots()
	for range 2 {
		f.remove(syscall.SIGTERM)
	}
}

// asleep starts a body that holds 2 MB and waits until it sleeps, with a key
// frame and 4 increments.
func (d *db) asleep(p *stack.Processor) uuid.UUID {
	d.t.Helper()
	r, err := p.Start(d.t.Context(), stack.StartParams{Task: "sleepy", Input: json.RawMessage(`{"times":4}`)})
	if err != nil {
		d.t.Fatal(err)
	}
	d.eventually("it sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	if n := d.count(`select count(*) from amber.snapshots where sequence between 1 and 5`); n != 5 {
		d.t.Fatalf("%d rows of snapshots, want 5", n)
	}
	return r.ID
}

// TestChainIsResealed: the rows of one body are sealed anew one by one, and a host
// with the new key alone ends it.
func TestChainIsResealed(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"sleepy": sleepyTask})
	store, both := d.withRing(newKey + "," + testKey)
	p, stop := d.host(nil)
	id := d.asleep(p)
	stop()
	rows := 0
	for n := 1; n > 0; rows += n {
		var err error
		if n, err = store.Reseal(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if n > 2 {
			t.Errorf("%d rows at once", n)
		}
	}
	if n := d.count(`select count(distinct (sequence, data)) from amber.snapshots where key_id = 'new'`); n != 5 || rows < 5 {
		t.Errorf("%d snapshots of %d rows are sealed anew", n, rows)
	}
	if uses, err := store.KeyUse(t.Context()); err != nil || uses[0].ID != "new" || uses[0].Snapshots < 2 || uses[0].Waiting != 1 {
		t.Errorf("%+v %v", uses, err)
	}
	_, only := d.withRing(newKey)
	p, _ = d.host(func(c *stack.Config) { both(c); only(c) })
	d.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
	wantResult(t, d.wait(p, id), largeResult(4))
	d.noSnapshots()
}

// TestChainOfTwoKeys: a host that lacks the key of one row of a chain leaves the
// body to one that has it.
func TestChainOfTwoKeys(t *testing.T) {
	t.Parallel()
	k := newKeyed(t, map[string]string{"sleepy": sleepyTask})
	id := k.asleep(k.lacking)
	for sealed := 0; sealed == 0; {
		if n, err := k.newer.Reseal(t.Context(), 1); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		sealed = k.count(`select count(*) from amber.snapshots where key_id = 'new'`)
	}
	k.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
	k.stuck(id)
	wantResult(t, k.wait(k.able(), id), largeResult(4))
	k.nothingStuck()
	k.noSnapshots()
}

// TestBrokenChainIsParked: a body whose chain lacks a row, or has another's in its
// place, is not gone on with; it goes on when the row is back.
func TestBrokenChainIsParked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ do, undo, why string }{
		"the key frame":     {`delete from only amber.snapshots`, `insert into amber.snapshots select * from kept where sequence = 1`, `its snapshot 5 is gone`},
		"an increment":      {`delete from amber.snapshots where sequence = 3`, `insert into amber.increments select * from kept where sequence = 3`, `number 4 comes after number 2`},
		"the last":          {`delete from amber.snapshots where sequence = 5`, `insert into amber.increments select * from kept where sequence = 5`, `its snapshot 5 is gone`},
		"one where another": {`update amber.snapshots set data = (select data from kept where sequence = 4) where sequence = 3`, `update amber.snapshots n set data = k.data from kept k where k.sequence = n.sequence`, `number 4 comes after number 2`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t, map[string]string{"sleepy": sleepyTask})
			p, stop := d.host(nil)
			id := d.asleep(p)
			stop()
			d.exec(`create table kept as select * from amber.snapshots`)
			d.exec(c.do)
			_, stop = d.host(nil)
			d.exec(`update stack_runs set due_at = now() where status = 'sleeping'`)
			d.eventually("it is parked with the reason", func() bool {
				return d.count(`select count(*) from task_runs where id = $1 and stuck_reason is not null`, id) == 1
			})
			stop()
			if r, err := d.store.Run(t.Context(), id); err != nil || !strings.Contains(*r.StuckReason, c.why) {
				t.Errorf("stuck because %q (%v), want %q", *r.StuckReason, err, c.why)
			}
			d.exec(c.undo)
			p, _ = d.host(nil)
			wantResult(t, d.wait(p, id), largeResult(4))
			d.noSnapshots()
		})
	}
}
