alter table public.stack_runs disable trigger user;
insert into public.task_functions (id, name, code, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000001', 'hello', '0', null, '2025-05-02');
insert into public.task_runs (id, name, args, status, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000011', 'hello', '{"n": 1}', 'completed', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000012', 'hello', '{"n": 2}', 'processing', '2025-05-01', '2025-05-02');
insert into public.stack_runs (id, parent_task_run_id, service_name, method_name, status, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000031', '00000000-0000-4000-8000-000000000011', 'tasks', 'execute', 'completed', '2025-05-01', '2025-05-02');
alter table public.stack_runs enable trigger user;
