create table if not exists public.stack_runs (
  id uuid primary key, parent_task_run_id uuid references public.task_runs (id) on delete cascade,
  parent_stack_run_id uuid references public.stack_runs (id) on delete cascade,
  service_name text not null, method_name text not null, args jsonb, status text not null default 'pending',
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  result jsonb, error jsonb, vm_state jsonb);
create index if not exists stack_runs_status_idx on public.stack_runs (status);
create index if not exists stack_runs_created_at_idx on public.stack_runs (created_at);
create index if not exists stack_runs_parent_task_run_id_idx on public.stack_runs (parent_task_run_id);
create index if not exists stack_runs_parent_stack_run_id_idx on public.stack_runs (parent_stack_run_id);
alter table public.stack_runs enable row level security;
create policy stack_runs_service_role_policy on public.stack_runs using (true) with check (true);

alter table public.stack_runs add column if not exists waiting_on_stack_run_id uuid references public.stack_runs (id) on delete set null;
create index if not exists stack_runs_waiting_on_stack_run_id_idx on public.stack_runs (waiting_on_stack_run_id);
alter table public.task_runs add column if not exists suspended_at timestamptz;
alter table public.task_runs add column if not exists waiting_on_stack_run_id uuid references public.stack_runs (id);
alter table public.stack_runs add column if not exists resume_payload jsonb;
