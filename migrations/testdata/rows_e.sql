alter table public.stack_runs disable trigger user;
insert into public.task_runs (id, task_name, status, error, logs, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000011', 'hello', 'completed', null, array['{"at": 1}', '"line"', '2']::jsonb[], '2025-05-01', null),
  ('00000000-0000-4000-8000-000000000012', 'hello', 'failed', '{"message": "x"}', '{}', null, null),
  ('00000000-0000-4000-8000-000000000016', 'hello', 'suspended', null, null, '2025-05-01', '2025-05-02');
insert into public.stack_runs (id, parent_task_run_id, service_name, method_name, args, status, error, created_at, updated_at) values
  ('00000000-0000-4000-8000-000000000031', '00000000-0000-4000-8000-0000000000ee', 'tasks', 'execute', '["hello"]', 'failed', '{"message": "boom", "n": 1}', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000032', null, 'gapi', 'x', '{}', 'failed', 'Error: plain "text"', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000033', null, 'gapi', 'x', '{}', 'failed', '42', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000034', null, 'gapi', 'x', '{}', 'failed', '{not json', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000035', null, 'gapi', 'x', '{}', 'failed', '{"zero": "\u0000"}', '2025-05-01', '2025-05-02'),
  ('00000000-0000-4000-8000-000000000036', null, 'gapi', 'x', '{}', 'failed', ' ["a list"]', null, null),
  ('00000000-0000-4000-8000-000000000037', '00000000-0000-4000-8000-000000000016', 'gapi', 'x', '{}', 'ready_to_resume', '', '2025-05-01', '2025-05-02');
update public.task_runs set waiting_on_stack_run_id = '00000000-0000-4000-8000-000000000037' where status = 'suspended';
alter table public.stack_runs enable trigger user;
