-- Snapshots of a waiting body that hold what changed since the one before, back
-- to its key frame, which is its row in "only amber.snapshots". They are
-- snapshots: whoever reads, counts, reseals or deletes those has these as well.
-- That there is one key frame per body stays a rule of the other table, since
-- hosts of the version before rely on it. They know no increments: they refuse to
-- go on from one, and must not write into one.
create table amber.increments (
  primary key (stack_run_id, sequence),
  constraint increments_are_no_key_frames check (version > 1 and get_byte(data, 4) = version)
) inherits (amber.snapshots);
alter table amber.increments alter column data set storage external;
alter table amber.increments enable row level security;

-- A body that has ended needs none.
delete from amber.snapshots n using public.stack_runs s
where s.id = n.stack_run_id and s.status in ('completed', 'failed', 'cancelled');
