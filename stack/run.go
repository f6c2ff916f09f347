package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/amberhost/amber/service"
)

// The statuses of task_runs and stack_runs; doc.go draws who moves a row between them.
const (
	StatusQueued     = "queued"                  // task_runs: no host has it yet
	StatusPending    = "pending"                 // stack_runs: any host may claim it
	StatusProcessing = "processing"              // held by the host claimed_by
	StatusSuspended  = "suspended"               // task_runs: its body waits
	StatusWaiting    = "suspended_waiting_child" // stack_runs: a body that waits, held by nobody
	StatusResume     = "pending_resume"          // stack_runs: any host may resume it
	StatusSleeping   = "sleeping"                // stack_runs: a timer until due_at
	StatusCompleted  = "completed"
	StatusFailed     = "failed"
	StatusCancelled  = "cancelled"
)

// Run is one execution of a task as its caller sees it: a row of task_runs.
// Its JSON keys are the column names.
type Run struct {
	ID                  uuid.UUID       `json:"id"`
	TaskFunctionID      *uuid.UUID      `json:"task_function_id"`
	TaskName            string          `json:"task_name"`
	Input               json.RawMessage `json:"input"`
	Status              string          `json:"status"`
	Result              json.RawMessage `json:"result"`
	Error               json.RawMessage `json:"error"`
	Logs                json.RawMessage `json:"logs"`
	VMLogs              json.RawMessage `json:"vm_logs" db:"vm_logs"`
	LogEntries          json.RawMessage `json:"log_entries"`        // clients' own, as the next
	AggregatedResults   json.RawMessage `json:"aggregated_results"` // amber writes neither
	ParentRunID         *uuid.UUID      `json:"parent_run_id"`
	WaitingOnStackRunID *uuid.UUID      `json:"waiting_on_stack_run_id"`
	Owner               *uuid.UUID      `json:"owner"`
	IdempotencyKey      *string         `json:"idempotency_key"`
	Priority            int             `json:"priority"`
	Attempt             int             `json:"attempt"` // times that it began anew
	ScheduledFor        *time.Time      `json:"scheduled_for"`
	DeadlineAt          *time.Time      `json:"deadline_at"`
	CancelRequestedAt   *time.Time      `json:"cancel_requested_at"`
	StuckReason         *string         `json:"stuck_reason"`
	SuspendedAt         *time.Time      `json:"suspended_at"`
	ResumedAt           *time.Time      `json:"resumed_at"`
	StartedAt           *time.Time      `json:"started_at"`
	EndedAt             *time.Time      `json:"ended_at"`
	CreatedAt           time.Time       `json:"created_at"`
	UpdatedAt           time.Time       `json:"updated_at"`
}

// Ended reports whether the run's status is final.
func (r Run) Ended() bool { return ended(r.Status) }

func ended(status string) bool {
	return status == StatusCompleted || status == StatusFailed || status == StatusCancelled
}

const runColumns = `id, task_function_id, task_name, input, status, result, error, logs, vm_logs,
	log_entries, aggregated_results, parent_run_id, waiting_on_stack_run_id, owner, idempotency_key, priority, attempt,
	scheduled_for, deadline_at, cancel_requested_at, stuck_reason, suspended_at, resumed_at,
	started_at, ended_at, created_at, updated_at`

// Run returns the run with that id; the id of a stack_run finds the run whose
// body or call it is. Its Result is the exact text that the task returned, not
// what jsonb makes of it. ErrRunNotFound if there is none.
func (s *Store) Run(ctx context.Context, id uuid.UUID) (Run, error) {
	rows, err := s.pool.Query(ctx, `/* Run */
		select `+runColumns+` from public.task_runs
		where id = coalesce(
			(select t.id from public.task_runs t where t.id = @id),
			(select coalesce(s.child_task_run_id, s.parent_task_run_id) from public.stack_runs s where s.id = @id))`,
		namedArgs{"id": id})
	if err != nil {
		return Run{}, fmt.Errorf("load run: %w", err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Run])
	if errors.Is(err, pgx.ErrNoRows) {
		return Run{}, ErrRunNotFound
	}
	if err != nil {
		return Run{}, fmt.Errorf("load run: %w", err)
	}
	if run.Status != StatusCompleted {
		return run, nil
	}
	return run, s.exactResult(ctx, &run)
}

