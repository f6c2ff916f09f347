package tasks

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
)

// The names under which clients of all generations send a task's name (or its
// id) and its input; the first that is not null counts.
var (
	nameKeys  = []string{"taskName", "task", "name", "taskId", "id", "task_identifier"}
	inputKeys = []string{"input", "taskInput"}
)

const acceptedMessage = "Task accepted and queued for asynchronous processing."

// ids has the run's id under every name by which a client looks for it.
type ids struct {
	TaskRunID uuid.UUID `json:"taskRunId"`
	ID        uuid.UUID `json:"task_run_id"`
	TaskID    uuid.UUID `json:"taskId"`
}

func idsOf(run stack.Run) ids { return ids{run.ID, run.ID, run.ID} }

type accepted struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	ids
	Status string `json:"status"`
}

// ended is the row of a run that its caller waited for, or has retried, and the keys
// of [accepted].
type ended struct {
	stack.Run
	ids
	Success bool   `json:"success"`
	Message string `json:"message"`
}

func (h *handler) execute(w http.ResponseWriter, r *http.Request, _ string) error {
	body, err := wire.ReadObject(r)
	switch {
	case err != nil:
		return err
	case body.Has("chain"):
		return h.chain(w, r, body["chain"])
	case triggers(body):
		return h.trigger(w, r)
	}
	name, err := taskName(body)
	if err != nil {
		return err
	}
	params := stack.StartParams{Task: name, Input: input(body)}
	if err := wire.StartOptions(r, body, &params); err != nil {
		return err
	}
	run, err := h.runs.Start(r.Context(), params)
	if err != nil {
		return err
	}
	patience, waits := wire.PreferredWait(w, r)
	if waits {
		if run, err = h.runs.Await(r.Context(), run, patience); err != nil {
			return err
		}
	}
	if waits && run.Ended() {
		wire.JSON(w, http.StatusOK, ended{run, idsOf(run), run.Status == stack.StatusCompleted, "Task " + run.Status + "."})
		return nil
	}
	wire.JSON(w, http.StatusAccepted, accepted{true, acceptedMessage, idsOf(run), run.Status})
	return nil
}

// triggers reports whether body asks to have queued runs looked for, as one
// generation of the original asked of itself.
func triggers(body wire.Object) bool {
	service, _ := body.String("service")
	method, _ := body.String("method")
	return service == "tasks" && method == "triggerFIFO"
}

func (h *handler) trigger(w http.ResponseWriter, r *http.Request) error {
	if _, _, err := h.runs.Processor.ProcessNext(r.Context()); err != nil {
		return err
	}
	wire.JSON(w, http.StatusOK, struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}{"ok", "FIFO processing chain started"})
	return nil
}

func taskName(body wire.Object) (string, error) {
	key := body.First(nameKeys...)
	if key == "" {
		return "", nameProblem("It may also be called " + strings.Join(nameKeys[1:], ", ") + ".")
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

func nameProblem(details string) error {
	return &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
		Message: "'taskName' is required and must be a string.", Details: details}
}

// input returns the bytes that the client sent.
func input(body wire.Object) json.RawMessage {
	if key := body.First(inputKeys...); key != "" {
		return body[key]
	}
	return json.RawMessage("null")
}
