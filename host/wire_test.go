package host_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amberhost/amber/host"
)

const (
	unknownRun = "0190b5e0-0000-7000-8000-000000000000"
	execute    = "/functions/v1/tasks/execute"
)

var wireTasks = map[string]string{
	"echo.js":  "/** Gives back. */\nmodule.exports = async (input) => input",
	"fail.js":  "module.exports = async () => { throw new TypeError('boom <&>') }",
	"sleep.js": "module.exports = async (input, { tools }) => await tools.sleep(input)",
	"never.js": "module.exports = async (input, { tools }) => { console.log('before'); await tools.sleep(3600000) }",
	"nest.js":  "module.exports = async (input, { tools }) => { console.warn('nesting'); return await tools.tasks.execute('echo', input) }",
	"keys.js":  "module.exports = async (key, { tools }) => { await tools.keystore.setKey('n', key, 'v'); return await tools.keystore.getKey('n', key) }",
	"size.js":  "module.exports = async (input) => input.length",
	"exact.js": `module.exports = async (input) => ({
		zero: Object.is(input.zero, -0), keys: Object.keys(input).join(), twice: input.twice, big: String(input.big), name: input.__proto__ })`,
}

// TestWire is the table of the functions' HTTP: one host, requests side by side.
func TestWire(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *host.Config) { c.TasksDir = tasksDir(t, wireTasks) })
	t.Run("refusals", func(t *testing.T) { t.Parallel(); testRefusals(t, r) })
	t.Run("execute", func(t *testing.T) { t.Parallel(); testExecute(t, r) })
	t.Run("reads", func(t *testing.T) { t.Parallel(); testReads(t, r) })
	t.Run("wait", func(t *testing.T) { t.Parallel(); testWait(t, r) })
	t.Run("exact", func(t *testing.T) { t.Parallel(); testExact(t, r) })
	t.Run("size", func(t *testing.T) { t.Parallel(); testSize(t, r) })
	t.Run("publish", func(t *testing.T) { t.Parallel(); testPublish(t, r) })
	t.Run("cors", func(t *testing.T) { t.Parallel(); testCORS(t, r) })
	t.Run("open", func(t *testing.T) { t.Parallel(); testOpen(t, r) })
}

