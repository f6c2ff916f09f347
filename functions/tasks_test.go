package functions_test

import (
	"fmt"
	"strings"
	"testing"
)

const (
	unknownID = "0190b5e0-0000-7000-8000-000000000000"
	ada       = "0190b5e0-0000-7000-8000-00000000ada0"
	eve       = "0190b5e0-0000-7000-8000-00000000eee0"
	asService = "Role: service_role"

	// runKeys are the columns of task_runs that clients read.
	runKeys = `"id":"*","task_function_id":"*","input":"*","result":"*","error":"*","logs":"*","vm_logs":"*","log_entries":"*",
		"aggregated_results":"*","parent_run_id":"*","waiting_on_stack_run_id":"*","suspended_at":"*","resumed_at":"*","started_at":"*","ended_at":"*",
		"created_at":"*","updated_at":"*"`
	acceptedKeys = `"success":true,"message":"Task accepted and queued for asynchronous processing.","taskRunId":"*","task_run_id":"*","taskId":"*","status":"*"`
	nameRequired = "'taskName' is required and must be a string."
)

// TestExecute is POST /tasks and /tasks/execute: spec 2.1.
func TestExecute(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	long := strings.Repeat("é", 1<<19)
	s.exchange(t, []row{
		{name: "OPTIONS", send: "OPTIONS /tasks/execute", status: 200, want: "ok"},
		{name: "OPTIONS of a route that takes GET", send: "OPTIONS /tasks/status", status: 200, want: "ok"},
		{name: "bad JSON", send: "POST /tasks/execute", body: `{"taskName":`, status: 400,
			want: `{"error":"Invalid JSON request body.","details":"unexpected end of JSON input, at byte 12","code":"INVALID_JSON"}`},
		{name: "no name", send: "POST /tasks/execute", body: `{"input":{}}`, status: 400, want: `{"error":"` + nameRequired + `","...":0}`},
		{name: "name no string", send: "POST /tasks/execute", body: `{"taskName":["echo"]}`, status: 400, want: `{"error":"` + nameRequired + `","...":0}`},
		{name: "unknown", send: "POST /tasks/execute", body: `{"taskName":"none"}`, status: 404, want: `{"error":"Task 'none' not found.","code":"TASK_NOT_FOUND"}`},
		{name: "a name of 1 MB", send: "POST /tasks/execute", body: `{"taskName":"` + long + `"}`, status: 404,
			want: `{"error":"Task '` + strings.Repeat("é", 100) + `…' not found.","code":"TASK_NOT_FOUND"}`},
		{name: "a name with NUL", send: "POST /tasks/execute", body: `{"taskName":"a\u0000"}`, status: 400, want: `{"error":"` + nameRequired + `","...":0}`},
		{name: "a name with a quote", send: "POST /tasks/execute", body: `{"taskName":"quote's"}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "accepted", send: "POST /tasks/execute", body: `{"taskName":"echo","input":{}}`, status: 202, gives: "Content-Type: application/json\nCache-Control: no-store",
			want: `{` + acceptedKeys + `}`, keep: "run=taskRunId"},
		{name: "its keys are one id", send: "GET /tasks/status?id={run}", header: "Prefer: wait=30", status: 200, want: `{"id":"{run}","status":"completed","...":0}`},

		// Generations contradict each other; the union advice at the end of 2.1 decides.
		{name: "bare POST executes (8358c4f: info)", send: "POST /tasks", body: `{"task":"echo","input":1}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "bare GET informs", send: "GET /tasks", status: 200,
			want: `{"service":"Tasker Edge Function","version":"1.0.0","status":"running","endpoints":"*","available_routes":"*"}`},
		{name: "bare HEAD", send: "HEAD /tasks", status: 200},
		{name: "bare DELETE is refused (8358c4f: info)", send: "DELETE /tasks", status: 405, gives: "Allow: GET, HEAD, PATCH, POST, PUT, OPTIONS", want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
		{name: "another method executes", send: "PUT /tasks/execute", body: `{"taskName":"echo"}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "another method, bare", send: "PATCH /tasks/", body: `{"taskName":"echo"}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "one without a body does not (8358c4f: 400)", send: "GET /tasks/execute", status: 405, want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
		{name: "200 for April's {name,input}? 202", send: "POST /tasks", body: `{"name":"echo","input":1,"include_logs":true}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "200 for a103104's task_identifier? 202", send: "POST /tasks/execute", body: `{"task_identifier":"echo"}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "another path executes? (8358c4f) no: 404 (d8beea5)", send: "POST /tasks/other", body: `{"taskName":"echo"}`, status: 404, want: `{"error":"There is no /tasks/other.","...":0}`},
		{name: "double slash", send: "GET /tasks//execute", status: 404, want: `{"error":"There is no /tasks//execute.","...":0}`},
		{name: "double slash, POST", send: "POST /tasks//execute", body: `{"taskName":"echo"}`, status: 404, want: `{"code":"NOT_FOUND","...":0}`},
		{name: "below a route", send: "GET /tasks/list/x", status: 404, want: `{"code":"NOT_FOUND","...":0}`},
		{name: "below execute", send: "POST /tasks/execute/x", body: `{"taskName":"echo"}`, status: 404, want: `{"code":"NOT_FOUND","...":0}`},
		{name: "a long path", send: "GET /tasks/" + strings.Repeat("x", 4000), status: 404,
			want: `{"error":"There is no /tasks/` + strings.Repeat("x", 193) + `….","...":0}`},

		// Every name of the name and of the input.
		{name: "task", send: "POST /tasks", header: "Prefer: wait=30", body: `{"task":"echo","taskInput":5}`, status: 200, want: `{"result":5,"...":0}`},
		{name: "name", send: "POST /tasks", header: "Prefer: wait=30", body: `{"name":"echo","input":5}`, status: 200, want: `{"result":5,"...":0}`},
		{name: "taskId", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskId":"echo","input":5}`, status: 200, want: `{"result":5,"...":0}`},
		{name: "id", send: "POST /tasks", header: "Prefer: wait=30", body: `{"id":"echo","input":5}`, status: 200, want: `{"result":5,"...":0}`},
		{name: "task_identifier", send: "POST /tasks", header: "Prefer: wait=30", body: `{"task_identifier":"echo","input":5}`, status: 200, want: `{"result":5,"...":0}`},
		{name: "input before taskInput, null does not count", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"echo","input":null,"taskInput":5}`, status: 200, want: `{"input":5,"result":5,"...":0}`},
		{name: "a falsy input stays (8358c4f: null)", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"echo","input":0}`, status: 200, want: `{"input":0,"result":0,"...":0}`},
		{name: "no input is null, which a task sees as {}", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"echo"}`, status: 200, want: `{"input":null,"result":{},"...":0}`},

		// Prefer: wait.
		{name: "waited", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"echo","input":{"a":1}}`, status: 200, gives: "Preference-Applied: wait",
			want: `{` + runKeys + `,"task_name":"echo","status":"completed","success":true,"message":"Task completed.","taskRunId":"*","task_run_id":"*","taskId":"*","...":0}`},
		{name: "failed", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"fail"}`, status: 200, gives: "Preference-Applied: wait",
			want: `{"status":"failed","result":null,"error":{"message":"boom <&>","name":"TypeError","stack":"*"},"success":false,"message":"Task failed.","...":0}`},
		{name: "not in time", send: "POST /tasks/execute", header: "Prefer: wait=0", body: `{"taskName":"never"}`, status: 202, gives: "Preference-Applied: wait", want: `{` + acceptedKeys + `}`},
		{name: "not understood", send: "POST /tasks/execute", header: "Prefer: wait=soon", body: `{"taskName":"never"}`, status: 202, gives: "Preference-Applied: ", want: `{` + acceptedKeys + `}`},

		// 9e14bb4.
		{name: "triggerFIFO", send: "POST /tasks", body: `{"service":"tasks","method":"triggerFIFO"}`, status: 200, want: `{"status":"ok","message":"FIFO processing chain started"}`},
		{name: "another method of it", send: "POST /tasks", body: `{"service":"tasks","method":"x"}`, status: 400, want: `{"error":"` + nameRequired + `","...":0}`},
	})
}

// TestChain is what the original's SDK sends: spec 2.1 (April) and 3.
func TestChain(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	chain := func(steps string) string { return `{"chain":` + steps + `,"config":{}}` }
	const done = `"success":true,"error":null,"task_run_id":"*","status":"completed"`
	s.exchange(t, []row{
		{name: "execute", send: "POST /tasks/api/proxy/tasks", body: chain(`[{"type":"call","property":"execute","args":["echo",{"a":1}]}]`), status: 200,
			want: `{"data":{"data":{"a":1},"result":{"a":1},"logs":[],` + done + `}}`},
		{name: "bare", send: "POST /tasks", body: chain(`[{"type":"call","property":"execute","args":["echo",1,{"verbose":true}]}]`), status: 200, want: `{"data":{"data":1,"result":1,"logs":[],` + done + `}}`},
		{name: "at execute", send: "POST /tasks/execute", body: chain(`[{"type":"call","property":"execute","args":["echo"]}]`), status: 200, want: `{"data":{"data":{},"result":{},"logs":[],` + done + `}}`},
		{name: "generic client", send: "POST /tasks/api/sdk-proxy", body: `{"service":"tasks","chain":[{"type":"call","property":"execute","args":["echo",2]}]}`, status: 200,
			want: `{"data":{"data":2,"result":2,"logs":[],` + done + `}}`},
		{name: "no type, the service first", send: "POST /tasks", body: chain(`[{"property":"tasks","args":[]},{"property":"execute","args":["echo",3]}]`), status: 200, want: `{"data":{"data":3,"result":3,"logs":[],` + done + `}}`},
		{name: "logs", send: "POST /tasks", body: chain(`[{"type":"call","property":"execute","args":["nest",4]}]`), status: 200,
			want: `{"data":{"data":4,"result":4,"logs":[{"id":"*","at":"*","task_run_id":"*","task_name":"nest","level":"warn","message":"nesting"}],` + done + `}}`},
		{name: "a run that fails is data", send: "POST /tasks", body: chain(`[{"type":"call","property":"execute","args":["fail"]}]`), status: 200,
			want: `{"data":{"success":false,"data":null,"result":null,"error":"boom <&>","logs":[],"task_run_id":"*","status":"failed"}}`},
		{name: "not in time", send: "POST /tasks", header: "Prefer: wait=0", body: chain(`[{"type":"call","property":"execute","args":["never"]}]`), status: 202, want: `{"data":{` + acceptedKeys + `}}`},
		{name: "list", send: "POST /tasks", body: chain(`[{"type":"call","property":"list","args":[]}]`), status: 200, want: `{"data":{"success":true,"tasks":"*"}}`},
		{name: "unknown task", send: "POST /tasks", body: chain(`[{"type":"call","property":"execute","args":["none"]}]`), status: 404,
			want: `{"error":{"message":"Task 'none' not found.","code":"TASK_NOT_FOUND","status":404}}`},
		{name: "no name", send: "POST /tasks", body: chain(`[{"type":"call","property":"execute"}]`), status: 400, want: `{"error":{"message":"` + nameRequired + `","code":"INVALID_REQUEST","status":400,"details":"*"}}`},
		{name: "no array", send: "POST /tasks", body: `{"chain":{}}`, status: 400, want: `{"error":{"message":"Invalid request: chain must be an array","code":"INVALID_CHAIN_FORMAT","status":400}}`},
		{name: "empty", send: "POST /tasks", body: `{"chain":[]}`, status: 400, want: `{"error":{"code":"INVALID_CHAIN_FORMAT","...":0}}`},
		{name: "none where one is wanted", send: "POST /tasks/api/proxy/tasks", body: `{"taskName":"echo"}`, status: 400, want: `{"error":{"code":"INVALID_CHAIN_FORMAT","...":0}}`},
		{name: "unknown method", send: "POST /tasks", body: chain(`[{"type":"call","property":"destroy"}]`), status: 400,
			want: `{"error":{"message":"Method 'destroy' not found: tasks has execute(name, input) and list()","code":"CHAIN_EXECUTION_ERROR","status":400}}`},
		{name: "not called", send: "POST /tasks", body: chain(`[{"type":"get","property":"execute"}]`), status: 400, want: `{"error":{"code":"CHAIN_EXECUTION_ERROR","...":0}}`},
		{name: "unknown type", send: "POST /tasks", body: chain(`[{"type":"new","property":"execute"}]`), status: 400, want: `{"error":{"message":"Unknown chain step type: new","...":0}}`},
		{name: "another proxy", send: "POST /tasks/api/proxy/keystore", body: chain(`[]`), status: 404, want: `{"error":"There is no /tasks/api/proxy/keystore.","...":0}`},
	})
}

// TestReads is what clients poll: spec 2.1.
func TestReads(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	const line = `{"id":"*","at":"*","task_run_id":"*","task_name":"nest","level":"warn","message":"nesting"}`
	s.exchange(t, []row{
		{name: "start", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"nest","input":{"a":1}}`, status: 200, want: `{"status":"completed","...":0}`, keep: "run=id"},
		{name: "status", send: "GET /tasks/status?id={run}", status: 200, gives: "Cache-Control: private, no-cache\nETag: *",
			want: `{"id":"{run}",` + runKeys + `,"task_name":"nest","status":"completed","result":{"a":1},"error":null,"...":0}`, keep: "etag"},
		{name: "the same again", send: "GET /tasks/status?id={run}", header: `If-None-Match: "x", {etag}`, status: 304, gives: "ETag: {etag}"},
		{name: "HEAD the same", send: "HEAD /tasks/status?id={run}", header: "If-None-Match: *", status: 304},
		{name: "another tag", send: "GET /tasks/status/{run}", header: `If-None-Match: "x"`, status: 200, want: `{"id":"{run}","...":0}`},
		{name: "HEAD", send: "HEAD /tasks/status/{run}", status: 200, gives: "ETag: *"},
		{name: "taskRunId", send: "GET /tasks/status?taskRunId={run}", status: 200, want: `{"id":"{run}","...":0}`},
		{name: "result", send: "GET /tasks/result/{run}", status: 200, gives: "ETag: *", want: `{"id":"{run}","status":"completed","result":{"a":1},"error":null}`},
		{name: "result by query", send: "GET /tasks/result?id={run}", status: 200, want: `{"id":"{run}","...":0}`},
		{name: "logs", send: "GET /tasks/logs?id={run}", status: 200, gives: "ETag: *", want: `{"logs":[` + line + `],"vm_logs":[` + line + `],
			"taskRunLogs":[` + line + `],"taskRunVMLogs":[` + line + `],"status":"completed","error":null,"stackRunEventLogs":[
			{"timestamp":"*","service":"tasks","method":"execute","status":"completed","logs":[]},
			{"timestamp":"*","service":"tasks","method":"execute","status":"completed","logs":[]}]}`},
		{name: "logs from a line on", send: "GET /tasks/logs?id={run}&after=0", status: 200, want: `{"logs":[` + line + `],"vm_logs":[` + line + `]}`},
		{name: "logs after the last", send: "GET /tasks/logs?id={run}&after=9223372036854775807", status: 200, want: `{"logs":[],"vm_logs":[]}`},
		{name: "after no line", send: "GET /tasks/logs?id={run}&after=x", status: 400, want: `{"error":"'after' must be the id of a log line, not 'x'.","code":"INVALID_REQUEST"}`},
		{name: "tree", send: "GET /tasks/tree?id={run}", status: 200, gives: "ETag: *", want: `{"run":{"id":"{run}","...":0},"nodes":[
			{"task_name":"nest","stuck_reason":null,"...":0},{"task_name":"echo","stuck_reason":null,"...":0}]}`},
		{name: "list", send: "GET /tasks/list", status: 200, gives: "ETag: *", want: `{"tasks":"*"}`},
		{name: "openapi", send: "GET /tasks/openapi", status: 200, gives: "ETag: *", want: `{"openapi":"3.0.0","info":"*","x-tasks":{"echo":"Task: echo","...":0},
			"paths":{"/tasks/execute":{"post":{"parameters":[{"name":"Idempotency-Key","in":"header","...":0}],"responses":"*","...":0,
				"requestBody":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["taskName"],
				"properties":{"taskName":"*","input":"*","delay":"*","timeout":"*","priority":"*","scheduledFor":"*"}}}}}}},
				"/tasks/cancel":{"post":{"requestBody":"*","responses":"*","...":0}}}}`},
		{name: "a failed run", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"fail"}`, status: 200, want: `{"status":"failed","...":0}`, keep: "failed=id"},
		{name: "its status", send: "GET /tasks/status/{failed}", status: 200, want: `{"status":"failed","error":{"message":"boom <&>","...":0},"ended_at":"/.+/","...":0}`},
		{name: "its result", send: "GET /tasks/result/{failed}", status: 200, want: `{"id":"{failed}","status":"failed","result":null,"error":{"message":"boom <&>","...":0}}`},
		{name: "its logs", send: "GET /tasks/logs/{failed}", status: 200, want: `{"status":"failed","error":{"message":"boom <&>","...":0},"...":0}`},

		{name: "no id", send: "GET /tasks/status", status: 400, want: `{"error":"Missing taskRunId parameter","code":"INVALID_REQUEST"}`},
		{name: "no id for logs", send: "GET /tasks/logs?id=", status: 400, want: `{"error":"Missing taskRunId parameter","...":0}`},
		{name: "unknown", send: "GET /tasks/status?id=" + unknownID, status: 404, want: `{"error":"Task run with ID ` + unknownID + ` not found","code":"TASK_RUN_NOT_FOUND"}`},
		{name: "malformed: 400 (8358c4f: 500)", send: "GET /tasks/status?id=7", status: 400, want: `{"error":"Malformed task run id \"7\": want a uuid","code":"INVALID_REQUEST"}`},
		{name: "malformed and long", send: "GET /tasks/status?id=" + strings.Repeat("7", 5000), status: 400, want: `{"error":"Malformed task run id \"` + strings.Repeat("7", 200) + `…\": want a uuid","...":0}`},
		{name: "malformed, NUL", send: "GET /tasks/status?id=%00", status: 400, want: `{"error":"Malformed task run id \"\\x00\": want a uuid","...":0}`},
		{name: "POST is refused (8358c4f: as GET)", send: "POST /tasks/status?id=" + unknownID, status: 405, gives: "Allow: GET, HEAD, OPTIONS", want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
	})
	// A stack_run's id is as good as its run's: a body's its own, a call's its caller's.
	tree := s.do(t, row{send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"nest"}`})
	nodes := s.do(t, row{send: "GET /tasks/tree/" + answered(t, tree, "id")}).Body.String()
	for i, want := range []string{"nest", "echo"} {
		id := strings.Split(strings.Split(nodes, `"nodes"`)[1], `"id": "`)[i+1][:36]
		s.exchange(t, []row{{name: "by stack run", send: "GET /tasks/status?id=" + id, status: 200, want: fmt.Sprintf(`{"task_name":%q,"...":0}`, want)}})
	}
}

