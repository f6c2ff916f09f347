package functions_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions"
	"github.com/amberhost/amber/stack"
)

var twice = stack.Task{Name: "twice", Code: "module.exports = async (i, { tools }) => [await tools.slow.answer(1), await tools.slow.second(2)]"}

// TestStackProcessor is /stack-processor: spec 2.3.
func TestStackProcessor(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, true)
	if got := s.functions["stack-processor"].Access; got != functions.Service {
		t.Errorf("access %v", got)
	}
	const missing = `{"success":false,"error":"Missing stackRunId or trigger parameter","code":"INVALID_REQUEST","details":"*"}`
	const initiated = `{"success":true,"message":"Processing initiated","status":"success","processed":false,"reason":"No pending stack runs"}`
	const ok = `{"success":true,"status":"ok","message":"*"}`
	insert := func(service, method, args, status string) string {
		id := uuid.NewString()
		_, err := d.pool.Exec(t.Context(), `insert into public.stack_runs (id, service_name, method_name, args, status)
			values ($1, $2, $3, $4, $5)`, id, service, method, args, status)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	s.exchange(t, []row{
		{name: "OPTIONS", send: "OPTIONS /stack-processor", status: 200, want: "ok"},
		{name: "GET", send: "GET /stack-processor", status: 200, gives: "Content-Type: application/json\nCache-Control: no-store",
			want: `{"status":"healthy","service":"Stack Processor","version":"1.0.0","continuousProcessing":true}`},
		{name: "bad JSON is 500, as ever", send: "POST /stack-processor", body: `{`, status: 500, want: `{"success":false,"error":"unexpected end of JSON input, at byte 1","code":"INVALID_JSON"}`},
		{name: "no body", send: "POST /stack-processor", status: 500, want: `{"success":false,"error":"*","code":"INVALID_JSON"}`},
		{name: "not UTF-8", send: "POST /stack-processor", body: "{\"a\":\"\xff\"}", status: 500, want: `{"success":false,"error":"the body is not UTF-8","code":"INVALID_JSON"}`},
		{name: "an array", send: "POST /stack-processor", body: `[]`, status: 400, want: missing},
		{name: "nothing asked (d8beea5: the next)", send: "POST /stack-processor", body: `{}`, status: 400, want: missing},
		{name: "an unknown trigger", send: "POST /stack-processor", body: `{"trigger":"x"}`, status: 400, want: missing},
		{name: "a trigger that is no string", send: "POST /stack-processor", body: `{"trigger":{}}`, status: 400, want: missing},

		{name: "completed", send: "POST /stack-processor", body: `{"stackRunId":"` + insert("tasks", "execute", `["echo",{"a":1}]`, "pending") + `"}`, status: 200,
			want: `{"status":"completed","result":{"a":1},"success":true,"message":"Stack run processed","stackRunId":"*","outcome_status":"completed"}`, keep: "row=stackRunId"},
		{name: "finished already", send: "POST /stack-processor", body: `{"stackRunId":"{row}"}`, status: 200, want: `{"status":"completed","result":{"a":1},"...":0}`},
		{name: "by its other name (8358c4f: 400)", send: "POST /stack-processor", body: `{"stack_run_id":"{row}"}`, status: 200, want: `{"status":"completed","...":0}`},
		{name: "a trigger with an id", send: "POST /stack-processor", body: `{"trigger":"database_insert","stackRunId":"{row}"}`, status: 200, want: `{"status":"completed","...":0}`},
		{name: "da02242", send: "POST /stack-processor/direct-process", body: `{"stackRunId":"{row}","direct":true,"type":"t"}`, status: 200, want: `{"success":true,"message":"Stack run processed","...":0}`},
		{name: "failed", send: "POST /stack-processor", body: `{"stackRunId":"` + insert("tasks", "execute", `["fail"]`, "pending_execution") + `"}`, status: 200,
			want: `{"status":"failed","error":{"message":"boom <&>","...":0},"success":false,"message":"Stack run processed","stackRunId":"*","outcome_status":"failed"}`},
		{name: "a service that is none", send: "POST /stack-processor", body: `{"stackRunId":"` + insert("test_service", "echo", `["trigger_test"]`, "pending") + `"}`, status: 200,
			want: `{"status":"failed","error":{"code":"UNKNOWN_SERVICE","...":0},"...":0}`},
		{name: "not in time", send: "POST /stack-processor", header: "Prefer: wait=1", body: `{"stackRunId":"` + insert("slow", "answer", `[]`, "pending") + `"}`, status: 200, gives: "Preference-Applied: wait",
			want: `{"status":"processing","success":true,"message":"Stack run has not ended yet","stackRunId":"*","outcome_status":"processing"}`, keep: "slow=stackRunId"},
		{name: "without waiting", send: "POST /stack-processor", header: "Prefer: wait=0", body: `{"stackRunId":"{slow}"}`, status: 200, want: `{"status":"processing","...":0}`},
		{name: "injected, of no task", send: "POST /quickjs/resume", header: asService, body: `{"stackRunIdToResume":"{slow}","resultToInject":5}`, status: 200,
			want: `{"result":5,"status":"completed","message":"VM resumed successfully for stack run {slow}"}`},
		{name: "unknown", send: "POST /stack-processor", body: `{"stackRunId":"` + unknownID + `"}`, status: 200, want: `{"error":"Stack run not found"}`},
		{name: "malformed", send: "POST /stack-processor", body: `{"stackRunId":"7"}`, status: 200, want: `{"error":"Stack run not found"}`},
		{name: "no string", send: "POST /stack-processor", body: `{"stackRunId":7}`, status: 200, want: `{"error":"Stack run not found"}`},
		{name: "a run", send: "POST /tasks", header: "Prefer: wait=30", body: `{"taskName":"echo","input":7}`, status: 200, want: `{"...":0}`, keep: "run=id"},
		{name: "by run", send: "POST /stack-processor/direct-process", body: `{"taskRunId":"{run}","taskName":"echo","direct":true}`, status: 200,
			want: `{"status":"completed","result":7,"success":true,"message":"Stack run processed","taskRunId":"{run}","outcome_status":"completed"}`},
		{name: "by run, unknown", send: "POST /stack-processor", body: `{"taskRunId":"` + unknownID + `"}`, status: 200, want: `{"error":"Task run not found"}`},

		{name: "next", send: "POST /stack-processor", body: `{"trigger":"process-next"}`, status: 200, want: initiated},
		{name: "8358c4f's own caller, refused there", send: "POST /stack-processor", body: `{"trigger":"quickjs"}`, status: 200, want: initiated},
		{name: "a database trigger, refused there", send: "POST /stack-processor", body: `{"trigger":"database_insert"}`, status: 200, want: initiated},
		{name: "diagnostics, refused there", send: "POST /stack-processor", body: `{"action":"process"}`, status: 200, want: initiated},
		{name: "ping", send: "POST /stack-processor", body: `{"action":"ping"}`, status: 200, want: ok},
		{name: "check_notifications", send: "POST /stack-processor", body: `{"action":"check_notifications"}`, status: 200, want: ok},
		{name: "c3cca87", send: "POST /stack-processor", body: `{"trigger":"test-boot"}`, status: 200, want: `{"success":true,"status":"ok","message":"Stack processor booted successfully"}`},
		{name: "cleanup trigger", send: "POST /stack-processor/cleanup", body: `{"stack_run_id":"{slow}"}`, status: 200, want: ok},
	})
	if got := s.do(t, row{send: "POST /stack-processor", body: `{"action":"ping"}`}).Body.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, ": ") {
		t.Errorf("not compact: %q", got)
	}
}

// TestProcessNext: the oldest row that waits is taken, and its id told.
func TestProcessNext(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, func(*functions.Deps) {}, true)
	var id string
	err := d.pool.QueryRow(t.Context(), `insert into public.stack_runs (service_name, method_name, args, status)
		values ('tasks', 'execute', '["echo", 1]', 'pending') returning id::text`).Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	// The host's own search may be faster: then there is nothing left to take.
	a := s.do(t, row{send: "POST /stack-processor", body: `{"trigger":"process-next"}`})
	if got := answered(t, a, "stackRunId"); a.Code != 200 || answered(t, a, "processed") == "true" != (got == id) {
		t.Errorf("%d %s, want %s", a.Code, a.Body, id)
	}
	s.exchange(t, []row{{name: "processed", send: "POST /stack-processor", body: `{"stackRunId":"` + id + `"}`, status: 200, want: `{"status":"completed","result":1,"...":0}`}})
}
