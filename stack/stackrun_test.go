package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// wantCode fails the test unless err is a *service.Error with this code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e *service.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want code %s", err, code)
	}
}

// TestProcess: a row is claimed at once though no sweep and no hint comes, and
// one that nobody can end is returned as it is.
func TestProcess(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"double": `module.exports = async ({ n }) => n * 2`})
	p, _ := d.host(func(c *stack.Config) { c.Sweep, c.Poll = time.Hour, true })
	call, body, next := uuid.New(), uuid.New(), uuid.New()
	const insert = `insert into stack_runs (id, service_name, method_name, args) values ($1, $2, $3, $4)`
	d.exec(insert, call, "echo", "value", `["x"]`)
	if r, err := p.Process(t.Context(), call); err != nil || r.Status != stack.StatusCompleted || string(r.Result) != `"x"` {
		t.Errorf("call: %+v %v", r, err)
	}
	d.exec(insert, body, "tasks", "execute", `["double", {"n": 21}]`)
	if r, err := p.Process(t.Context(), body); err != nil || string(r.Result) != `42` || r.ChildTaskRunID == nil {
		t.Errorf("body: %+v %v", r, err)
	}
	if r, err := p.Process(t.Context(), body); err != nil || string(r.Result) != `42` {
		t.Errorf("ended body: %+v %v", r, err)
	}
	if _, err := p.Process(t.Context(), uuid.New()); !errors.Is(err, stack.ErrRunNotFound) {
		t.Errorf("unknown row: %v", err)
	}
	parked := uuid.New()
	d.exec(`insert into stack_runs (id, service_name, method_name, args, stuck_reason) values ($1, 'echo', 'value', '[1]', 'lame')`, parked)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := p.Process(ctx, parked); err != nil || r.Status != stack.StatusPending || *r.StuckReason != "lame" {
		t.Errorf("parked row: %+v %v", r, err)
	}
	if id, ok, err := p.ProcessNext(t.Context()); ok || err != nil {
		t.Errorf("a parked row was next: %v %v", id, err)
	}
	d.exec(insert, next, "echo", "value", `["next"]`)
	if id, ok, err := p.ProcessNext(t.Context()); id != next || !ok || err != nil {
		t.Errorf("next: %v %v %v", id, ok, err)
	}
	if r, err := p.Process(t.Context(), next); err != nil || string(r.Result) != `"next"` {
		t.Errorf("next: %+v %v", r, err)
	}
}

// TestCodeGivenWithTheRequest survives the death of a host that took the run
// before the first snapshot, and is nobody's published task.
func TestCodeGivenWithTheRequest(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"child": `module.exports = async (i) => i`})
	e, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	dead, err := d.store.Register(t.Context(), stack.Host{Name: "dead", Engines: e.Identities()}, time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	params := stack.StartParams{Task: "child", Input: json.RawMessage(`{"a":"\u00e9","n":1.0}`), ID: id,
		Code: `module.exports = async (i, { tools }) => ['own', i, await tools.tasks.execute('child', 1)]`}
	if _, err := d.store.Start(t.Context(), dead, params, true); err != nil {
		t.Fatal(err)
	}
	if n := d.count(`select count(*) from task_runs where id = $1 and task_function_id is null and task_name = 'child'`, id); n != 1 {
		t.Error("the run is shown as one of the published task")
	}
	p, _ := d.host(nil)
	d.exec(`delete from amber.hosts where id = $1`, dead.ID)
	wantResult(t, d.wait(p, id), `["own",{"a":"é","n":1},1]`)

	_, err = p.Start(t.Context(), params)
	wantCode(t, err, stack.CodeRunExists)
	// Nor may it be an id that leads to the run already, or to what is left of one.
	params.ID = d.stackRun(`select id from stack_runs where child_task_run_id = $1`, id)
	_, err = p.Start(t.Context(), params)
	wantCode(t, err, stack.CodeRunExists)
	var child uuid.UUID
	if err := d.pool.QueryRow(t.Context(), `select id from task_runs where parent_run_id = $1`, id).Scan(&child); err != nil {
		t.Fatal(err)
	}
	d.exec(`delete from task_runs where id = $1`, child)
	params.ID = child
	_, err = p.Start(t.Context(), params)
	wantCode(t, err, stack.CodeRunExists)
	for name, bad := range map[string]stack.StartParams{
		"no name":       {Code: "x"},
		"NUL in a name": {Code: "x", Task: "a\x00"},
	} {
		if _, err := p.Start(t.Context(), bad); err == nil {
			t.Errorf("%s: started", name)
		} else {
			wantCode(t, err, service.CodeInvalidInput)
		}
	}
	_, err = p.Start(t.Context(), stack.StartParams{Task: "t", Code: "\xff"})
	wantCode(t, err, service.CodeInvalidTask)
	r, err := p.Start(t.Context(), stack.StartParams{Task: "t", Code: "module.exports = 5"})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, d.wait(p, r.ID), service.CodeInvalidTask)
}

// TestNoCodeThroughACall: nothing that a task passes to a call makes the callee
// run other code than the published.
func TestNoCodeThroughACall(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"child":  `module.exports = async (i) => 'published'`,
		"parent": `module.exports = async (i, { tools }) => await tools.tasks.execute('child', { code: 'module.exports = () => "own"' }, { code: 'module.exports = () => "own"' })`,
	})
	p, _ := d.host(func(c *stack.Config) { c.MaxBodies = 1 })
	wantResult(t, d.run(p, "parent", "null"), `"published"`)
}

