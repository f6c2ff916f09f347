create function public.trigger_stack_processor() returns trigger language plpgsql security definer as $$
begin
  perform http_post('stand-in', (select value from config_parameters where name = 'supabase_anon_key'));
  return new;
exception when others then
  raise warning 'the stack processor was not called';
  return new;
end $$;
create trigger stack_runs_after_insert_trigger after insert on public.stack_runs
  for each row when (new.status = 'pending') execute function public.trigger_stack_processor();
