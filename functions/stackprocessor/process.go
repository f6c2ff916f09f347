package stackprocessor

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
)

// defaultWait is how long a request waits for a row if its client does not say.
const defaultWait = 60 * time.Second

// outcome is the ending of a stack_run. Success, message, stackRunId and
// outcome_status are other generations' words for the same.
type outcome struct {
	Status   string          `json:"status"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    json.RawMessage `json:"error,omitempty"`
	Success  bool            `json:"success"`
	Message  string          `json:"message"`
	StackRun *uuid.UUID      `json:"stackRunId,omitempty"`
	TaskRun  *uuid.UUID      `json:"taskRunId,omitempty"`
	Outcome  string          `json:"outcome_status"`
}

func outcomeOf(status string, ended bool, result, failure json.RawMessage) outcome {
	o := outcome{Status: status, Outcome: status, Message: "Stack run processed"}
	switch {
	case !ended:
		o.Success, o.Message = true, "Stack run has not ended yet"
	case status == stack.StatusCompleted:
		o.Success, o.Result = true, orNull(result)
	default:
		o.Error = orNull(failure)
	}
	return o
}

func orNull(value json.RawMessage) json.RawMessage {
	if value == nil {
		return json.RawMessage("null")
	}
	return value
}

func (h *handler) process(w http.ResponseWriter, r *http.Request, body wire.Object, key string) error {
	text, _ := body.String(key)
	id, err := uuid.Parse(text)
	if err != nil {
		notFound(w, "Stack run not found")
		return nil
	}
	row, err := h.runs.Process(r.Context(), id, patience(w, r))
	if errors.Is(err, stack.ErrRunNotFound) {
		notFound(w, "Stack run not found")
		return nil
	}
	if err != nil {
		return err
	}
	o := outcomeOf(row.Status, row.Ended(), row.Result, row.Error)
	o.StackRun = &row.ID
	wire.Compact(w, http.StatusOK, o)
	return nil
}

// processRun is process by the id of a run, as one generation asked.
func (h *handler) processRun(w http.ResponseWriter, r *http.Request, body wire.Object) error {
	text, _ := body.String("taskRunId")
	run, err := h.runs.Find(r.Context(), text)
	if err != nil && wire.ProblemOf(err).Status < 500 {
		notFound(w, "Task run not found")
		return nil
	}
	if err == nil {
		run, err = h.runs.Await(r.Context(), run, patience(w, r))
	}
	if err != nil {
		return err
	}
	o := outcomeOf(run.Status, run.Ended(), run.Result, run.Error)
	o.TaskRun = &run.ID
	wire.Compact(w, http.StatusOK, o)
	return nil
}

func notFound(w http.ResponseWriter, message string) {
	wire.Compact(w, http.StatusOK, struct {
		Error string `json:"error"`
	}{message})
}

func patience(w http.ResponseWriter, r *http.Request) time.Duration {
	if d, ok := wire.PreferredWait(w, r); ok {
		return d
	}
	return defaultWait
}

type initiated struct {
	Success   bool       `json:"success"`
	Message   string     `json:"message"`
	Status    string     `json:"status"`
	Processed bool       `json:"processed"`
	Reason    string     `json:"reason,omitempty"`
	StackRun  *uuid.UUID `json:"stackRunId,omitempty"`
}

func (h *handler) processNext(w http.ResponseWriter, r *http.Request) error {
	id, ok, err := h.runs.Processor.ProcessNext(r.Context())
	if err != nil {
		return err
	}
	a := initiated{Success: true, Message: "Processing initiated", Status: "success", Processed: ok}
	if ok {
		a.StackRun = &id
	} else {
		a.Reason = "No pending stack runs"
	}
	wire.Compact(w, http.StatusOK, a)
	return nil
}
