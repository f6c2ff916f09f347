package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// The names under which clients of all generations send a task's name (or its
// id) and its input; the first that is not null counts.
var (
	nameKeys  = []string{"taskName", "task", "name", "taskId", "id", "task_identifier"}
	inputKeys = []string{"input", "taskInput"}
)

// accepted has the run's id under every name by which a client looks for it.
type accepted struct {
	Message   string    `json:"message"`
	TaskRunID uuid.UUID `json:"taskRunId"`
	ID        uuid.UUID `json:"task_run_id"`
	TaskID    uuid.UUID `json:"taskId"`
	Status    string    `json:"status"`
}

func (h *handler) execute(w http.ResponseWriter, r *http.Request, _ string) error {
	body, err := wire.ReadObject(r)
	if err != nil {
		return err
	}
	name, err := taskName(body)
	if err != nil {
		return err
	}
	run, err := h.start(r.Context(), stack.StartParams{Task: name, Input: input(body), Caller: caller(r.Context())})
	if err != nil {
		return err
	}
	run, waited, err := h.await(w, r, run)
	if err != nil {
		return err
	}
	if waited && run.Ended() {
		wire.JSON(w, http.StatusOK, run)
		return nil
	}
	wire.JSON(w, http.StatusAccepted, accepted{
		Message:   "Task accepted and queued for asynchronous processing.",
		TaskRunID: run.ID, ID: run.ID, TaskID: run.ID,
		Status: run.Status,
	})
	return nil
}

// start starts the task of that name, or else the one with that id.
func (h *handler) start(ctx context.Context, params stack.StartParams) (stack.Run, error) {
	run, err := h.processor.Start(ctx, params)
	if !isCode(err, service.CodeTaskNotFound) {
		return run, err
	}
	unknown := &wire.Problem{Status: http.StatusNotFound, Code: service.CodeTaskNotFound,
		Message: "Task '" + params.Task + "' not found."}
	id, parseErr := uuid.Parse(params.Task)
	if parseErr != nil {
		return run, unknown
	}
	tasks, err := h.store.Tasks(ctx)
	if err != nil {
		return run, err
	}
	for _, task := range tasks {
		if task.ID == id {
			params.Task = task.Name
			return h.processor.Start(ctx, params)
		}
	}
	return run, unknown
}

func taskName(body wire.Object) (string, error) {
	for _, key := range nameKeys {
		if !body.Has(key) {
			continue
		}
		name, ok := body.String(key)
		switch {
		case !ok || name == "":
			return "", nameProblem("'" + key + "' is not a task's name.")
		case strings.ContainsRune(name, 0):
			return "", nameProblem("'" + key + "' holds a NUL character.")
		}
		return name, nil
	}
	return "", nameProblem("It may also be called " + strings.Join(nameKeys[1:], ", ") + ".")
}

func nameProblem(details string) error {
	return &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
		Message: "'taskName' is required and must be a string.", Details: details}
}

// input returns the bytes that the client sent.
func input(body wire.Object) json.RawMessage {
	for _, key := range inputKeys {
		if body.Has(key) {
			return body[key]
		}
	}
	return json.RawMessage("null")
}

func caller(ctx context.Context) stack.Caller {
	identity := wire.Caller(ctx)
	return stack.Caller{Owner: identity.Owner, Role: identity.Role, Claims: identity.Claims}
}

func isCode(err error, code string) bool {
	var e *service.Error
	return errors.As(err, &e) && e.Code == code
}
