-- What waits costs nothing, however much it is: what hosts look for every second
-- has indexes that have nothing else in them.

-- Rows that a host may claim, without those that are stuck. Those that the next
-- host lets try again, by engine, are apart.
create index if not exists stack_runs_free on public.stack_runs (priority desc, created_at)
  where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is null;
create index if not exists stack_runs_stuck on public.stack_runs (coalesce(engine, ''))
  where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is not null and stuck_key is null;
drop index if exists public.stack_runs_claimable;

-- Runs that may lack a body, from the moment from which they may have one.
create index if not exists task_runs_unbegun on public.task_runs (greatest(created_at, scheduled_for), id)
  where status = 'queued' and stuck_reason is null;
drop index if exists public.task_runs_queued;

-- One call of a body that has made thousands.
create index if not exists stack_runs_parent_call on public.stack_runs (parent_stack_run_id, call_id)
  where parent_stack_run_id is not null;
drop index if exists public.stack_runs_parent_stack_run_id;

-- Whether a key frame needs an image.
create index if not exists snapshots_image on amber.snapshots (image);

-- As before, but that what hangs on the calls is looked up and not joined: what
-- the planner takes for many calls made it read the whole table.
create or replace function amber.cancel_below(body uuid, reason jsonb) returns void
language plpgsql set search_path = '' as $$
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
      delete from amber.snapshots n where n.stack_run_id = any(array(select id from calls))
    ), runs as (
      update public.task_runs t set status = 'cancelled', error = reason, waiting_on_stack_run_id = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      where t.id = any(array(select child_task_run_id from calls)) and t.status not in ('completed', 'failed', 'cancelled')
    )
    select array_agg(id) into level from calls;
  end loop;
end $$;
