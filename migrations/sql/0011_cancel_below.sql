-- cancel_below cancels every call below a body that has not ended, and the runs of
-- those that are bodies. The caller has the body's row locked. It goes down level
-- by level: whoever ends a call, or makes new ones, has the row of the body above
-- locked, so that what a level has is settled once the rows above it are held.
-- It has the caller's search_path: so have the triggers that others put on these
-- tables.
create or replace function amber.cancel_below(body uuid, reason jsonb) returns void
language plpgsql as $$
declare
  level uuid[] := array[body];
begin
  while level is not null loop
    with calls as (
      update public.stack_runs s set status = 'cancelled', error = reason, delivered = true, claimed_by = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      where s.parent_stack_run_id = any(level) and s.status not in ('completed', 'failed', 'cancelled')
      returning s.id, s.child_task_run_id
    ), snapshots as (
      delete from amber.snapshots n using calls where n.stack_run_id = calls.id
    ), runs as (
      update public.task_runs t set status = 'cancelled', error = reason, waiting_on_stack_run_id = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      from calls where t.id = calls.child_task_run_id and t.status not in ('completed', 'failed', 'cancelled')
    )
    select array_agg(id) into level from calls;
  end loop;
end $$;
revoke execute on function amber.cancel_below(uuid, jsonb) from public;
