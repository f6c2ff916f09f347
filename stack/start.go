package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

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

	// IdempotencyKey is under which the run is started: again under the same key, by
	// the same caller, gives the run that is there. Asking for something else under it
	// is a *service.Error with code IDEMPOTENCY_CONFLICT.
	IdempotencyKey string

	Priority int           // higher ones first; nested tasks inherit it
	Delay    time.Duration // before it begins
	At       time.Time     // when it begins, instead of Delay; zero: now
	Timeout  time.Duration // how long it may take from now on, waiting included; 0: any time

	Trace string // the header traceparent of whoever starts it, for the observer; "" if there is none
}

// sleeps reports whether the run begins later.
func (p StartParams) sleeps() bool { return p.Delay > 0 || !p.At.IsZero() }

// checkTimes checks when a run begins and how long it may take.
func (p StartParams) checkTimes() *service.Error {
	switch {
	case p.Priority < -maxPriority || p.Priority > maxPriority:
		return service.Errorf(service.CodeInvalidInput, "The priority is a whole number from %d to %d.", -maxPriority, maxPriority)
	case p.Delay < 0 || p.Delay > maxSleep || time.Until(p.At) > maxSleep:
		return service.Errorf(service.CodeInvalidInput, "A run begins within ten years.")
	case p.Delay > 0 && !p.At.IsZero():
		return service.Errorf(service.CodeInvalidInput, "A run has a delay or a time at which it begins, not both.")
	case p.Timeout < 0 || p.Timeout > maxSleep:
		return service.Errorf(service.CodeInvalidInput, "A run takes ten years at most.")
	}
	return nil
}

// CodeRunExists is the code of the error for a run whose id is taken.
const CodeRunExists = "RUN_EXISTS"

// Start writes a run and its body. If hold is set they are born processing and
// held by host, which must run the body at once; otherwise the run is queued
// and its body pending, for any host to claim. Errors that the caller made are
// *service.Error with code TASK_NOT_FOUND, INVALID_INPUT, RUN_EXISTS or
// IDEMPOTENCY_CONFLICT; nothing is written then.
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
	if p.Code != "" {
		if err := checkGiven(p); err != nil {
			return Body{}, err
		}
	}
	if err := p.checkTimes(); err != nil {
		return Body{}, err
	}
	if err := p.checkKey(); err != nil {
		return Body{}, err
	}
	if p.IdempotencyKey != "" {
		if run, err := s.started(ctx, p); err != nil || run != uuid.Nil {
			return Body{TaskRun: run, found: true}, err
		}
	}
	if p.sleeps() {
		hold = false
	}
	body := Body{ID: newID(), TaskRun: p.ID, Task: p.Task, Code: p.Code, Input: p.Input, Caller: p.Caller, Priority: p.Priority, Held: hold, Trace: p.Trace, claimedAt: time.Now()}
	if p.ID == uuid.Nil {
		body.TaskRun = newID()
	}
	body.Root = body.TaskRun
	if p.Timeout > 0 {
		body.Deadline = time.Now().Add(p.Timeout)
	}
	if p.Code == "" {
		task, err := s.Task(ctx, p.Task)
		if err != nil {
			return Body{}, err
		}
		body.Code = task.Code
	}
	b := batch{host: host.ID}
	if err := s.queueStart(&b, host, p, &body); err != nil {
		return Body{}, fmt.Errorf("start run: %w", err)
	}
	err := s.atOnce(ctx, "start run", &b)
	if sameKey(err) { // somebody was faster
		run, errThen := s.started(ctx, p)
		if run != uuid.Nil || errThen != nil {
			return Body{TaskRun: run, found: true}, errThen
		}
		return Body{}, fmt.Errorf("start run: it was there under its key, and is gone: %w", err)
	}
	if taken(err) || errors.Is(err, errTaken) {
		return Body{}, &service.Error{Code: CodeRunExists, Status: http.StatusConflict,
			Message: "There is a run with the id " + body.TaskRun.String() + " already: leave the id out, or give a new one."}
	}
	return body, err
}

// queueStart queues the statements of a start.
func (s *Store) queueStart(b *batch, host Host, p StartParams, body *Body) error {
	if p.ID != uuid.Nil {
		queueUntaken(b, p.ID)
	}
	runStatus, status, claimed := StatusQueued, StatusPending, (*uuid.UUID)(nil)
	if body.Held {
		runStatus, status, claimed = StatusProcessing, StatusProcessing, &host.ID
	}
	var after *float64
	if p.sleeps() {
		seconds := p.Delay.Seconds()
		status, after = StatusSleeping, &seconds
	}
	call, err := executeCall(p.Task, p.Input)
	if err != nil {
		return err
	}
	args, err := encode(call.Args())
	if err != nil {
		return err
	}
	b.rows.runs = append(b.rows.runs, taskRun{ID: body.TaskRun, Task: p.Task, Unpublished: p.Code != "", Input: p.Input, Status: runStatus, Caller: p.Caller,
		Priority: p.Priority, At: nullTime(p.At), After: after, Left: secondsUntil(body.Deadline), Key: p.IdempotencyKey, Hash: p.hash()})
	b.flush()
	b.Queue(`/* Start: body */
		insert into public.stack_runs (id, parent_task_run_id, parent_run_id, child_task_run_id, service_name, module_name,
			method_name, args, status, claimed_by, started_at, priority, due_at, deadline_at)
		values (@id, @run, @run, @run, 'tasks', 'tasks', 'execute', @args, @status, @claimed_by,
			case when @claimed_by::uuid is not null then now() end, @priority,
			coalesce(@at, clock_timestamp() + make_interval(secs => @after)), clock_timestamp() + make_interval(secs => @left))`,
		namedArgs{"id": body.ID, "run": body.TaskRun, "args": json.RawMessage(args), "status": status, "claimed_by": claimed,
			"priority": p.Priority, "at": nullTime(p.At), "after": after, "left": secondsUntil(body.Deadline)})
	return s.putBytes(b, body.ID, kindRequest, request{Call: call, Code: p.Code, Trace: p.Trace})
}

var errTaken = errors.New("id taken")

// queueUntaken refuses an id that leads somewhere already: that of a stack_run, by
// which its run is found too, or that of a run which is gone and whose call is not.
func queueUntaken(b *batch, id uuid.UUID) {
	b.Queue(`/* Start: taken */
		select case when exists (select from public.stack_runs where id = @id or child_task_run_id = @id or parent_task_run_id = @id)
			or exists (select from public.task_runs where parent_run_id = @id) then amber.stop('AMB03') end`, namedArgs{"id": id})
}

// checkGiven checks the code of a run that brings its own. Whether it parses
// shows when it runs.
func checkGiven(p StartParams) error {
	switch {
	case p.Task == "" || text(p.Task) != p.Task:
		return service.Errorf(service.CodeInvalidInput, "The name of a task with code of its own must be a non-empty text without NUL.")
	case !utf8.ValidString(p.Code):
		return service.Errorf(service.CodeInvalidTask, "The code of the task is not valid UTF-8.")
	}
	return nil
}

// taken reports whether err says that a run's id is not new.
func taken(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.TableName == "task_runs" && pg.SchemaName == "public"
}
