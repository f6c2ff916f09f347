package tasks

import (
	"encoding/json"
	"net/http"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
)

// cancel asks a run to end, and ends it if it was asked before. Whoever may know of
// a run may do so.
func (h *handler) cancel(w http.ResponseWriter, r *http.Request, id string) error {
	run, err := h.runOf(r, id)
	if err != nil {
		return err
	}
	if run, err = h.runs.Processor.Cancel(r.Context(), run.ID); err != nil {
		return err
	}
	return h.changed(w, r, run, "Task run is asked to end.")
}

// runOf finds the run whose id is in the path or in the body, under any name that
// clients use.
func (h *handler) runOf(r *http.Request, id string) (stack.Run, error) {
	text, err := wire.ReadBody(r)
	if err != nil {
		return stack.Run{}, err
	}
	if len(text) > 0 && id == "" {
		body, err := wire.ParseObject(r, text)
		if err != nil {
			return stack.Run{}, err
		}
		if key := body.First(idKeys...); key != "" {
			if json.Unmarshal(body[key], &id) != nil {
				return stack.Run{}, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest, Message: "'" + key + "' must be the id of a run, a uuid."}
			}
		}
	}
	return h.find(r, id)
}

// changed answers a request that changes a run: with its row, when it has ended or
// the client's patience has.
func (h *handler) changed(w http.ResponseWriter, r *http.Request, run stack.Run, message string) (err error) {
	if patience, waits := wire.PreferredWait(w, r); waits {
		if run, err = h.runs.Await(r.Context(), run, patience); err != nil {
			return err
		}
	}
	status := http.StatusAccepted
	if run.Ended() {
		status, message = http.StatusOK, "Task run is "+run.Status+"."
	}
	wire.JSON(w, status, ended{run, idsOf(run), true, message})
	return nil
}
