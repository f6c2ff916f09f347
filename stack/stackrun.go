package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// StackRun is one call or one task body as clients of the original see it: a
// row of stack_runs. Its JSON keys are the column names.
type StackRun struct {
	ID               uuid.UUID       `json:"id"`
	ParentTaskRunID  *uuid.UUID      `json:"parent_task_run_id"`
	ParentStackRunID *uuid.UUID      `json:"parent_stack_run_id"`
	ChildTaskRunID   *uuid.UUID      `json:"child_task_run_id"` // the run whose body this is; null for a call
	ServiceName      string          `json:"service_name"`
	MethodName       string          `json:"method_name"`
	Args             json.RawMessage `json:"args"`
	Status           string          `json:"status"`
	Result           json.RawMessage `json:"result"`
	Error            json.RawMessage `json:"error"`
	StuckReason      *string         `json:"stuck_reason"`
	CreatedAt        time.Time       `json:"created_at"`
	StartedAt        *time.Time      `json:"started_at"`
	EndedAt          *time.Time      `json:"ended_at"`
}

// Ended reports whether the row's status is final.
func (r StackRun) Ended() bool { return ended(r.Status) }

// StackRun returns the row with that id; ErrRunNotFound if there is none.
func (s *Store) StackRun(ctx context.Context, id uuid.UUID) (StackRun, error) {
	rows, err := s.pool.Query(ctx, `
		select id, parent_task_run_id, parent_stack_run_id, child_task_run_id, service_name, method_name, args, status,
			result, error, stuck_reason, created_at, started_at, ended_at
		from public.stack_runs where id = @id`, pgx.StrictNamedArgs{"id": id})
	if err != nil {
		return StackRun{}, fmt.Errorf("load stack run: %w", err)
	}
	run, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[StackRun])
	if errors.Is(err, pgx.ErrNoRows) {
		return StackRun{}, ErrRunNotFound
	}
	if err != nil {
		return StackRun{}, fmt.Errorf("load stack run: %w", err)
	}
	return run, nil
}

// ErrNotWaiting says that a stack_run does not wait for an answer: it has ended, or is a body without an open call.
var ErrNotWaiting = errors.New("stack: not waiting for an answer")

// Process has a stack_run that any host may claim claimed now, and returns it
// when it has ended, or as it is when ctx is done. ErrRunNotFound if there is none.
func (p *Processor) Process(ctx context.Context, id uuid.UUID) (StackRun, error) {
	panic("not built yet")
}

// ProcessNext has the oldest row that any host may claim claimed now. ok is
// false if there was none. It does not wait for it.
func (p *Processor) ProcessNext(ctx context.Context) (id uuid.UUID, ok bool, err error) {
	panic("not built yet")
}

// Inject answers a call in place of its service: the caller's body goes on with
// value. id is the call's, or that of a body which waits for exactly one call.
// It returns the id of the body that goes on. ErrRunNotFound if there is no such row,
// [ErrNotWaiting] if it waits for nothing.
func (p *Processor) Inject(ctx context.Context, id uuid.UUID, value json.RawMessage) (body uuid.UUID, err error) {
	panic("not built yet")
}
