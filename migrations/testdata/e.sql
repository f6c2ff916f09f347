create or replace function public.uuid_generate_v4() returns uuid language sql as 'select gen_random_uuid()';
create table if not exists public.stack_runs (
  id uuid primary key default public.uuid_generate_v4(), parent_stack_run_id uuid references public.stack_runs (id),
  parent_task_run_id uuid, service_name text not null, method_name text not null, args jsonb not null,
  status text not null default 'pending', created_at timestamptz default now(), updated_at timestamptz default now(),
  result jsonb, error text, vm_state jsonb, resume_payload jsonb,
  waiting_on_stack_run_id uuid references public.stack_runs (id));
create table if not exists public.task_runs (
  id uuid primary key default public.uuid_generate_v4(), task_name text not null, input jsonb,
  status text not null default 'queued', created_at timestamptz default now(), updated_at timestamptz default now(),
  started_at timestamptz, ended_at timestamptz, suspended_at timestamptz, resumed_at timestamptz,
  result jsonb, error jsonb, logs jsonb[], waiting_on_stack_run_id uuid references public.stack_runs (id));
create index if not exists idx_stack_runs_status on public.stack_runs (status);
create index if not exists idx_stack_runs_created_at on public.stack_runs (created_at);
create index if not exists idx_stack_runs_parent_task_run_id on public.stack_runs (parent_task_run_id);
create index if not exists idx_stack_runs_waiting_on_stack_run_id on public.stack_runs (waiting_on_stack_run_id);
create index if not exists idx_task_runs_status on public.task_runs (status);
create index if not exists idx_task_runs_created_at on public.task_runs (created_at);
create index if not exists idx_task_runs_task_name on public.task_runs (task_name);
create function public.notify_stack_processor() returns trigger language plpgsql as $$
begin perform http('stand-in'); return new; end $$;
create trigger stack_run_insert_trigger after insert on public.stack_runs
  for each row when (new.status = 'pending') execute function public.notify_stack_processor();
