package stack

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Adopt gives runs that somebody else inserted as queued, without a body, a
// body that any host may claim, and returns how many. A client that inserts run
// and body in two requests has a second between them. It looks at up to limit
// queued runs, oldest first, from those on at which the last call ended: most have
// a body that waits to be claimed.
func (s *Store) Adopt(ctx context.Context, limit int) (adopted int, err error) {
	s.rounds.adopt.Lock()
	defer s.rounds.adopt.Unlock()
	from := &s.rounds.adopt.unbegun
	var looked int
	var last unbegun
	err = s.pool.QueryRow(ctx, `/* Adopt */
		with queued as (
			select id, greatest(created_at, scheduled_for) as since from public.task_runs
			where status = 'queued' and stuck_reason is null
				and greatest(created_at, scheduled_for) < now() - interval '1 second' and (greatest(created_at, scheduled_for), id) > (@since, @id)
			order by greatest(created_at, scheduled_for), id limit @limit
		), orphans as (
			select id from public.task_runs t
			where id = any(array(select id from queued)) and status = 'queued'
				and not exists (select from public.stack_runs s where s.child_task_run_id = t.id)
				and not exists (select from public.stack_runs s where s.parent_task_run_id = t.id and s.parent_stack_run_id is null)
			order by created_at for update skip locked
		), runs as (
			update public.task_runs t set status = 'processing', updated_at = now() from orphans where t.id = orphans.id
			returning t.id, t.task_name, t.input, t.priority, t.deadline_at
		), bodies as (
			insert into public.stack_runs (parent_task_run_id, parent_run_id, child_task_run_id, service_name, module_name,
				method_name, args, priority, deadline_at)
			select id, id, id, 'tasks', 'tasks', 'execute', jsonb_build_array(task_name, input),
				least(greatest(priority, -@most::int), @most::int), deadline_at from runs
			returning id
		), last as (
			select since, id from queued order by since desc, id desc limit 1
		)
		select (select count(*) from bodies), (select count(*) from queued), coalesce((select since from last), @since), coalesce((select id from last), @id)`,
		namedArgs{"limit": limit, "since": from.since, "id": from.id, "most": maxPriority}).Scan(&adopted, &looked, &last.since, &last.id)
	if err != nil {
		return 0, fmt.Errorf("adopt queued runs: %w", err)
	}
	if looked < limit {
		last = unbegun{}
	}
	*from = last
	return adopted, nil
}

// unbegun is a place in the order of queued runs.
type unbegun struct {
	since time.Time
	id    uuid.UUID
}
