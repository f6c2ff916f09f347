package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/amberhost/amber/service"
	"github.com/amberhost/amber/stack"
	"github.com/amberhost/amber/supabase/keys"
)

// CodeRunNotFound is the code of a 404 for a run.
const CodeRunNotFound = "TASK_RUN_NOT_FOUND"

// Runs is how functions start runs, find them and wait for them.
type Runs struct {
	Store     *stack.Store
	Processor *stack.Processor
}

// Start starts the task of that name, or else the one with that id, on behalf
// of whoever sent the request.
func (s Runs) Start(ctx context.Context, p stack.StartParams) (stack.Run, error) {
	identity := Caller(ctx)
	p.Caller = stack.Caller{Owner: identity.Owner, Role: identity.Role, Claims: identity.Claims}
	run, err := s.Processor.Start(ctx, p)
	if !isCode(err, service.CodeTaskNotFound) {
		return run, err
	}
	unknown := &Problem{Status: http.StatusNotFound, Code: service.CodeTaskNotFound,
		Message: "Task '" + Clip(p.Task) + "' not found."}
	id, parseErr := uuid.Parse(p.Task)
	if parseErr != nil {
		return run, unknown
	}
	tasks, err := s.Store.Tasks(ctx)
	if err != nil {
		return run, err
	}
	for _, task := range tasks {
		if task.ID == id {
			p.Task = task.Name
			return s.Processor.Start(ctx, p)
		}
	}
	return run, unknown
}

// Find returns the run with that id, or the run whose body or call the
// stack_run with that id is, if the sender of the request may know of it.
func (s Runs) Find(ctx context.Context, text string) (stack.Run, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return stack.Run{}, &Problem{Status: http.StatusBadRequest, Code: CodeInvalidRequest,
			Message: fmt.Sprintf("Malformed task run id %q: want a uuid", Clip(text))}
	}
	run, err := s.Store.Run(ctx, id)
	if errors.Is(err, stack.ErrRunNotFound) || err == nil && !visible(run, Caller(ctx)) {
		return stack.Run{}, &Problem{Status: http.StatusNotFound, Code: CodeRunNotFound,
			Message: fmt.Sprintf("Task run with ID %s not found", id)}
	}
	return run, err
}

// visible reports whether caller may know of the run. One that nobody signed in
// has started is there for whoever knows its id.
func visible(run stack.Run, caller keys.Identity) bool {
	return run.Owner == nil || caller.Role == keys.RoleService || caller.Owner == run.Owner.String()
}

// Await returns the run when it has ended, whichever host runs it, or as it is
// after patience.
func (s Runs) Await(ctx context.Context, run stack.Run, patience time.Duration) (stack.Run, error) {
	if run.Ended() {
		return run, nil
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	now, err := s.Processor.Wait(waiting, run.ID)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return run, nil
	}
	return now, err
}

// Process has a stack_run processed and returns it when it has ended, or as it
// is after patience. stack.ErrRunNotFound if there is none.
func (s Runs) Process(ctx context.Context, id uuid.UUID, patience time.Duration) (stack.StackRun, error) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	row, err := s.Processor.Process(waiting, id)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return s.Store.StackRun(ctx, id)
	}
	return row, err
}

// Failure reads why a run or a stack_run failed. Clients of the original may
// have written anything there.
func Failure(raw json.RawMessage) service.Error {
	var failure service.Error
	if json.Unmarshal(raw, &failure) == nil && failure.Message != "" {
		return failure
	}
	failure = service.Error{}
	if json.Unmarshal(raw, &failure.Message) != nil || failure.Message == "" {
		failure.Message = string(raw)
	}
	return failure
}

func isCode(err error, code string) bool {
	var e *service.Error
	return errors.As(err, &e) && e.Code == code
}
