-- When a host that runs has last said that it makes snapshots against an image:
-- one that nobody has used for a day, and that no snapshot needs, is removed.
alter table amber.images add column if not exists used_at timestamptz not null default now();
