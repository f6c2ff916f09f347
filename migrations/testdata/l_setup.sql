create table public.task_functions (
  id uuid primary key default gen_random_uuid(), name text not null unique, description text, code text not null,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table public.stack_runs (
  id uuid primary key default gen_random_uuid(), parent_task_run_id uuid, service_name text not null, method_name text not null,
  args jsonb, vm_state jsonb, status text not null default 'pending', result jsonb, error jsonb,
  created_at timestamptz default now(), updated_at timestamptz default now());
create index stack_runs_status_idx on public.stack_runs (status);
create index stack_runs_created_at_idx on public.stack_runs (created_at);
create table public.task_runs (
  id uuid primary key default gen_random_uuid(), name text not null, args jsonb not null, status text not null default 'queued',
  result jsonb, error jsonb, created_at timestamptz default now(), updated_at timestamptz default now());
create function public.process_stack_run() returns trigger language plpgsql as $$
begin perform http_post('stand-in'); return new; end $$;
create trigger stack_run_inserted_trigger after insert on public.stack_runs
  for each row when (new.status = 'pending') execute function public.process_stack_run();