func testRefusals(t *testing.T, r *running) {
	const nameRequired = "'taskName' is required and must be a string."
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		code, error              string
	}{
		{"invalid JSON", "POST", execute, `{"taskName":`, 400, "INVALID_JSON", "Invalid JSON request body."},
		{"no body", "POST", execute, ``, 400, "INVALID_JSON", "Invalid JSON request body."},
		{"an array", "POST", execute, `[]`, 400, "INVALID_JSON", "Invalid JSON request body."},
		{"not UTF-8", "POST", execute, "{\"taskName\":\"\xff\"}", 400, "INVALID_JSON", "Invalid JSON request body."},
		{"no name", "POST", execute, `{"input":1}`, 400, "INVALID_REQUEST", nameRequired},
		{"name no string", "POST", execute, `{"taskName":7}`, 400, "INVALID_REQUEST", nameRequired},
		{"name empty", "POST", execute, `{"taskName":""}`, 400, "INVALID_REQUEST", nameRequired},
		{"name with NUL", "POST", execute, `{"taskName":"a\u0000"}`, 400, "INVALID_REQUEST", nameRequired},
		{"unknown task", "POST", execute, `{"taskName":"no <such>"}`, 404, "TASK_NOT_FOUND", "Task 'no <such>' not found."},
		{"unknown task id", "POST", execute, `{"taskName":"` + unknownRun + `"}`, 404, "TASK_NOT_FOUND", "Task '" + unknownRun + "' not found."},
		{"bare, unknown task", "POST", "/functions/v1/tasks", `{"taskName":"none"}`, 404, "TASK_NOT_FOUND", "Task 'none' not found."},
		{"input that jsonb cannot hold", "POST", execute, `{"taskName":"echo","input":{"a":["\u0000"]}}`, 400, "INVALID_INPUT", ""},
		{"lone surrogate", "POST", execute, `{"taskName":"echo","input":"\ud800"}`, 400, "INVALID_INPUT", ""},
		{"number beyond numeric", "POST", execute, `{"taskName":"echo","input":1e999999}`, 400, "INVALID_INPUT", ""},
		{"deep input", "POST", execute, `{"taskName":"echo","input":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`, 400, "INVALID_INPUT", ""},
		{"execute with GET", "GET", execute, ``, 405, "METHOD_NOT_ALLOWED", ""},
		{"status with POST", "POST", "/functions/v1/tasks/status?id=" + unknownRun, ``, 405, "METHOD_NOT_ALLOWED", ""},
		{"bare with DELETE", "DELETE", "/functions/v1/tasks", ``, 405, "METHOD_NOT_ALLOWED", ""},
		{"no such route", "GET", "/functions/v1/tasks/nothing", ``, 404, "NOT_FOUND", "There is no /tasks/nothing."},
		{"no id", "GET", "/functions/v1/tasks/status", ``, 400, "INVALID_REQUEST", "Missing taskRunId parameter"},
		{"no id in the path", "GET", "/functions/v1/tasks/result/", ``, 400, "INVALID_REQUEST", "Missing taskRunId parameter"},
		{"malformed id", "GET", "/functions/v1/tasks/status?id=7", ``, 400, "INVALID_REQUEST", `Malformed task run id "7": want a uuid`},
		{"malformed id in the path", "GET", "/functions/v1/tasks/logs/x/y", ``, 400, "INVALID_REQUEST", `Malformed task run id "x/y": want a uuid`},
		{"unknown run", "GET", "/functions/v1/tasks/status?id=" + unknownRun, ``, 404, "TASK_RUN_NOT_FOUND", "Task run with ID " + unknownRun + " not found"},
		{"unknown run's tree", "GET", "/functions/v1/tasks/tree/" + unknownRun, ``, 404, "TASK_RUN_NOT_FOUND", ""},
		{"no such function", "POST", "/functions/v1/nothing", `{}`, 404, "NOT_FOUND", "Requested function was not found"},
		{"no function", "POST", "/functions/v1/", `{}`, 404, "NOT_FOUND", ""},
		{"elsewhere", "GET", "/tasks/list", ``, 404, "NOT_FOUND", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := r.do(t, test.method, test.path, test.body)
			if a.status != test.status || a.text(t, "code") != test.code || test.error != "" && a.text(t, "error") != test.error || a.text(t, "error") == "" {
				t.Errorf("%d %s\nwant %d %s %s", a.status, a.body, test.status, test.code, test.error)
			}
			if got := a.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
			if a.status == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
}

func testExecute(t *testing.T, r *running) {
	list := r.do(t, "GET", "/functions/v1/tasks/list", "")
	if list.status != 200 || !strings.Contains(list.body, `"description": "Gives back."`) {
		t.Fatalf("list: %d %s", list.status, list.body)
	}
	for _, body := range []string{
		`{"taskName":"echo","input":5}`, `{"task":"echo","input":5}`, `{"name":"echo","taskInput":5}`,
		`{"taskId":"echo","input":5}`, `{"id":"echo","input":null,"taskInput":5}`, `{"task_identifier":"echo","input":5}`,
		`{"taskName":null,"task":"echo","input":5}`,
	} {
		if run := r.execute(t, body); run.Status != "completed" || string(run.Result) != "5" {
			t.Errorf("%s: %+v", body, run)
		}
	}
	for _, path := range []string{"/functions/v1/tasks", "/functions/v1/tasks/", execute} {
		a := r.do(t, "POST", path, `{"taskName":"echo"}`)
		id := a.text(t, "taskRunId")
		if a.status != 202 || id == "" || a.text(t, "task_run_id") != id || a.text(t, "taskId") != id || a.text(t, "status") == "" ||
			a.text(t, "message") != "Task accepted and queued for asynchronous processing." {
			t.Errorf("POST %s: %d %s", path, a.status, a.body)
		}
		if a := r.do(t, "GET", "/functions/v1/tasks/result/"+id, "", "Prefer: wait=30"); a.text(t, "status") != "completed" {
			t.Errorf("without input: %s", a.body)
		}
	}
	failed := r.execute(t, `{"taskName":"fail"}`)
	if failed.Status != "failed" || failed.Error.Message != "boom <&>" {
		t.Errorf("fail: %+v", failed)
	}
}

func testReads(t *testing.T, r *running) {
	info := r.do(t, "GET", "/functions/v1/tasks", "")
	if info.status != 200 || info.text(t, "service") != "Tasker Edge Function" || info.text(t, "status") != "running" {
		t.Errorf("info: %d %s", info.status, info.body)
	}
	run := r.execute(t, `{"taskName":"nest","input":{"a":1}}`)
	query := "?id=" + run.ID
	status := r.do(t, "GET", "/functions/v1/tasks/status"+query, "")
	if status.text(t, "id") != run.ID || status.text(t, "task_name") != "nest" || compact(t, status.field(t, "result")) != `{"a":1}` {
		t.Errorf("status: %s", status.body)
	}
	if !strings.HasPrefix(status.body, "{\n  \"id\"") {
		t.Errorf("not indented by two: %.40q", status.body)
	}
	if a := r.do(t, "GET", "/functions/v1/tasks/status/"+run.ID, ""); a.body != status.body {
		t.Errorf("by path: %s", a.body)
	}
	if a := r.do(t, "HEAD", "/functions/v1/tasks/status/"+run.ID, ""); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	result := r.do(t, "GET", "/functions/v1/tasks/result/"+run.ID, "")
	want := fmt.Sprintf(`{"id":%q,"status":"completed","result":{"a":1},"error":null}`, run.ID)
	if compact(t, result.body) != want {
		t.Errorf("result: %s, want %s", result.body, want)
	}
	logs := r.do(t, "GET", "/functions/v1/tasks/logs"+query, "")
	if !strings.Contains(logs.field(t, "logs"), `"message": "nesting"`) || logs.field(t, "vm_logs") == "" {
		t.Errorf("logs: %s", logs.body)
	}
	quiet := r.execute(t, `{"taskName":"echo"}`)
	if a := r.do(t, "GET", "/functions/v1/tasks/logs/"+quiet.ID, ""); a.field(t, "logs") != "[]" || a.field(t, "vm_logs") != "[]" {
		t.Errorf("no logs: %s", a.body)
	}
	testTree(t, r, run.ID)
}

func testTree(t *testing.T, r *running, id string) {
	var tree struct {
		Run   struct{ ID string }
		Nodes []struct {
			ID       string
			TaskName string `json:"task_name"`
			Status   string
		}
	}
	a := r.do(t, "GET", "/functions/v1/tasks/tree/"+id, "")
	if err := json.Unmarshal([]byte(a.body), &tree); err != nil || tree.Run.ID != id || len(tree.Nodes) != 2 {
		t.Fatalf("tree: %s", a.body)
	}
	for i, want := range []string{"nest", "echo"} {
		node := tree.Nodes[i]
		if node.TaskName != want || node.Status != "completed" {
			t.Errorf("node %d: %+v", i, node)
		}
		if run := r.do(t, "GET", "/functions/v1/tasks/status?id="+node.ID, ""); run.text(t, "task_name") != want {
			t.Errorf("by stack run: %s", run.body)
		}
	}
}

func testWait(t *testing.T, r *running) {
	for _, test := range []struct {
		body, prefer string
		status       int
		applied      string
	}{
		{`{"taskName":"echo","input":1}`, "respond-async, wait=30; x=y", 200, "wait"},
		{`{"taskName":"fail"}`, "wait=30", 200, "wait"},
		{`{"taskName":"sleep","input":30}`, `wait="30"`, 200, "wait"},
		{`{"taskName":"never"}`, "wait=0", 202, "wait"},
		{`{"taskName":"never"}`, "wait=1", 202, "wait"},
		{`{"taskName":"never"}`, "wait=soon", 202, ""},
		{`{"taskName":"never"}`, "return=minimal", 202, ""},
	} {
		t.Run(test.prefer, func(t *testing.T) {
			t.Parallel()
			a := r.do(t, "POST", execute, test.body, "Prefer: "+test.prefer)
			if a.status != test.status || a.header.Get("Preference-Applied") != test.applied {
				t.Errorf("%d, applied %q: %s", a.status, a.header.Get("Preference-Applied"), a.body)
			}
			ended := a.field(t, "ended_at") != "" && a.field(t, "ended_at") != "null"
			if ended != (test.status == 200) {
				t.Errorf("ended: %v, %s", ended, a.body)
			}
		})
	}
	t.Run("status", func(t *testing.T) {
		t.Parallel()
		id := r.do(t, "POST", execute, `{"taskName":"never"}`).text(t, "taskRunId")
		start := time.Now()
		a := r.do(t, "GET", "/functions/v1/tasks/status/"+id, "", "Prefer: wait=1")
		if a.status != 200 || a.header.Get("Preference-Applied") != "wait" || a.text(t, "status") != "suspended" || time.Since(start) < time.Second {
			t.Errorf("after %v: %d %s", time.Since(start), a.status, a.body)
		}
	})
}

func testExact(t *testing.T, r *running) {
	run := r.execute(t, `{"taskName":"exact","input":{"zero":-0,"b":1,"a":2,"twice":1,"twice":2,"big":1e400,"__proto__":"own"}}`)
	var got map[string]any
	if err := json.Unmarshal(run.Result, &got); err != nil || got["zero"] != true || got["keys"] != "zero,b,a,twice,big,__proto__" ||
		got["twice"] != 2.0 || got["big"] != "Infinity" || got["name"] != "own" {
		t.Errorf("the task saw %s, %v; %+v", run.Result, err, run)
	}
	// What a row holds reaches the client as Postgres spells it.
	run = r.execute(t, `{"taskName":"echo","input":{"n":1.50,"s":"<&>\u2028 é","big":123456789012345678901234567890}}`)
	a := r.do(t, "GET", "/functions/v1/tasks/status/"+run.ID, "")
	if got := a.field(t, "input"); !strings.Contains(got, `"n": 1.50`) || !strings.Contains(got, "<&>\u2028 é") || !strings.Contains(got, "123456789012345678901234567890") {
		t.Errorf("input %s", got)
	}
}

func testSize(t *testing.T, r *running) {
	input := func(n int) string { return `{"taskName":"size","input":"` + strings.Repeat("x", n) + `"}` }
	if run := r.execute(t, input(8_000_000)); string(run.Result) != "8000000" {
		t.Errorf("8 MB: %.300s %+v", run.Result, run.Error)
	}
	if run := r.execute(t, input(10_000_000)); run.Status != "failed" || run.Error.Code != "ARGUMENTS_TOO_LARGE" {
		t.Errorf("10 MB: %s %.300s %+v", run.Status, run.Result, run.Error)
	}
	for name, headers := range map[string][]string{"17 MB": nil, "17 MB, asking first": {"Expect: 100-continue"}} {
		if a := r.do(t, "POST", execute, input(17<<20), headers...); a.status != 413 || a.text(t, "code") != "PAYLOAD_TOO_LARGE" || a.text(t, "error") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func testPublish(t *testing.T, r *running) {
	const path = "/functions/v1/publish"
	for _, test := range []struct {
		name, body string
		status     int
		want       []string // parts of the compact body
	}{
		{"created", `{"name":"p","code":"module.exports = () => 1"}`, 200, []string{`{"name":"p","change":"created"}`}},
		{"unchanged", `{"name":"p","code":"module.exports = () => 1"}`, 200, []string{`"unchanged"`}},
		{"does not parse", `{"name":"p","code":"module.exports = () => {\n  return 1 +;\n}"}`, 422, []string{`"code":"INVALID_TASK"`, `"file":"p.js"`, `"line":2`, `"error":"`}},
		{"import", `{"name":"p","code":"import x from 'y'; export default () => 1"}`, 422, []string{`"code":"IMPORT_UNSUPPORTED"`}},
		{"empty code", `{"name":"p","code":" \n"}`, 422, []string{`"code":"INVALID_TASK"`}},
		{"code with NUL", `{"name":"p","code":"1 // \u0000"}`, 422, []string{`NUL`}},
		{"description with NUL", `{"name":"p","code":"module.exports = () => 1","description":"\u0000"}`, 422, []string{`NUL`}},
		{"big code", `{"name":"p","code":"` + strings.Repeat("/", 1<<20+1) + `"}`, 413, []string{`"code":"INVALID_TASK"`}},
		{"no code", `{"name":"p"}`, 400, []string{`'code' is required and must be a string.`}},
		{"code no string", `{"name":"p","code":{}}`, 400, []string{`'code' must be a string.`}},
		{"no name", `{"code":"module.exports = () => 1"}`, 400, []string{`'name' is required`}},
		{"bad name", `{"name":"../p","code":"module.exports = () => 1"}`, 400, []string{`"INVALID_TASK"`, `cannot be a task's name`}},
		{"long name", `{"name":"` + strings.Repeat("n", 101) + `","code":"module.exports = () => 1"}`, 400, []string{`cannot be a task's name`}},
		{"not JSON", `{`, 400, []string{`"INVALID_JSON"`}},
	} {
		a := r.do(t, "POST", path, test.body)
		for _, part := range test.want {
			if a.status != test.status || !strings.Contains(compact(t, a.body), part) {
				t.Errorf("%s: %d %s, want %d %s", test.name, a.status, a.body, test.status, part)
			}
		}
	}
	if run := r.execute(t, `{"taskName":"p"}`); string(run.Result) != "1" {
		t.Errorf("the old version did not stay: %+v", run)
	}
	if a := r.do(t, "POST", path, `{"name":"p","code":"module.exports = () => 2","description":"Two."}`); a.text(t, "change") != "updated" {
		t.Errorf("update: %s", a.body)
	}
	if a := r.do(t, "GET", path, ""); a.status != 405 || !slices.Equal(a.header.Values("Allow"), []string{"POST"}) {
		t.Errorf("GET: %d %v", a.status, a.header)
	}
}
