-- Calls that are tried again, that have only so much time, and that are called off.

alter table public.stack_runs
  add column if not exists tries          int not null default 0,    -- that failed and were followed by another
  add column if not exists first_sequence bigint not null default 0, -- sequence at which a body began: more than 0 if it began anew
  add column if not exists deadline_at    timestamptz,               -- when its time is over; of a body that was interrupted, the time to tidy up
  add column if not exists interrupt      text,                      -- why a body is to end: cancel or timeout
  add column if not exists interrupted_at timestamptz,               -- since when it knows
  add column if not exists turn_at        timestamptz not null default now(), -- who is older is claimed first, of equal priority
  add column if not exists retold         int;                       -- its place among the replies that a slice is given once more
create index if not exists stack_runs_deadline on public.stack_runs (deadline_at)
  where deadline_at is not null and status not in ('completed', 'failed', 'cancelled');
drop index if exists public.stack_runs_free;
create index if not exists stack_runs_free on public.stack_runs (priority desc, turn_at, created_at)
  where status in ('pending', 'pending_resume', 'pending_execution') and stuck_reason is null;

-- Runs have a key within their task and their owner: nobody finds another's.
alter table public.task_runs add column if not exists idempotency_hash bytea; -- of what was asked for under the key
drop index if exists public.task_runs_idempotency_key;
create unique index if not exists task_runs_idempotency_key on public.task_runs (task_name, coalesce(owner::text, caller_role, ''), idempotency_key)
  where idempotency_key is not null;

-- The tries of a call that failed and were followed by another, and answers that
-- came when nobody waited for them any more. The last try is the row itself.
create table if not exists amber.attempts (
  id           bigint generated always as identity primary key,
  stack_run_id uuid not null,
  attempt      int not null, -- from 1
  started_at   timestamptz,
  ended_at     timestamptz not null default now(),
  error        jsonb,
  next_at      timestamptz, -- when the next one was due
  late         boolean not null default false,
  -- Of one that ended, and that a retry of its run took up again:
  retry        text,   -- again (sent under another key), open (it had no answer yet), resume (from its snapshot), anew
  key          text,   -- the idempotency key that it had
  after_line   bigint, -- lines of amber.logs after this one, up to the next, are written once more
  last_line    bigint
);
alter table amber.attempts enable row level security;
create index if not exists attempts_stack_run_id on amber.attempts (stack_run_id);

-- end_call ends a call, or a body that has not begun, in place of whoever holds it.
-- Its caller has not seen that. The caller of this has the rows of both locked.
create or replace function amber.end_call(call uuid, reason jsonb) returns void language plpgsql as $$
declare
  run uuid;
begin
  update public.stack_runs set status = 'cancelled', error = reason, claimed_by = null, waiting_on_stack_run_id = null,
    stuck_reason = null, ended_at = now(), updated_at = now()
  where id = call and status not in ('completed', 'failed', 'cancelled')
  returning child_task_run_id into run;
  update public.task_runs set status = 'cancelled', error = reason, waiting_on_stack_run_id = null, stuck_reason = null,
    ended_at = now(), updated_at = now()
  where id = run and status not in ('completed', 'failed', 'cancelled');
end $$;

-- some_names adds a name to some that are known, if that makes no long list of it.
create or replace function amber.some_names(names text[], name text) returns text[] language sql immutable as
$$ select case when cardinality(names) < 5 and name <> all(names) then names || name else names end $$;

-- list_of is a sentence of so many, of which those are the names of some.
create or replace function amber.list_of(names text[], n int) returns text language sql immutable as
$$ select array_to_string(names, ', ') || case when n > cardinality(names) then ' and ' || n - cardinality(names) || ' more' else '' end || '.' $$;

-- interrupt tells a body, and those below it, to end: the calls of each are
-- rejected with a reason, and each has so long to tidy up. It returns when the time
-- of this one is over. The caller has the body's row locked, and has seen that it
-- has begun and not ended.
--
-- The innermost come first: a body goes on when those below it have ended, and its
-- own time begins after theirs. One that was told before, since its own time was
-- over, is left to tidy up. One that runs learns of it when it is suspended
-- next: whoever does that calls this again. When it learns of it, its log says so, and
-- what became of its open calls.
create or replace function amber.interrupt(body uuid, why text, reason jsonb, grace interval) returns timestamptz language plpgsql as $$
declare
  over timestamptz := now();
  state text;
  call record;
  below boolean := false;
  ended int := 0;
  asked int := 0;
  calls text[] := '{}'; -- the names of some of those that were called off
  tasks text[] := '{}'; -- and of those that end first
