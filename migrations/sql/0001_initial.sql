-- The tables that clients of the original system know (schema public, the union
-- of what its generations read and wrote), and amber's own (schema amber).
-- Public jsonb columns are views for clients; the bytes a task sees are kept in
-- amber.replies.

create schema if not exists amber;

create table if not exists public.task_functions (
  id          uuid primary key default gen_random_uuid(),
  name        text not null unique,
  code        text not null,
  description text,
  schema      jsonb,
  version     text default 'latest',
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now()
);

create table if not exists public.task_runs (
  id                      uuid primary key default gen_random_uuid(),
  task_function_id        uuid references public.task_functions (id) on delete set null,
  task_name               text not null,
  input                   jsonb,
  status                  text not null default 'queued',
  result                  jsonb,
  error                   jsonb,
  logs                    jsonb,
  vm_logs                 jsonb,
  log_entries             jsonb,
  aggregated_results      jsonb,
  parent_run_id           uuid,
  waiting_on_stack_run_id uuid,
  -- who started it: inherited by nested runs
  owner                   uuid,
  caller_role             text,
  caller_claims           jsonb,
  idempotency_key         text,
  priority                int not null default 0,
  attempt                 int not null default 0,
  scheduled_for           timestamptz,
  deadline_at             timestamptz,
  cancel_requested_at     timestamptz,
  stuck_reason            text,
  suspended_at            timestamptz,
  resumed_at              timestamptz,
  started_at              timestamptz,
  ended_at                timestamptz,
  created_at              timestamptz not null default now(),
  updated_at              timestamptz not null default now()
) with (fillfactor = 70);

-- One row per call or task body. A nested execution is one row, both call and
-- body: parent_task_run_id is the caller's run, child_task_run_id the callee's.
create table if not exists public.stack_runs (
  id                      uuid primary key default gen_random_uuid(),
  parent_task_run_id      uuid,
  parent_stack_run_id     uuid,
  parent_run_id           uuid, -- mirror of parent_task_run_id for old readers
  child_task_run_id       uuid,
  child_stack_run_id      uuid,
  service_name            text not null,
  method_name             text not null,
  method_path             jsonb,
  module_name             text, -- mirror of service_name for old readers
  args                    jsonb default '[]',
  status                  text not null default 'pending',
  vm_state                jsonb,
  resume_payload          jsonb,
  result                  jsonb,
  error                   jsonb,
  logs                    jsonb,
  waiting_on_stack_run_id uuid,
  call_site_id            text,
  -- the engine's own
  call_id                 bigint,                  -- number of the call within its caller's body
  sequence                bigint not null default 0, -- snapshots taken of this body
  delivered               boolean not null default false, -- a caller's committed slice has seen the reply
  claimed_by              uuid,                    -- amber.hosts.id while status is processing
  due_at                  timestamptz,             -- when status is sleeping
  attempt                 int not null default 0,
  idempotency_key         text,
  engine                  text,                    -- identity of the engine that can resume this body
  priority                int not null default 0,
  cancel_requested_at     timestamptz,
  stuck_reason            text,
  started_at              timestamptz,
  ended_at                timestamptz,
  created_at              timestamptz not null default now(),
  updated_at              timestamptz not null default now()
) with (fillfactor = 70);

create table if not exists public.keystore (
  id          uuid primary key default gen_random_uuid(),
  scope       text not null default 'global',
  name        text not null,
  value       text not null,
  key_name    text,
  key_value   text,
  description text,
  created_at  timestamptz not null default now(),
  updated_at  timestamptz not null default now(),
  unique (scope, name)
);

create table if not exists public.config_parameters (
  name  text primary key,
  value text
);

create table if not exists public.task_locks (
  id          uuid primary key default gen_random_uuid(),
  task_run_id uuid unique references public.task_runs (id) on delete cascade,
  locked_at   timestamptz default now(),
  locked_by   text,
  created_at  timestamptz not null default now()
);

-- A host incarnation and its one lease for everything it holds.
create table amber.hosts (
  id         uuid primary key,
  name       text not null,
  engine     text not null,
  started_at timestamptz not null default now(),
  expires_at timestamptz not null
) with (fillfactor = 50);

-- The memory of a booted engine; snapshots are deltas against one.
create table amber.images (
  digest     bytea primary key,
  engine     text not null,
  data       bytea not null,
  created_at timestamptz not null default now()
);
alter table amber.images alter column data set storage external;

-- The latest snapshot of each waiting body. Header fields are columns so that
-- operators can see them; data is the whole snapshot, header included.
create table amber.snapshots (
  stack_run_id uuid primary key,
  version      smallint not null,
  codec        smallint not null,
  engine       bytea not null,
  image        bytea not null,
  sequence     bigint not null,
  key_id       text not null,
  size         bigint not null, -- bytes of VM memory
  data         bytea not null,
  updated_at   timestamptz not null default now()
) with (fillfactor = 70);
alter table amber.snapshots alter column data set storage external;

