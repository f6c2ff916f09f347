package quickjs

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/vm"
)

// codeKeys are where two generations of clients put code.
var codeKeys = []string{"code", "taskCode"}

const (
	maxCode = 1 << 20 // bytes, as for code that is published
	maxName = 200
)

// given runs code that comes with the request. Its answers have the keys of
// both generations: success and result, status and result.
func (h *handler) given(w http.ResponseWriter, r *http.Request, body wire.Object) error {
	if err := h.trusted(w, r, "Running code that comes with the request"); err != nil {
		return err
	}
	params, err := h.paramsOf(body)
	if err != nil {
		return err
	}
	if err := wire.StartOptions(r, nil, &params); err != nil {
		return err
	}
	if err := h.Engine.Check(r.Context(), params.Task, params.Code); err != nil {
		return refuseCode(w, err)
	}
	run, err := h.Runs.Start(r.Context(), params)
	if err != nil {
		return err
	}
	patience, ok := wire.PreferredWait(w, r)
	if !ok {
		patience = defaultWait
	}
	if run, err = h.Runs.Await(r.Context(), run, patience); err != nil {
		return err
	}
	if !run.Ended() {
		return h.suspended(w, r, http.StatusAccepted, run)
	}
	success := run.Status == stack.StatusCompleted
	if !success {
		a := failed(wire.Failure(run.Error))
		a.Success, a.Status, a.Details, a.TaskRunID = &success, "error", run.Error, &run.ID
		wire.JSON(w, http.StatusInternalServerError, a)
		return nil
	}
	wire.JSON(w, http.StatusOK, answer{Success: &success, Status: run.Status, Result: run.Result, TaskRunID: &run.ID,
		Message: "Task " + wire.Clip(params.Task) + " executed successfully"})
	return nil
}

func (h *handler) paramsOf(body wire.Object) (p stack.StartParams, err error) {
	const missing = "Missing taskCode or taskName"
	if p.Code, err = textUnder(body, codeKeys, missing); err != nil {
		return p, err
	}
	if len(p.Code) > maxCode {
		return p, wire.TooLarge(maxCode)
	}
	p.Task = "code"
	if body.First(nameKeys...) != "" || !body.Has("code") { // the generation of taskCode wants a name
		if p.Task, err = textUnder(body, nameKeys, missing); err != nil {
			return p, err
		}
	}
	if len(p.Task) > maxName {
		return p, invalid("The name of the task is too long.", "200 bytes are the most.")
	}
	if p.ID, err = runID(body); err != nil {
		return p, err
	}
	p.Input = input(body)
	return p, h.supported(body)
}

// supported refuses what earlier generations did with a request and amber does
// not, instead of running the code without it.
func (h *handler) supported(body wire.Object) error {
	if !isEmpty(body["modules"]) {
		return invalid("'modules' is not supported.", "A task is one file: bundle its modules into the code.")
	}
	if !isEmpty(body["initialVmState"]) {
		return invalid("'initialVmState' is not supported.", "A suspended run goes on from its own snapshot: POST /quickjs/resume.")
	}
	if isEmpty(body["serviceProxies"]) {
		return nil
	}
	var proxies []struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(body["serviceProxies"], &proxies) != nil {
		return invalid("'serviceProxies' must be an array of objects with a name.", "")
	}
	for _, proxy := range proxies {
		if !slices.Contains(h.Services, proxy.Name) {
			return invalid("The service proxy '"+wire.Clip(proxy.Name)+"' is not supported.",
				"The host's own services answer a task's calls, whatever baseUrl says: "+strings.Join(slices.Sorted(slices.Values(h.Services)), ", ")+".")
		}
	}
	return nil
}

func isEmpty(value json.RawMessage) bool {
	return !truthy(value) || slices.Contains([]string{"{}", "[]"}, string(value))
}

// refuseCode answers for code that does not parse: nothing was started.
func refuseCode(w http.ResponseWriter, err error) error {
	var syntax *vm.SyntaxError
	var refused *service.Error
	success, stack := false, ""
	a := answer{Success: &success, Status: "error", Code: service.CodeInvalidTask, Stack: &stack}
	switch {
	case errors.As(err, &syntax):
		a.Error = "Error evaluating task code: " + syntax.Message
		a.File, a.Line, a.Column = syntax.File, syntax.Line, syntax.Column
		stack = "    at " + syntax.Error()
	case errors.As(err, &refused):
		a.Error, a.Code, stack = "Error evaluating task code: "+refused.Message, refused.Code, refused.Stack
	default:
		return err
	}
	wire.JSON(w, http.StatusInternalServerError, a)
	return nil
}