// TestCodeInRowsOfOthers: rows of clients of the original bring code in
// vm_state. A published task's own code counts; an unpublished one runs theirs.
func TestCodeInRowsOfOthers(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{"known": `module.exports = async (i, { tools }) => ['published', await tools.echo.value(i)]`})
	p, _ := d.host(nil)
	code := func(words string) string {
		return fmt.Sprintf(`module.exports = async (i, { tools }) => ['%s', await tools.sleep(1) && await tools.echo.value(i)]`, words)
	}
	for _, c := range []struct{ name, args, state, want string }{
		{"snake case", `["a", {"n": 1}]`, `{"task_code": $code, "task_name": "a", "input": {"n": 2}}`, `["own", {"n": 1}]`},
		{"camel case", `["b", 5]`, `{"taskCode": $code, "taskName": "b"}`, `["own", 5]`},
		{"no arguments", `[]`, `{"task_code": $code, "task_name": "c", "input": {"n": 2}}`, `["own", {"n": 2}]`},
		{"no arguments, camel case", `null`, `{"taskCode": $code, "taskName": "d", "taskInput": [7]}`, `["own", [7]]`},
		{"published", `["known", 3]`, `{"task_code": $code, "task_name": "known"}`, `["published", 3]`},
		{"published, no arguments", `[]`, `{"task_code": $code, "task_name": "known"}`, `["published", {}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := d.in(t)
			quoted, _ := json.Marshal(code("own"))
			id := uuid.New()
			d.exec(`insert into stack_runs (id, service_name, method_name, args, vm_state) values ($1, 'tasks', 'execute', $2, $3)`,
				id, c.args, strings.ReplaceAll(c.state, "$code", string(quoted)))
			r, err := p.Process(t.Context(), id)
			if err != nil || r.ChildTaskRunID == nil {
				t.Fatalf("%+v %v", r, err)
			}
			wantResult(t, d.wait(p, *r.ChildTaskRunID), c.want)
		})
	}
	id := uuid.New()
	d.exec(`insert into stack_runs (id, service_name, method_name, args, vm_state) values ($1, 'tasks', 'execute', '[]', '{"task_code": "x"}')`, id)
	if r, err := p.Process(t.Context(), id); err != nil || r.Status != stack.StatusFailed || !strings.Contains(string(r.Error), service.CodeInvalidArgument) {
		t.Errorf("a row without a name: %+v %v", r, err)
	}
}

// TestRunsAreListed by page and filter.
func TestRunsAreListed(t *testing.T) {
	t.Parallel()
	d := newDB(t, map[string]string{
		"child": `module.exports = async () => 1`, "parent": `module.exports = async (i, { tools }) => await tools.tasks.execute('child')`,
	})
	p, _ := d.host(nil)
	owner := uuid.NewString()
	for i := range 5 {
		r, err := p.Start(t.Context(), stack.StartParams{Task: "parent", Caller: stack.Caller{Owner: []string{"", owner}[i%2]}})
		if err != nil {
			t.Fatal(err)
		}
		d.wait(p, r.ID)
	}
	d.exec(`update task_runs set created_at = now() where task_name = 'parent'`) // ids decide among equals
	others, err := d.store.Runs(t.Context(), stack.RunFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.store.Runs(t.Context(), stack.RunFilter{Owner: uuid.NewString(), Before: others[0].ID})
	if !errors.Is(err, stack.ErrRunNotFound) {
		t.Errorf("a page after somebody else's run: %v", err)
	}
	for _, c := range []struct {
		name   string
		filter stack.RunFilter
		want   int
	}{
		{"all", stack.RunFilter{}, 10},
		{"limit", stack.RunFilter{Limit: 3}, 3},
		{"task", stack.RunFilter{Task: "child"}, 5},
		{"status", stack.RunFilter{Status: stack.StatusFailed}, 0},
		{"owner", stack.RunFilter{Owner: owner}, 4},
		{"owner's roots", stack.RunFilter{Owner: owner, Roots: true}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := map[uuid.UUID]bool{}
			runs, err := d.store.Runs(t.Context(), c.filter)
			if err != nil || len(runs) != c.want {
				t.Fatalf("%d runs, want %d (%v)", len(runs), c.want, err)
			}
			for f := c.filter; ; f.Before = runs[len(runs)-1].ID { // page by page
				f.Limit = 2
				if runs, err = d.store.Runs(t.Context(), f); err != nil {
					t.Fatal(err)
				}
				for _, r := range runs {
					if seen[r.ID] {
						t.Errorf("%s is on two pages", r.ID)
					}
					seen[r.ID] = true
				}
				if len(runs) < 2 {
					break
				}
			}
			if all := max(c.want, c.filter.Limit); c.filter.Limit == 0 && len(seen) != all {
				t.Errorf("%d runs on pages, want %d", len(seen), all)
			}
		})
	}
	if _, err := d.store.Runs(t.Context(), stack.RunFilter{Before: uuid.New()}); !errors.Is(err, stack.ErrRunNotFound) {
		t.Errorf("before an unknown run: %v", err)
	}
	_, err = d.store.Runs(t.Context(), stack.RunFilter{Owner: "me"})
	wantCode(t, err, service.CodeInvalidArgument)
}
