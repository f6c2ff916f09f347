package tasks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// CodeRunNotFound is the code of a 404 for a run.
const CodeRunNotFound = "TASK_RUN_NOT_FOUND"

// idKeys are the query parameters that may name a run.
var idKeys = []string{"id", "taskRunId", "task_run_id"}

// read makes an action of a view of one run: it finds the run and waits for
// its end if the client prefers that.
func (h *handler) read(view func(w http.ResponseWriter, r *http.Request, run stack.Run) error) func(http.ResponseWriter, *http.Request, string) error {
	return func(w http.ResponseWriter, r *http.Request, id string) error {
		run, err := h.find(r, id)
		if err != nil {
			return err
		}
		run, _, err = h.await(w, r, run)
		if err != nil {
			return err
		}
		return view(w, r, run)
	}
}

func (h *handler) find(r *http.Request, text string) (stack.Run, error) {
	for _, key := range idKeys {
		if text == "" {
			text = r.URL.Query().Get(key)
		}
	}
	if text == "" {
		return stack.Run{}, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
			Message: "Missing taskRunId parameter"}
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return stack.Run{}, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
			Message: fmt.Sprintf("Malformed task run id %q: want a uuid", text)}
	}
	run, err := h.store.Run(r.Context(), id)
	if errors.Is(err, stack.ErrRunNotFound) || err == nil && !visible(run, wire.Caller(r.Context())) {
		return stack.Run{}, &wire.Problem{Status: http.StatusNotFound, Code: CodeRunNotFound,
			Message: fmt.Sprintf("Task run with ID %s not found", id)}
	}
	return run, err
}

// visible reports whether caller may know of the run. One that nobody signed in
// has started is there for whoever knows its id.
func visible(run stack.Run, caller keys.Identity) bool {
	return run.Owner == nil || caller.Role == keys.RoleService || caller.Owner == run.Owner.String()
}

func (h *handler) status(w http.ResponseWriter, _ *http.Request, run stack.Run) error {
	wire.JSON(w, http.StatusOK, run)
	return nil
}

func (h *handler) result(w http.ResponseWriter, _ *http.Request, run stack.Run) error {
	wire.JSON(w, http.StatusOK, struct {
		ID     uuid.UUID       `json:"id"`
		Status string          `json:"status"`
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}{run.ID, run.Status, run.Result, run.Error})
	return nil
}

// logs answers with the same lines twice: the original had a column for the
// host's and one for the task's, and clients read either.
func (h *handler) logs(w http.ResponseWriter, r *http.Request, run stack.Run) error {
	lines, err := h.store.Logs(r.Context(), run.ID)
	if err != nil {
		return err
	}
	lines = orEmpty(lines)
	wire.JSON(w, http.StatusOK, struct {
		Logs   []stack.LogLine `json:"logs"`
		VMLogs []stack.LogLine `json:"vm_logs"`
	}{lines, lines})
	return nil
}

func (h *handler) tree(w http.ResponseWriter, r *http.Request, run stack.Run) error {
	nodes, err := h.store.Tree(r.Context(), run.ID)
	if err != nil {
		return err
	}
	wire.JSON(w, http.StatusOK, struct {
		Run   stack.Run    `json:"run"`
		Nodes []stack.Node `json:"nodes"`
	}{run, orEmpty(nodes)})
	return nil
}

type listed struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Version     string    `json:"version"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func (h *handler) list(w http.ResponseWriter, r *http.Request, _ string) error {
	tasks, err := h.store.Tasks(r.Context())
	if err != nil {
		return err
	}
	rows := make([]listed, len(tasks))
	for i, t := range tasks {
		rows[i] = listed{t.Name, t.Description, t.Version, t.UpdatedAt}
	}
	wire.JSON(w, http.StatusOK, map[string][]listed{"tasks": rows})
	return nil
}

// orEmpty makes [] of what would be null in JSON.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