-- The keys that rows here are sealed with, each with a sealed sample: a host
-- that lacks one, or has another under its id, refuses to start.
create table amber.keys (
  id         text primary key,
  sample     bytea not null,
  created_at timestamptz not null default now()
);

-- Exact bytes of what a call was asked ('request') and answered ('reply'), and
-- of a run's input ('request' of its root body), encrypted.
create table amber.replies (
  stack_run_id uuid not null,
  kind         text not null check (kind in ('request', 'reply')),
  key_id       text not null,
  data         bytea not null,
  created_at   timestamptz not null default now(),
  primary key (stack_run_id, kind)
);
alter table amber.replies alter column data set storage external;

create table amber.logs (
  id           bigint generated always as identity primary key,
  task_run_id  uuid not null,
  stack_run_id uuid,
  at           timestamptz not null,
  level        text not null,
  message      text not null
);

create index if not exists task_runs_parent_run_id on public.task_runs (parent_run_id) where parent_run_id is not null;
create index if not exists task_runs_queued on public.task_runs (created_at) where status = 'queued';
create index if not exists task_runs_created_at on public.task_runs (created_at desc);
create unique index if not exists task_runs_idempotency_key on public.task_runs (task_name, idempotency_key) where idempotency_key is not null;
create index if not exists stack_runs_parent_stack_run_id on public.stack_runs (parent_stack_run_id) where parent_stack_run_id is not null;
create index if not exists stack_runs_parent_task_run_id on public.stack_runs (parent_task_run_id);
create index if not exists stack_runs_child_task_run_id on public.stack_runs (child_task_run_id) where child_task_run_id is not null;
create index if not exists stack_runs_claimable on public.stack_runs (priority desc, created_at) where status in ('pending', 'pending_resume', 'pending_execution');
create index if not exists stack_runs_sleeping on public.stack_runs (due_at) where status = 'sleeping';
create index if not exists stack_runs_undelivered on public.stack_runs (parent_stack_run_id)
  where not delivered and call_id is not null and status in ('completed', 'failed', 'cancelled');
create index if not exists stack_runs_claimed on public.stack_runs (claimed_by) where status = 'processing';
create index logs_task_run_id on amber.logs (task_run_id, id);

-- updated_at moves when a writer did not set it.
create function amber.touch_updated_at() returns trigger language plpgsql set search_path = '' as $$
begin
  new.updated_at := now();
  return new;
end $$;
create trigger amber_touch before update on public.task_functions for each row
  when (new.updated_at is not distinct from old.updated_at) execute function amber.touch_updated_at();
create trigger amber_touch before update on public.task_runs for each row
  when (new.updated_at is not distinct from old.updated_at) execute function amber.touch_updated_at();
create trigger amber_touch before update on public.stack_runs for each row
  when (new.updated_at is not distinct from old.updated_at) execute function amber.touch_updated_at();
create trigger amber_touch before update on public.keystore for each row
  when (new.updated_at is not distinct from old.updated_at) execute function amber.touch_updated_at();

-- keystore has two spellings of the same two columns; whichever a writer sets wins.
create function amber.sync_keystore() returns trigger language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then
    new.name := coalesce(new.name, new.key_name);
    new.value := coalesce(new.value, new.key_value);
  else
    if new.key_name is distinct from old.key_name and new.name is not distinct from old.name then
      new.name := new.key_name;
    end if;
    if new.key_value is distinct from old.key_value and new.value is not distinct from old.value then
      new.value := new.key_value;
    end if;
  end if;
  new.key_name := new.name;
  new.key_value := new.value;
  return new;
end $$;
create trigger amber_sync before insert or update on public.keystore for each row execute function amber.sync_keystore();

-- Wakes: rows that others insert or reset. The engine's own rows are born
-- held, so they never match. Two triggers a table: an insert trigger's WHEN
-- cannot see OLD.
create function amber.wake() returns trigger language plpgsql set search_path = '' as $$
begin
  perform pg_notify('amber_wake', tg_table_name || ':' || new.id);
  return null;
end $$;
create trigger amber_wake_insert after insert on public.stack_runs for each row
  when (new.status in ('pending', 'pending_resume', 'pending_execution')) execute function amber.wake();
create trigger amber_wake_update after update of status on public.stack_runs for each row
  when (old.status is distinct from new.status and new.status in ('pending', 'pending_resume', 'pending_execution'))
  execute function amber.wake();
create trigger amber_wake_insert after insert on public.task_runs for each row
  when (new.status = 'queued') execute function amber.wake();
create trigger amber_wake_update after update of status on public.task_runs for each row
  when (old.status is distinct from new.status and new.status = 'queued') execute function amber.wake();

