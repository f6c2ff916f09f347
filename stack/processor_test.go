package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// TestRun is the table of what a task may do and what its caller sees.
func TestRun(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"double": `module.exports = async ({ n }) => n * 2`,
		"boom":   "module.exports = async function boom() {\n  throw new RangeError('boom')\n}",
		"deep": `module.exports = async ({ depth }, { tools }) =>
			depth === 0 ? [] : [depth, ...await tools.tasks.execute('deep', { depth: depth - 1 })]`,
		"nothing": `module.exports = async () => {}`,
	})
	p, _ := d.host(nil)
	for _, c := range []struct {
		name, code, input string
		want              string // result, or with code set a part of the message
		errCode           string
	}{
		{name: "pure", code: `module.exports = async (i) => ({ got: i })`, input: `{"a":[1,2]}`, want: `{"got":{"a":[1,2]}}`},
		{name: "undefined result", code: `module.exports = async () => {}`, want: `null`},
		{name: "nested", code: `module.exports = async (i, { tools }) => await tools.tasks.execute('double', { n: 21 })`, want: `42`},
		{name: "child returns undefined", code: `module.exports = async (i, { tools }) => [await tools.tasks.execute('nothing')]`, want: `[null]`},
		{name: "depth 5", code: `module.exports = async (i, { tools }) => await tools.tasks.execute('deep', { depth: 5 })`, want: `[5,4,3,2,1]`},
		{name: "parallel", code: `module.exports = async (i, { tools }) =>
			await Promise.all([1,2,3,4,5,6,7,8].map(n => tools.tasks.execute('double', { n })))`, want: `[2,4,6,8,10,12,14,16]`},
		{name: "sequence", code: `module.exports = async (i, { tools }) => {
			let s = 0; for (let n = 0; n < 10; n++) s += await tools.echo.value(n); return s }`, want: `45`},
		{name: "caught", code: `module.exports = async (i, { tools }) => {
			try { await tools.tasks.execute('boom') } catch (e) { return [e.name, e.message, e instanceof Error] } }`, want: `["RangeError","boom",true]`},
		{name: "caught in finally", code: `module.exports = async (i, { tools }) => {
			const log = []; try { try { await tools.echo.fail('no') } finally { log.push(await tools.echo.value('cleanup')) } }
			catch (e) { log.push(e.message) } return log }`, want: `["cleanup","no"]`},
		{name: "uncaught", code: `module.exports = async (i, { tools }) => await tools.tasks.execute('boom')`, want: "boom", errCode: "-"},
		{name: "sleep", code: `module.exports = async (i, { tools }) => { const t = Date.now(); const s = await tools.sleep(30);
			return [s, Date.now() - t >= 30] }`, want: `[{"slept":true,"duration":30},true]`},
		{name: "setTimeout", code: `module.exports = async () => await new Promise(done => setTimeout(v => done(v), 10, 'late'))`, want: `"late"`},
		{name: "clearTimeout", code: `module.exports = async (i, { tools }) => { let hit = false; const id = setTimeout(() => { hit = true }, 5);
			await tools.echo.value(1); clearTimeout(id); await tools.sleep(30); return typeof hit }`, want: `"boolean"`},
		{name: "race leaves a loser", code: `module.exports = async (i, { tools }) =>
			await Promise.race([tools.sleep(3600000), tools.echo.value('fast')])`, want: `"fast"`},
		{name: "allSettled", code: `module.exports = async (i, { tools }) =>
			(await Promise.allSettled([tools.echo.value(1), tools.echo.fail('x')])).map(s => s.status)`, want: `["fulfilled","rejected"]`},
		{name: "unknown task", code: `module.exports = async (i, { tools }) => await tools.tasks.execute('no such')`, want: "Task 'no such' not found.", errCode: service.CodeTaskNotFound},
		{name: "unknown service", code: `module.exports = async (i, { tools }) => await tools.nosuch.thing(1)`, want: `no service "nosuch"`, errCode: service.CodeUnknownService},
		{name: "unknown tasks method", code: `module.exports = async (i, { tools }) => await tools.tasks.explode()`, want: `tools.tasks.execute(name, input)`, errCode: service.CodeUnknownMethod},
		{name: "execute without a name", code: `module.exports = async (i, { tools }) => await tools.tasks.execute()`, want: `non-empty string`, errCode: service.CodeInvalidArgument},
		{name: "sleep of a string", code: `module.exports = async (i, { tools }) => await tools.sleep('soon')`, want: `number of milliseconds`, errCode: service.CodeInvalidArgument},
		{name: "options", code: `module.exports = async (i, { tools }) => await tools.with({ attempts: 3 }).echo.value(1)`, want: `there is no option`, errCode: service.CodeInvalidArgument},
		{name: "sleep of nothing", code: `module.exports = async (i, { tools }) => await tools.sleep()`, want: `not nothing`, errCode: service.CodeInvalidArgument},
		{name: "sleep of null", code: `module.exports = async (i, { tools }) => await tools.sleep(null)`, want: `not null`, errCode: service.CodeInvalidArgument},
		{name: "sleep of NaN", code: `module.exports = async (i, { tools }) => await tools.sleep(NaN)`, want: `number of milliseconds`, errCode: service.CodeInvalidArgument},
		{name: "sleep with a second argument", code: `module.exports = async (i, { tools }) => [await tools.sleep(20, 'x'), await tools.sleep(-5), await tools.sleep(0.5)]`,
			want: `[{"slept":true,"duration":20},{"slept":true,"duration":-5},{"slept":true,"duration":0.5}]`},
		{name: "setTimeout without a time", code: `module.exports = async () => await new Promise(done => setTimeout(() => done('soon')))`, want: `"soon"`},
		{name: "sleep of a century", code: `module.exports = async (i, { tools }) => await tools.sleep(4e12)`, want: `ten years`, errCode: service.CodeInvalidArgument},
		{name: "service panics", code: `module.exports = async (i, { tools }) => await tools.echo.panic()`, want: `echo failed`, errCode: service.CodeServiceError},
		{name: "service answers no JSON", code: `module.exports = async (i, { tools }) => await tools.echo.raw('{')`, want: `not valid JSON`, errCode: service.CodeInvalidResult},
		{name: "NUL in an argument", code: `module.exports = async (i, { tools }) => await tools.echo.value({ a: ['\u0000'] })`, want: `$.a[0] holds \u0000`, errCode: service.CodeInvalidArgument},
		{name: "lone surrogate in the result", code: `module.exports = async () => ({ x: { y: 'a\ud800b' } })`, want: `$.x.y holds a lone surrogate`, errCode: service.CodeInvalidResult},
		{name: "deadlock", code: `module.exports = async () => { await new Promise(() => {}) }`, want: ``, errCode: service.CodeTaskDeadlock},
		{name: "top-level await", code: `const base = await tools.echo.value(40); module.exports = async () => base + await tools.echo.value(2)`, want: `42`},
		{name: "does not parse", code: `module.exports = async () => {`, want: ``, errCode: service.CodeInvalidTask},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := "case " + c.name
			if _, err := d.store.Publish(t.Context(), stack.Task{Name: name, Code: c.code}); err != nil {
				t.Fatal(err)
			}
			d := &db{t: t, pool: d.pool, store: d.store}
			r := d.run(p, name, c.input+strings.Repeat("null", 1-min(1, len(c.input))))
			if c.errCode == "" {
				wantResult(t, r, c.want)
				return
			}
			e := wantError(t, r, strings.TrimPrefix(c.errCode, "-"))
			if !strings.Contains(e.Message, c.want) {
				t.Errorf("message %q does not contain %q", e.Message, c.want)
			}
		})
	}
}

