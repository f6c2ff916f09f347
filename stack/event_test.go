package stack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// heard keeps what an observer was told.
type heard struct {
	mu  sync.Mutex
	all []stack.Event
}

func (h *heard) observe(e stack.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, e)
}

// of are the events for which wanted is true.
func (h *heard) of(wanted func(stack.Event) bool) (found []stack.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.all {
		if wanted(e) {
			found = append(found, e)
		}
	}
	return found
}

// ended says how often what has ended, and how: "echo.value t completed".
func (h *heard) ended() map[string]int {
	n := map[string]int{}
	for _, e := range h.of(func(e stack.Event) bool { return e.Kind == stack.EventEnded }) {
		n[fmt.Sprintf("%s.%s %s %s", e.Service, e.Method, e.Task, e.Status)]++
	}
	return n
}

// TestEvents: each call, timer, body, try and slice is told of once, when it is committed.
func TestEvents(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => {
			await Promise.all([tools.tasks.execute('inner', 1), tools.tasks.execute('inner', 2)]);
			await tools.flaky.go();
			try { await tools.echo.fail('broke') } catch {}
			try { await tools.tasks.with({}) } catch {}
			try { await tools.sleep('x') } catch {}
			await tools.sleep(30);
			return await tools.with({ retries: 1, backoff: 1 }).tasks.execute('again').catch((e) => e.message) }`,
		"inner": `module.exports = async (n, { tools }) => { await tools.echo.value(n); return n }`,
		"again": `module.exports = async (n, { tools }) => { await tools.echo.value(1); throw new Error('no') }`,
	})
	var h heard
	f := &flaky{errs: []error{&service.Error{Message: "down", Status: 503, Code: "DOWN"}}, policy: quick}
	p, stop := d.host(func(c *stack.Config) { c.Services["flaky"], c.Observe = f, h.observe })
	r := d.run(p, "outer", "null")
	wantResult(t, r, `"no"`)
	stop()
	want := map[string]int{"tasks.execute inner completed": 2, "echo.value inner completed": 2, "flaky.go outer completed": 1,
		"echo.fail outer failed": 1, "sleep.sleep outer failed": 1, "sleep.sleep  completed": 1,
		"tasks.execute again failed": 1, "echo.value again completed": 2, "tasks.execute outer completed": 1}
	got := h.ended()
	delete(got, "tasks.with outer failed") // a proxy may make a call of it or not
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ended %v\nwant %v", got, want)
	}
	for _, e := range h.of(func(stack.Event) bool { return true }) {
		row := e.Kind == stack.EventEnded || e.Kind == stack.EventSuspended || e.Kind == stack.EventTried
		if row && (e.Root != r.ID || e.StackRun == uuid.Nil || e.At.IsZero()) {
			t.Errorf("an event without its run: %+v", e)
		}
	}
	tried := h.of(func(e stack.Event) bool { return e.Kind == stack.EventTried })
	if len(tried) != 2 || tried[0].Service != "flaky" || tried[0].Err.Code != "DOWN" || tried[1].Task != "again" || tried[1].TaskRun == uuid.Nil || tried[1].Slice.Began.IsZero() {
		t.Errorf("tries that failed: %+v", tried)
	}
	// Of outer one slice per await; of inner and of again two for each execution.
	slicesOf := func(task string, from stack.SliceFrom) int {
		return len(h.of(func(e stack.Event) bool { return e.Task == task && !e.Slice.Began.IsZero() && e.Slice.From == from }))
	}
	for task, n := range map[string]int{"outer": 1, "inner": 2, "again": 2} {
		if got := slicesOf(task, stack.FromCode); got != n {
			t.Errorf("%s began %d times, want %d", task, got, n)
		}
	}
	snapshots := len(h.of(func(e stack.Event) bool { return e.Kind == stack.EventSuspended && e.Snapshot > 0 }))
	resumed := len(h.of(func(e stack.Event) bool { return !e.Slice.Began.IsZero() && e.Slice.From != stack.FromCode }))
	if snapshots != resumed {
		t.Errorf("%d snapshots and %d slices that went on from one", snapshots, resumed)
	}
	commits := map[string]int{}
	for _, e := range h.of(func(e stack.Event) bool { return e.Kind == stack.EventCommit }) {
		if e.Outcome != stack.CommitDone || e.Took <= 0 {
			t.Errorf("commit: %+v", e)
		}
		commits[e.Transition]++
	}
	if commits["start"] != 1 || commits["suspend"] != snapshots || commits["retry"] != 2 || commits["end"] == 0 {
		t.Errorf("commits %v with %d snapshots", commits, snapshots)
	}
}

// TestWaited: what a slice waited is counted from when the timer was due, or the row was free.
func TestWaited(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"sleeper": `module.exports = async (i, { tools }) => { await tools.sleep(1); return 1 }`,
		"late":    `module.exports = () => 1`,
	})
	p, stop := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "sleeper", Delay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	var h heard
	d.exec(`update stack_runs set due_at = now() - interval '1 hour'`)
	p, stop = d.host(func(c *stack.Config) { c.Observe = h.observe })
	d.wait(p, r.ID)
	stop()
	free := d.enqueue("late", "null")
	d.exec(`alter table stack_runs disable trigger user`)
	d.exec(`update stack_runs set updated_at = now() - interval '1 hour' where status = 'pending'`)
	d.exec(`alter table stack_runs enable trigger user`)
	p, stop = d.host(func(c *stack.Config) { c.Observe = h.observe })
	d.wait(p, free)
	stop()
	claims := h.of(func(e stack.Event) bool { return e.Kind == stack.EventClaimed })
	if len(claims) != 2 || claims[0].Took > time.Minute || claims[1].Took < time.Hour {
		t.Errorf("claims: %+v", claims)
	}
	late := h.of(func(e stack.Event) bool { return e.Kind == stack.EventEnded && e.Task == "late" })
	if len(late) != 1 || late[0].Slice.Waited < time.Hour || late[0].Slice.From != stack.FromCode {
		t.Errorf("late: %+v", late)
	}
}

// TestForcedEnd: a run that is ended in place of whoever had it is told of, once.
func TestForcedEnd(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"never": `module.exports = async (i, { tools }) => { for (;;) try { await tools.sleep(1e9) } catch {} }`})
	var h heard
	p, stop := d.host(func(c *stack.Config) { c.Observe = h.observe })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "never", Input: json.RawMessage("1")})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("it sleeps", func() bool { return d.count(`select count(*) from stack_runs where status = 'sleeping'`) == 1 })
	for range 2 {
		if _, err := p.Cancel(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
	}
	d.wait(p, r.ID)
	stop()
	ends := h.of(func(e stack.Event) bool { return e.Kind == stack.EventEnded && e.TaskRun == r.ID })
	if len(ends) != 1 || ends[0].Status != stack.StatusCancelled || ends[0].Task != "never" || ends[0].Service != "tasks" {
		t.Errorf("ends: %+v", ends)
	}
	roots, err := d.store.Roots(t.Context(), []uuid.UUID{ends[0].StackRun, uuid.New()})
	if err != nil || len(roots) != 1 || roots[ends[0].StackRun] != r.ID {
		t.Errorf("roots: %v, %v", roots, err)
	}
}

// TestRoots: a row leads to the run from which all came, however deep it is.
func TestRoots(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"nest": `module.exports = async (n, { tools }) => n > 0 ? await tools.tasks.execute('nest', n - 1) : await tools.echo.value(0)`})
	p, _ := d.host(nil)
	a, b := d.run(p, "nest", "4"), d.run(p, "nest", "2")
	var rows []uuid.UUID
	for _, r := range []stack.Run{a, b} {
		tree, err := d.store.Tree(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range tree {
			rows = append(rows, n.ID)
		}
	}
	roots, err := d.store.Roots(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6+4 || len(roots) != len(rows) {
		t.Fatalf("%d rows, %d roots", len(rows), len(roots))
	}
	for i, row := range rows {
		if want := map[bool]uuid.UUID{true: a.ID, false: b.ID}[i < 6]; roots[row] != want {
			t.Errorf("row %d came from %s, want %s", i, roots[row], want)
		}
	}
	if i := slices.Index(rows, uuid.Nil); i >= 0 {
		t.Errorf("row %d has no id", i)
	}
}
