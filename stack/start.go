package stack

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// StartParams are what a run is started with.
type StartParams struct {
	Task   string
	Input  json.RawMessage // one JSON text; nil means null
	Caller Caller
	// Code is run instead of a published task's; Task is then only its name.
	Code string
	// ID is the run's, uuid.Nil for a new one. One that is taken is a
	// *service.Error with code RUN_EXISTS.
	ID uuid.UUID
}

// Start writes a run and its body. If hold is set they are born processing and
// held by host, which must run the body at once; otherwise the run is queued
// and its body pending, for any host to claim. Errors that the caller made are
// *service.Error with code TASK_NOT_FOUND or INVALID_INPUT; nothing is written then.
func (s *Store) Start(ctx context.Context, host Host, p StartParams, hold bool) (Body, error) {
	if p.Input == nil {
		p.Input = json.RawMessage("null")
	}
	if tooDeep(p.Input) {
		return Body{}, service.Errorf(service.CodeInvalidInput, "The input cannot be stored: it nests deeper than %d levels.", maxDepth)
	}
	if !json.Valid(p.Input) {
		return Body{}, service.Errorf(service.CodeInvalidInput, "The input is not valid JSON.")
	}
	if err := checkJSONB(p.Input); err != nil {
		return Body{}, service.Errorf(service.CodeInvalidInput, "The input cannot be stored: %v.", err)
	}
	task, err := s.Task(ctx, p.Task)
	if err != nil {
		return Body{}, err
	}
	body := Body{ID: newID(), TaskRun: newID(), Task: task.Name, Code: task.Code, Input: p.Input, Caller: p.Caller, Held: hold}
	err = s.tx(ctx, "start run", func(tx pgx.Tx) error {
		runStatus, status, claimed := StatusQueued, StatusPending, (*uuid.UUID)(nil)
		if hold {
			runStatus, status, claimed = StatusProcessing, StatusProcessing, &host.ID
		}
		name, err := encode(p.Task)
		if err != nil {
			return err
		}
		call := service.Call{Service: "tasks", Steps: []service.Step{
			{Type: service.StepCall, Property: "execute", Args: []json.RawMessage{name, p.Input}},
		}}
		args, err := encode(call.Args())
		if err != nil {
			return err
		}
		var b batch
		queueTaskRun(&b, taskRun{ID: body.TaskRun, Task: task.Name, Input: p.Input, Status: runStatus, Caller: p.Caller})
		b.Queue(`
			insert into public.stack_runs (id, parent_task_run_id, parent_run_id, child_task_run_id, service_name, module_name,
				method_name, args, status, claimed_by, started_at)
			values (@id, @run, @run, @run, 'tasks', 'tasks', 'execute', @args, @status, @claimed_by,
				case when @claimed_by::uuid is not null then now() end)`,
			pgx.StrictNamedArgs{"id": body.ID, "run": body.TaskRun, "args": json.RawMessage(args), "status": status, "claimed_by": claimed})
		if err := s.putBytes(&b, body.ID, kindRequest, call); err != nil {
			return err
		}
		return b.send(ctx, tx)
	})
	return body, err
}
