-- The engines that a host can run: its own, and those that it carries along for
-- what earlier versions suspended. Hosts that do not say have their own.
alter table amber.hosts add column if not exists engines text[] not null default '{}';