// exactResult replaces a run's result by its exact text, if that is kept.
func (s *Store) exactResult(ctx context.Context, run *Run) error {
	var body uuid.UUID
	var keyID string
	var sealed []byte
	err := s.pool.QueryRow(ctx, `/* exactResult */
		select s.id, r.key_id, r.data from public.stack_runs s
		join amber.replies r on r.stack_run_id = s.id and r.kind = 'reply'
		where s.child_task_run_id = @run and s.status = 'completed'`,
		namedArgs{"run": run.ID}).Scan(&body, &keyID, &sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load result: %w", err)
	}
	var reply service.Reply
	if err := s.openBytes(body, kindReply, keyID, sealed, &reply); err != nil {
		return err
	}
	if reply.Value != nil {
		run.Result = reply.Value
	}
	return nil
}

// RunFilter says which runs are wanted; its zero value is the newest 100 of all.
type RunFilter struct {
	Task   string    // "" for every task
	Status string    // "" for every status
	Owner  string    // a user's id; "" for everybody's
	Roots  bool      // leave nested runs out
	Before uuid.UUID // only runs that are listed after this one: for the next page
	Limit  int       // 0 means 100; never more than 1,000
}

// maxRuns bounds one page of runs.
const maxRuns = 1000

// Runs returns runs, newest first. ErrRunNotFound if there is no run Before; an
// Owner that is no uuid is a *service.Error.
func (s *Store) Runs(ctx context.Context, f RunFilter) ([]Run, error) {
	args := namedArgs{"limit": min(max(f.Limit, 0), maxRuns)}
	if f.Limit <= 0 {
		args["limit"] = 100
	}
	where := "true"
	only := func(condition, name string, value any) {
		where += " and " + condition
		args[name] = value
	}
	if f.Task != "" {
		only("task_name = @task", "task", f.Task)
	}
	if f.Status != "" {
		only("status = @status", "status", f.Status)
	}
	if f.Owner != "" {
		owner, err := uuid.Parse(f.Owner)
		if err != nil {
			return nil, service.Errorf(service.CodeInvalidArgument, "The owner %q is not a uuid.", clip(f.Owner))
		}
		only("owner = @owner", "owner", owner)
	}
	if f.Roots {
		where += " and parent_run_id is null"
	}
	if f.Before != uuid.Nil {
		var created time.Time
		err := s.pool.QueryRow(ctx, `/* Runs: before */
			select created_at from public.task_runs where id = @id and (@owner = '' or owner::text = lower(@owner))`,
			namedArgs{"id": f.Before, "owner": f.Owner}).Scan(&created)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, ErrRunNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		only("(created_at, id) < (@created, @before)", "before", f.Before)
		args["created"] = created
	}
	rows, err := s.pool.Query(ctx,
		`/* Runs */ select `+runColumns+` from public.task_runs where `+where+` order by created_at desc, id desc limit @limit`, args)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByName[Run])
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return runs, nil
}