-- Deleting a run removes all that hangs on it. Triggers instead of foreign
-- keys: the hot path inserts into these tables and pays for every key check.
create function amber.delete_run_parts() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  -- A statement's trigger fires for no rows too; without this it would never end.
  if not exists (select from gone) then
    return null;
  end if;
  delete from public.stack_runs s using gone g where s.parent_task_run_id = g.id;
  -- A caller that outlives its nested run keeps the call: if it waits for it,
  -- it gets an error instead of waiting for ever.
  delete from amber.snapshots n using public.stack_runs s, gone g
  where n.stack_run_id = s.id and s.child_task_run_id = g.id;
  update public.stack_runs s set status = 'failed', claimed_by = null, ended_at = now(), updated_at = now(),
    error = '{"code": "RUN_DELETED", "message": "The run of this nested task was deleted."}'
  from gone g
  where s.child_task_run_id = g.id and s.status not in ('completed', 'failed', 'cancelled');
  delete from public.stack_runs s using gone g
  where s.child_task_run_id = g.id and not exists (select from public.stack_runs p where p.id = s.parent_stack_run_id);
  delete from amber.logs l using gone g where l.task_run_id = g.id;
  with recursive nested as (
    select t.id from public.task_runs t join gone g on t.parent_run_id = g.id
    union
    select t.id from public.task_runs t join nested n on t.parent_run_id = n.id
  )
  delete from public.task_runs t using nested n where t.id = n.id;
  return null;
end $$;
create trigger amber_delete after delete on public.task_runs referencing old table as gone
  for each statement execute function amber.delete_run_parts();

create function amber.delete_stack_run_parts() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from gone) then
    return null;
  end if;
  delete from amber.snapshots s using gone g where s.stack_run_id = g.id;
  delete from amber.replies r using gone g where r.stack_run_id = g.id;
  -- A body that waits for a call without a row would wait for ever: say so.
  with waiting as (
    update public.stack_runs p set stuck_reason = 'The row of a call that it waits for was deleted.', updated_at = now()
    from gone g
    where p.id = g.parent_stack_run_id and g.call_id is not null and not g.delivered
      and p.status = 'suspended_waiting_child'
    returning p.child_task_run_id
  )
  update public.task_runs t set stuck_reason = 'The row of a call that it waits for was deleted.', updated_at = now()
  from waiting w where t.id = w.child_task_run_id;
  -- A run without its body cannot go on, nor can what its body called.
  update public.task_runs t set status = 'failed', ended_at = now(), updated_at = now(),
    error = '{"code": "RUN_DELETED", "message": "The stack_run that is the body of this run was deleted."}'
  from gone g
  where t.id = g.child_task_run_id and t.status not in ('completed', 'failed', 'cancelled');
  delete from public.stack_runs s using gone g where s.parent_stack_run_id = g.id;
  return null;
end $$;
create trigger amber_delete after delete on public.stack_runs referencing old table as gone
  for each statement execute function amber.delete_stack_run_parts();

-- Who may see what: anon reads task_functions and nothing else; a signed-in
-- user also reads the runs that are theirs; service_role everything public;
-- schema amber is the engine's alone.
alter table public.task_functions enable row level security;
alter table public.task_runs enable row level security;
alter table public.stack_runs enable row level security;
alter table public.keystore enable row level security;
alter table public.config_parameters enable row level security;
alter table public.task_locks enable row level security;
alter table amber.hosts enable row level security;
alter table amber.images enable row level security;
alter table amber.keys enable row level security;
alter table amber.snapshots enable row level security;
alter table amber.replies enable row level security;
alter table amber.logs enable row level security;

revoke all on schema amber from public;
revoke execute on all functions in schema amber from public;

do $$
declare
  t text;
begin
  if to_regrole('service_role') is not null then
    foreach t in array array['task_functions', 'task_runs', 'stack_runs', 'keystore', 'config_parameters', 'task_locks'] loop
      execute format('grant all on public.%I to service_role', t);
      execute format('drop policy if exists amber_service_role on public.%I', t);
      execute format('create policy amber_service_role on public.%I to service_role using (true) with check (true)', t);
    end loop;
  end if;
  if to_regrole('anon') is not null then
    revoke all on public.task_functions, public.task_runs, public.stack_runs, public.keystore, public.config_parameters, public.task_locks from anon;
    grant select on public.task_functions to anon;
    drop policy if exists amber_anon_read on public.task_functions;
    create policy amber_anon_read on public.task_functions for select to anon using (true);
  end if;
  if to_regrole('authenticated') is not null then
    revoke all on public.task_functions, public.task_runs, public.stack_runs, public.keystore, public.config_parameters, public.task_locks from authenticated;
    grant select on public.task_functions, public.task_runs to authenticated;
    drop policy if exists amber_authenticated_read on public.task_functions;
    create policy amber_authenticated_read on public.task_functions for select to authenticated using (true);
    drop policy if exists amber_own_runs on public.task_runs;
    create policy amber_own_runs on public.task_runs for select to authenticated
      -- As text: a sub that is not a uuid owns nothing, which is no error.
      using (owner::text = (select lower(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')));
  end if;
  if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
    foreach t in array array['task_runs', 'stack_runs'] loop
      if not exists (select from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = t) then
        execute format('alter publication supabase_realtime add table public.%I', t);
      end if;
    end loop;
  end if;
end $$;

notify pgrst, 'reload schema';