begin
  select status into strict state from public.stack_runs where id = body;
  if state <> 'processing' then
    for call in
      select id, status, interrupt, deadline_at, child_task_run_id is not null or service_name = 'tasks' as is_body, sequence > first_sequence as is_begun,
        case when service_name = 'timer' then 'setTimeout' when method_name = service_name then 'tools.' || service_name
          else coalesce((select t.task_name from public.task_runs t where t.id = child_task_run_id), 'tools.' || service_name || '.' || method_name, '?') end as name
      from public.stack_runs
      where parent_stack_run_id = body and status not in ('completed', 'failed', 'cancelled')
      order by call_id for update
    loop
      if call.interrupt is not null then
        over := greatest(over, call.deadline_at);
        below := true;
        asked := asked + 1;
        tasks := amber.some_names(tasks, call.name);
      elsif call.is_body and (call.is_begun or call.status = 'processing') then
        over := greatest(over, amber.interrupt(call.id, why, reason, grace));
        below := true;
        asked := asked + 1;
        tasks := amber.some_names(tasks, call.name);
      else
        perform amber.end_call(call.id, reason);
        ended := ended + 1;
        calls := amber.some_names(calls, call.name);
      end if;
    end loop;
    insert into amber.logs (task_run_id, stack_run_id, at, level, message)
    select s.child_task_run_id, body, clock_timestamp(), case why when 'timeout' then 'warn' else 'info' end, (reason->>'message')
      || case when ended > 0 then ' Its open calls were called off: ' || amber.list_of(calls, ended) else '' end
      || case when asked > 0 then ' These end first: ' || amber.list_of(tasks, asked) else '' end
      || case when asked > 0 then ' Then it has ' else ' It has ' end || trim_scale(extract(epoch from grace)) || ' s to tidy up.'
    from public.stack_runs s where s.id = body and s.child_task_run_id is not null;
  end if;
  update public.stack_runs set interrupt = why, interrupted_at = case when state <> 'processing' then now() end,
    cancel_requested_at = case when why = 'cancel' then coalesce(cancel_requested_at, now()) else cancel_requested_at end,
    deadline_at = over + grace, updated_at = now(),
    status = case when state = 'suspended_waiting_child' and not below then 'pending_resume' else state end
  where id = body;
  return over + grace;
end $$;

-- What a body that failed leaves, besides its snapshot, so that its run can be
-- retried: for as long as no committed slice of its caller has seen that it failed.
create table if not exists amber.failures (
  stack_run_id uuid primary key,
  caller       uuid,            -- the body that called it
  seen         uuid[] not null, -- calls whose replies its last slice was given, in that order
  open         uuid[] not null, -- calls that had no reply then, and were cancelled
  unsent       uuid[] not null, -- calls that its last slice made, and that were never sent
  line         bigint not null  -- of amber.logs: the run's last one before those of that slice
);
alter table amber.failures enable row level security;
create index if not exists failures_caller on amber.failures (caller) where caller is not null;

-- forget_bodies removes what was kept of bodies that will not go on, and of those that
-- failed below them.
create or replace function amber.forget_bodies(bodies uuid[]) returns void language plpgsql as $$
begin
  while cardinality(bodies) > 0 loop
    delete from amber.snapshots n where n.stack_run_id = any(bodies);
    delete from amber.failures f where f.stack_run_id = any(bodies);
    bodies := array(select f.stack_run_id from amber.failures f where f.caller = any(bodies));
  end loop;
end $$;

-- As it was, but for what is kept of bodies that failed.
create or replace function amber.cancel_below(body uuid, reason jsonb) returns void
language plpgsql as $$
declare
  level uuid[] := array[body];
begin
  loop
    with calls as (
      update public.stack_runs s set status = 'cancelled', error = reason, delivered = true, claimed_by = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      where s.parent_stack_run_id = any(level) and s.status not in ('completed', 'failed', 'cancelled')
      returning s.id, s.child_task_run_id
    ), runs as (
      update public.task_runs t set status = 'cancelled', error = reason, waiting_on_stack_run_id = null,
        stuck_reason = null, ended_at = now(), updated_at = now()
      where t.id = any(array(select child_task_run_id from calls)) and t.status not in ('completed', 'failed', 'cancelled')
    )
    select array_agg(id) into level from calls;
    exit when level is null;
    perform amber.forget_bodies(level);
  end loop;
end $$;

revoke execute on function amber.end_call(uuid, jsonb), amber.interrupt(uuid, text, jsonb, interval),
  amber.forget_bodies(uuid[]), amber.cancel_below(uuid, jsonb), amber.some_names(text[], text), amber.list_of(text[], int) from public;

create or replace function amber.delete_stack_run_parts() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from gone) then
    return null;
  end if;
  delete from amber.snapshots s using gone g where s.stack_run_id = g.id;
  delete from amber.replies r using gone g where r.stack_run_id = g.id;
  delete from amber.attempts a using gone g where a.stack_run_id = g.id;
  delete from amber.failures f using gone g where f.stack_run_id = g.id;
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
