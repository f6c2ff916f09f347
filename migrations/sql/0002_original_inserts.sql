-- Rows as clients of the original insert them, whichever of its spellings they
-- use. The conditions are false for rows of the engine: they pay for no call.

-- stack_runs: module_name is service_name, and parent_run_id is the run's.
create function amber.sync_stack_run() returns trigger language plpgsql set search_path = '' as $$
begin
  new.service_name := coalesce(new.service_name, new.module_name);
  new.module_name := coalesce(new.module_name, new.service_name);
  if new.parent_task_run_id is null and new.parent_stack_run_id is null
    and exists (select from public.task_runs t where t.id = new.parent_run_id) then
    new.parent_task_run_id := new.parent_run_id;
  end if;
  new.parent_run_id := coalesce(new.parent_run_id, new.parent_task_run_id, new.parent_stack_run_id);
  return new;
end $$;
create trigger amber_sync before insert on public.stack_runs for each row
  when (new.service_name is null or new.module_name is null
    or new.parent_run_id is null and coalesce(new.parent_task_run_id, new.parent_stack_run_id) is not null
    or new.parent_run_id is not null and new.parent_task_run_id is null)
  execute function amber.sync_stack_run();

-- task_runs: one generation called task_name name, and input args. Only where
-- its table was adopted are there such columns.
create function amber.sync_task_run() returns trigger language plpgsql set search_path = '' as $$
begin
  new.task_name := to_jsonb(new) ->> 'name';
  new.input := coalesce(new.input, to_jsonb(new) -> 'args');
  return new;
end $$;
create trigger amber_sync before insert on public.task_runs for each row
  when (new.task_name is null) execute function amber.sync_task_run();

-- keystore: an upsert may name its conflict in the second spelling, too.
create unique index keystore_scope_key_name on public.keystore (scope, key_name);

revoke execute on function amber.sync_stack_run(), amber.sync_task_run() from public;

notify pgrst, 'reload schema';