// TestRuns is the listing of runs, and who sees which.
func TestRuns(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	const asAda, asEve = "Role: " + ada, "Role: " + eve
	s.exchange(t, []row{
		{name: "none yet", send: "GET /tasks/runs", header: asService, status: 200, want: `{"runs":[]}`},
		{name: "Ada's", send: "POST /tasks", header: asAda + "\nPrefer: wait=30", body: `{"taskName":"nest","input":1}`, status: 200, want: `{"status":"completed","...":0}`, keep: "ada=id"},
		{name: "Eve's", send: "POST /tasks", header: asEve + "\nPrefer: wait=30", body: `{"taskName":"fail"}`, status: 200, want: `{"status":"failed","...":0}`, keep: "eve=id"},
		{name: "nobody's", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"echo","input":2}`, status: 200, want: `{"status":"completed","...":0}`, keep: "anon=id"},

		{name: "all, newest first", send: "GET /tasks/runs?roots=1", header: asService, status: 200, gives: "ETag: *\nCache-Control: private, no-cache",
			want: `{"runs":[{"id":"{anon}",` + runKeys + `,"...":0},{"id":"{eve}","...":0},{"id":"{ada}","...":0}]}`},
		{name: "nested ones too", send: "GET /tasks/runs?task=echo", header: asService, status: 200, want: `{"runs":[{"id":"{anon}","...":0},{"parent_run_id":"{ada}","...":0}]}`},
		{name: "by status", send: "GET /tasks/runs?status=failed", header: asService, status: 200, want: `{"runs":[{"id":"{eve}","...":0}]}`},
		{name: "by an old word for it", send: "GET /tasks/runs?status=error", header: asService, status: 200, want: `{"runs":[{"id":"{eve}","...":0}]}`},
		{name: "a page", send: "GET /tasks/runs?limit=1&roots=true", header: asService, status: 200, want: `{"runs":[{"id":"{anon}","...":0}]}`},
		{name: "the next", send: "GET /tasks/runs?limit=1&roots=1&before={anon}", header: asService, status: 200, want: `{"runs":[{"id":"{eve}","...":0}]}`},
		{name: "no more", send: "GET /tasks/runs?roots=1&before={ada}", header: asService, status: 200, want: `{"runs":[]}`},
		{name: "her own", send: "GET /tasks/runs?roots=1", header: asAda, status: 200, want: `{"runs":[{"id":"{ada}","...":0}]}`},
		{name: "not another's", send: "GET /tasks/runs?task=fail", header: asAda, status: 200, want: `{"runs":[]}`},
		{name: "anon", send: "GET /tasks/runs", status: 403, want: `{"error":"Only a signed-in user, or the service role key, can list runs.","code":"FORBIDDEN","details":"*"}`},

		{name: "another's run is not there", send: "GET /tasks/status/{eve}", header: asAda, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "nor for anon", send: "GET /tasks/result/{eve}", status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "nor its logs", send: "GET /tasks/logs/{ada}?after=0", header: asEve, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "nobody's is there for who knows it", send: "GET /tasks/status/{anon}", header: asEve, status: 200, want: `{"id":"{anon}","...":0}`},

		{name: "limit", send: "GET /tasks/runs?limit=0", header: asService, status: 400, want: `{"error":"'limit' must be a number from 1 to 1000, not '0'.","...":0}`},
		{name: "limit too large", send: "GET /tasks/runs?limit=1001", header: asService, status: 400, want: `{"code":"INVALID_REQUEST","...":0}`},
		{name: "status", send: "GET /tasks/runs?status=done", header: asService, status: 400, want: `{"error":"'done' is no status of a run.","details":"/status=cancelled.*/","...":0}`},
		{name: "before", send: "GET /tasks/runs?before=x", header: asService, status: 400, want: `{"error":"'before' must be the id of a run, not 'x'.","...":0}`},
		{name: "before none", send: "GET /tasks/runs?before=" + unknownID, header: asService, status: 400, want: `{"error":"There is no run ` + unknownID + ` to list the runs before.","...":0}`},
		{name: "roots", send: "GET /tasks/runs?roots=yes", header: asService, status: 400, want: `{"error":"'roots' must be 1 or 0, not 'yes'.","...":0}`},
		{name: "task with NUL", send: "GET /tasks/runs?task=%00", header: asService, status: 400, want: `{"code":"INVALID_REQUEST","...":0}`},
		{name: "task that is no text", send: "GET /tasks/runs?task=%ff", header: asService, status: 400, want: `{"code":"INVALID_REQUEST","...":0}`},
	})
}

// TestWaitAcrossHosts: who waits at one host hears of the end at another.
func TestWaitAcrossHosts(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	a := d.serve(t, nil, false) // starts runs and works for none
	b := d.serve(t, nil, true)
	a.exchange(t, []row{
		{name: "execute", send: "POST /tasks/execute", header: "Prefer: wait=60", body: `{"taskName":"nest","input":{"a":1}}`, status: 200, gives: "Preference-Applied: wait",
			want: `{"status":"completed","result":{"a":1},"...":0}`},
		{name: "execute, fails", send: "POST /tasks/execute", header: "Prefer: wait=60", body: `{"taskName":"fail"}`, status: 200, want: `{"status":"failed","error":{"message":"boom <&>","...":0},"...":0}`},
		{name: "started", send: "POST /tasks/execute", body: `{"taskName":"fail"}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "run=taskRunId"},
		{name: "status", send: "GET /tasks/status/{run}", header: "Prefer: wait=60", status: 200, gives: "Preference-Applied: wait", want: `{"status":"failed","...":0}`},
		{name: "chain", send: "POST /tasks", body: `{"chain":[{"type":"call","property":"execute","args":["echo",1]}]}`, status: 200, want: `{"data":{"data":1,"...":0}}`},
		{name: "quickjs", send: "POST /quickjs", body: `{"taskName":"echo","taskInput":1,"directExecution":true}`, status: 200, want: `{"result":1,"status":"completed","...":0}`},
		{name: "given code", send: "POST /quickjs", header: "Role: service_role", body: `{"code":"module.exports = (i) => i + 1","input":1}`, status: 200, want: `{"result":2,"success":true,"...":0}`},
	})
	started := a.do(t, row{send: "POST /tasks/execute", body: `{"taskName":"echo","input":3}`})
	b.exchange(t, []row{{name: "result at the other host", send: "GET /tasks/result/" + answered(t, started, "taskRunId"), header: "Prefer: wait=60", status: 200,
		want: `{"id":"*","status":"completed","result":3,"error":null}`}})
}
