package stack_test

import (
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/stack"
)

// TestBodyOfAnotherEngine: a host passes by what an engine that it lacks has
// suspended, and the run says so while no host has it; one that carries it
// along counts as having it.
func TestBodyOfAnotherEngine(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"waits": `module.exports = async (i, { tools }) => { await tools.sleep(3600000); return 'woken' }`,
		"adds":  adds,
	})
	p, _ := d.host(func(c *stack.Config) { c.Lease = 1500 * time.Millisecond })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "waits"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("it waits", func() bool {
		return d.count(`select count(*) from stack_runs where child_task_run_id = $1 and status = 'suspended_waiting_child'`, r.ID) == 1
	})
	const other = "feedfacefeedface"
	d.exec(`update stack_runs set engine = $2, status = 'pending_resume' where child_task_run_id = $1`, r.ID, other)
	d.eventually("it is told to be stuck", func() bool {
		run, err := d.store.Run(t.Context(), r.ID)
		return err == nil && run.StuckReason != nil && strings.Contains(*run.StuckReason, "No host that runs has the engine that suspended it (feedfacefeed)")
	})
	wantResult(t, d.wait(p, d.enqueue("adds", `{"n":1}`)), "2")
	if n := d.count(`select count(*) from stack_runs where child_task_run_id = $1 and (claimed_by is not null or attempt > 1)`, r.ID); n != 0 {
		t.Errorf("a host without the engine claimed it\n%s", d.dump())
	}
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	carrier, err := d.store.Register(t.Context(), stack.Host{Name: "carrier", Engines: append(e.Identities(), other)}, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.store.ParkEngineless(t.Context()); n != 0 || err != nil {
		t.Errorf("%d rows are parked although a host has their engine: %v", n, err)
	}
	claims, err := d.store.Claim(t.Context(), carrier, stack.ClaimAll, 10)
	if err == nil && len(claims) == 1 {
		err = d.store.Open(t.Context(), carrier, &claims[0])
	}
	if err != nil || len(claims) != 1 || claims[0].Body == nil || claims[0].Body.TaskRun != r.ID {
		t.Errorf("the host that carries it along claimed %+v, %v", claims, err)
	}
}
