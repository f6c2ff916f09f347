-- Runs that ended long ago are removed, with all below them: a tree at a time, as
-- soon as the run that nobody called has been over for its retention.

-- How long runs of a task are kept after they have ended. Null: as long as hosts are
-- told by their setting; 0: for ever.
alter table public.task_functions add column if not exists retention interval;
alter table public.task_functions drop constraint if exists retention_is_0_for_ever_or_10_minutes_at_least;
alter table public.task_functions add constraint retention_is_0_for_ever_or_10_minutes_at_least
  check (retention = '0' or retention >= '10 minutes');

-- What has ended, by task and by time. Runs without a time at which they ended, as
-- clients of the original leave them, are from no later than that.
create index if not exists task_runs_ended on public.task_runs (task_name, coalesce(ended_at, created_at), id)
  where parent_run_id is null and status in ('completed', 'failed', 'cancelled');
-- Calls that belong to no run, as clients insert them.
create index if not exists stack_runs_alone on public.stack_runs (coalesce(ended_at, created_at))
  where parent_stack_run_id is null and parent_task_run_id is null and child_task_run_id is null
    and status in ('completed', 'failed', 'cancelled');

-- How far removing has come: one row, which whoever removes holds meanwhile.
create table if not exists amber.removal (
  one     boolean primary key default true check (one),
  since   timestamptz not null default now(),    -- what had ended by then is kept unless its task says how long
  next_at timestamptz not null default now(),    -- when the next batch may begin, whoever's it is
  task    text not null default '',              -- this round has come to this run, in the order of task_runs_ended
  at      timestamptz not null default 'epoch',
  run     uuid not null default '00000000-0000-0000-0000-000000000000',
  part    uuid                                   -- the run of which a part has been removed, and nothing else is until the rest has
);
alter table amber.removal enable row level security;
insert into amber.removal default values on conflict do nothing;

-- remove_trees removes runs that nobody called, each with all below it, in that
-- order, as far as most rows go: those of stack_runs and task_runs, and lines of
-- logs. done is how many of them are dealt with. One that somebody holds or that
-- goes on, in whatever place, is passed by whole. One that is too large for a batch
-- is removed a part at a time, the innermost calls first: it is returned as part,
-- and is to be given to the next call, as part and alone. It has the caller's
-- search_path: so have the triggers that others put on these tables.
create or replace function amber.remove_trees(trees uuid[], most int, inout part uuid, out done int, out removed int)
language plpgsql as $$
declare
  final constant text[] := array['completed', 'failed', 'cancelled'];
  tree uuid;
  bodies uuid[]; -- of the tree's run: one
  path uuid[];   -- bodies, each called by the one before
  run_of uuid[]; -- their runs
  seen bigint[]; -- the calls of each that are among the gone: those up to this
  seen_id uuid[];
  top int;
  call record;
  looked int;
  held boolean;  -- somebody else has it
  alive boolean; -- it stays
  gone uuid[] := '{}';
  runs uuid[] := '{}';
  lines bigint[] := '{}';
  more bigint[];
  room int := most;
  before record; -- what there was before this tree
begin
  done := 0;
  foreach tree in array trees loop
    exit when room <= 0;
    select cardinality(gone) as gone, cardinality(runs) as runs, cardinality(lines) as lines, room as room into before;
    bodies := array(select s.id from public.stack_runs s where s.child_task_run_id = tree for update skip locked);
    perform from public.task_runs t where t.id = tree for update skip locked;
    held := not found or exists (select from public.stack_runs s where s.child_task_run_id = tree and s.id <> all(bodies));
    exit when held and tree = part and exists (select from public.task_runs t where t.id = tree);
    alive := held or not exists (select from public.task_runs t where t.id = tree and t.parent_run_id is null and t.status = any(final))
      or exists (select from public.stack_runs s where s.child_task_run_id = tree and s.status <> all(final))
      or tree is distinct from part and exists (select from public.stack_runs s where s.parent_task_run_id = tree and s.status <> all(final));
    path := bodies;
    run_of := array_fill(tree, array[cardinality(bodies)]);
    seen := array_fill((-1)::bigint, array[cardinality(bodies)]);
    seen_id := bodies;
    while not alive and room > 0 and cardinality(path) > 0 loop
      top := cardinality(path);
      looked := 0;
      for call in
        select s.id, s.call_id, s.child_task_run_id as run, s.status = any(final) as has_ended from public.stack_runs s
        where s.parent_stack_run_id = path[top] and (s.call_id, s.id) > (seen[top], seen_id[top])
        order by s.call_id, s.id limit room
      loop
        looked := looked + 1;
        seen[top] := call.call_id;
        seen_id[top] := call.id;
        alive := not call.has_ended;
        exit when alive;
        if call.run is not null then
          path := path || call.id;
          run_of := run_of || call.run;
          seen := seen || (-1)::bigint;
          seen_id := seen_id || call.id;
          exit;
        end if;
        gone := gone || call.id;
        room := room - 1;
      end loop;
      continue when looked > 0;
      more := array(select l.id from amber.logs l where l.task_run_id = run_of[top] order by l.id limit room);
      lines := lines || more;
      room := room - cardinality(more);
      exit when room <= 0;
      gone := gone || path[top];
      runs := runs || run_of[top];
      room := room - 2;
      path := path[:top - 1];
      run_of := run_of[:top - 1];
      seen := seen[:top - 1];
      seen_id := seen_id[:top - 1];
    end loop;
    if not alive and cardinality(path) = 0 then
      if cardinality(bodies) = 0 then
        runs := runs || tree;
        room := room - 1;
      end if;
      done := done + 1;
      part := null;
      continue;
    end if;
    if not alive and tree = part then
      exit;
    end if;
    if not alive and before.room = most then -- it is too large for a batch: look at all of it once, and begin
      with recursive below as (
        select s.id, s.status from public.stack_runs s where s.id = any(bodies)
        union all
        select c.id, c.status from below b cross join lateral (
          select s.id, s.status from public.stack_runs s where s.parent_stack_run_id = b.id offset 0) c
      )
      select exists (select from below b where b.status <> all(final)) into alive;
      if not alive then
        part := tree;
        exit;
      end if;
    end if;
    gone := gone[:before.gone];
    runs := runs[:before.runs];
    lines := lines[:before.lines];
    room := before.room;
    exit when not alive; -- it comes first the next time
    done := done + 1;
    part := null;
  end loop;
  delete from amber.logs l where l.id = any(lines);
  delete from public.stack_runs s where s.id = any(gone);
  delete from public.task_runs t where t.id = any(runs);
  removed := cardinality(gone) + cardinality(runs) + cardinality(lines);
