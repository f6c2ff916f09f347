create table if not exists public.task_runs (
  id uuid primary key default gen_random_uuid(), task_function_id uuid, task_name text not null, input jsonb,
  status text not null default 'queued', result jsonb, error jsonb, logs jsonb, aggregated_results jsonb,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  started_at timestamptz, ended_at timestamptz);
create table public.stack_runs (
  id uuid primary key default gen_random_uuid(), parent_run_id uuid, module_name text not null, method_name text not null,
  args jsonb, status text not null default 'pending', result jsonb, error jsonb, vm_state jsonb, resume_payload jsonb,
  child_stack_run_id uuid, created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  started_at timestamptz, ended_at timestamptz);
create index if not exists idx_task_runs_status on public.task_runs (status);
create index if not exists idx_task_runs_task_name on public.task_runs (task_name);
create index if not exists idx_task_runs_created_at on public.task_runs (created_at);
create index idx_stack_runs_status on public.stack_runs (status);
create index idx_stack_runs_parent_run_id on public.stack_runs (parent_run_id);
create index idx_stack_runs_created_at on public.stack_runs (created_at);
create index idx_stack_runs_module_method on public.stack_runs (module_name, method_name);
create function public.process_completed_stack_run() returns trigger language plpgsql as $$
begin perform http_post('stand-in'); return new; end $$;
create trigger trigger_process_completed_stack_run after update on public.stack_runs
  for each row execute function public.process_completed_stack_run();
create function public.process_pending_stack_run() returns trigger language plpgsql as $$
begin perform http_post('stand-in'); return new; end $$;
create trigger trigger_process_pending_stack_run after insert on public.stack_runs
  for each row execute function public.process_pending_stack_run();
