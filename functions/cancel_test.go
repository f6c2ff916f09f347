package functions_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
)

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

// TestCancelAnyTime: at any point of a run's life, with any id that leads to it, the
// answer says whether it has ended or is about to.
func TestCancelAnyTime(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, true)
	const ids = `"id":"{run}","taskRunId":"{run}","task_run_id":"{run}","taskId":"{run}"`
	const ending = `{"success":true,"message":"Task run is asked to end.",` + ids + `,"cancel_requested_at":"/.+/","ended_at":null,"...":0}`
	const over = `{"success":true,"message":"Task run is cancelled.",` + ids + `,"status":"cancelled","ended_at":"/.+/","...":0}`
	start := func(task string) row {
		return row{name: "start " + task, send: "POST /tasks/execute", body: `{"taskName":"` + task + `"}`, status: 202, want: `{"...":0}`, keep: "run=taskRunId"}
	}
	is := func(status string) row {
		return row{name: status, send: "GET /tasks/status?id={run}", status: 200, want: `{"status":"` + status + `","...":0}`, again: true}
	}
	s.exchange(t, []row{
		start("tidy"), is("suspended"),
		{name: "it tidies up", send: "POST /tasks/cancel", body: `{"task_run_id":"{run}"}`, status: 202, gives: "Cache-Control: no-store", want: ending},
		{name: "once more", send: "POST /tasks/cancel/{run}", status: 200, want: over},
		start("tidy"), is("suspended"),
		{name: "for longer than its client waits", send: "POST /tasks/cancel?id={run}", header: "Prefer: wait=0", status: 202, gives: "Preference-Applied: wait", want: ending},
		{name: "once more", send: "POST /tasks/cancel?taskRunId={run}", header: "Prefer: wait=30", status: 200, want: over},
		start("endless"), is("processing"),
		{name: "while it computes", send: "POST /tasks/cancel", body: `{"taskRunId":"{run}"}`, status: 202, want: ending},
		{name: "once more", send: "POST /tasks/cancel", body: `{"id":"{run}"}`, status: 200, want: over},
		{name: "start fail", send: "POST /tasks/execute", header: "Prefer: wait=30", body: `{"taskName":"fail"}`, status: 200, want: `{"...":0}`, keep: "run=id"},
		{name: "after it failed", send: "POST /tasks/cancel", body: `{"id":"{run}"}`, status: 200, want: `{"status":"failed","message":"Task run is failed.","cancel_requested_at":null,` + ids + `,"...":0}`},
		{name: "PUT", send: "PUT /tasks/cancel", body: `{"id":"{run}"}`, status: 405, want: `{"code":"METHOD_NOT_ALLOWED","...":0}`},
		{name: "HEAD", send: "HEAD /tasks/cancel/{run}", status: 405},
		{name: "the service role, of a user's run", send: "POST /tasks/execute", header: "Role: " + ada, body: `{"taskName":"never"}`, status: 202, want: `{"...":0}`, keep: "run=taskRunId"},
		{name: "cancels it", send: "POST /tasks/cancel", header: asService + "\nPrefer: wait=30", body: `{"id":"{run}"}`, status: 200, want: `{"owner":"` + ada + `","status":"cancelled","...":0}`},
	})
	for what, find := range map[string]string{
		"its body": `select id from stack_runs where child_task_run_id = $1`,
		"its call": `select id from stack_runs where parent_task_run_id = $1 and service_name = 'sleep'`,
	} {
		a := s.do(t, start("never"))
		run := uuid.MustParse(answered(t, a, "taskRunId"))
		s.exchange(t, []row{{name: "it waits", send: "GET /tasks/status/" + run.String(), status: 200, want: `{"status":"suspended","...":0}`, again: true}})
		var id uuid.UUID
		if err := d.pool.QueryRow(t.Context(), find, run).Scan(&id); err != nil {
			t.Fatal(what, err)
		}
		s.exchange(t, []row{{name: "by " + what, send: "POST /tasks/cancel", header: "Prefer: wait=30", body: fmt.Sprintf(`{"id":"%s"}`, id), status: 200,
			want: fmt.Sprintf(`{"id":"%s","status":"cancelled","...":0}`, run)}})
	}
}

// TestCancelUnbegun: a run that no host has begun ends at once, and is never begun.
func TestCancelUnbegun(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	idle := d.serve(t, nil, false)
	var inserted uuid.UUID
	if err := d.pool.QueryRow(t.Context(), `insert into task_runs (task_name, status) values ('never', 'queued') returning id`).Scan(&inserted); err != nil {
		t.Fatal(err)
	}
	idle.exchange(t, []row{
		{name: "start", send: "POST /tasks/execute", body: `{"taskName":"never"}`, status: 202, want: `{"status":"queued","...":0}`, keep: "run=taskRunId"},
		{name: "cancel", send: "POST /tasks/cancel", body: `{"id":"{run}"}`, status: 200, want: `{"id":"{run}","status":"cancelled","started_at":null,"...":0}`},
		{name: "one that a client inserted", send: "POST /tasks/cancel", body: `{"id":"` + inserted.String() + `"}`, status: 200, want: `{"status":"cancelled","started_at":null,"...":0}`},
	})
	d.serve(t, nil, true).exchange(t, []row{{name: "a host works", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"echo"}`, status: 200, want: `{"...":0}`}})
	var n int
	if err := d.pool.QueryRow(t.Context(), `select count(*) from task_runs where status = 'cancelled' and started_at is null`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d of 2 cancelled runs never began: %v", n, err)
	}
}
