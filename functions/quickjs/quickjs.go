// Package quickjs is the edge function that runs a task while its caller waits,
// or code that comes with the request, and goes on with what is suspended.
//
//	POST /quickjs  {"taskName": "hello", "taskInput": {...}}
//	→ 202 {"taskRunId": ..., "status": "processing"}: the run has started
//	POST /quickjs  {"taskName": "hello", "taskInput": {...}, "directExecution": true}
//	→ 200 {"result": ..., "status": "completed"}
//	POST /quickjs  {"code": "module.exports = ...", "input": {...}}    needs the service role key
//	→ 200 {"success": true, "result": ...}
//	POST /quickjs/resume  {"stackRunId": ...}                           needs the service role key
//	→ 200 {"result": ..., "status": "completed"}: the run that it belongs to has ended
//	POST /quickjs/resume  {"stackRunIdToResume": ..., "resultToInject": ...}
//	→ the same; the call is answered with that result in place of its service
//	GET  /quickjs  → 200 {"status": "healthy"}
//
// The header Idempotency-Key works where a run is started: the same request once more
// under the same key is about the run that is there, another one is answered 409.
//
// Unlike with the function tasks, a run that failed answers 500, as it did in
// the original. One that has not ended in time, 60 s or what the client prefers
// ("Prefer: wait=10"), answers 202 with the stackRunId that it waits for.
//
// The original stopped at a task's first call and left it at that; here a run
// goes on by itself, and who waits gets its result.
package quickjs

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/supabase/keys"
	"github.com/amberhost/amber/vm"
)

// defaultWait is how long a request waits for a run if its client does not say.
const defaultWait = 60 * time.Second

// Config is what the function works on.
type Config struct {
	Runs     wire.Runs
	Engine   *vm.Engine
	Services []string // what tools.<name> reaches
	Open     bool     // whoever reaches the host may run code
	Log      *slog.Logger
}

type handler struct{ Config }

// New returns the function's handler.
func New(c Config) http.Handler { return &handler{c} }

// answer is every answer of the function. Which keys there are is the
// original's choice.
type answer struct {
	Result     json.RawMessage `json:"result,omitempty"`
	Success    *bool           `json:"success,omitempty"`
	Status     string          `json:"status,omitempty"`
	Message    string          `json:"message,omitempty"`
	Error      string          `json:"error,omitempty"`
	Details    json.RawMessage `json:"details,omitempty"`
	Stack      *string         `json:"stack,omitempty"`
	Code       string          `json:"code,omitempty"`
	File       string          `json:"file,omitempty"`
	Line       int             `json:"line,omitempty"`
	Column     int             `json:"column,omitempty"`
	StackRunID *uuid.UUID      `json:"stackRunId,omitempty"`
	TaskRunID  *uuid.UUID      `json:"taskRunId,omitempty"`
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err := h.serve(w, r); err != nil {
		wire.Fail(w, r, h.Log, err)
	}
}

// serve looks at the body, not at the method: the original did so, whatever
// comes after its name in the path.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	text, err := wire.ReadBody(r)
	if err != nil {
		return unreadable(w, err)
	}
	resume := path.Base(r.URL.Path) == "resume"
	empty := len(bytes.TrimSpace(text)) == 0
	if empty && !resume && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		return health(w)
	}
	if empty && resume {
		text = []byte("{}")
	}
	body, err := wire.ParseObject(r, text)
	if err != nil {
		return unreadable(w, err)
	}
	switch {
	case resume:
		return h.resume(w, r, body)
	case body.First(codeKeys...) != "":
		return h.given(w, r, body)
	}
	return h.named(w, r, body)
}

func health(w http.ResponseWriter) error {
	wire.JSON(w, http.StatusOK, struct {
		Status  string `json:"status"`
		Service string `json:"service"`
		Version string `json:"version"`
	}{"healthy", "QuickJS Runtime", "1.0.0"})
	return nil
}

// unreadable says of a body that is not JSON what the parser says.
func unreadable(w http.ResponseWriter, err error) error {
	p := wire.ProblemOf(err)
	if p.Code != wire.CodeInvalidJSON {
		return err
	}
	stack := "SyntaxError: " + p.Details
	wire.JSON(w, p.Status, answer{Error: p.Details, Stack: &stack, Code: p.Code})
	return nil
}

// trusted refuses who may not run code of their own or answer another's calls.
// Tasks by name are for everybody: so the gateway lets everybody through.
func (h *handler) trusted(w http.ResponseWriter, r *http.Request, what string) error {
	if h.Open || wire.Caller(r.Context()).Role == keys.RoleService {
		return nil
	}
	w.Header().Set("sb-error-code", wire.CodeForbidden)
	return &wire.Problem{Status: http.StatusForbidden, Code: wire.CodeForbidden,
		Message: what + " needs the service role key or a secret key."}
}

func invalid(message, details string) error {
	return &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest, Message: message, Details: details}
}
