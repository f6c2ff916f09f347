package quickjs

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

var (
	nameKeys  = []string{"taskName", "taskId", "task", "name"}
	inputKeys = []string{"taskInput", "input"}
)

// named runs a published task.
func (h *handler) named(w http.ResponseWriter, r *http.Request, body wire.Object) error {
	name, err := textUnder(body, nameKeys, "Missing task name/id")
	if err != nil {
		return err
	}
	id, err := runID(body)
	if err != nil {
		return err
	}
	if task, err := h.Runs.Store.Task(r.Context(), name); err == nil && strings.TrimSpace(task.Code) == "" {
		return unknownTask(name)
	}
	patience, waits := wire.PreferredWait(w, r)
	if !waits && truthy(body["directExecution"]) {
		patience, waits = defaultWait, true
	}
	params := stack.StartParams{Task: name, Input: input(body), ID: id}
	if err := wire.StartOptions(r, nil, &params); err != nil {
		return err
	}
	run, err := h.Runs.Start(r.Context(), params)
	if e := (*wire.Problem)(nil); errors.As(err, &e) && e.Code == service.CodeTaskNotFound {
		return unknownTask(name)
	}
	if err != nil {
		return err
	}
	if !waits {
		wire.JSON(w, http.StatusAccepted, started(run))
		return nil
	}
	if run, err = h.Runs.Await(r.Context(), run, patience); err != nil {
		return err
	}
	if !run.Ended() {
		return h.suspended(w, r, http.StatusAccepted, run)
	}
	if run.Status != stack.StatusCompleted {
		a := failed(wire.Failure(run.Error))
		a.TaskRunID, a.Status = &run.ID, run.Status
		wire.JSON(w, http.StatusInternalServerError, a)
		return nil
	}
	wire.JSON(w, http.StatusOK, answer{Result: run.Result, Status: run.Status, TaskRunID: &run.ID,
		Message: "Task " + wire.Clip(name) + " executed successfully"})
	return nil
}

func unknownTask(name string) error {
	return &wire.Problem{Status: http.StatusNotFound, Code: service.CodeTaskNotFound, Message: "Task not found: " + wire.Clip(name)}
}

func started(run stack.Run) answer {
	return answer{TaskRunID: &run.ID, Status: "processing",
		Message: "Task execution started. Check status at /tasks/status?id=" + run.ID.String()}
}

// suspended answers for a run that has not ended in time: with the call that it
// waits for, or, if it waits for none, with its own body.
func (h *handler) suspended(w http.ResponseWriter, r *http.Request, status int, run stack.Run) error {
	a := answer{Status: stack.StatusSuspended, TaskRunID: &run.ID,
		Message: "Task execution has not ended yet. Check status at /tasks/status?id=" + run.ID.String()}
	if run.WaitingOnStackRunID != nil {
		call, err := h.Runs.Store.StackRun(r.Context(), *run.WaitingOnStackRunID)
		if err != nil && !errors.Is(err, stack.ErrRunNotFound) {
			return err
		}
		if err == nil {
			a.StackRunID = &call.ID
			a.Message = "Task execution suspended for " + callName(call) + " call"
		}
	}
	if a.StackRunID == nil {
		nodes, err := h.Runs.Store.Tree(r.Context(), run.ID)
		if err != nil {
			return err
		}
		if len(nodes) > 0 {
			a.StackRunID = &nodes[0].ID
		}
	}
	wire.JSON(w, status, a)
	return nil
}

// callName is tools.<name> as a task calls it; a bare call's method is its service.
func callName(call stack.StackRun) string {
	if call.MethodName == "" || call.MethodName == call.ServiceName {
		return call.ServiceName
	}
	return call.ServiceName + "." + call.MethodName
}

// failed says why a run failed, in the original's words and with the reason.
func failed(e service.Error) answer {
	message := "Error in task execution: " + e.Message
	switch {
	case e.Code == service.CodeImportUnsupported, e.Code == service.CodeInvalidTask && e.Name == "SyntaxError":
		message = "Error evaluating task code: " + e.Message
	case e.Code == service.CodeInvalidTask:
		message = "Module exports is not a function: " + e.Message
	}
	return answer{Error: message, Stack: &e.Stack, Code: e.Code}
}

// textUnder returns the string under the first of keys that is given.
func textUnder(body wire.Object, keys []string, missing string) (string, error) {
	key := body.First(keys...)
	if key == "" {
		return "", invalid(missing, "Send it as "+strings.Join(keys, ", ")+".")
	}
	text, ok := body.String(key)
	switch {
	case !ok || text == "":
		return "", invalid(missing, "'"+key+"' must be a string that is not empty.")
	case strings.ContainsRune(text, 0):
		return "", invalid(missing, "'"+key+"' holds a NUL character.")
	}
	return text, nil
}

// runID is the id that the run shall have; uuid.Nil for a new one.
func runID(body wire.Object) (uuid.UUID, error) {
	text, ok := body.String("taskRunId")
	if ok && text == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil {
		return uuid.Nil, invalid("'taskRunId' must be a uuid that is not taken.", "Leave it out to have one made.")
	}
	return id, nil
}

// input returns the bytes that the client sent, {} in place of nothing.
func input(body wire.Object) json.RawMessage {
	if key := body.First(inputKeys...); key != "" {
		return body[key]
	}
	return json.RawMessage("{}")
}

// truthy is what JavaScript takes for true.
func truthy(value json.RawMessage) bool {
	return !slices.Contains([]string{"", "null", "false", "0", "-0", `""`}, string(value))
}