// Node is one call or body below a run: a row of stack_runs, without its payloads.
type Node struct {
	ID        uuid.UUID       `json:"id"`
	ParentID  *uuid.UUID      `json:"parent_stack_run_id" db:"parent_stack_run_id"`
	Service   string          `json:"service_name" db:"service_name"`
	Method    string          `json:"method_name" db:"method_name"`
	TaskName  string          `json:"task_name"`
	Status    string          `json:"status"`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt *time.Time      `json:"started_at"`
	EndedAt   *time.Time      `json:"ended_at"`
	DueAt     *time.Time      `json:"due_at"`
	Deadline  *time.Time      `json:"deadline_at" db:"deadline_at"` // when its time is over
	Interrupt *string         `json:"interrupt"`                    // why it is to end: cancel or timeout
	Tries     int             `json:"tries"`                        // that failed and were followed by another
	TryError  json.RawMessage `json:"try_error"`                    // of the last of them
	Late      bool            `json:"late"`                         // an answer came when nobody waited for it any more
	Error     json.RawMessage `json:"error"`
	Stuck     *string         `json:"stuck_reason" db:"stuck_reason"`
}

// maxTree bounds what one request for a tree or its logs may read.
const maxTree = 10_000

// Tree returns the run's own body and every call below it, oldest first, up to
// 10,000 of them. ErrRunNotFound if there is no such run.
func (s *Store) Tree(ctx context.Context, id uuid.UUID) ([]Node, error) {
	run, err := s.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `/* Tree */
		with recursive tree as (
			select s.* from public.stack_runs s where s.child_task_run_id = @run
			union all
			select s.* from public.stack_runs s join tree on s.parent_stack_run_id = tree.id
		)
		select tree.id, parent_stack_run_id, service_name, method_name, coalesce(t.task_name, '') as task_name,
			tree.status, tree.created_at, tree.started_at, tree.ended_at, tree.due_at, tree.deadline_at, tree.interrupt, tree.tries,
			case when tree.tries > 0 then (
				select a.error from amber.attempts a where a.stack_run_id = tree.id and not a.late order by a.id desc limit 1) end as try_error,
			tree.deadline_at is not null and exists (select from amber.attempts a where a.stack_run_id = tree.id and a.late) as late,
			tree.error, tree.stuck_reason
		from tree left join public.task_runs t on t.id = tree.child_task_run_id
		order by tree.created_at, tree.parent_stack_run_id nulls first, tree.call_id, tree.id
		limit @limit`,
		namedArgs{"run": run.ID, "limit": maxTree})
	if err != nil {
		return nil, fmt.Errorf("load tree: %w", err)
	}
	nodes, err := pgx.CollectRows(rows, pgx.RowToStructByName[Node])
	if err != nil {
		return nil, fmt.Errorf("load tree: %w", err)
	}
	return nodes, nil
}

// LogLine is one console line of a task.
type LogLine struct {
	ID      int64     `json:"id"` // larger for lines that were committed later by the same run
	At      time.Time `json:"at"`
	TaskRun uuid.UUID `json:"task_run_id" db:"task_run_id"`
	Task    string    `json:"task_name" db:"task_name"`
	Level   string    `json:"level"` // debug, info, warn, error
	Message string    `json:"message"`
}

// Logs returns the console lines of the run and its nested runs by id, up to
// 10,000; those with an id up to after are left out. Two runs that commit at
// the same moment may do so in another order than that of their ids: whoever
// follows a run sees every line by reading on from a little before the last one.
// ErrRunNotFound if there is no such run.
func (s *Store) Logs(ctx context.Context, id uuid.UUID, after int64) ([]LogLine, error) {
	run, err := s.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `/* Logs */
		with recursive runs as (
			select t.id, t.task_name from public.task_runs t where t.id = @run
			union all
			select t.id, t.task_name from public.task_runs t join runs on t.parent_run_id = runs.id
		)
		select l.id, l.at, l.task_run_id, runs.task_name, l.level, l.message
		from amber.logs l join runs on runs.id = l.task_run_id
		where l.id > @after
		order by l.id limit @limit`,
		namedArgs{"run": run.ID, "after": after, "limit": maxTree})
	if err != nil {
		return nil, fmt.Errorf("load logs: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByName[LogLine])
	if err != nil {
		return nil, fmt.Errorf("load logs: %w", err)
	}
	return lines, nil
}
