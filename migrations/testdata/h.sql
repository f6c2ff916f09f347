create function public.process_stack_run() returns trigger language plpgsql as $$
begin perform pg_notify('stack_runs_notification', new.id::text); return new; end $$;
create trigger stack_runs_trigger after insert on public.stack_runs
  for each row execute function public.process_stack_run();
