// Package tasks is the edge function that starts task runs and tells how they
// are doing.
//
//	POST /tasks/execute   {"taskName": "hello", "input": {...}} → 202 {"taskRunId": ...}
//	POST /tasks           the same
//	POST /tasks/cancel    {"id": <run>}, or /tasks/cancel/<run>: asks a run to end; once more ends it at once
//	POST /tasks/retry     {"id": ..., "withCurrentCode": false} → 202 the run that failed, which goes on
//	POST /tasks/rerun     {"id": ...} → 202 another run, with the same input
//	GET  /tasks           what this is
//	GET  /tasks/list      the tasks there are
//	GET  /tasks/openapi   the same as an OpenAPI document
//	GET  /tasks/runs      the caller's runs, newest first; ?task= &status= &limit= &before=<run> &roots=1
//	GET  /tasks/status    a run, a row of task_runs; ?id=<run> or /tasks/status/<run>, here and below
//	GET  /tasks/result    its id, status, result and error
//	GET  /tasks/logs      its console lines; &after=<line> leaves out those up to it
//	GET  /tasks/tree      the calls below it
//
// The id of a stack_run finds the run that it belongs to. A run that a user
// started is there for that user and for service_role only; /tasks/runs is for
// them too.
//
// execute takes besides: delay, timeout (milliseconds), scheduledFor (ISO 8601) and
// priority, and the header Idempotency-Key: the same request once more under the same
// key gives the run that is there, another one 409.
//
// With "Prefer: wait=10" (RFC 7240) the answer is given when the run has ended,
// on whichever host, or after so many seconds, 300 at most. A run that failed
// is not a failed request: it answers 200 with status "failed".
//
// A body with a chain, as the original's SDK sends it (also to
// /tasks/api/proxy/tasks and /tasks/api/sdk-proxy), calls execute(name, input)
// or list() and waits: see chain.go.
package tasks

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/amberhost/amber/functions/wire"
)

type handler struct {
	runs   wire.Runs
	log    *slog.Logger
	routes map[string]route
}

// action answers a request; id is what follows the route in the path.
type action func(w http.ResponseWriter, r *http.Request, id string) error

// route is what there is below a name, by HTTP method. HEAD is GET.
type route struct {
	methods map[string]action
	id      bool // whether the path may go on after the name
}

// New returns the function's handler.
func New(runs wire.Runs, log *slog.Logger) http.Handler {
	h := &handler{runs: runs, log: log}
	get := func(a action) map[string]action { return map[string]action{http.MethodGet: a} }
	h.routes = map[string]route{
		"":        {methods: executing(map[string]action{http.MethodGet: h.info}, h.execute)},
		"execute": {methods: executing(map[string]action{}, h.execute)},
		"api":     {methods: map[string]action{http.MethodPost: h.proxy}, id: true},
		"cancel":  {methods: map[string]action{http.MethodPost: h.cancel}, id: true},
		"retry":   {methods: map[string]action{http.MethodPost: h.retry}},
		"rerun":   {methods: map[string]action{http.MethodPost: h.rerun}},
		"list":    {methods: get(h.list)},
		"openapi": {methods: get(h.openapi)},
		"runs":    {methods: get(h.listRuns)},
		"status":  {methods: get(h.read(h.status)), id: true},
		"result":  {methods: get(h.read(h.result)), id: true},
		"logs":    {methods: get(h.read(h.logs)), id: true},
		"tree":    {methods: get(h.read(h.tree)), id: true},
	}
	return h
}

// executing adds every method that carries a body: the original did not look at it.
func executing(methods map[string]action, execute action) map[string]action {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch} {
		methods[method] = execute
	}
	return methods
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
		return
	}
	if err := h.serve(w, r); err != nil {
		wire.Fail(w, r, h.log, err)
	}
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	name, id := split(r.URL.Path)
	to, ok := h.routes[name]
	if !ok || id != "" && !to.id {
		return &wire.Problem{Status: http.StatusNotFound, Code: wire.CodeNotFound,
			Message: "There is no " + wire.Clip(r.URL.Path) + ".", Details: "There are: " + strings.Join(endpoints, ", ")}
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	answer, ok := to.methods[method]
	if !ok {
		w.Header().Set("Allow", to.allow())
		return &wire.Problem{Status: http.StatusMethodNotAllowed, Code: wire.CodeMethodNotAllowed,
			Message: wire.Clip(r.Method) + " is not for " + wire.Clip(r.URL.Path) + ".", Details: "Allowed: " + to.allow()}
	}
	return answer(w, r, id)
}

// split takes /tasks/status/<id> apart; what follows the function's own name.
// A slash at the end means nothing, one in between does.
func split(path string) (name, id string) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	name, id, _ = strings.Cut(rest, "/")
	return name, strings.TrimSuffix(id, "/")
}

func (to route) allow() string {
	names := slices.Collect(maps.Keys(to.methods))
	if _, ok := to.methods[http.MethodGet]; ok {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return strings.Join(append(names, http.MethodOptions), ", ")
}

var endpoints = []string{
	"POST /tasks/execute", "POST /tasks/cancel", "POST /tasks/retry", "POST /tasks/rerun",
	"GET /tasks/status?id=", "GET /tasks/result?id=", "GET /tasks/logs?id=",
	"GET /tasks/tree?id=", "GET /tasks/runs", "GET /tasks/list", "GET /tasks/openapi",
}

func (h *handler) info(w http.ResponseWriter, _ *http.Request, _ string) error {
	wire.JSON(w, http.StatusOK, struct {
		Service   string   `json:"service"`
		Version   string   `json:"version"`
		Status    string   `json:"status"`
		Endpoints []string `json:"endpoints"`
		Routes    []string `json:"available_routes"`
		// Service and version are the original's: its clients look for them.
	}{"Tasker Edge Function", "1.0.0", "running", endpoints, endpoints})
	return nil
}
