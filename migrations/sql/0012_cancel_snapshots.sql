-- cancel_below as it was, but for snapshots: a statement does not see those that a
-- body wrote while it waited for that body's row. So the body's row first, and in a
-- statement of its own what hangs on it.
create or replace function amber.cancel_below(body uuid, reason jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  level uuid[] := array[body];
begin
  loop
    with calls as (
      update public.stack_runs s set status = 'cancelled', error = reason, delivered = true, claimed_by = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      where s.parent_stack_run_id = any(level) and s.status not in ('completed', 'failed', 'cancelled')
      returning s.id, s.child_task_run_id
    ), runs as (
      update public.task_runs t set status = 'cancelled', error = reason, waiting_on_stack_run_id = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      from calls where t.id = calls.child_task_run_id and t.status not in ('completed', 'failed', 'cancelled')
    )
    select array_agg(id) into level from calls;
    exit when level is null;
    delete from amber.snapshots n where n.stack_run_id = any(level);
  end loop;
end $$;

-- A body that has ended needs none.
delete from amber.snapshots n using public.stack_runs s
where s.id = n.stack_run_id and s.status in ('completed', 'failed', 'cancelled');
