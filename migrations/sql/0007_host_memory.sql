-- How many bytes of memory a host gives to one VM: bodies that take more are
-- left to others. Null: a host of a version that does not say, which takes all.
alter table amber.hosts add column if not exists memory bigint;
