create table public.task_functions (id serial primary key, name varchar(255) not null unique, code text not null,
  description text, created_at timestamp default now(), updated_at timestamp default now());
create table public.task_runs (id serial primary key, task_function_id int, task_name varchar(255) not null, input jsonb,
  result jsonb, status varchar(50) default 'queued', error jsonb, logs text[], vm_logs text[], waiting_on_stack_run_id int,
  suspended_at timestamp, created_at timestamp default now(), updated_at timestamp default now(), ended_at timestamp);
create table public.stack_runs (id serial primary key, parent_task_run_id int, parent_stack_run_id int,
  service_name varchar(100) not null, method_name varchar(100) not null, args jsonb, result jsonb, error jsonb, vm_state jsonb,
  status varchar(50) default 'pending', waiting_on_stack_run_id int, resume_payload jsonb,
  created_at timestamp default now(), updated_at timestamp default now(), ended_at timestamp);
create table public.keystore (id serial primary key, key_name varchar(255) not null unique, key_value text, description text,
  created_at timestamp default now(), updated_at timestamp default now());
create table public.task_locks (id serial primary key, task_run_id int unique references public.task_runs (id) on delete cascade,
  locked_at timestamp default now(), locked_by text, created_at timestamp default now());
insert into public.task_functions (name, code, description) values ('simple-test-task', 'module.exports = () => 1', 'a seed');
insert into public.keystore (key_name, key_value) values ('GAPI_KEY', ''), ('GAPI_ADMIN_EMAIL', null);
insert into public.task_runs (task_name, status) values ('simple-test-task', 'completed');
insert into public.stack_runs (parent_task_run_id, service_name, method_name) values (1, 'deno-executor', 'execute');
