package tasks

import (
	"net/http"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
)

// retry has a run that failed go on from its last snapshot, or begin anew with the
// code that is published now.
func (h *handler) retry(w http.ResponseWriter, r *http.Request, _ string) error {
	body, run, err := h.named(r)
	if err != nil {
		return err
	}
	current, err := flag(body, "withCurrentCode", "with_current_code")
	if err != nil {
		return err
	}
	if run, err = h.runs.Processor.Retry(r.Context(), run.ID, current); err != nil {
		return err
	}
	return h.takenUp(w, r, run, "Task run retried.")
}

// rerun starts another run with what a run was started with.
func (h *handler) rerun(w http.ResponseWriter, r *http.Request, _ string) error {
	_, run, err := h.named(r)
	if err != nil {
		return err
	}
	if run, err = h.runs.Processor.Rerun(r.Context(), run.ID); err != nil {
		return err
	}
	return h.takenUp(w, r, run, acceptedMessage)
}

// named reads the body of a request that is about one run, and finds that.
func (h *handler) named(r *http.Request) (wire.Object, stack.Run, error) {
	body, err := wire.ReadObject(r)
	if err != nil {
		return nil, stack.Run{}, err
	}
	key := body.First(idKeys...)
	if key == "" {
		return nil, stack.Run{}, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
			Message: "'id' is required: the id of a task run.", Details: "It may also be called taskRunId or task_run_id."}
	}
	id, ok := body.String(key)
	if !ok {
		return nil, stack.Run{}, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest, Message: "'" + key + "' is not a string."}
	}
	run, err := h.runs.Find(r.Context(), id)
	return body, run, err
}

// flag reads the first of names that the body has; false if it has none.
func flag(body wire.Object, names ...string) (bool, error) {
	key := body.First(names...)
	switch {
	case key == "" || string(body[key]) == "false":
		return false, nil
	case string(body[key]) == "true":
		return true, nil
	}
	return false, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest, Message: "'" + key + "' is true or false."}
}

// takenUp answers with a run that goes on: as it is, or as it ended, if the client
// prefers to wait for that.
func (h *handler) takenUp(w http.ResponseWriter, r *http.Request, run stack.Run, message string) error {
	patience, waits := wire.PreferredWait(w, r)
	if waits {
		var err error
		if run, err = h.runs.Await(r.Context(), run, patience); err != nil {
			return err
		}
	}
	if waits && run.Ended() {
		wire.JSON(w, http.StatusOK, ended{run, idsOf(run), run.Status == stack.StatusCompleted, "Task " + run.Status + "."})
		return nil
	}
	wire.JSON(w, http.StatusAccepted, ended{run, idsOf(run), true, message})
	return nil
}
