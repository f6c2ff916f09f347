-- Bodies that hosts held when they were lost, and how often that happened since
-- the body's last snapshot.
create table if not exists amber.crashes (
  stack_run_id uuid primary key references public.stack_runs (id) on delete cascade,
  sequence bigint not null,
  times integer not null
);
alter table amber.crashes enable row level security;
