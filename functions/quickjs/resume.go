package quickjs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// codeNotWaiting is the code of a 409 for a stack_run that can be given no result.
const codeNotWaiting = "NOT_WAITING"

// resume waits for the run that a stack_run belongs to, after it has answered
// the call if the client gives a result. Resuming needs nobody to ask for it.
func (h *handler) resume(w http.ResponseWriter, r *http.Request, body wire.Object) error {
	if err := h.trusted(w, r, "Resuming a run"); err != nil {
		return err
	}
	key := body.First("stackRunIdToResume", "stackRunId")
	text, ok := body.String(key)
	if key == "" || !ok || text == "" {
		return invalid("Missing stackRunId", "Send it as stackRunId, or as stackRunIdToResume with resultToInject.")
	}
	unknown := &wire.Problem{Status: http.StatusNotFound, Code: wire.CodeRunNotFound, Message: "Stack run " + wire.Clip(text) + " not found"}
	id, err := uuid.Parse(text)
	if err != nil {
		return unknown
	}
	inject := key == "stackRunIdToResume"
	waitFor, late := id, http.StatusAccepted
	if inject {
		late = http.StatusOK
		waitFor, err = h.inject(r.Context(), id, body["resultToInject"])
	}
	if errors.Is(err, stack.ErrRunNotFound) {
		return unknown
	}
	if err != nil {
		return err
	}
	patience, ok := wire.PreferredWait(w, r)
	if !ok {
		patience = defaultWait
	}
	run, err := h.Runs.Store.Run(r.Context(), waitFor)
	if errors.Is(err, stack.ErrRunNotFound) {
		return h.processed(w, r, id, patience, unknown)
	}
	if err != nil {
		return err
	}
	if run, err = h.Runs.Await(r.Context(), run, patience); err != nil {
		return err
	}
	if !run.Ended() {
		return h.suspended(w, r, late, run)
	}
	resumed(w, id, run.Status, run.Result, run.Error, &run.ID)
	return nil
}

func (h *handler) inject(ctx context.Context, id uuid.UUID, value json.RawMessage) (body uuid.UUID, err error) {
	if value == nil {
		value = json.RawMessage("null")
	}
	body, err = h.Runs.Processor.Inject(ctx, id, value)
	if errors.Is(err, stack.ErrNotWaiting) {
		return body, &wire.Problem{Status: http.StatusConflict, Code: codeNotWaiting,
			Message: "Stack run " + id.String() + " does not wait for a result.",
			Details: "It has ended, or it is a body that waits for none or several calls: name the call."}
	}
	if body == uuid.Nil { // no task made the call
		body = id
	}
	return body, err
}

// processed answers for a stack_run that belongs to no run: a row that somebody
// inserted by itself.
func (h *handler) processed(w http.ResponseWriter, r *http.Request, id uuid.UUID, patience time.Duration, unknown error) error {
	row, err := h.Runs.Process(r.Context(), id, patience)
	switch {
	case errors.Is(err, stack.ErrRunNotFound):
		return unknown
	case err != nil:
		return err
	case !row.Ended():
		wire.JSON(w, http.StatusAccepted, answer{Status: stack.StatusSuspended, StackRunID: &id, Message: "Stack run " + id.String() + " has not ended yet"})
	default:
		resumed(w, id, row.Status, row.Result, row.Error, nil)
	}
	return nil
}

func resumed(w http.ResponseWriter, id uuid.UUID, status string, result, failure json.RawMessage, run *uuid.UUID) {
	if status == stack.StatusCompleted {
		if result == nil {
			result = json.RawMessage("null")
		}
		wire.JSON(w, http.StatusOK, answer{Result: result, Status: status, TaskRunID: run,
			Message: "VM resumed successfully for stack run " + id.String()})
		return
	}
	e := wire.Failure(failure)
	if e.Message == "" {
		e = service.Error{Message: status}
	}
	a := failed(e)
	a.Status, a.Details, a.TaskRunID = "error", failure, run
	wire.JSON(w, http.StatusInternalServerError, a)
}
