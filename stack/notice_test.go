package stack_test

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// noticeTasks are interrupted, and give up.
var noticeTasks = map[string]string{
	"nap": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`,
	"many": `module.exports = async (i, { tools }) => {
		const calls = [tools.tasks.execute('nap'), tools.tasks.execute('nap'), tools.gate.pass(1)];
		for (let n = 0; n < 8; n++) calls.push(tools.sleep(3600000 + n));
		await Promise.allSettled(calls) }`,
	"untidy":   `module.exports = async (i, { tools }) => { try { await tools.sleep(3600000) } finally { null.x } }`,
	"other":    `module.exports = async (i, { tools }) => { try { await tools.sleep(3600000) } catch (e) { return 'all the same' } }`,
	"promise":  `module.exports = async (i, { tools }) => { await new Promise((r) => setTimeout(r, 3600000)) }`,
	"stubborn": `module.exports = async (i, { tools }) => { for (;;) { try { await tools.sleep(3600000) } catch { } } }`,
	"returns":  cancelTasks["returns"],
	"flaky":    `module.exports = async (i, { tools }) => { try { return await tools.with(i).flaky.go() } catch (e) { return e.message } }`,
	"nested":   `module.exports = async (i, { tools }) => { try { return await tools.with(i).tasks.execute('fails') } catch (e) { return e.message } }`,
	"fails":    `module.exports = async () => { throw new Error('not yet') }`,
	"timed": `module.exports = async (i, { tools }) => {
		try { await tools.with({ timeout: i }).tasks.execute('nap') } catch (e) { console.log(e.name + ': ' + e.message); throw e } }`,
}

// TestInterruptedSaysSo: the log of a run that is interrupted says why, what became of
// its calls, and how it ended if it did not do so well.
func TestInterruptedSaysSo(t *testing.T) {
	t.Parallel()
	const cancelled, late = "info The run was cancelled. ", "warn The run took longer than it may. "
	const off, has = "Its open calls were called off: ", "It has 3600 s to tidy up."
	const forced = " It was ended where it was, and what it had not finished was called off."
	for name, c := range map[string]struct {
		task    string
		timeout time.Duration
		grace   time.Duration
		delay   time.Duration
		twice   bool
		want    []string
	}{
		"many calls": {task: "many", want: []string{
			cancelled + off + "tools.sleep. " + has, cancelled + off + "tools.sleep. " + has,
			cancelled + off + "tools.gate.pass, tools.sleep and 7 more. These end first: nap and 1 more. Then it has 3600 s to tidy up."}},
		"a timeout": {task: "other", timeout: 2 * time.Second, want: []string{late + off + "tools.sleep. " + has}},
		"finally throws": {task: "untidy", want: []string{cancelled + off + "tools.sleep. " + has,
			"warn The task failed while it tidied up: TypeError: cannot read property 'x' of null"}},
		"a promise of its own": {task: "promise", want: []string{cancelled + off + "setTimeout. " + has, "warn setTimeout did not fire: The run was cancelled.",
			"warn The task did not tidy up: it waits for a promise that nothing will settle now, one of its own around a setTimeout perhaps. Wait with tools.sleep, which rejects."}},
		"too slow": {task: "stubborn", grace: 300 * time.Millisecond, want: []string{cancelled + off + "tools.sleep. It has 0.3 s to tidy up.",
			"warn The run did not tidy up in the time that it had for that." + forced}},
		"cancelled twice": {task: "stubborn", twice: true, want: []string{cancelled + off + "tools.sleep. " + has,
			"warn The run was cancelled once more while it tidied up." + forced}},
		"not begun":          {task: "nap", delay: time.Hour, want: []string{cancelled + "It had not begun."}},
		"late, not begun":    {task: "nap", delay: time.Hour, timeout: 200 * time.Millisecond, want: []string{late + "It had not begun."}},
		"does not await any": {task: "returns", want: []string{cancelled + "It ended before it came to know of that; what it returned or threw does not count."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t, noticeTasks)
			if c.grace == 0 {
				c.grace = time.Hour
			}
			g := &gate{open: make(chan struct{})}
			p, _ := d.host(func(cfg *stack.Config) { cfg.Services["gate"], cfg.Grace = g, c.grace })
			r, err := p.Start(t.Context(), stack.StartParams{Task: c.task, Timeout: c.timeout, Delay: c.delay})
			if err != nil {
				t.Fatal(err)
			}
			if c.timeout == 0 {
				d.interruptible(r.ID, c.task)
				r, err = p.Cancel(t.Context(), r.ID)
			}
			if c.twice && err == nil {
				d.stackRun(`select id from stack_runs where parent_task_run_id = $1 and call_id = 2 and status = 'sleeping'`, r.ID)
				_, err = p.Cancel(t.Context(), r.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
			d.wait(p, r.ID)
			close(g.open) // the host waits for it
			if got := d.lines(r.ID); strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("it logs\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

// interruptible waits until a run of noticeTasks is where it is to be interrupted.
func (d *db) interruptible(run uuid.UUID, task string) {
	d.t.Helper()
	switch task {
	case "returns":
		d.stackRun(`select id from stack_runs where child_task_run_id = $1 and status = 'processing'`, run)
	case "many":
		d.eventually("the nested tasks wait", func() bool {
			return d.count(belowSQL+`select count(*) from stack_runs where child_task_run_id in (select id from runs) and status = 'suspended_waiting_child'`, run) == 3
		})
	default:
		d.stackRun(`select id from stack_runs where (parent_task_run_id = $1 or child_task_run_id = $1) and status = 'sleeping'`, run)
	}
}

// TestGivenUpSaysSo: of a call that was tried more than once the caller's log says how
// often and for how long, if it was in vain.
func TestGivenUpSaysSo(t *testing.T) {
	t.Parallel()
	down := &service.Error{Message: "down", Status: 503}
	always := []error{down, down, down, down, down, down}
	for name, c := range map[string]struct {
		task, with string
		errs       []error
		want       string // "" for no line
	}{
		"its tries are used up":       {"flaky", `{ "retries": 2, "backoff": 1 }`, always, `^warn tools\.flaky\.go was tried 3 times in [0-9]+ ms, in vain: down$`},
		"one that another try is for": {"flaky", `{ "retries": 5, "backoff": 1 }`, []error{down, &service.Error{Message: "no", Status: 402}}, `^warn tools\.flaky\.go was tried 2 times in [0-9]+ ms, in vain: no$`},
		"no time for another":         {"flaky", `{ "retries": 5, "backoff": { "first": 1, "factor": 100, "most": 3600000 }, "timeout": 5000 }`, always, `^warn tools\.flaky\.go was tried 3 times in [0-9.]+ m?s, in vain: down$`},
		"a task":                      {"nested", `{ "retries": 1, "backoff": 1 }`, nil, `^warn tools\.tasks\.execute\('fails'\) was tried 2 times in [0-9]+ ms, in vain: not yet$`},
		"it came to pass":             {"flaky", `{ "retries": 2, "backoff": 1 }`, []error{down}, ""},
		"tried once":                  {"flaky", `{ "retries": 0 }`, always, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t, noticeTasks)
			p, _ := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = &flaky{errs: c.errs, policy: quick} })
			r := d.run(p, c.task, c.with)
			if r.Status != stack.StatusCompleted {
				t.Fatalf("%s: %s", r.Status, r.Error)
			}
			var lines []string
			_ = d.pool.QueryRow(t.Context(), `select array_agg(level || ' ' || message) from amber.logs where task_run_id = $1`, r.ID).Scan(&lines)
			switch {
			case c.want == "" && len(lines) > 0, c.want != "" && (len(lines) != 1 || !regexp.MustCompile(c.want).MatchString(lines[0])):
				t.Errorf("it logs %q, want %s", lines, c.want)
			}
		})
	}
}

// TestGivenUpBetweenTries: a call whose time is over while it sleeps says so too.
func TestGivenUpBetweenTries(t *testing.T) {
	t.Parallel()
	d := newDB(t, noticeTasks)
	f := &flaky{errs: []error{&service.Error{Message: "down", Status: 503}}, policy: quick}
	p, _ := d.host(func(cfg *stack.Config) { cfg.Services["flaky"] = f })
	r, err := p.Start(t.Context(), stack.StartParams{Task: "flaky", Input: json.RawMessage(`{ "retries": 5, "backoff": 3600000, "timeout": 7200000 }`)})
	if err != nil {
		t.Fatal(err)
	}
	call := d.stackRun(`select id from stack_runs where parent_task_run_id = $1 and status = 'sleeping' and tries = 1`, r.ID)
	d.exec(`update stack_runs set deadline_at = now() where id = $1`, call)
	wantResult(t, d.wait(p, r.ID), `"tools.flaky.go took longer than 7200000 ms."`)
	lines := d.lines(r.ID)
	if want := "warn tools.flaky.go was tried once in …, in vain: tools.flaky.go took longer than 7200000 ms."; len(lines) != 1 || !like(lines[0], want) {
		t.Errorf("it logs %q, want %s", lines, want)
	}
}

// TestTimeoutNamesTheTask: an await of a task that was given so much time says which
// and how much; one whose caller has had its time does not take the blame.
func TestTimeoutNamesTheTask(t *testing.T) {
	t.Parallel()
	d := newDB(t, noticeTasks)
	p, _ := d.host(nil)
	for input, c := range map[string]struct {
		timeout time.Duration
		want    string
	}{
		"150":     {0, "TimeoutError: tools.tasks.execute('nap') took longer than 150 ms."},
		"3600000": {200 * time.Millisecond, "TimeoutError: The run took longer than it may."},
	} {
		r, err := p.Start(context.WithoutCancel(t.Context()), stack.StartParams{Task: "timed", Input: json.RawMessage(input), Timeout: c.timeout})
		if err != nil {
			t.Fatal(err)
		}
		e := wantError(t, d.wait(p, r.ID), service.CodeTimeout)
		if got := e.Name + ": " + e.Message; got != c.want {
			t.Errorf("%s ms: the run fails with %q, want %q", input, got, c.want)
		}
		if n := d.count(`select count(*) from amber.logs where task_run_id = $1 and message = $2`, r.ID, c.want); n != 1 {
			t.Errorf("%s ms: the await did not say %q: %q", input, c.want, d.lines(r.ID))
		}
	}
}
