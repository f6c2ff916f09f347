package functions_test

import (
	"strings"
	"testing"

	"github.com/amberhost/amber/functions"
)

const (
	badJSON      = `{"error":"unexpected end of JSON input, at byte 1","stack":"SyntaxError: unexpected end of JSON input, at byte 1","code":"INVALID_JSON"}`
	forbidden    = ` needs the service role key or a secret key.`
	quickHealthy = `{"status":"healthy","service":"QuickJS Runtime","version":"1.0.0"}`
)

// TestQuickjs is /quickjs by name: spec 2.2.
func TestQuickjs(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	long := strings.Repeat("n", 1<<20)
	s.exchange(t, []row{
		{name: "OPTIONS", send: "OPTIONS /quickjs", status: 204},
		{name: "GET", send: "GET /quickjs", status: 200, want: quickHealthy},
		{name: "HEAD", send: "HEAD /quickjs", status: 200},
		{name: "bad JSON", send: "POST /quickjs", body: `{`, status: 400, want: badJSON},
		{name: "no body", send: "POST /quickjs", status: 400, want: `{"error":"unexpected end of JSON input, at byte 0","...":0}`},
		{name: "a form", send: "POST /quickjs", header: "Content-Type: application/x-www-form-urlencoded", body: `taskName=echo`, status: 400,
			want: `{"error":"/.*it is called a form, application/x-www-form-urlencoded: send a JSON object.*/","...":0}`},
		{name: "no name", send: "POST /quickjs", body: `{}`, status: 400, want: `{"error":"Missing task name/id","...":0}`},
		{name: "name no string", send: "POST /quickjs", body: `{"taskName":{}}`, status: 400, want: `{"error":"Missing task name/id","...":0}`},
		{name: "name with NUL", send: "POST /quickjs", body: `{"taskName":"a\u0000"}`, status: 400, want: `{"error":"Missing task name/id","...":0}`},
		{name: "unknown", send: "POST /quickjs", body: `{"taskName":"none"}`, status: 404, want: `{"error":"Task not found: none","code":"TASK_NOT_FOUND"}`},
		{name: "unknown and long", send: "POST /quickjs", body: `{"taskName":"` + long + `"}`, status: 404, want: `{"error":"Task not found: ` + long[:200] + `…","...":0}`},
		{name: "without code", send: "POST /quickjs", body: `{"taskName":"empty"}`, status: 404, want: `{"error":"Task not found: empty","...":0}`},

		{name: "async", send: "POST /quickjs", body: `{"taskName":"echo","taskInput":{"a":1}}`, status: 202,
			want: `{"taskRunId":"*","status":"processing","message":"/Task execution started. Check status at /tasks/status\\?id=[0-9a-f-]{36}/"}`, keep: "run=taskRunId"},
		{name: "its status", send: "GET /tasks/status?id={run}", header: "Prefer: wait=30", status: 200, want: `{"status":"completed","input":{"a":1},"result":{"a":1},"...":0}`},
		{name: "taskId is a name", send: "POST /quickjs", body: `{"taskId":"echo"}`, status: 202, want: `{"status":"processing","...":0}`},
		{name: "any method, any path", send: "PUT /quickjs/any/thing", body: `{"taskName":"echo"}`, status: 202, want: `{"status":"processing","...":0}`},
		{name: "its id", send: "POST /quickjs", body: `{"taskName":"echo","taskRunId":"0190b5e0-0000-7000-8000-00000000abcd"}`, status: 202, want: `{"taskRunId":"0190b5e0-0000-7000-8000-00000000abcd","...":0}`},
		{name: "an id that is taken", send: "POST /quickjs", body: `{"taskName":"echo","taskRunId":"0190b5e0-0000-7000-8000-00000000abcd"}`, status: 409, want: `{"code":"RUN_EXISTS","...":0}`},
		{name: "an id that is none", send: "POST /quickjs", body: `{"taskName":"echo","taskRunId":"test-1"}`, status: 400, want: `{"error":"'taskRunId' must be a uuid that is not taken.","...":0}`},

		{name: "direct", send: "POST /quickjs", body: `{"taskName":"echo","taskInput":[1],"directExecution":true}`, status: 200,
			want: `{"result":[1],"status":"completed","message":"Task echo executed successfully","taskRunId":"*"}`},
		{name: "direct is what JavaScript takes for true", send: "POST /quickjs", body: `{"taskName":"echo","directExecution":"yes"}`, status: 200, want: `{"result":{},"...":0}`},
		{name: "and false", send: "POST /quickjs", body: `{"taskName":"echo","directExecution":0}`, status: 202, want: `{"status":"processing","...":0}`},
		{name: "input is read too (8358c4f: lost)", send: "POST /quickjs", body: `{"taskName":"echo","input":5,"directExecution":true}`, status: 200, want: `{"result":5,"...":0}`},
		{name: "nothing returned is null (8358c4f: no key)", send: "POST /quickjs", body: `{"taskName":"undefined","directExecution":true}`, status: 200, want: `{"result":null,"status":"completed","...":0}`},
		{name: "a nested call is waited for (8358c4f: 202 suspended)", send: "POST /quickjs", body: `{"taskName":"nest","taskInput":1,"directExecution":true}`, status: 200, want: `{"result":1,"status":"completed","...":0}`},
		{name: "Prefer: wait is as good", send: "POST /quickjs", header: "Prefer: wait=30", body: `{"taskName":"echo"}`, status: 200, gives: "Preference-Applied: wait", want: `{"status":"completed","...":0}`},
		{name: "throws", send: "POST /quickjs", body: `{"taskName":"fail","directExecution":true}`, status: 500,
			want: `{"error":"Error in task execution: boom <&>","stack":"/(?s).*fail.js.*/","status":"failed","taskRunId":"*"}`},
		{name: "does not parse", send: "POST /quickjs", body: `{"taskName":"broken","directExecution":true}`, status: 500,
			want: `{"error":"/Error evaluating task code: broken.js:2:13: .+/","stack":"*","code":"INVALID_TASK","status":"failed","taskRunId":"*"}`},
		{name: "exports no function", send: "POST /quickjs", body: `{"taskName":"number","directExecution":true}`, status: 500,
			want: `{"error":"/Module exports is not a function: .+/","stack":"*","code":"INVALID_TASK","status":"failed","taskRunId":"*"}`},
		{name: "not in time", send: "POST /quickjs", header: "Prefer: wait=1", body: `{"taskName":"never"}`, status: 202,
			want: `{"status":"suspended","message":"Task execution suspended for sleep call","stackRunId":"*","taskRunId":"*"}`, keep: "call=stackRunId", again: true},
		{name: "its status by the call", send: "GET /tasks/status?id={call}", status: 200, want: `{"task_name":"never","status":"suspended","waiting_on_stack_run_id":"{call}","...":0}`},
		{name: "not in time and not yet begun to wait", send: "POST /quickjs", header: "Prefer: wait=0", body: `{"taskName":"never"}`, status: 202, want: `{"status":"suspended","stackRunId":"*","taskRunId":"*","message":"*"}`},
	})
}

