-- cancel_below cancels every call below a body that has not ended, and the runs of
-- those that are bodies. The caller has the body's row locked. It goes down level
-- by level: whoever ends a call, or makes new ones, has the row of the body above
-- locked, so that what a level has is settled once the rows above it are held.
-- Snapshots come in a statement of their own: that of the rows does not see those
-- which a body wrote while it waited for that body's row. What hangs on the rows is
-- looked up and not joined: what the planner takes for many rows made it read whole
-- tables. It has the caller's search_path: so have the triggers that others put on
-- these tables.
create or replace function amber.cancel_below(body uuid, reason jsonb) returns void
language plpgsql as $$
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
      where t.id = any(array(select child_task_run_id from calls)) and t.status not in ('completed', 'failed', 'cancelled')
    )
    select array_agg(id) into level from calls;
    exit when level is null;
    delete from amber.snapshots n where n.stack_run_id = any(level);
  end loop;
end $$;
revoke execute on function amber.cancel_below(uuid, jsonb) from public;

-- A body that has ended needs no snapshot.
delete from amber.snapshots n using public.stack_runs s
where s.id = n.stack_run_id and s.status in ('completed', 'failed', 'cancelled');
