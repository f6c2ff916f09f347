package stack_test

import (
	"context"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// TestDepths: what is in the tables is counted, in each of its states.
func TestDepths(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleeper": `module.exports = async (i, { tools }) => { await tools.sleep(1e9) }`,
		"fails":   `module.exports = async (i, { tools }) => { await tools.echo.value(1); throw new Error('no') }`,
		"queued":  `module.exports = () => 1`,
	})
	p, stop := d.host(nil)
	for range 3 {
		if _, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper"}); err != nil {
			t.Fatal(err)
		}
	}
	d.run(p, "fails", "null") // keeps its snapshot
	d.eventually("all sleep", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 3 })
	now, err := d.store.Depths(t.Context(), time.Minute)
	if want := (stack.Depths{Parked: 3, Sleeping: 3, Hosts: 1}); err != nil || now != want {
		t.Errorf("%+v, %v, want %+v", now, err, want)
	}
	stop()
	for range 4 {
		d.enqueue("queued", "null")
	}
	d.exec(`update stack_runs set stuck_reason = 'x' where id = (select id from stack_runs where status = 'pending' limit 1)`)
	d.exec(`update stack_runs set stuck_reason = 'x', stuck_key = 'k' where id = (select id from stack_runs where status = 'pending' and stuck_reason is null limit 1)`)
	d.exec(`update stack_runs set due_at = now() - interval '1 s' where id = (select id from stack_runs where status = 'sleeping' limit 1)`)
	now, err = d.store.Depths(t.Context(), time.Minute)
	if want := (stack.Depths{Parked: 3, Sleeping: 3, Due: 1, Queued: 2, Stuck: 2}); err != nil || now != want {
		t.Errorf("%+v, %v, want %+v", now, err, want)
	}
}

// compareDepths: however much there is, so much of it is counted and no more.
func compareDepths(t *testing.T, d *db) {
	t.Helper()
	e, p := d.explained()
	now, err := e.store.Depths(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if now.Sleeping != stack.DepthsCounted || now.Stuck < 6000 || now.Queued != 0 {
		t.Errorf("%+v", now)
	}
	if snapshots := d.count(`select count(*) from only amber.snapshots`); now.Parked < snapshots*9/10 || now.Parked > snapshots*11/10 {
		t.Errorf("%d parked, and %d snapshots", now.Parked, snapshots)
	}
	all, err := p.taken()
	if err != nil {
		t.Fatal(err)
	}
	plan := all["Depths"]
	t.Logf("%.1f ms\n%s", plan.ms, plan.text)
	if len(plan.whole) > 0 || plan.rows > 4*stack.DepthsCounted+1000 {
		t.Errorf("looks at %d rows, all of %q:\n%s", plan.rows, plan.whole, plan.text)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tx, err := d.pool.Begin(late)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(late))
	if _, err := tx.Exec(late, `lock table stack_runs`); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.Depths(late, 50*time.Millisecond); err == nil || late.Err() != nil {
		t.Errorf("with a lock in its way: %v", err)
	}
}
