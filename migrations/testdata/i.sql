create table public.stack_runs (
  id uuid primary key default gen_random_uuid(), parent_stack_run_id uuid, parent_task_run_id uuid,
  service_name text not null, method_name text not null, args jsonb, method_path text[], status text not null default 'pending',
  created_at timestamptz default now(), updated_at timestamptz default now(),
  result jsonb, error text, vm_state bytea, waiting_on_stack_run_id uuid);
create table public.task_runs (
  id uuid primary key default gen_random_uuid(), task_name text not null, input jsonb, status text not null default 'queued',
  created_at timestamptz default now(), updated_at timestamptz default now(), result jsonb, error text,
  logs text[], vm_logs text[], waiting_on_stack_run_id uuid);
