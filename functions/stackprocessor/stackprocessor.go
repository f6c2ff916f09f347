// Package stackprocessor is the edge function stack-processor: it has a
// stack_run processed, or the next one that waits to be, and waits for it. It
// is there for clients and database triggers of the original; here hosts find
// what there is to do by themselves.
//
//	POST /stack-processor  {"stackRunId": ...}            → {"status": "completed", "result": ...}
//	                                                        {"status": "failed", "error": ...}
//	                                                        {"error": "Stack run not found"}
//	POST /stack-processor  {"trigger": "process-next"}    → {"success": true, "message": "Processing initiated"}
//	POST /stack-processor  {"trigger": "test-boot"}       → {"status": "ok"}
//	POST /stack-processor  {"action": "ping"}             → {"status": "ok"}
//	GET  /stack-processor                                 → {"status": "healthy"}
//
// Any method and any path below does the same. All of these answer 200. The
// first is answered when the row has ended, or after 60 s or what the client
// prefers ("Prefer: wait=10") with the status that it has then.
package stackprocessor

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"

	"github.com/amberhost/amber/functions/wire"
)

type handler struct {
	runs wire.Runs
	log  *slog.Logger
}

// New returns the function's handler.
func New(runs wire.Runs, log *slog.Logger) http.Handler { return &handler{runs, log} }

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
		return
	}
	if err := h.serve(w, r); err != nil {
		p := wire.ProblemOf(err)
		if p.Code != wire.CodeInvalidRequest && p.Code != wire.CodeInvalidJSON {
			wire.Fail(w, r, h.log, err)
			return
		}
		wire.Compact(w, p.Status, refusal{false, p.Message, p.Code, p.Details})
	}
}

type refusal struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
	Code    string `json:"code"`
	Details string `json:"details,omitempty"`
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	text, err := wire.ReadBody(r)
	if err != nil {
		return original(err)
	}
	if len(bytes.TrimSpace(text)) == 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		wire.Compact(w, http.StatusOK, healthy{"healthy", "Stack Processor", "1.0.0", true})
		return nil
	}
	if !json.Valid(text) {
		_, err := wire.ParseObject(r, text)
		return original(err)
	}
	body, err := wire.ParseObject(r, text)
	if err != nil {
		return missing("The body must be an object.")
	}
	return h.dispatch(w, r, body)
}

// original gives a body that does not parse the status that it always had here,
// though the fault is the client's: 500.
func original(err error) error {
	p := wire.ProblemOf(err)
	if p.Code != wire.CodeInvalidJSON {
		return err
	}
	return &wire.Problem{Status: http.StatusInternalServerError, Code: p.Code, Message: p.Details}
}

func missing(details string) error {
	return &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
		Message: "Missing stackRunId or trigger parameter", Details: details}
}

type healthy struct {
	Status     string `json:"status"`
	Service    string `json:"service"`
	Version    string `json:"version"`
	Continuous bool   `json:"continuousProcessing"`
}

type told struct {
	Success bool   `json:"success"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// dispatch does what the body asks for. Only stackRunId and process-next are
// from the original as it was at last; the rest its own callers and other
// generations send, and were refused.
func (h *handler) dispatch(w http.ResponseWriter, r *http.Request, body wire.Object) error {
	if path.Base(r.URL.Path) == "cleanup" { // rows are kept as long as their run
		wire.Compact(w, http.StatusOK, told{true, "ok", "Nothing to clean up"})
		return nil
	}
	if key := body.First("stackRunId", "stack_run_id"); key != "" {
		return h.process(w, r, body, key)
	}
	if body.Has("taskRunId") {
		return h.processRun(w, r, body)
	}
	for _, key := range []string{"trigger", "action", "method"} {
		word, ok := body.String(key)
		if !ok {
			return missing("'" + key + "' must be a string.")
		}
		switch key + " " + word {
		case "trigger process-next", "trigger quickjs", "trigger database_insert", "action process", "method triggerFIFO":
			return h.processNext(w, r)
		case "trigger test-boot":
			wire.Compact(w, http.StatusOK, told{true, "ok", "Stack processor booted successfully"})
			return nil
		case "action ping":
			wire.Compact(w, http.StatusOK, told{true, "ok", "pong"})
			return nil
		case "action check_notifications":
			wire.Compact(w, http.StatusOK, told{true, "ok", "Rows that are inserted as pending are found by notification and by search"})
			return nil
		}
	}
	return missing("The triggers are process-next and test-boot, the actions ping, process and check_notifications.")
}