// TestQuickjsCode is /quickjs with code: spec 2.2, April and 5249331.
func TestQuickjsCode(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, true)
	const done = `"success":true,"status":"completed","message":"*","taskRunId":"*"`
	s.exchange(t, []row{
		{name: "April", send: "POST /quickjs", header: asService, body: `{"code":"module.exports = async (i) => i.a + 1","input":{"a":1}}`, status: 200, want: `{"result":2,` + done + `}`},
		{name: "April's whole body", send: "POST /quickjs", header: asService, body: `{"taskName":"parent","code":"module.exports = async (input, {tools}) => ({parentCompleted: true, child: await tools.tasks.execute('echo', input)})",
			"input":{"message":"m"},"modules":{},"serviceProxies":[{"name":"tasks","baseUrl":"http://127.0.0.1/quickjs","headers":{}}],"runtimeConfig":{"supabaseUrl":"http://127.0.0.1"}}`,
			status: 200, want: `{"result":{"parentCompleted":true,"child":{"message":"m"}},` + done + `}`},
		{name: "5249331", send: "POST /quickjs", header: asService, body: `{"taskCode":"module.exports = async (i) => i","taskName":"n","taskInput":5,"stackRunId":"s","toolNames":["a"],"initialVmState":null}`,
			status: 200, want: `{"result":5,"message":"Task n executed successfully","success":true,"status":"completed","taskRunId":"*"}`, keep: "run=taskRunId"},
		{name: "its run", send: "GET /tasks/status/{run}", status: 200, want: `{"task_name":"n","task_function_id":null,"status":"completed","input":5,"...":0}`},
		{name: "no input is {}", send: "POST /quickjs", header: asService, body: `{"code":"module.exports = (i) => i"}`, status: 200, want: `{"result":{},` + done + `}`},
		{name: "throws", send: "POST /quickjs", header: asService, body: `{"code":"module.exports = () => { throw new RangeError('far') }","taskName":"thrower"}`, status: 500,
			want: `{"success":false,"status":"error","error":"Error in task execution: far","details":{"message":"far","name":"RangeError","stack":"*"},"stack":"/(?s).*thrower.js.*/","taskRunId":"*"}`},
		{name: "does not parse", send: "POST /quickjs", header: asService, body: `{"code":"module.exports = () => {\n  return 1 +;\n}"}`, status: 500,
			want: `{"success":false,"status":"error","error":"/Error evaluating task code: .*unexpected.*/","stack":"/ *at code.js:2:13: .*/","code":"INVALID_TASK","file":"code.js","line":2,"column":13}`},
		{name: "imports", send: "POST /quickjs", header: asService, body: `{"code":"import x from 'y'; export default () => 1"}`, status: 500, want: `{"success":false,"status":"error","error":"*","stack":"*","code":"IMPORT_UNSUPPORTED"}`},
		{name: "exports no function", send: "POST /quickjs", header: asService, body: `{"code":"module.exports = 7"}`, status: 500, want: `{"error":"/Module exports is not a function: .+/","status":"error","...":0}`},
		{name: "not in time (5249331: 200 completed with __hostCallSuspended)", send: "POST /quickjs", header: asService + "\nPrefer: wait=1", body: `{"code":"module.exports = async (i, {tools}) => await tools.slow.answer(1)"}`, status: 202, gives: "Preference-Applied: wait",
			want: `{"status":"suspended","message":"Task execution suspended for slow.answer call","stackRunId":"*","taskRunId":"*"}`, again: true},
		{name: "no name for taskCode", send: "POST /quickjs", header: asService, body: `{"taskCode":"1"}`, status: 400, want: `{"error":"Missing taskCode or taskName","...":0}`},
		{name: "code no string", send: "POST /quickjs", header: asService, body: `{"code":7}`, status: 400, want: `{"error":"Missing taskCode or taskName","...":0}`},
		{name: "a long name", send: "POST /quickjs", header: asService, body: `{"code":"1","taskName":"` + strings.Repeat("n", 201) + `"}`, status: 400, want: `{"error":"The name of the task is too long.","...":0}`},
		{name: "too much code", send: "POST /quickjs", header: asService, body: `{"code":"` + strings.Repeat("/", 1<<20+1) + `"}`, status: 413, want: `{"code":"PAYLOAD_TOO_LARGE","...":0}`},
		{name: "modules", send: "POST /quickjs", header: asService, body: `{"code":"1","modules":{"a":"b"}}`, status: 400, want: `{"error":"'modules' is not supported.","code":"INVALID_REQUEST","details":"*"}`},
		{name: "another's service", send: "POST /quickjs", header: asService, body: `{"code":"1","serviceProxies":[{"name":"weather","baseUrl":"http://x"}]}`, status: 400,
			want: `{"error":"The service proxy 'weather' is not supported.","code":"INVALID_REQUEST","details":"/.*: keystore, .*sleep, tasks.*/"}`},
		{name: "proxies no array", send: "POST /quickjs", header: asService, body: `{"code":"1","serviceProxies":7}`, status: 400, want: `{"error":"'serviceProxies' must be an array of objects with a name.","...":0}`},
		{name: "VM state", send: "POST /quickjs", header: asService, body: `{"code":"1","initialVmState":{"a":1}}`, status: 400, want: `{"error":"'initialVmState' is not supported.","...":0}`},
		{name: "anon", send: "POST /quickjs", body: `{"code":"module.exports = () => 1"}`, status: 403, gives: "sb-error-code: FORBIDDEN",
			want: `{"error":"Running code that comes with the request` + forbidden + `","code":"FORBIDDEN"}`},
		{name: "a user", send: "POST /quickjs", header: "Role: " + ada, body: `{"taskCode":"module.exports = () => 1","taskName":"echo"}`, status: 403, want: `{"code":"FORBIDDEN","...":0}`},
		{name: "code of nothing is by name", send: "POST /quickjs", body: `{"code":null,"taskName":"echo"}`, status: 202, want: `{"status":"processing","...":0}`},
	})
	open := d.serve(t, func(deps *functions.Deps) { deps.Open = func(function string) bool { return function == "quickjs" } }, false)
	open.exchange(t, []row{
		{name: "anon at an open host", send: "POST /quickjs", body: `{"code":"module.exports = () => 1"}`, status: 200, want: `{"result":1,` + done + `}`},
		{name: "resume at an open host", send: "POST /quickjs/resume", body: `{"stackRunId":"` + unknownID + `"}`, status: 404, want: `{"error":"Stack run ` + unknownID + ` not found","...":0}`},
	})
}

