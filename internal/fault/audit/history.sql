-- Every committed change of a row, appended by the transaction that makes it.
create schema fault;

create table fault.history (
  id            bigint generated always as identity primary key,
  txid          xid8 not null default pg_current_xact_id(),
  at            timestamptz not null default clock_timestamp(),
  backend       int not null default pg_backend_pid(),
  source        text not null, -- stack_runs, task_runs, snapshots, replies, retries
  op            text not null, -- INSERT, UPDATE, DELETE
  row_id        uuid not null, -- the stack_run's or task_run's
  parent        uuid,          -- of a stack_run: the body that called it
  old_status    text, new_status    text,
  old_holder    uuid, new_holder    uuid,    -- claimed_by
  old_sequence  bigint, new_sequence  bigint,
  old_delivered boolean, new_delivered boolean,
  old_outcome   text, new_outcome   text,    -- digest of result and error, or of the bytes
  old_key       text, new_key       text,    -- key_id
  old_tries     int, new_tries     int,      -- that failed and were followed by another
  old_interrupt text, new_interrupt text,
  old_due       timestamptz,                 -- due_at
  old_deadline  timestamptz                  -- deadline_at
);
create index history_row on fault.history (row_id, id);
create index history_txid on fault.history (txid, row_id);

create function fault.note_stack_run() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  was text;
  is_ text;
begin
  if tg_op = 'UPDATE' and (old.status, old.claimed_by, old.sequence, old.delivered, old.result, old.error, old.tries, old.interrupt)
    is not distinct from (new.status, new.claimed_by, new.sequence, new.delivered, new.result, new.error, new.tries, new.interrupt) then
    return null;
  end if;
  if tg_op <> 'INSERT' then was := md5(concat(old.result, '|', old.error)); end if;
  if tg_op <> 'DELETE' then is_ := md5(concat(new.result, '|', new.error)); end if;
  insert into fault.history (source, op, row_id, parent, old_status, new_status, old_holder, new_holder,
    old_sequence, new_sequence, old_delivered, new_delivered, old_outcome, new_outcome,
    old_tries, new_tries, old_interrupt, new_interrupt, old_due, old_deadline)
  values ('stack_runs', tg_op, coalesce(new.id, old.id), coalesce(new.parent_stack_run_id, old.parent_stack_run_id),
    old.status, new.status, old.claimed_by, new.claimed_by, old.sequence, new.sequence, old.delivered, new.delivered, was, is_,
    old.tries, new.tries, old.interrupt, new.interrupt, old.due_at, old.deadline_at);
  return null;
end $$;
create trigger fault_history after insert or update or delete on public.stack_runs
  for each row execute function fault.note_stack_run();

-- executions is how often a body has begun anew because it had failed, before a
-- change if one is given; since somebody had all of it begin anew, if somebody did.
create function fault.executions(body uuid, before bigint default null) returns bigint language sql stable as $$
  select count(*) from fault.history h
  where h.row_id = body and h.source = 'stack_runs' and h.new_tries > h.old_tries and (before is null or h.id < before)
    and h.id > coalesce((select max(r.id) from fault.history r where r.row_id = body and r.source = 'retries' and r.new_status = 'anew'), 0)
$$;

-- execution is that in which a body made a call, the first being 0.
create function fault.execution(call uuid, body uuid) returns bigint language sql stable as $$
  select fault.executions(body, (select coalesce(min(i.id), 0) from fault.history i where i.row_id = call and i.source = 'stack_runs' and i.op = 'INSERT'))
$$;

create function fault.note_task_run() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  was text;
  is_ text;
begin
  if tg_op = 'UPDATE' and (old.status, old.result, old.error) is not distinct from (new.status, new.result, new.error) then
    return null;
  end if;
  if tg_op <> 'INSERT' then was := md5(concat(old.result, '|', old.error)); end if;
  if tg_op <> 'DELETE' then is_ := md5(concat(new.result, '|', new.error)); end if;
  insert into fault.history (source, op, row_id, old_status, new_status, old_outcome, new_outcome)
  values ('task_runs', tg_op, coalesce(new.id, old.id), old.status, new.status, was, is_);
  return null;
end $$;
create trigger fault_history after insert or update or delete on public.task_runs
  for each row execute function fault.note_task_run();

create function fault.note_snapshot() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into fault.history (source, op, row_id, old_sequence, new_sequence, old_key, new_key)
  values ('snapshots', tg_op, coalesce(new.stack_run_id, old.stack_run_id), old.sequence, new.sequence, old.key_id, new.key_id);
  return null;
end $$;
create trigger fault_history after insert or update or delete on amber.snapshots
  for each row execute function fault.note_snapshot();
create trigger fault_history after insert or update or delete on amber.increments
  for each row execute function fault.note_snapshot();

create function fault.note_reply() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  was text;
  is_ text;
begin
  if tg_op <> 'INSERT' then was := md5(old.data); end if;
  if tg_op <> 'DELETE' then is_ := md5(new.data); end if;
  insert into fault.history (source, op, row_id, old_status, new_status, old_outcome, new_outcome, old_key, new_key)
  values ('replies', tg_op, coalesce(new.stack_run_id, old.stack_run_id), old.kind, new.kind, was, is_, old.key_id, new.key_id);
  return null;
end $$;
create trigger fault_history after insert or update or delete on amber.replies
  for each row execute function fault.note_reply();

-- A retry says which rows that have ended it takes up again, and how: it is in
-- new_status, for the row and for its run.
create function fault.note_retry() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into fault.history (source, op, row_id, new_status)
  select 'retries', tg_op, id, new.retry
  from (select new.stack_run_id as id union all select child_task_run_id from public.stack_runs where id = new.stack_run_id) rows
  where id is not null;
  return null;
end $$;
create trigger fault_retry after insert on amber.attempts
  for each row when (new.retry is not null) execute function fault.note_retry();

-- Rows that may be removed, since their run has been made one that ended long ago.
create table fault.old (
  row_id uuid primary key,
  root   uuid not null -- the run that nobody called
);

-- age makes a run that has ended one that did so long ago, before anybody removes it.
create function fault.age(run uuid) returns void language plpgsql as $$
begin
  perform from public.task_runs where id = run and status in ('completed', 'failed', 'cancelled') for update;
  if not found then
    return;
  end if;
  insert into fault.old (row_id, root)
  with recursive runs as (
    select run as id union select t.id from public.task_runs t join runs r on t.parent_run_id = r.id
  )
  select id, run from runs
  union select s.id, run from public.stack_runs s join runs r on r.id in (s.parent_task_run_id, s.child_task_run_id)
  on conflict do nothing;
  update amber.removal set since = '-infinity' where since <> '-infinity';
  update public.task_runs set ended_at = now() - interval '8 days' where id = run;
end $$;
