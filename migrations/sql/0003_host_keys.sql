-- The ids of the keys that a host can open rows with: nobody seals with a key
-- that a host which runs does not have.
alter table amber.hosts add column keys text[] not null default '{}';
