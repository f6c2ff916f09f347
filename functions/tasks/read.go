package tasks

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/stack"
)

// idKeys are the query parameters that may name a run.
var idKeys = []string{"id", "taskRunId", "task_run_id"}

// read makes an action of a view of one run: it finds the run and waits for
// its end if the client prefers that.
func (h *handler) read(view func(w http.ResponseWriter, r *http.Request, run stack.Run) error) action {
	return func(w http.ResponseWriter, r *http.Request, id string) error {
		run, err := h.find(r, id)
		if err != nil {
			return err
		}
		if patience, ok := wire.PreferredWait(w, r); ok {
			if run, err = h.runs.Await(r.Context(), run, patience); err != nil {
				return err
			}
		}
		return view(w, r, run)
	}
}

func (h *handler) find(r *http.Request, id string) (stack.Run, error) {
	for _, key := range idKeys {
		if id == "" {
			id = r.URL.Query().Get(key)
		}
	}
	if id == "" {
		return stack.Run{}, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
			Message: "Missing taskRunId parameter"}
	}
	return h.runs.Find(r.Context(), id)
}

func (h *handler) status(w http.ResponseWriter, r *http.Request, run stack.Run) error {
	wire.Tagged(w, r, run)
	return nil
}

func (h *handler) result(w http.ResponseWriter, r *http.Request, run stack.Run) error {
	wire.Tagged(w, r, struct {
		ID     uuid.UUID       `json:"id"`
		Status string          `json:"status"`
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}{run.ID, run.Status, run.Result, run.Error})
	return nil
}

// lines are console lines, twice: the original had a column for the host's and
// one for the task's, and clients read either.
type lines struct {
	Logs   []stack.LogLine `json:"logs"`
	VMLogs []stack.LogLine `json:"vm_logs"`
}

// history is what one generation of the original told besides.
type history struct {
	TaskRunLogs   []stack.LogLine `json:"taskRunLogs"`
	TaskRunVMLogs []stack.LogLine `json:"taskRunVMLogs"`
	Events        []event         `json:"stackRunEventLogs"`
	Status        string          `json:"status"`
	Error         json.RawMessage `json:"error"`
}

// event is a call or a body below the run. Logs has always been empty: lines
// belong to the run.
type event struct {
	Timestamp time.Time       `json:"timestamp"`
	Service   string          `json:"service"`
	Method    string          `json:"method"`
	Status    string          `json:"status"`
	Logs      []stack.LogLine `json:"logs"`
}

// logs answers who reads on after a line with lines only.
func (h *handler) logs(w http.ResponseWriter, r *http.Request, run stack.Run) error {
	after, follows, err := afterOf(r)
	if err != nil {
		return err
	}
	found, err := h.runs.Store.Logs(r.Context(), run.ID, after)
	if err != nil {
		return err
	}
	found = orEmpty(found)
	if follows {
		wire.Tagged(w, r, lines{found, found})
		return nil
	}
	nodes, err := h.runs.Store.Tree(r.Context(), run.ID)
	if err != nil {
		return err
	}
	events := make([]event, len(nodes))
	for i, n := range nodes {
		events[i] = event{n.CreatedAt, n.Service, n.Method, n.Status, []stack.LogLine{}}
	}
	wire.Tagged(w, r, struct {
		lines
		history
	}{lines{found, found}, history{found, found, events, run.Status, run.Error}})
	return nil
}

func afterOf(r *http.Request) (after int64, ok bool, _ error) {
	text := r.URL.Query().Get("after")
	if text == "" {
		return 0, false, nil
	}
	after, err := strconv.ParseInt(text, 10, 64)
	if err != nil || after < 0 {
		return 0, false, &wire.Problem{Status: http.StatusBadRequest, Code: wire.CodeInvalidRequest,
			Message: "'after' must be the id of a log line, not '" + wire.Clip(text) + "'."}
	}
	return after, true, nil
}

func (h *handler) tree(w http.ResponseWriter, r *http.Request, run stack.Run) error {
	nodes, err := h.runs.Store.Tree(r.Context(), run.ID)
	if err != nil {
		return err
	}
	wire.Tagged(w, r, struct {
		Run   stack.Run    `json:"run"`
		Nodes []stack.Node `json:"nodes"`
	}{run, orEmpty(nodes)})
	return nil
}

// orEmpty makes [] of what would be null in JSON.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