func TestUncaughtErrorHasTheTasksOwnStack(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"child":  "module.exports = async function child() {\n\n  throw new TypeError('from line three')\n}",
		"parent": "module.exports = async (i, { tools }) => {\n  return await tools.tasks.execute('child')\n}",
	})
	p, _ := d.host(nil)
	e := wantError(t, d.run(p, "child", "null"), "")
	if e.Name != "TypeError" || !strings.Contains(e.Stack, "child.js:3") {
		t.Errorf("child's error: %+v", e)
	}
	e = wantError(t, d.run(p, "parent", "null"), "")
	if e.Name != "TypeError" || e.Message != "from line three" || !strings.Contains(e.Stack, "parent.js:2") {
		t.Errorf("parent's error: %+v", e)
	}
}

// TestRows checks what clients find in the tables after a run with a nested
// task, a timer and a call given up.
func TestRows(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"child": `module.exports = async (i) => { console.log('child', i.n); return { doubled: i.n * 2 } }`,
		"parent": `module.exports = async (i, { tools }) => {
			console.log('before'); const r = await tools.tasks.execute('child', { n: 4 }); await tools.sleep(1);
			tools.sleep(3600000); console.warn('after'); return r }`,
	})
	p, _ := d.host(nil)
	owner := uuid.NewString()
	started, err := p.Start(t.Context(), stack.StartParams{Task: "parent", Input: json.RawMessage(`{"x":1}`),
		Caller: stack.Caller{Owner: owner, Role: "authenticated", Claims: json.RawMessage(`{"sub":"` + owner + `"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if started.Status != stack.StatusProcessing && started.Status != stack.StatusSuspended && !started.Ended() {
		t.Errorf("a started run is %s", started.Status)
	}
	r := d.wait(p, started.ID)
	wantResult(t, r, `{"doubled":8}`)
	if r.EndedAt == nil || r.StartedAt == nil || r.WaitingOnStackRunID != nil || string(r.Input) != `{"x": 1}` {
		t.Errorf("run: %+v", r)
	}
	if n := d.count(`select count(*) from task_runs where owner = $1 and caller_role = 'authenticated' and caller_claims->>'sub' = owner::text`, owner); n != 2 {
		t.Errorf("%d runs carry the caller's identity, want 2", n)
	}
	if n := d.count(`select count(*) from task_runs where parent_run_id = $1 and task_name = 'child' and status = 'completed'`, r.ID); n != 1 {
		t.Errorf("%d child runs", n)
	}
	nodes, err := d.store.Tree(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var shape []string
	for _, n := range nodes {
		shape = append(shape, n.Service+"."+n.Method+" "+n.TaskName+" "+n.Status)
	}
	want := "tasks.execute parent completed, tasks.execute child completed, sleep.sleep  completed, sleep.sleep  cancelled"
	if got := strings.Join(shape, ", "); got != want {
		t.Errorf("tree\n got %s\nwant %s", got, want)
	}
	if n := d.count(`select count(*) from stack_runs where parent_task_run_id = $1 and child_task_run_id is distinct from $1
		and parent_run_id = $1 and module_name = service_name and ended_at is not null and claimed_by is null`, r.ID); n != 3 {
		t.Errorf("%d calls of the run are as clients expect, want 3\n%s", n, d.dump())
	}
	logs, err := d.store.Logs(t.Context(), r.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range logs {
		lines = append(lines, l.Level+" "+l.Message)
	}
	const wantLogs = "info before|info child 4|warn after|warn The task ended without waiting for tools.sleep (1 of its calls had no reply yet"
	if got := strings.Join(lines, "|"); !strings.HasPrefix(got, wantLogs) {
		t.Errorf("logs: %s", got)
	}
	if n := d.count(`select jsonb_array_length(logs) from task_runs where id = $1`, r.ID); n != 3 {
		t.Errorf("task_runs.logs has %d lines, want 3", n)
	}
	// Any stack_run's id finds its run; deleting the run removes all of it.
	byStack, err := d.store.Run(t.Context(), nodes[1].ID)
	if err != nil || byStack.TaskName != "child" {
		t.Errorf("run of a stack run: %v %v", byStack.TaskName, err)
	}
	d.exec(`delete from task_runs where id = $1`, r.ID)
	for _, table := range []string{"task_runs", "stack_runs", "amber.snapshots", "amber.replies", "amber.logs"} {
		if n := d.count(`select count(*) from ` + table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	if _, err := d.store.Run(t.Context(), r.ID); !errors.Is(err, stack.ErrRunNotFound) {
		t.Errorf("a deleted run: %v", err)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"ok": `module.exports = (i) => i`})
	p, _ := d.host(nil)
	for _, c := range []struct{ name, task, input, code, message string }{
		{"unknown task", "nope", `null`, service.CodeTaskNotFound, "Task 'nope' not found."},
		{"not JSON", "ok", `{"a":`, service.CodeInvalidInput, "not valid JSON"},
		{"NUL", "ok", `{"a":{"b":["x\u0000"]}}`, service.CodeInvalidInput, `$.a.b[0] holds \u0000`},
		{"lone surrogate", "ok", `["\ud83d"]`, service.CodeInvalidInput, `$[0] holds a lone surrogate \ud83d`},
		{"too deep", "ok", strings.Repeat("[", 3000) + strings.Repeat("]", 3000), service.CodeInvalidInput, "nests deeper"},
		{"number too large", "ok", `[1e999999]`, service.CodeInvalidInput, "outside the range"},
	} {
		_, err := p.Start(t.Context(), stack.StartParams{Task: c.task, Input: json.RawMessage(c.input)})
		var e *service.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Message, c.message) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := d.count(`select (select count(*) from task_runs) + (select count(*) from stack_runs)`); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// TestExactBytes: what a task sees of its input, its child's result and a
// service's reply is what was sent, not what jsonb makes of it.
func TestExactBytes(t *testing.T) {
	t.Parallel()
	const odd = `{"z":1,"a":-0,"10":"\ud83d\ude00","2":1e400,"dup":1,"dup":2,"__proto__":{"x":1},"big":12345678901234567890}`
	const look = `(v) => [Object.keys(v).join(), Object.is(v.a, -0), v['2'] === Infinity, v['10'], v.dup, Object.hasOwn(v, '__proto__'), v.big]`
	d := newDB(t, map[string]string{
		"look":  `module.exports = async (i) => (` + look + `)(i)`,
		"order": `module.exports = async () => ({ z: 1, a: { y: 1e21, b: '<&>' }, 10: 0.1 })`,
		"child": `module.exports = async (i) => ({ b: 1, a: 2, z: i.s })`,
		"calls": `module.exports = async (i, { tools }) => [(` + look + `)(await tools.echo.raw(i.odd)),
			JSON.stringify(await tools.tasks.execute('child', { s: '<&>\u2028' }))]`,
	})
	p, _ := d.host(nil)
	const seen = `["2,10,z,a,dup,__proto__,big",true,true,"😀",2,true,12345678901234567000]`
	wantResult(t, d.run(p, "look", odd), seen)
	if r := d.run(p, "order", "null"); string(r.Result) != `{"10":0.1,"z":1,"a":{"y":1e+21,"b":"<&>"}}` {
		t.Errorf("the result is %s: not the text that the task returned", r.Result)
	}
	in, _ := json.Marshal(map[string]string{"odd": odd})
	wantResult(t, d.run(p, "calls", string(in)), `[`+seen+`,"{\"b\":1,\"a\":2,\"z\":\"<&>\u2028\"}"]`)
}

// TestExactBytesThroughTheTables is the same for replies that were committed by
// one host and read by another.
func TestExactBytesThroughTheTables(t *testing.T) {
	t.Parallel()
	const odd = `{"z":1,"a":-0,"10":2,"dup":1,"dup":2,"n":1e400}`
	d := newDB(t, map[string]string{
		"outer": `module.exports = async (i, { tools }) => JSON.stringify(await tools.tasks.execute('inner'))`,
		"inner": `module.exports = async (i, { tools }) => { const v = await tools.gate.pass(i);
			return { seen: [Object.keys(v).join(), Object.is(v.a, -0), v.n === Infinity], b: 1, a: 2 } }`,
	})
	g := &gate{open: make(chan struct{}), answer: json.RawMessage(odd)}
	with := func(c *stack.Config) {
		c.Services = map[string]service.Service{"gate": g}
		c.Drain = 10 * time.Millisecond
	}
	p, stop := d.host(with)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "outer"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the call is made", func() bool { return g.calls.Load() == 1 })
	stop()
	close(g.open)
	p, _ = d.host(with)
	wantResult(t, d.wait(p, r.ID), `"{\"seen\":[\"10,z,a,dup,n\",true,true],\"b\":1,\"a\":2}"`)
}

// TestRaceLosers: what a task no longer waits for is cancelled, all the way
// down, and stays so.
func TestRaceLosers(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"grandchild": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`,
		"child":      `module.exports = async (i, { tools }) => await tools.tasks.execute('grandchild')`,
		"racer":      `module.exports = async (i, { tools }) => await Promise.race([tools.tasks.execute('child'), tools.sleep(300).then(() => 'first')])`,
	})
	p, _ := d.host(nil)
	r := d.run(p, "racer", "null")
	wantResult(t, r, `"first"`)
	if n := d.count(`select count(*) from task_runs where status = 'cancelled' and error->>'code' = 'CANCELLED' and ended_at is not null`); n != 2 {
		t.Errorf("%d runs are cancelled, want child and grandchild\n%s", n, d.dump())
	}
	if n := d.count(`select count(*) from stack_runs where status = 'cancelled'`); n != 3 {
		t.Errorf("%d rows are cancelled, want two bodies and a timer\n%s", n, d.dump())
	}
	if n := d.count(`select count(*) from stack_runs where status not in ('completed', 'cancelled')`); n != 0 {
		t.Errorf("%d rows go on\n%s", n, d.dump())
	}
	logs, err := d.store.Logs(t.Context(), r.ID, 0)
	if err != nil || len(logs) != 1 || logs[0].Level != "info" || !strings.Contains(logs[0].Message, "1 of its calls had no reply yet") {
		t.Errorf("logs: %v %v", logs, err)
	}
}

// TestFailsBeforeItsAwait: who fails with a call on its way is not told to await it.
func TestFailsBeforeItsAwait(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"fails": `module.exports = async (i, { tools }) => { const nap = tools.sleep(3600000); if (i.wait) await nap; throw new Error('early') }`})
	p, _ := d.host(nil)
	r := d.run(p, "fails", "null")
	logs, err := d.store.Logs(t.Context(), r.ID, 0)
	if err != nil || r.Status != stack.StatusFailed || len(logs) != 1 || logs[0].Level != "info" ||
		logs[0].Message != "The task failed while 1 of its calls had no reply yet; they were cancelled." {
		t.Errorf("%s, logs: %v %v", r.Status, logs, err)
	}
}

func TestWaitReturnsAtItsDeadline(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"long": `module.exports = async (i, { tools }) => await tools.sleep(3600000)`})
	p, _ := d.host(nil)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "long"})
	if err != nil {
		t.Fatal(err)
	}
	d.eventually("the run is suspended", func() bool {
		return d.count(`select count(*) from task_runs where status = 'suspended' and suspended_at is not null`) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r, err = p.Wait(ctx, r.ID); err != nil || r.Status != stack.StatusSuspended {
		t.Errorf("%v %v", r.Status, err)
	}
	if r, err = p.Wait(ctx, r.ID); err != nil || r.Status != stack.StatusSuspended { // the time was over before
		t.Errorf("%v %v", r.Status, err)
	}
	if _, err := p.Wait(t.Context(), uuid.New()); !errors.Is(err, stack.ErrRunNotFound) {
		t.Errorf("unknown run: %v", err)
	}
}
