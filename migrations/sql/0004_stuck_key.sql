-- A key that a stuck row has to be opened with and that no host had which ran:
-- a host that has it lets the row go on. Null for whatever else is stuck.
alter table public.stack_runs add column if not exists stuck_key text;
create index if not exists stack_runs_stuck_key on public.stack_runs (stuck_key) where stuck_key is not null;

notify pgrst, 'reload schema';
