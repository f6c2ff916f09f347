create or replace function public.uuid_generate_v4() returns uuid language sql as 'select gen_random_uuid()';
create or replace function public.update_updated_at_column() returns trigger language plpgsql as $$
begin new.updated_at = now(); return new; end $$;

create table if not exists public.task_functions (
  id uuid primary key default public.uuid_generate_v4(), name text not null unique, code text not null,
  schema jsonb, description text, version text default 'latest',
  created_at timestamptz default now() not null, updated_at timestamptz default now() not null);
create table if not exists public.task_runs (
  id uuid primary key default public.uuid_generate_v4(),
  task_function_id uuid references public.task_functions (id) on delete set null,
  task_name text not null, input jsonb, status text not null default 'queued', result jsonb, error jsonb,
  created_at timestamptz default now() not null, updated_at timestamptz default now() not null,
  started_at timestamptz, ended_at timestamptz);
create table if not exists public.keystore (
  id uuid primary key default public.uuid_generate_v4(),
  name text not null, value text not null, scope text not null,
  created_at timestamptz default now() not null, updated_at timestamptz default now() not null, unique (scope, name));

create trigger trigger_update_task_functions_updated_at before update on public.task_functions
  for each row execute function public.update_updated_at_column();
create trigger trigger_update_task_runs_updated_at before update on public.task_runs
  for each row execute function public.update_updated_at_column();
create trigger trigger_update_keystore_updated_at before update on public.keystore
  for each row execute function public.update_updated_at_column();

alter table public.task_functions enable row level security;
alter table public.task_runs enable row level security;
alter table public.keystore enable row level security;
create policy "Allow full access to service_role on task_functions" on public.task_functions
  using (auth.role() = 'service_role') with check (auth.role() = 'service_role');
create policy "Allow anon read access to task_functions" on public.task_functions for select to anon using (true);
create policy "Allow full access to service_role on task_runs" on public.task_runs
  using (auth.role() = 'service_role') with check (auth.role() = 'service_role');
create policy "Allow full access to service_role on keystore" on public.keystore
  using (auth.role() = 'service_role') with check (auth.role() = 'service_role');

create index idx_task_functions_name on public.task_functions (name);
create index idx_task_runs_status on public.task_runs (status);
create index idx_task_runs_created_at on public.task_runs (created_at);
create index idx_keystore_scope_name on public.keystore (scope, name);
