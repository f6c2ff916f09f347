package stack_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

// deletions has each transaction note how many rows it deletes.
func (d *db) deletions() {
	d.t.Helper()
	d.exec(`create table deletions (txid xid8 default pg_current_xact_id(), name text, n int)`)
	d.exec(`create function note_deletions() returns trigger language plpgsql as $$
		begin insert into public.deletions (name, n) select tg_table_name, count(*) from gone; return null; end $$`)
	for _, table := range []string{"public.task_runs", "public.stack_runs", "amber.logs", "amber.replies"} {
		d.exec(`create trigger note after delete on ` + table + ` referencing old table as gone for each statement execute function note_deletions()`)
	}
}

// TestRemovedInBatches: no transaction removes more than a batch, however large a
// tree is; what is removed in part is not retried, is the first to go on with, and
// has its root until the end.
func TestRemovedInBatches(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	wide := d.run(p, "wide", `{"calls":900,"runs":100,"lines":1200}`)
	deep := d.run(p, "deep", `100`)
	many := []uuid.UUID{wide.ID, deep.ID}
	for range 20 {
		many = append(many, d.run(p, "pair", "null").ID)
	}
	ids := []string{}
	for _, id := range many {
		ids = append(ids, d.ids(id)...)
		d.age(id, 8)
	}
	d.deletions()
	rows := d.count(`select (select count(*) from task_runs) + (select count(*) from stack_runs) + (select count(*) from amber.logs)`)
	parts, removed := 0, 0
	for over := false; !over; {
		d.exec(`update amber.removal set next_at = now()`)
		did, err := d.store.RemoveEnded(t.Context(), week, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		over = did.Over
		removed += did.Rows
		if d.count(`select count(*) from amber.removal where part = $1`, wide.ID) == 1 {
			parts++
			if !d.there(wide.ID) {
				t.Error("the root of a tree is gone before the rest")
			}
			for _, anew := range []bool{false, true} {
				if err := d.store.RetryRun(t.Context(), wide.ID, anew); err == nil || !strings.Contains(err.Error(), "is being removed: start another") {
					t.Errorf("a run that is removed in part is retried: %v", err)
				}
			}
		}
		if n := d.count(`select count(*) from stack_runs s where not exists (select from task_runs t where t.id = s.child_task_run_id) and s.child_task_run_id is not null
			or s.parent_stack_run_id is not null and not exists (select from stack_runs p where p.id = s.parent_stack_run_id)`); n > 0 {
			t.Errorf("%d rows are without what they hang on", n)
		}
	}
	if left := d.mentions(ids[:100]); len(left) > 0 || removed != rows {
		t.Errorf("%d of %d rows removed, left %v", removed, rows, left)
	}
	if n := d.count(`select max(n)::int from (select sum(n) as n from deletions where name <> 'replies' group by txid) d`); n > 502 {
		t.Errorf("%d rows in one transaction", n)
	}
	if n := d.count(`select max(n)::int from (select sum(n) as n from deletions where name = 'replies' group by txid) d`); n > 1004 {
		t.Errorf("%d replies in one transaction", n)
	}
	if n := d.count(`select count(distinct txid) from deletions where n > 0`); n < rows/502 || parts < 4 {
		t.Errorf("%d rows in %d batches, %d of them of one tree", rows, n, parts)
	}
}

// TestOneHostRemoves: of hosts that remove at once one does it at a time, what is
// removed is removed once, and after each batch there is a pause, whoever comes next.
func TestOneHostRemoves(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	for range 3 {
		d.age(d.run(p, "wide", `{"calls":600,"runs":20,"lines":0}`).ID, 8)
	}
	rows := d.count(`select (select count(*) from task_runs) + (select count(*) from stack_runs) + (select count(*) from amber.logs)`)
	var mu sync.Mutex
	removed, refused, batches := 0, 0, 0
	var hosts sync.WaitGroup
	for range 4 {
		hosts.Go(func() {
			for d.count(`select count(*) from task_runs`) > 0 {
				did, err := d.store.RemoveEnded(t.Context(), week, time.Millisecond)
				mu.Lock()
				removed += did.Rows
				if did.Rows > 0 {
					batches++
				} else {
					refused++
				}
				mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	hosts.Wait()
	if removed != rows || batches < rows/502 || refused < batches {
		t.Errorf("%d rows removed of %d, in %d batches; %d times it was not time", removed, rows, batches, refused)
	}
}

// TestRemovalPassesBy: what somebody holds is passed by, without waiting, and goes
// in the next round; a tree that is removed in part is waited for.
func TestRemovalPassesBy(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	held, other, part := d.run(p, "pair", "null").ID, d.run(p, "pair", "null").ID, d.run(p, "wide", `{"calls":600,"runs":0,"lines":0}`).ID
	d.age(held, 9)
	d.age(other, 8)
	for what, lock := range map[string]string{"run": `select id from task_runs where id = $1 for update`, "body": `select id from stack_runs where child_task_run_id = $1 for update`} {
		tx, err := d.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), lock, held); err != nil {
			t.Fatal(err)
		}
		d.round(week)
		if !d.there(held) || d.there(other) {
			t.Errorf("%s: the one that is held is there: %v, the other: %v", what, d.there(held), d.there(other))
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.round(week)
	if d.there(held) {
		t.Error("it is passed by for ever")
	}

	d.age(part, 8)
	d.exec(`update amber.removal set next_at = now()`)
	if _, err := d.store.RemoveEnded(t.Context(), week, time.Hour); err != nil {
		t.Fatal(err)
	}
	tx, err := d.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select id from task_runs where id = $1 for update`, part); err != nil {
		t.Fatal(err)
	}
	d.exec(`update amber.removal set next_at = now()`)
	did, err := d.store.RemoveEnded(t.Context(), 0, time.Hour)
	if err != nil || did.Rows != 0 || did.Over || did.Rest < 500*time.Millisecond || d.count(`select count(*) from amber.removal where part = $1`, part) != 1 {
		t.Errorf("of a tree that is held: %+v, %v", did, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.round(0) // what is begun is ended, whatever is set now
	if d.there(part) {
		t.Error("a part of a tree is left")
	}
}

// TestDrainStopsRemoval: a host that is told to stop begins no other batch, and
// leaves no half of one.
func TestDrainStopsRemoval(t *testing.T) {
	t.Parallel()
	d, p, idle := removing(t)
	run := d.run(p, "pair", "null").ID
	idle()
	d.exec(`create table shapes as select $1::uuid as root, 10000 as copies`, run)
	d.copyShapes("%I")
	d.exec(`update task_runs set ended_at = ended_at - interval '8 days'`)
	d.exec(`update amber.removal set next_at = now()`)
	_, stop := d.host(func(c *stack.Config) { c.Remove = time.Millisecond })
	all := d.count(`select count(*) from task_runs`)
	d.eventually("it has begun", func() bool { return d.count(`select count(*) from task_runs`) < all })
	stop()
	left := d.count(`select count(*) from task_runs`)
	if left == 0 {
		t.Fatal("all is removed: nothing is tested")
	}
	if n := d.count(`select count(*) from stack_runs`); n != 3*left {
		t.Errorf("%d runs and %d calls and bodies are left, want three to one", left, n)
	}
	d.exec(`update amber.removal set next_at = now()`)
	if n := d.count(`select count(*) from task_runs`); n != left {
		t.Errorf("%d runs were removed after the host had stopped", left-n)
	}
}

// TestRetriedUnderRemoval: a retry and the removal of one run at once come out as
// one after the other.
func TestRetriedUnderRemoval(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	retried, gone := 0, 0
	for range 40 {
		run := d.run(p, "fails", "null").ID
		d.age(run, 8)
		d.exec(`update amber.removal set next_at = now()`)
		var both sync.WaitGroup
		gun := make(chan struct{})
		var retry error
		both.Go(func() { <-gun; retry = d.store.RetryRun(t.Context(), run, false) })
		both.Go(func() {
			<-gun
			if _, err := d.store.RemoveEnded(t.Context(), week, time.Millisecond); err != nil {
				t.Error(err)
			}
		})
		close(gun)
		both.Wait()
		switch {
		case retry == nil && d.there(run):
			retried++
			d.wait(p, run)
			d.exec(`delete from task_runs where id = $1`, run)
		case errors.Is(retry, stack.ErrRunNotFound) && !d.there(run):
			gone++
		default:
			t.Fatalf("retry: %v, and the run is there: %v", retry, d.there(run))
		}
	}
	t.Logf("%d were retried, %d removed", retried, gone)
}

// TestRemovalLeavesWhatCannotGo: a run that cannot go, since somebody's table refers to it, stays
// with all that it called, is said, and keeps no other from going.
func TestRemovalLeavesWhatCannotGo(t *testing.T) {
	t.Parallel()
	d, p, _ := removing(t)
	d.exec(`create table orders (run uuid references task_runs (id))`)
	var runs []uuid.UUID
	for range 5 {
		runs = append(runs, d.run(p, "pair", "null").ID)
		d.age(runs[len(runs)-1], 8)
	}
	d.exec(`insert into orders values ('` + runs[0].String() + `'), ('` + runs[3].String() + `')`)
	below := len(d.ids(runs[0]))
	said := map[string]bool{}
	for over, n := false, 0; !over; n++ {
		if n == 50 {
			t.Fatal("no end of it")
		}
		d.exec(`update amber.removal set next_at = now()`)
		did, err := d.store.RemoveEnded(t.Context(), week, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if over = did.Over; did.Kept != nil {
			said[did.Kept.Error()] = true
		}
	}
	for i, run := range runs {
		if want := i == 0 || i == 3; d.there(run) != want {
			t.Errorf("run %d is there: %v, want %v", i, !want, want)
		}
	}
	if n := len(d.ids(runs[0])); n != below {
		t.Errorf("%d of %d rows of a run that stays", n, below)
	}
	if len(said) != 2 {
		t.Errorf("it was said: %v, want both", said)
	}
}
