package stack

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Adopt gives runs that somebody else inserted as queued, without a body, a
// body that any host may claim. A client that inserts run and body in two
// requests has a second between them.
func (s *Store) Adopt(ctx context.Context, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, `/* Adopt */
		with orphans as (
			select id, task_name, input from public.task_runs t
			where status = 'queued' and created_at < now() - interval '1 second'
				and (scheduled_for is null or scheduled_for <= now())
				and not exists (select from public.stack_runs s where s.child_task_run_id = t.id)
				and not exists (select from public.stack_runs s where s.parent_task_run_id = t.id and s.parent_stack_run_id is null)
			order by created_at limit @limit for update skip locked
		), runs as (
			update public.task_runs t set status = 'processing', updated_at = now() from orphans where t.id = orphans.id
			returning t.id, t.task_name, t.input
		)
		insert into public.stack_runs (parent_task_run_id, parent_run_id, child_task_run_id, service_name, module_name,
			method_name, args)
		select id, id, id, 'tasks', 'tasks', 'execute', jsonb_build_array(task_name, input) from runs`,
		pgx.StrictNamedArgs{"limit": limit})
	if err != nil {
		return 0, fmt.Errorf("adopt queued runs: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
