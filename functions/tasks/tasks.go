// Package tasks is the edge function that starts task runs and tells how they
// are doing.
//
//	POST /tasks/execute   {"taskName": "hello", "input": {...}} → 202 {"taskRunId": ...}
//	POST /tasks           the same
//	GET  /tasks           what this is
//	GET  /tasks/list      the tasks there are
//	GET  /tasks/status    a run, a row of task_runs; ?id=<run> or /tasks/status/<run>, here and below
//	GET  /tasks/result    its id, status, result and error
//	GET  /tasks/logs      its console lines
//	GET  /tasks/tree      the calls below it
//
// The id of a stack_run finds the run that it belongs to. A run that a user
// started is there for that user and for service_role only.
//
// With "Prefer: wait=10" (RFC 7240) the answer is given when the run has ended,
// or after so many seconds, 300 at most.
package tasks

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
)

type handler struct {
	store     *stack.Store
	processor *stack.Processor
	log       *slog.Logger
	routes    map[string]methods
}

// methods are the actions of one route, by HTTP method. HEAD is GET.
type methods map[string]func(w http.ResponseWriter, r *http.Request, id string) error

// New returns the function's handler.
func New(store *stack.Store, processor *stack.Processor, log *slog.Logger) http.Handler {
	h := &handler{store: store, processor: processor, log: log}
	h.routes = map[string]methods{
		"":        {http.MethodGet: h.info, http.MethodPost: h.execute},
		"execute": {http.MethodPost: h.execute, http.MethodPut: h.execute},
		"list":    {http.MethodGet: h.list},
		"status":  {http.MethodGet: h.read(h.status)},
		"result":  {http.MethodGet: h.read(h.result)},
		"logs":    {http.MethodGet: h.read(h.logs)},
		"tree":    {http.MethodGet: h.read(h.tree)},
	}
	return h
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
	route, id := split(r.URL.Path)
	actions, ok := h.routes[route]
	if !ok {
		return &wire.Problem{Status: http.StatusNotFound, Code: wire.CodeNotFound,
			Message: "There is no /tasks/" + route + ".", Details: "There are: " + strings.Join(endpoints, ", ")}
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	action, ok := actions[method]
	if !ok {
		w.Header().Set("Allow", actions.allow())
		return &wire.Problem{Status: http.StatusMethodNotAllowed, Code: wire.CodeMethodNotAllowed,
			Message: r.Method + " is not for " + r.URL.Path + ".", Details: "Allowed: " + actions.allow()}
	}
	return action(w, r, id)
}

// split takes /tasks/status/<id> apart; what follows the function's own name.
func split(path string) (route, id string) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	route, id, _ = strings.Cut(rest, "/")
	return route, strings.TrimSuffix(id, "/")
}

func (m methods) allow() string {
	names := slices.Collect(maps.Keys(m))
	if _, ok := m[http.MethodGet]; ok {
		names = append(names, http.MethodHead)
	}
	slices.Sort(names)
	return strings.Join(append(names, http.MethodOptions), ", ")
}

var endpoints = []string{
	"POST /tasks/execute", "GET /tasks/status?id=", "GET /tasks/result?id=",
	"GET /tasks/logs?id=", "GET /tasks/tree?id=", "GET /tasks/list",
}

func (h *handler) info(w http.ResponseWriter, _ *http.Request, _ string) error {
	wire.JSON(w, http.StatusOK, struct {
		Service   string   `json:"service"`
		Version   string   `json:"version"`
		Status    string   `json:"status"`
		Endpoints []string `json:"endpoints"`
		// Service and version are the original's: its clients look for them.
	}{"Tasker Edge Function", "1.0.0", "running", endpoints})
	return nil
}
