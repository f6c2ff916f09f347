package functions_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"
)

// TestIdempotentStart: the same request under the same key gives the run that is
// there; another one is refused; keys are a caller's and a task's own.
func TestIdempotentStart(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, true)
	const service, key = "Role: service_role\n", "Idempotency-Key: order-1"
	alice, bob := uuid.NewString(), uuid.NewString()
	s.exchange(t, []row{
		{name: "first", send: "POST /tasks/execute", header: service + key, body: `{"taskName":"echo","input":{"b":-0,"a":1}}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "run=taskRunId"},
		{name: "again", send: "POST /tasks/execute", header: service + key, body: `{"input":{"b":-0,"a":1},"name":"echo"}`, status: 202, want: `{"taskRunId":"{run}","...":0}`},
		{name: "quoted", send: "POST /tasks/execute", header: service + `Idempotency-Key: "order-1"`, body: `{"taskName":"echo","input":{"b":-0,"a":1}}`, status: 202, want: `{"taskRunId":"{run}","...":0}`},
		{name: "after its end", send: "POST /tasks/execute", header: service + key + "\nPrefer: wait=30", body: `{"taskName":"echo","input":{"b":-0,"a":1}}`, status: 200,
			want: `{"taskRunId":"{run}","status":"completed","idempotency_key":"order-1","...":0}`},
		{name: "through a chain", send: "POST /tasks/execute", header: service + key, body: `{"chain":[{"type":"call","property":"execute","args":["echo",{"b":-0,"a":1}]}]}`, status: 200,
			want: `{"data":{"task_run_id":"{run}","...":0},"...":0}`},
		{name: "another input", send: "POST /tasks/execute", header: service + key, body: `{"taskName":"echo","input":{"b":0,"a":1}}`, status: 409, want: `{"code":"IDEMPOTENCY_CONFLICT","error":"*"}`},
		{name: "other times", send: "POST /tasks/execute", header: service + key, body: `{"taskName":"echo","input":{"b":-0,"a":1},"delay":5}`, status: 409, want: `{"code":"IDEMPOTENCY_CONFLICT","error":"*"}`},
		{name: "another task", send: "POST /tasks/execute", header: service + key, body: `{"taskName":"nest"}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "other=taskRunId"},
		{name: "a user", send: "POST /tasks/execute", header: "Role: " + alice + "\n" + key, body: `{"taskName":"echo"}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "alice=taskRunId"},
		{name: "the same user", send: "POST /tasks/execute", header: "Role: " + alice + "\n" + key, body: `{"taskName":"echo"}`, status: 202, want: `{"taskRunId":"{alice}","...":0}`},
		{name: "another user gets a run of his own", send: "POST /tasks/execute", header: "Role: " + bob + "\n" + key, body: `{"taskName":"echo","input":2}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "nobody, with a key that can be guessed", send: "POST /tasks/execute", header: key, body: `{"taskName":"echo"}`, status: 400, want: `{"code":"INVALID_INPUT","error":"*"}`},
		{name: "nobody, with one that cannot", send: "POST /tasks/execute", header: "Idempotency-Key: 0199f4f2-7d5e-7a11-8a4e-2f5d3c1b9a70", body: `{"taskName":"echo"}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "empty", send: "POST /tasks/execute", header: service + `Idempotency-Key: ""`, body: `{"taskName":"echo"}`, status: 400, want: `{"code":"INVALID_REQUEST","...":0}`},
		{name: "two", send: "POST /tasks/execute", header: service + key + "\n" + key, body: `{"taskName":"echo"}`, status: 400, want: `{"code":"INVALID_REQUEST","...":0}`},
		{name: "quickjs", send: "POST /quickjs", header: service + "Idempotency-Key: q", body: `{"taskName":"echo","input":1}`, status: 202, want: `{"...":0}`, keep: "quick=taskRunId"},
		{name: "quickjs again", send: "POST /quickjs", header: service + "Idempotency-Key: q", body: `{"taskName":"echo","input":1}`, status: 202, want: `{"taskRunId":"{quick}","...":0}`},
	})
	var runs sync.Map
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			a := s.do(t, row{send: "POST /tasks/execute", header: service + "Idempotency-Key: at once", body: `{"taskName":"nest","input":1}`})
			if a.Code != 202 {
				t.Errorf("%d %s", a.Code, a.Body)
				return
			}
			runs.Store(answered(t, a, "taskRunId"), true)
		})
	}
	all.Wait()
	n := 0
	runs.Range(func(any, any) bool { n++; return true })
	var rows int
	if err := d.pool.QueryRow(t.Context(), `select count(*) from task_runs where idempotency_key = 'at once'`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if n != 1 || rows != 1 {
		t.Errorf("50 at once were given %d runs, and there are %d", n, rows)
	}
}

// TestStartOptions: a run begins later, with a priority, and has its time.
func TestStartOptions(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	bad := func(name, body string) row {
		return row{name: name, send: "POST /tasks/execute", body: `{"taskName":"echo",` + body + `}`, status: 400, want: `{"error":"*","code":"*","...":0}`}
	}
	s.exchange(t, []row{
		{name: "delay", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"echo","input":1,"delay":50}`, status: 200, want: `{"status":"completed","scheduled_for":"*","...":0}`},
		{name: "much later", send: "POST /tasks/execute", body: `{"taskName":"echo","scheduledFor":"2031-01-31T08:00:00+01:00"}`, status: 202, want: `{"status":"queued","...":0}`, keep: "run=taskRunId"},
		{name: "it says when", send: "GET /tasks/status?id={run}", status: 200, want: `{"status":"queued","scheduled_for":"2031-01-31T07:00:00Z","started_at":null,"...":0}`},
		{name: "and can be cancelled", send: "POST /tasks/cancel", body: `{"id":"{run}"}`, status: 200, want: `{"status":"cancelled","taskRunId":"{run}","...":0}`},
		{name: "timeout", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"never","timeout":60}`, status: 200, want: `{"status":"failed","error":{"code":"TIMEOUT","name":"TimeoutError","...":0},"deadline_at":"*","...":0}`},
		{name: "priority", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"echo","priority":7}`, status: 200, want: `{"priority":7,"...":0}`},
		{name: "null is nothing", send: "POST /tasks/execute", body: `{"taskName":"echo","priority":null,"delay":null,"timeout":null,"scheduledFor":null}`, status: 202, want: `{` + acceptedKeys + `}`},
		bad("a delay that is none", `"delay":"soon"`), bad("a delay before now", `"delay":-1`), bad("a delay of ages", `"delay":1e300`), bad("eleven years", `"delay":347000000000`),
		bad("no zone", `"scheduledFor":"2031-01-31T08:00:00"`), bad("no time", `"scheduled_for":7`), bad("both", `"delay":1,"scheduledFor":"2031-01-31T08:00:00Z"`),
		bad("half a priority", `"priority":0.5`), bad("too much of it", `"priority":1001`), bad("no timeout", `"timeout":{}`),
	})
}

