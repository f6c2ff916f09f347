package functions_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/amberhost/amber/stack"
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
		{name: "256 bytes", send: "POST /tasks/execute", header: service + "Idempotency-Key: " + strings.Repeat("k", 256), body: `{"taskName":"echo"}`, status: 400, want: `{"code":"INVALID_INPUT","error":"*"}`},
		{name: "255", send: "POST /tasks/execute", header: service + "Idempotency-Key: " + strings.Repeat("k", 255), body: `{"taskName":"echo"}`, status: 202, want: `{` + acceptedKeys + `}`},
		{name: "no UTF-8", send: "POST /tasks/execute", header: service + "Idempotency-Key: \xff", body: `{"taskName":"echo"}`, status: 400, want: `{"code":"INVALID_INPUT","error":"*"}`},
		{name: "quotes in quotes", send: "POST /tasks/execute", header: service + `Idempotency-Key: "a \"b\" \\" ` + "\nPrefer: wait=30", body: `{"taskName":"echo"}`, status: 200, want: `{"idempotency_key":"a \"b\" \\","...":0}`},
		{name: "quickjs", send: "POST /quickjs", header: service + "Idempotency-Key: q", body: `{"taskName":"echo","input":1}`, status: 202, want: `{"...":0}`, keep: "quick=taskRunId"},
		{name: "quickjs again", send: "POST /quickjs", header: service + "Idempotency-Key: q", body: `{"taskName":"echo","input":1}`, status: 202, want: `{"taskRunId":"{quick}","...":0}`},
	})
	other := d.serve(t, nil, true)
	var runs sync.Map
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			a := []*served{s, other}[i%2].do(t, row{send: "POST /tasks/execute", header: service + "Idempotency-Key: at once", body: `{"taskName":"nest","input":1}`})
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

