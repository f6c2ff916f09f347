package tasks

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/amberhost/amber/functions/wire"
	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
)

// The original's SDK sends what it calls as steps:
//
//	tasks.execute("hello", {a: 1}) → {"chain": [{"type": "call", "property": "execute", "args": ["hello", {"a": 1}]}]}
//
// It hands its caller the data of an answer of 200, and throws what is under
// error, or the bare status of any other answer. So a run that failed is data.
//
// tasks.with({delay: 5000}).execute("hello") sets how the run starts, as tools.with
// does in a task: delay, timeout, scheduledFor, priority, and idempotencyKey in place
// of the header. What is tried again is the caller's own affair: retries and backoff
// are refused. The third argument of execute is the SDK's own, and never looked at.

// chainWait is how long a chain waits for its run if the client does not say.
const chainWait = 60 * time.Second

// step is one link of a chain. One generation of clients sends no type: the
// last step is a call then.
type step struct {
	Type     string            `json:"type"`
	Property string            `json:"property"`
	Args     []json.RawMessage `json:"args"`
}

// called is the data of a chain. The run's id is not under taskRunId once it
// has ended: clients who find one there go and poll it.
type called struct {
	Success bool            `json:"success"`
	Data    json.RawMessage `json:"data"`
	Result  json.RawMessage `json:"result"` // the same: clients read either
	Error   any             `json:"error"`  // a text, or null
	Logs    []stack.LogLine `json:"logs"`
	ID      string          `json:"task_run_id"`
	Status  string          `json:"status"`
}

// proxy is where the SDK sends chains by itself.
func (h *handler) proxy(w http.ResponseWriter, r *http.Request, id string) error {
	if id != "proxy/tasks" && id != "sdk-proxy" {
		return &wire.Problem{Status: http.StatusNotFound, Code: wire.CodeNotFound,
			Message: "There is no " + wire.Clip(r.URL.Path) + ".", Details: "There are: POST /tasks/api/proxy/tasks, POST /tasks/api/sdk-proxy"}
	}
	body, err := wire.ReadObject(r)
	if err != nil {
		return err
	}
	return h.chain(w, r, body["chain"])
}

func (h *handler) chain(w http.ResponseWriter, r *http.Request, raw json.RawMessage) error {
	call, problem := callOf(raw)
	if problem != nil {
		refuse(w, problem)
		return nil
	}
	var err error
	if call.Property == "list" {
		err = h.chainList(w, r)
	} else {
		err = h.chainExecute(w, r, call)
	}
	if problem := wire.ProblemOf(err); err != nil && problem.Status < 500 {
		refuse(w, problem)
		return nil
	}
	return err
}

// chainCall is what a chain calls, with the options that a step with gives it.
type chainCall struct {
	step
	options wire.Object
}

// callOf returns what a chain calls. A step tasks before it means nothing.
func callOf(raw json.RawMessage) (call chainCall, _ *wire.Problem) {
	var steps []step
	if json.Unmarshal(raw, &steps) != nil || len(steps) == 0 {
		return call, chainProblem("INVALID_CHAIN_FORMAT", "Invalid request: chain must be an array")
	}
	for _, s := range steps {
		if s.Type != "" && s.Type != service.StepCall && s.Type != service.StepGet {
			return call, chainProblem("CHAIN_EXECUTION_ERROR", "Unknown chain step type: "+wire.Clip(s.Type))
		}
	}
	steps = withoutTasks(steps)
	if len(steps) > 1 && steps[0].Property == "with" && steps[0].Type != service.StepGet {
		var problem *wire.Problem
		if call.options, problem = optionsOf(steps[0].Args); problem != nil {
			return call, problem
		}
		steps = withoutTasks(steps[1:])
	}
	call.step = steps[0]
	if len(steps) > 1 || call.Type == service.StepGet || call.Property != "execute" && call.Property != "list" {
		return call, chainProblem("CHAIN_EXECUTION_ERROR",
			fmt.Sprintf("Method '%s' not found: tasks has execute(name, input) and list()", wire.Clip(steps[len(steps)-1].Property)))
	}
	return call, nil
}