// TestQuickjsResume is /quickjs/resume: spec 2.2.
func TestQuickjsResume(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, true)
	const suspended = `{"status":"suspended","message":"Task execution suspended for slow.answer call","stackRunId":"*","taskRunId":"*"}`
	const waitsForSecond = `{"status":"suspended","message":"Task execution suspended for slow.second call","stackRunId":"*","taskRunId":"*"}`
	const atOnce = asService + "\nPrefer: wait=0"
	s.exchange(t, []row{
		{name: "OPTIONS", send: "OPTIONS /quickjs/resume", status: 204},
		{name: "no id", send: "POST /quickjs/resume", header: asService, body: `{}`, status: 400, want: `{"error":"Missing stackRunId","...":0}`},
		{name: "no body", send: "POST /quickjs/resume", header: asService, status: 400, want: `{"error":"Missing stackRunId","...":0}`},
		{name: "GET", send: "GET /quickjs/resume", header: asService, status: 400, want: `{"error":"Missing stackRunId","...":0}`},
		{name: "id no string", send: "POST /quickjs/resume", header: asService, body: `{"stackRunId":7}`, status: 400, want: `{"error":"Missing stackRunId","...":0}`},
		{name: "bad JSON", send: "POST /quickjs/resume", header: asService, body: `{`, status: 400, want: badJSON},
		{name: "unknown", send: "POST /quickjs/resume", header: asService, body: `{"stackRunId":"` + unknownID + `"}`, status: 404, want: `{"error":"Stack run ` + unknownID + ` not found","...":0}`},
		{name: "unknown to inject", send: "POST /quickjs/resume", header: asService, body: `{"stackRunIdToResume":"` + unknownID + `","resultToInject":1}`, status: 404, want: `{"error":"Stack run ` + unknownID + ` not found","...":0}`},
		{name: "no uuid", send: "POST /quickjs/resume", header: asService, body: `{"stackRunId":"test-1"}`, status: 404, want: `{"error":"Stack run test-1 not found","...":0}`},
		{name: "anon", send: "POST /quickjs/resume", body: `{"stackRunId":"` + unknownID + `"}`, status: 403, want: `{"error":"Resuming a run` + forbidden + `","code":"FORBIDDEN"}`},

		{name: "start call", send: "POST /quickjs", body: `{"taskName":"wait-key"}`, status: 202, want: `{"status":"processing","...":0}`, keep: "callrun=taskRunId"},
		{name: "call waits", send: "POST /quickjs/resume", header: atOnce, body: `{"stackRunId":"{callrun}"}`, status: 202, want: suspended, keep: "call=stackRunId", again: true},
		{name: "not yet", send: "POST /quickjs/resume", header: atOnce, body: `{"stackRunId":"{call}"}`, status: 202, want: suspended},
		{name: "inject", send: "POST /quickjs/resume", header: asService, body: `{"stackRunIdToResume":"{call}","resultToInject":{"v":[1]}}`, status: 200,
			want: `{"result":{"got":{"v":[1]}},"status":"completed","message":"VM resumed successfully for stack run {call}","taskRunId":"*"}`, keep: "run=taskRunId"},
		{name: "the run", send: "GET /tasks/status/{run}", status: 200, want: `{"status":"completed","result":{"got":{"v":[1]}},"...":0}`},
		{name: "resumed already", send: "POST /quickjs/resume", header: asService, body: `{"stackRunId":"{call}"}`, status: 200,
			want: `{"result":{"got":{"v":[1]}},"status":"completed","message":"VM resumed successfully for stack run {call}","taskRunId":"{run}"}`},
		{name: "inject again", send: "POST /quickjs/resume", header: asService, body: `{"stackRunIdToResume":"{call}","resultToInject":2}`, status: 409,
			want: `{"error":"Stack run {call} does not wait for a result.","code":"NOT_WAITING","details":"*"}`},

		{name: "start other", send: "POST /quickjs", body: `{"taskName":"wait-key"}`, status: 202, want: `{"status":"processing","...":0}`, keep: "otherrun=taskRunId"},
		{name: "other waits", send: "POST /quickjs/resume", header: atOnce, body: `{"stackRunId":"{otherrun}"}`, status: 202, want: suspended, keep: "other=stackRunId", again: true},
		{name: "inject nothing", send: "POST /quickjs/resume", header: asService, body: `{"stackRunIdToResume":"{other}"}`, status: 200, want: `{"result":{"got":null},"status":"completed","...":0}`},

		{name: "one that fails", send: "POST /quickjs", body: `{"taskName":"fail"}`, status: 202, want: `{"...":0}`, keep: "failed=taskRunId"},
		{name: "its failure", send: "POST /quickjs/resume", header: asService, body: `{"stackRunId":"{failed}"}`, status: 500,
			want: `{"status":"error","error":"Error in task execution: boom <&>","details":{"message":"boom <&>","...":0},"stack":"*","taskRunId":"{failed}"}`},
	})
	// A call that waits for more after it was given its result.
	if _, err := d.store.Publish(t.Context(), twice); err != nil {
		t.Fatal(err)
	}
	s.exchange(t, []row{
		{name: "two calls", send: "POST /quickjs", body: `{"taskName":"twice"}`, status: 202, want: `{"...":0}`, keep: "twice=taskRunId"},
		{name: "waits for the first", send: "POST /quickjs/resume", header: atOnce, body: `{"stackRunId":"{twice}"}`, status: 202, want: suspended, keep: "first=stackRunId", again: true},
		{name: "inject the first", send: "POST /quickjs/resume", header: atOnce, body: `{"stackRunIdToResume":"{first}","resultToInject":1}`, status: 200, gives: "Preference-Applied: wait", want: `{"status":"suspended","taskRunId":"{twice}","...":0}`},
		{name: "waits for the second", send: "POST /quickjs/resume", header: atOnce, body: `{"stackRunId":"{twice}"}`, status: 202, want: waitsForSecond, keep: "second=stackRunId", again: true},
		{name: "inject the second", send: "POST /quickjs/resume", header: asService, body: `{"stackRunIdToResume":"{second}","resultToInject":2}`, status: 200, want: `{"result":[1,2],"status":"completed","...":0}`},
	})
}
