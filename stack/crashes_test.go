package stack_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
)

// playBrief is a host that works until it is killed, with leases that end soon
// and room for two bodies.
func playBrief(ctx context.Context, c child) error {
	return c.processor(func(cfg *stack.Config) {
		cfg.Lease, cfg.Sweep, cfg.MaxBodies = time.Second, 20*time.Millisecond, 2
	}).Run(ctx)
}

// TestQuarantine: a body during which its hosts die is run on its own, and after
// five of them parked, with the reason. It blocks nobody, and no body that was
// merely beside it is parked.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"poison": `module.exports = async (i, { tools }) => { await tools.sleep(1); for (;;); }`,
		"long":   `module.exports = async (n) => { const until = Date.now() + 600; while (Date.now() < until); return n }`,
		"after":  `module.exports = async (n) => n`,
	})
	poison := d.enqueue("poison", "null")
	var beside []uuid.UUID
	for i := range 3 {
		beside = append(beside, d.enqueue("long", fmt.Sprint(i)))
	}
	body := func(status string) bool {
		return d.count(`select count(*) from stack_runs s where child_task_run_id = $1 and sequence = 1 and `+status, poison) == 1
	}
	kills := 0
	for ; !body("stuck_reason is not null"); kills++ {
		if kills > 5 {
			t.Fatalf("%d hosts died of it\n%s", kills, d.dump())
		}
		cmd := d.command("brief", "")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		d.eventually("the poison is run, or parked", func() bool { return body("(status = 'processing' or stuck_reason is not null)") })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		d.exec(`update amber.hosts set expires_at = now() - interval '1 second'`)
		if _, _, err := d.store.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if kills != 5 {
		t.Errorf("it was parked after %d hosts were lost, want 5", kills)
	}
	p, stop := d.host(nil) // which lets what was parked try again, but for this
	for i, id := range beside {
		wantResult(t, d.wait(p, id), fmt.Sprint(i))
	}
	wantResult(t, d.run(p, "after", "7"), "7")
	wantResult(t, d.wait(p, d.enqueue("after", "8")), "8")
	r, err := d.store.Run(t.Context(), poison)
	if err != nil || r.StuckReason == nil || !strings.Contains(*r.StuckReason, "It was being run when hosts were lost, 5 times in a row") {
		t.Errorf("it is said of the run: %v, %v", r.StuckReason, err)
	}
	stop()
	if n := d.count(`select attempt from stack_runs where child_task_run_id = $1`, poison); n > 7 {
		t.Errorf("it was claimed %d times", n)
	}
	// It is tried again when somebody says so.
	if _, err := d.store.Publish(t.Context(), stack.Task{Name: "poison", Code: `module.exports = 1`}); err != nil {
		t.Fatal(err)
	}
	d.exec(`update stack_runs set stuck_reason = null where child_task_run_id = $1`, poison)
	cmd := d.command("brief", "")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.eventually("it is run again", func() bool { return body("status = 'processing'") })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// TestSuspects: bodies that were running when two hosts were lost are run one at
// a time, and forgotten once they make progress.
func TestSuspects(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"once": `module.exports = async (n, { tools }) => { await tools.echo.value(1); return n }`})
	lost := stack.Host{Name: "lost", Engines: []string{d.engineID()}}
	var runs []uuid.UUID
	for i := range 6 {
		runs = append(runs, d.enqueue("once", fmt.Sprint(i)))
	}
	for range 2 {
		h, err := d.store.Register(t.Context(), lost, time.Hour, false)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := d.store.Claim(t.Context(), h, stack.ClaimAll, 10)
		if err != nil || len(claims) != len(runs) {
			t.Fatalf("%d claims, %v", len(claims), err)
		}
		d.exec(`update amber.hosts set expires_at = now() - interval '1 second'`)
		if late, err := d.store.Claim(t.Context(), h, stack.ClaimAll, 10); len(late) > 0 || err != nil {
			t.Errorf("a host whose lease has run out claims %d rows, %v", len(late), err)
		}
		freed, _, err := d.store.Reap(t.Context())
		if err != nil || freed != len(runs) {
			t.Fatalf("%d freed at once, %v", freed, err)
		}
	}
	h, err := d.store.Register(t.Context(), lost, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	if claims, err := d.store.Claim(t.Context(), h, stack.ClaimAll, 10); len(claims) != 0 || err != nil {
		t.Errorf("%d suspects are claimed together, %v", len(claims), err)
	}
	if _, suspects, err := d.store.Reap(t.Context()); !suspects || err != nil {
		t.Errorf("there are suspects: %v, %v", suspects, err)
	}
	p, stop := d.host(nil)
	for i, id := range runs {
		wantResult(t, d.wait(p, id), fmt.Sprint(i))
	}
	if _, suspects, err := d.store.Reap(t.Context()); suspects || err != nil {
		t.Errorf("there are suspects although all have ended: %v, %v", suspects, err)
	}
	stop()
	if _, stop = d.host(nil); true { // which forgets
		stop()
	}
	if n := d.count(`select count(*) from amber.crashes`); n != 0 {
		t.Errorf("%d bodies that have ended are still counted", n)
	}
}

// TestSuspectCall: somebody's row of a service that names a run as its child is
// counted as one, and gives back the slot that it takes.
func TestSuspectCall(t *testing.T) {
	t.Parallel()
	d := newDB(t, nil)
	id := uuid.New()
	d.exec(`insert into stack_runs (id, service_name, method_name, args, child_task_run_id) values ($1, 'echo', 'value', '[5]', gen_random_uuid())`, id)
	d.exec(`insert into amber.crashes values ($1, 0, 2)`, id)
	p, _ := d.host(func(c *stack.Config) { c.MaxCalls = 1 << 10 })
	d.eventually("the call is made", func() bool {
		return d.count(`select count(*) from stack_runs where status = 'completed' and result = '5'`) == 1
	})
	d.eventually("nothing is taken", func() bool { return len(p.Taken()) == 0 })
}

// engineID is the engine that the tests' hosts have.
func (d *db) engineID() string {
	d.t.Helper()
	e, err := engine()
	if err != nil {
		d.t.Fatal(err)
	}
	return e.Identity()
}
