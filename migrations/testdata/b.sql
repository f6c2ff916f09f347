create table if not exists public.task_runs (
  id uuid primary key default gen_random_uuid(), task_function_id uuid, task_name text not null, input jsonb,
  status text not null default 'queued', result jsonb, error jsonb, log_entries jsonb,
  parent_run_id uuid references public.task_runs (id),
  created_at timestamptz default now(), updated_at timestamptz default now(),
  started_at timestamptz, ended_at timestamptz, waiting_on_stack_run_id uuid);
create table if not exists public.stack_runs (
  id uuid primary key default gen_random_uuid(),
  parent_stack_run_id uuid references public.stack_runs (id) on delete set null deferrable initially deferred,
  parent_task_run_id uuid references public.task_runs (id) on delete cascade,
  service_name text not null, method_name text not null, args jsonb, resume_payload jsonb,
  status text not null default 'pending_execution', result jsonb, error jsonb, vm_state jsonb, call_site_id text,
  created_at timestamptz default now(), updated_at timestamptz default now(), started_at timestamptz, ended_at timestamptz);
create table if not exists public.keystore (
  id uuid primary key default gen_random_uuid(), scope text not null, key_name text not null, key_value text not null,
  created_at timestamptz default now(), updated_at timestamptz default now(), unique (scope, key_name));

create index if not exists idx_task_runs_status on public.task_runs (status);
create index if not exists idx_task_runs_created_at on public.task_runs (created_at);
create index if not exists idx_stack_runs_status on public.stack_runs (status);
create index if not exists idx_stack_runs_created_at on public.stack_runs (created_at);

create function public.process_next_stack_run() returns trigger language plpgsql security definer as $$
begin perform extensions.http_post('stand-in'); return new; end $$;
create trigger tr_process_stack_run after insert or update of status on public.stack_runs
  for each row when (new.status = 'pending_execution') execute function public.process_next_stack_run();

alter table public.task_runs enable row level security;
alter table public.stack_runs enable row level security;
alter table public.keystore enable row level security;
create policy "Service role can do all on task_runs" on public.task_runs to service_role using (true);
create policy "Service role can do all on stack_runs" on public.stack_runs to service_role using (true);
create policy "Service role can do all on keystore" on public.keystore to service_role using (true);
