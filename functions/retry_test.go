package functions_test

import "testing"

// TestRetry is POST /tasks/retry and /tasks/rerun.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	const asAda, asEve, waiting = "Role: " + ada, "Role: " + eve, "\nPrefer: wait=30"
	const ids = `"taskRunId":"{run}","task_run_id":"{run}","taskId":"{run}"`
	s.exchange(t, []row{
		{name: "a failed run", send: "POST /tasks", header: asAda + waiting, body: `{"taskName":"fail","input":{"b":-0,"a":1.50}}`, status: 200, want: `{"status":"failed","...":0}`, keep: "run=id"},
		{name: "retried", send: "POST /tasks/retry", header: asAda, body: `{"id":"{run}"}`, status: 202, gives: "Cache-Control: no-store",
			want: `{` + runKeys + `,"id":"{run}","task_name":"fail","success":true,"message":"Task run retried.",` + ids + `,"...":0}`},
		{name: "it fails again", send: "GET /tasks/status/{run}", header: asAda + waiting, status: 200, want: `{"id":"{run}","status":"failed","error":{"message":"boom <&>","...":0},"...":0}`},
		{name: "retried and waited for", send: "POST /tasks/retry", header: asAda + waiting, body: `{"taskRunId":"{run}","withCurrentCode":false}`, status: 200, gives: "Preference-Applied: wait",
			want: `{"status":"failed","success":false,"message":"Task failed.",` + ids + `,"...":0}`},
		{name: "with other code", send: "POST /publish", header: asService, body: `{"name":"fail","code":"module.exports = (input) => JSON.stringify([Object.keys(input), Object.is(input.b, -0)])"}`, status: 200, want: `{"change":"updated","...":0}`},
		{name: "retried with it", send: "POST /tasks/retry", header: asService + waiting, body: `{"id":"{run}","withCurrentCode":true}`, status: 200,
			want: `{"status":"completed","error":null,"result":"[[\"b\",\"a\"],true]","owner":"` + ada + `","success":true,` + ids + `,"...":0}`},
		{name: "once more", send: "POST /tasks/retry", header: asAda, body: `{"id":"{run}"}`, status: 409, want: `{"error":"The run {run} has completed: start another with a rerun.","code":"NOT_RETRYABLE"}`},
		{name: "rerun", send: "POST /tasks/rerun", header: asAda, body: `{"id":"{run}"}`, status: 202, want: `{` + runKeys + `,"task_name":"fail","success":true,"owner":"` + ada + `","message":"Task accepted and queued for asynchronous processing.","...":0}`, keep: "other=taskRunId"},
		{name: "another run", send: "GET /tasks/status/{other}", header: asAda + waiting, status: 200, want: `{"status":"completed","result":"[[\"b\",\"a\"],true]","...":0}`},

		{name: "nested", send: "POST /tasks", header: waiting[1:], body: `{"taskName":"nest","input":1}`, status: 200, want: `{"status":"completed","...":0}`, keep: "root=id"},
		{name: "one that waits", send: "POST /tasks", header: asAda, body: `{"taskName":"never"}`, status: 202, want: `{"...":0}`, keep: "never=taskRunId"},
		{name: "is not retried", send: "POST /tasks/retry", header: asAda, body: `{"id":"{never}"}`, status: 409, want: `{"code":"NOT_RETRYABLE","...":0}`},

		{name: "another's run is not there", send: "POST /tasks/retry", header: asEve, body: `{"id":"{run}"}`, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "nor for anon", send: "POST /tasks/rerun", body: `{"id":"{run}"}`, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "none", send: "POST /tasks/retry", header: asService, body: `{"id":"` + unknownID + `"}`, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "malformed", send: "POST /tasks/rerun", header: asService, body: `{"id":"7"}`, status: 400, want: `{"code":"INVALID_REQUEST","...":0}`},
		{name: "no string", send: "POST /tasks/rerun", header: asService, body: `{"id":7}`, status: 400, want: `{"error":"'id' is not a string.","code":"INVALID_REQUEST"}`},
		{name: "no id", send: "POST /tasks/retry", header: asService, body: `{}`, status: 400, want: `{"error":"'id' is required: the id of a task run.","...":0}`},
		{name: "no flag", send: "POST /tasks/retry", header: asAda, body: `{"id":"{run}","withCurrentCode":"yes"}`, status: 400, want: `{"error":"'withCurrentCode' is true or false.","...":0}`},
		{name: "GET", send: "GET /tasks/retry?id={run}", header: asAda, status: 405, gives: "Allow: POST, OPTIONS", want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
		{name: "GET rerun", send: "GET /tasks/rerun", header: asAda, status: 405, gives: "Allow: POST, OPTIONS", want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
	})
}
