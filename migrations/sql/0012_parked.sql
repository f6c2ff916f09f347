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
