package stack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Recorded returns what a run was started with, to start another like it: its task, or
// the code that it brought along, the exact input, on whose behalf, its priority, and
// how much time it was given. ErrRunNotFound if there is none.
func (s *Store) Recorded(ctx context.Context, run uuid.UUID) (p StartParams, err error) {
	var left *float64
	err = s.pool.QueryRow(ctx, `/* Recorded: run */
		select t.task_name, coalesce(t.input, 'null'), coalesce(t.owner::text, ''), coalesce(t.caller_role, ''), t.caller_claims, t.priority,
			case when b.parent_stack_run_id is null then extract(epoch from t.deadline_at - greatest(t.created_at,
				(select max(a.next_at) from amber.attempts a where a.stack_run_id = b.id and a.retry is not null)))::float8 end
		from public.task_runs t left join public.stack_runs b on b.child_task_run_id = t.id where t.id = @run`,
		namedArgs{"run": run}).Scan(&p.Task, &p.Input, &p.Caller.Owner, &p.Caller.Role, &p.Caller.Claims, &p.Priority, &left)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, ErrRunNotFound
	}
	if err != nil {
		return p, fmt.Errorf("load run: %w", err)
	}
	if left != nil {
		p.Timeout = time.Duration(*left * float64(time.Second)).Round(time.Millisecond)
	}
	p.Priority = min(max(p.Priority, -maxPriority), maxPriority)
	rows, err := s.pool.Query(ctx, `/* Recorded: body */ select `+claimedColumns+` from public.stack_runs s where child_task_run_id = @run`, namedArgs{"run": run})
	if err != nil {
		return p, fmt.Errorf("load body: %w", err)
	}
	body, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[claimed])
	if errors.Is(err, pgx.ErrNoRows) { // the columns are all there is
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("load body: %w", err)
	}
	asked, exact, err := s.asked(ctx, body)
	if err != nil || !exact {
		return p, err
	}
	p.Code = asked.Code
	name, input, refused := executeArgs(asked.Call)
	if refused == nil {
		p.Task, p.Input = name, input
	}
	return p, nil
}

// Rerun starts another run with what a run was started with: see [Store.Recorded].
func (p *Processor) Rerun(ctx context.Context, run uuid.UUID) (Run, error) {
	r, err := p.cfg.Store.Run(ctx, run)
	if err != nil {
		return r, err
	}
	params, err := p.cfg.Store.Recorded(ctx, r.ID)
	if err != nil {
		return r, err
	}
	return p.Start(ctx, params)
}