// TestStrangersKeys: who is not signed in gets the run of a key that others used for
// the same request, and learns of no run from the key alone.
func TestStrangersKeys(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s := d.serve(t, nil, true)
	const key = "Idempotency-Key: 0199f4f2-7d5e-7a11-8a4e-2f5d3c1b9a70"
	const inserted = "Idempotency-Key: 0199f4f2-7d5e-7a11-8a4e-2f5d3c1b9a71"
	const refused = "Under this idempotency key something else was asked for"
	const advice = ". Give each request a key of its own, and repeat it as it was."
	if _, err := d.pool.Exec(t.Context(), `insert into task_runs (task_name, input, caller_role, idempotency_key, status)
		values ('echo', '1', 'anon', '0199f4f2-7d5e-7a11-8a4e-2f5d3c1b9a71', 'completed')`); err != nil {
		t.Fatal(err)
	}
	s.exchange(t, []row{
		{name: "nobody", send: "POST /tasks/execute", header: key, body: `{"taskName":"echo","input":1}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "run=taskRunId"},
		{name: "the same request", send: "POST /tasks/execute", header: key, body: `{"taskName":"echo","input":1}`, status: 202, want: `{"taskRunId":"{run}","...":0}`},
		{name: "the key alone", send: "POST /tasks/execute", header: key + "\nPrefer: wait=30", body: `{"taskName":"echo","input":2}`, status: 409, want: `{"error":"` + refused + advice + `","code":"IDEMPOTENCY_CONFLICT"}`},
		{name: "of a row that a client inserted", send: "POST /tasks/execute", header: inserted, body: `{"taskName":"echo","input":2}`, status: 409, want: `{"error":"` + refused + advice + `","code":"IDEMPOTENCY_CONFLICT"}`},
		{name: "a user has keys of her own", send: "POST /tasks/execute", header: "Role: " + ada + "\n" + key, body: `{"taskName":"echo","input":2}`, status: 202, want: `{` + acceptedKeys + `}`, keep: "ada=taskRunId"},
		{name: "and is told which run it is", send: "POST /tasks/execute", header: "Role: " + ada + "\n" + key, body: `{"taskName":"echo","input":3}`, status: 409, want: `{"error":"` + refused + `: run {ada}` + advice + `","code":"IDEMPOTENCY_CONFLICT"}`},
	})
}

// TestStartWith is the options of a chain.
func TestStartWith(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serve(t, nil, true)
	with := func(options, rest string) string {
		return `{"chain":[{"type":"call","property":"with","args":[` + options + `]},` + rest + `]}`
	}
	const echo = `{"type":"call","property":"execute","args":["echo",1]}`
	const refused = `{"error":{"code":"*","status":400,"message":"*","...":0}}`
	s.exchange(t, []row{
		{name: "options", send: "POST /tasks", header: asService, body: with(`{"delay":20,"timeout":60000,"priority":3,"idempotencyKey":"w"}`, echo), status: 200, want: `{"data":{"data":1,"status":"completed","...":0}}`},
		{name: "they count", send: "GET /tasks/runs?limit=1", header: asService, status: 200, want: `{"runs":[{"priority":3,"idempotency_key":"w","scheduled_for":"/.+/","deadline_at":"/.+/","...":0}],"...":0}`},
		{name: "the service after them", send: "POST /tasks", header: asService, body: with(`{"delay":20,"timeout":60000,"priority":3,"idempotencyKey":"w"}`, `{"property":"tasks"},`+echo), status: 200, want: `{"data":{"data":1,"...":0}}`},
		{name: "the same key for something else", send: "POST /tasks", header: asService, body: with(`{"idempotencyKey":"w"}`, echo), status: 409, want: `{"error":{"code":"IDEMPOTENCY_CONFLICT","...":0}}`},
		{name: "none", send: "POST /tasks", body: with(`{}`, echo), status: 200, want: `{"data":{"data":1,"...":0}}`},
		{name: "list", send: "POST /tasks", body: with(`{}`, `{"type":"call","property":"list"}`), status: 200, want: `{"data":{"success":true,"tasks":"*"}}`},
		{name: "another", send: "POST /tasks", body: with(`{"retries":3}`, echo), status: 400,
			want: `{"error":{"message":"tasks.with: there is no option \"retries\": there are delay, idempotencyKey, priority, scheduledFor, timeout.","code":"INVALID_ARGUMENT","status":400}}`},
		{name: "no object", send: "POST /tasks", body: with(`7`, echo), status: 400, want: refused},
		{name: "null", send: "POST /tasks", body: with(`null`, echo), status: 400, want: refused},
		{name: "two", send: "POST /tasks", body: with(`{},{}`, echo), status: 400, want: refused},
		{name: "no key", send: "POST /tasks", body: with(`{"idempotencyKey":7}`, echo), status: 400, want: refused},
		{name: "no delay", send: "POST /tasks", body: with(`{"delay":"soon"}`, echo), status: 400, want: refused},
		{name: "nothing after it", send: "POST /tasks", body: `{"chain":[{"type":"call","property":"with","args":[{}]}]}`, status: 400, want: refused},
	})
}

// TestLater: whoever is refused because too much waits is told when to come back,
// whatever the request looks like.
func TestLater(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).serveAs(t, nil, func(c *stack.Config) { c.MaxBodies, c.MaxQueued = 1, 1 }, true)
	for _, r := range []row{
		{send: "POST /tasks/execute", body: `{"taskName":"busy"}`, want: `{"error":"*","code":"QUEUE_FULL"}`},
		{send: "POST /tasks", header: "Prefer: wait=0", body: `{"chain":[{"type":"call","property":"execute","args":["busy"]}]}`, want: `{"error":{"code":"QUEUE_FULL","status":429,"...":0}}`},
		{send: "POST /quickjs", body: `{"taskName":"busy"}`, want: `{"error":"*","code":"QUEUE_FULL"}`},
	} {
		a := s.do(t, r)
		for range 50 {
			if a.Code == 429 {
				break
			}
			a = s.do(t, r)
		}
		if problem := matches(r.want, a.Body.String()); a.Code != 429 || a.Header().Get("Retry-After") != "2" || problem != "" {
			t.Errorf("%s %s: %d, Retry-After %q, %s", r.send, r.body, a.Code, a.Header().Get("Retry-After"), problem)
		}
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