end $$;
revoke execute on function amber.remove_trees(uuid[], int, uuid) from public;

-- As they were, but that they find what hangs on rows by its indexes, whatever the
-- planner takes the rows for, and that nothing is left of those in amber.nested and
-- amber.adopted.
create or replace function amber.delete_run_parts() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  ids uuid[] := array(select id from gone);
begin
  -- A statement's trigger fires for no rows too; without this it would never end.
  if cardinality(ids) = 0 then
    return null;
  end if;
  delete from public.stack_runs s where s.parent_task_run_id = any(ids);
  -- A caller that outlives its nested run keeps the call: if it waits for it,
  -- it gets an error instead of waiting for ever.
  delete from amber.snapshots n where n.stack_run_id = any(array(select s.id from public.stack_runs s where s.child_task_run_id = any(ids)));
  update public.stack_runs s set status = 'failed', claimed_by = null, ended_at = now(), updated_at = now(),
    error = '{"code": "RUN_DELETED", "message": "The run of this nested task was deleted."}'
  where s.child_task_run_id = any(ids) and s.status not in ('completed', 'failed', 'cancelled');
  delete from public.stack_runs s
  where s.child_task_run_id = any(ids) and not exists (select from public.stack_runs p where p.id = s.parent_stack_run_id);
  delete from amber.logs l where l.task_run_id = any(ids);
  delete from amber.nested n where n.root = any(ids);
  update amber.removal set part = null where part = any(ids);
  if to_regclass('amber.adopted') is not null then
    execute 'delete from amber.adopted where table_name = ''task_runs'' and row_id = any($1::text[])' using ids;
  end if;
  with recursive nested as (
    select t.id from public.task_runs t where t.parent_run_id = any(ids)
    union
    select t.id from nested n cross join lateral (select t.id from public.task_runs t where t.parent_run_id = n.id offset 0) t
  )
  delete from public.task_runs t where t.id = any(array(select id from nested));
  return null;
end $$;

create or replace function amber.delete_stack_run_parts() returns trigger language plpgsql security definer set search_path = '' as $$
declare
  ids uuid[] := array(select id from gone);
begin
  if cardinality(ids) = 0 then
    return null;
  end if;
  delete from amber.snapshots s where s.stack_run_id = any(ids);
  delete from amber.replies r where r.stack_run_id = any(ids);
  delete from amber.attempts a where a.stack_run_id = any(ids);
  delete from amber.failures f where f.stack_run_id = any(ids);
  if to_regclass('amber.adopted') is not null then
    execute 'delete from amber.adopted where table_name = ''stack_runs'' and row_id = any($1::text[])' using ids;
  end if;
  -- A body that waits for a call without a row would wait for ever: say so.
  with waiting as (
    update public.stack_runs p set stuck_reason = 'The row of a call that it waits for was deleted.', updated_at = now()
    where p.id = any(array(select g.parent_stack_run_id from gone g where g.call_id is not null and not g.delivered))
      and p.status = 'suspended_waiting_child'
    returning p.child_task_run_id
  )
  update public.task_runs t set stuck_reason = 'The row of a call that it waits for was deleted.', updated_at = now()
  where t.id = any(array(select child_task_run_id from waiting));
  -- A run without its body cannot go on, nor can what its body called.
  update public.task_runs t set status = 'failed', ended_at = now(), updated_at = now(),
    error = '{"code": "RUN_DELETED", "message": "The stack_run that is the body of this run was deleted."}'
  where t.id = any(array(select g.child_task_run_id from gone g)) and t.status not in ('completed', 'failed', 'cancelled');
  delete from public.stack_runs s where s.parent_stack_run_id = any(ids);
  return null;
end $$;

do $$
begin
  if to_regclass('amber.adopted') is not null then
    create index if not exists adopted_row on amber.adopted (row_id, table_name);
  end if;
end $$;

notify pgrst, 'reload schema';
