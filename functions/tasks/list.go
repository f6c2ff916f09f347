package tasks

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

type listed struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Version     string    `json:"version"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func (h *handler) listed(r *http.Request) ([]listed, error) {
	tasks, err := h.runs.Store.Tasks(r.Context())
	if err != nil {
		return nil, err
	}
	rows := make([]listed, len(tasks))
	for i, t := range tasks {
		rows[i] = listed{t.Name, t.Description, t.Version, t.UpdatedAt}
	}
	return rows, nil
}

func (h *handler) list(w http.ResponseWriter, r *http.Request, _ string) error {
	rows, err := h.listed(r)
	if err != nil {
		return err
	}
	wire.Tagged(w, r, map[string][]listed{"tasks": rows})
	return nil
}

// maxRuns is the largest page of runs.
const maxRuns = 1000

// statuses are those a run can have, and what other generations called them.
var statuses = map[string]string{
	"queued": stack.StatusQueued, "pending": stack.StatusQueued,
	"processing": stack.StatusProcessing, "running": stack.StatusProcessing,
	"suspended": stack.StatusSuspended, "waiting": stack.StatusSuspended,
	"completed": stack.StatusCompleted, "complete": stack.StatusCompleted,
	"failed": stack.StatusFailed, "error": stack.StatusFailed,
	"cancelled": stack.StatusCancelled,
}

// listRuns answers with the runs that the caller may see all of: service_role
// every one, a user their own.
func (h *handler) listRuns(w http.ResponseWriter, r *http.Request, _ string) error {
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	runs, err := h.runs.Store.Runs(r.Context(), filter)
	if errors.Is(err, stack.ErrRunNotFound) {
		return invalid("before", "There is no run "+filter.Before.String()+" to list the runs before.")
	}
	if err != nil {
		return err
	}
	wire.Tagged(w, r, map[string][]stack.Run{"runs": orEmpty(runs)})
	return nil
}

func filterOf(r *http.Request) (f stack.RunFilter, err error) {
	query := r.URL.Query()
	caller := wire.Caller(r.Context())
	if caller.Role != keys.RoleService {
		if caller.Owner == "" {
			return f, &wire.Problem{Status: http.StatusForbidden, Code: wire.CodeForbidden,
				Message: "Only a signed-in user, or the service role key, can list runs.",
				Details: "Without one a run is found by its id: GET /tasks/status?id="}
		}
		f.Owner = caller.Owner
	}
	f.Task = query.Get("task")
	if strings.ContainsRune(f.Task, 0) || !utf8.ValidString(f.Task) {
		return f, invalid("task", "'task' is not UTF-8 text without NUL.")
	}
	if text := query.Get("status"); text != "" {
		if f.Status = statuses[text]; f.Status == "" {
			return f, invalid("status", fmt.Sprintf("'%s' is no status of a run.", wire.Clip(text)))
		}
	}
	if text := query.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > maxRuns {
			return f, invalid("limit", fmt.Sprintf("'limit' must be a number from 1 to %d, not '%s'.", maxRuns, wire.Clip(text)))
		}
	}
	if text := query.Get("before"); text != "" {
		if f.Before, err = uuid.Parse(text); err != nil {
			return f, invalid("before", fmt.Sprintf("'before' must be the id of a run, not '%s'.", wire.Clip(text)))
		}
	}
	switch text := query.Get("roots"); text {
	case "", "0", "false":
	case "1", "true":
		f.Roots = true
	default:
		return f, invalid("roots", fmt.Sprintf("'roots' must be 1 or 0, not '%s'.", wire.Clip(text)))
	}
	return f, nil
}

var parameters = map[string]string{
	"task":   "task=<name of a task>",
	"status": "status=" + strings.Join(slices.Sorted(maps.Keys(statuses)), "|"),
	"limit":  "limit=100",
	"before": "before=<id of the last run of the page before>",
	"roots":  "roots=1 leaves nested runs out",
}

func invalid(parameter, message string) error {
	return &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest, Message: message, Details: parameters[parameter]}
}
