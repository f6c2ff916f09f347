-- How many tasks the runs of one tree have started, counted in blocks that hosts
-- reserve: small trees have no row. root is the run that nobody called.
create table if not exists amber.nested (
  root uuid primary key,
  tasks bigint not null
);
alter table amber.nested enable row level security;