// TestCancelEndpoint: whoever may know of a run may cancel it.
func TestCancelEndpoint(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	alice, bob := uuid.NewString(), uuid.NewString()
	s.exchange(t, []row{
		{name: "start", send: "POST /tasks/execute", body: `{"taskName":"never"}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "run=taskRunId"},
		{name: "it waits", send: "GET /tasks/status?id={run}", status: 200, want: `{"status":"suspended","...":0}`, again: true},
		{name: "GET changes nothing", send: "GET /tasks/cancel?id={run}", status: 405, gives: "Allow: POST, OPTIONS", want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
		{name: "cancel", send: "POST /tasks/cancel", header: "Prefer: wait=30", body: `{"taskRunId":"{run}"}`, status: 200,
			want: `{"success":true,"message":"Task run is cancelled.","status":"cancelled","id":"{run}","taskRunId":"{run}","task_run_id":"{run}","taskId":"{run}","cancel_requested_at":"*","error":{"name":"CancelledError","...":0},"...":0}`},
		{name: "once more", send: "POST /tasks/cancel/{run}", status: 200, want: `{"status":"cancelled","...":0}`},
		{name: "one that has completed", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"echo"}`, status: 200, want: `{"...":0}`, keep: "done=id"},
		{name: "stays so", send: "POST /tasks/cancel", body: `{"id":"{done}"}`, status: 200, want: `{"status":"completed","message":"Task run is completed.","...":0}`},
		{name: "of a user", send: "POST /tasks/execute", header: "Role: " + alice, body: `{"taskName":"never"}`, status: 202, want: `{"...":0}`, keep: "alice=taskRunId"},
		{name: "another does not find it", send: "POST /tasks/cancel", header: "Role: " + bob, body: `{"id":"{alice}"}`, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "nor does nobody", send: "POST /tasks/cancel", body: `{"id":"{alice}"}`, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "she does", send: "POST /tasks/cancel", header: "Role: " + alice + "\nPrefer: wait=30", body: `{"task_run_id":"{alice}"}`, status: 200, want: `{"status":"cancelled","...":0}`},
		{name: "none", send: "POST /tasks/cancel", body: `{"id":"0199f4f2-7d5e-7a11-8a4e-2f5d3c1b9a70"}`, status: 404, want: `{"code":"TASK_RUN_NOT_FOUND","...":0}`},
		{name: "no id", send: "POST /tasks/cancel", body: `{}`, status: 400, want: `{"error":"Missing taskRunId parameter","...":0}`},
		{name: "no body", send: "POST /tasks/cancel", status: 400, want: `{"error":"Missing taskRunId parameter","...":0}`},
		{name: "an id that is none", send: "POST /tasks/cancel", body: `{"id":7}`, status: 400, want: `{"error":"'id' must be the id of a run, a uuid.","...":0}`},
		{name: "no uuid", send: "POST /tasks/cancel", body: `{"id":"7"}`, status: 400, want: `{"...":0}`},
		{name: "no object", send: "POST /tasks/cancel", body: `[]`, status: 400, want: `{"code":"INVALID_JSON","...":0}`},
	})
}