func withoutTasks(steps []step) []step {
	if len(steps) > 1 && steps[0].Property == "tasks" {
		return steps[1:]
	}
	return steps
}

// optionsOf reads the arguments of a step with.
func optionsOf(args []json.RawMessage) (options wire.Object, _ *wire.Problem) {
	if len(args) != 1 || json.Unmarshal(args[0], &options) != nil || options == nil {
		return nil, chainProblem(service.CodeInvalidArgument, "tasks.with takes one object of options.")
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains(startOptions, name) {
			return nil, chainProblem(service.CodeInvalidArgument,
				fmt.Sprintf("tasks.with: there is no option %q: there are %s.", wire.Clip(name), strings.Join(startOptions, ", ")))
		}
	}
	return options, nil
}

// startOptions are those of a step with.
var startOptions = []string{"delay", "idempotencyKey", "priority", "scheduledFor", "timeout"}

func (h *handler) chainExecute(w http.ResponseWriter, r *http.Request, call chainCall) error {
	body := wire.Object{}
	for i, key := range []string{nameKeys[0], inputKeys[0]} {
		if i < len(call.Args) {
			body[key] = call.Args[i]
		}
	}
	name, err := taskName(body)
	if err != nil {
		return err
	}
	params := stack.StartParams{Task: name, Input: input(body)}
	if err := wire.StartOptions(r, call.options, &params); err != nil {
		return err
	}
	if call.options.Has("idempotencyKey") {
		key, ok := call.options.String("idempotencyKey")
		if !ok || key == "" {
			return chainProblem(service.CodeInvalidArgument, "tasks.with: idempotencyKey is a text that is not empty.")
		}
		params.IdempotencyKey = key
	}
	run, err := h.runs.Start(r.Context(), params)
	if err != nil {
		return err
	}
	patience, ok := wire.PreferredWait(w, r)
	if !ok {
		patience = chainWait
	}
	if run, err = h.runs.Await(r.Context(), run, patience); err != nil {
		return err
	}
	if !run.Ended() {
		wire.JSON(w, http.StatusAccepted, data{accepted{true, acceptedMessage, idsOf(run), run.Status}})
		return nil
	}
	lines, err := h.runs.Store.Logs(r.Context(), run.ID, 0)
	if err != nil {
		return err
	}
	answer := called{Success: run.Status == stack.StatusCompleted, Data: run.Result, Result: run.Result,
		Logs: orEmpty(lines), ID: run.ID.String(), Status: run.Status}
	if !answer.Success {
		answer.Error = wire.Failure(run.Error).Message
	}
	wire.JSON(w, http.StatusOK, data{answer})
	return nil
}

func (h *handler) chainList(w http.ResponseWriter, r *http.Request) error {
	tasks, err := h.listed(r)
	if err != nil {
		return err
	}
	wire.JSON(w, http.StatusOK, data{struct {
		Success bool     `json:"success"`
		Tasks   []listed `json:"tasks"`
	}{true, tasks}})
	return nil
}

// data is the envelope of the SDK's answers.
type data struct {
	Data any `json:"data"`
}

func chainProblem(code, message string) *wire.Problem {
	return &wire.Problem{Status: http.StatusBadRequest, Code: code, Message: message}
}

// refuse answers with an error as the SDK's server does.
func refuse(w http.ResponseWriter, p *wire.Problem) {
	p.SayWhen(w.Header())
	wire.JSON(w, p.Status, map[string]any{"error": struct {
		Message string `json:"message"`
		Code    string `json:"code"`
		Status  int    `json:"status"`
		Details string `json:"details,omitempty"`
	}{p.Message, p.Code, p.Status, p.Details}})
}
